//! Volumes of the `local` driver: folders that outlive containers.
//!
//! A volume is a record in the database and a folder `<data-root>/volumes/<name>`, with the files in `_data`. Made: first
//! the record, then the folder in one rename; removed: first the folder is renamed away. So a daemon that dies in
//! between leaves a record without a folder, which the next one drops. A folder without a record is somebody's data: it
//! is taken up as a volume, as Docker does.

mod options;
pub(crate) mod populate;

#[cfg(test)]
mod tests;

use crate::containers::record::Record;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use gantry_api::container::Map;
use gantry_api::filter::Filters;
use gantry_api::volume::{CreateVolume, UsageData, Volume, VolumeList, VolumesPruned};
use gantry_store::Store;
use jiff::Timestamp;
use options::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The kind of records in the database.
const KIND: &str = "volume";
/// The label by which a volume without a name of its own is known.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// The one driver.
pub(crate) const LOCAL: &str = "local";
const NAME_PATTERN: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// A volume as it is kept.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Kept {
    created: Timestamp,
    labels: Option<Map>,
    options: Option<Map>,
    /// The container that an anonymous volume was made for, until that is recorded or removed.
    made_for: Option<String>,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    /// Containers that have it, running or not.
    users: BTreeSet<String>,
    /// Containers that have it and run.
    running: BTreeSet<String>,
    /// Who mounts or unmounts its file system holds this, and not the table of all.
    mounting: Arc<Mutex<()>>,
}

impl Entry {
    fn new(kept: Kept) -> Self {
        Self {
            kept,
            users: BTreeSet::new(),
            running: BTreeSet::new(),
            mounting: Arc::default(),
        }
    }

    fn is_anonymous(&self) -> bool {
        let labels = self.kept.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(ANONYMOUS))
    }
}

/// The volume service.
#[derive(Debug)]
pub struct Volumes {
    /// `<data-root>/volumes`
    root: PathBuf,
    /// Emptied by each start of the daemon.
    tmp: PathBuf,
    store: Arc<Store>,
    events: Arc<Events>,
    all: Mutex<BTreeMap<String, Entry>>,
}

impl Volumes {
    /// Takes up the volumes of an earlier daemon; `containers` are those on record.
    pub(crate) fn open(
        data_root: &Path,
        store: Arc<Store>,
        events: Arc<Events>,
        containers: &[Record],
    ) -> Result<Self> {
        let root = data_root.join("volumes");
        let failed = |e| Error::caused(&format!("cannot read {}", root.display()), e);
        make_dir(&root, 0o711).map_err(failed)?;
        let mut all = BTreeMap::new();
        for (name, json) in store.database.all(KIND)? {
            let kept: Option<Kept> = serde_json::from_str(&json).ok();
            let owned = |kept: &Kept| {
                let owner = kept.made_for.as_ref();
                let uses = |c: &Record| c.volumes().any(|used| used == name);
                owner.is_none_or(|_| containers.iter().any(uses))
            };
            match kept {
                Some(kept) if owned(&kept) && root.join(&name).is_dir() => {
                    all.insert(name, Entry::new(kept));
                }
                Some(kept) if !owned(&kept) => {
                    // Its container was never recorded, or is gone: nobody can know of it.
                    discard(&root.join(&name), &data_root.join("tmp"))?;
                    store.database.delete(KIND, &name)?;
                }
                _ => store.database.delete(KIND, &name)?,
            }
        }
        for entry in std::fs::read_dir(&root).map_err(failed)?.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_name(&name) && !all.contains_key(&name) && entry.path().join("_data").is_dir() {
                let made = entry.metadata().ok().and_then(|m| m.modified().ok());
                let kept = Kept {
                    created: made
                        .and_then(|time| Timestamp::try_from(time).ok())
                        .unwrap_or_else(Timestamp::now),
                    labels: None,
                    options: None,
                    made_for: None,
                };
                all.insert(name, Entry::new(kept));
            }
        }
        let volumes = Self {
            root,
            tmp: data_root.join("tmp"),
            store,
            events,
            all: Mutex::new(all),
        };
        for record in containers {
            volumes.take_up(record);
        }
        volumes.unmount_unused();
        Ok(volumes)
    }

    /// Notes what a recorded container uses.
    fn take_up(&self, record: &Record) {
        let mut all = self.lock();
        for name in record.volumes() {
            if let Some(entry) = all.get_mut(name) {
                entry.users.insert(record.id.clone());
                if record.state.status.is_alive() {
                    entry.running.insert(record.id.clone());
                }
            }
        }
    }

    /// A file system that a dead daemon left mounted for a container that runs no more.
    fn unmount_unused(&self) {
        let all = self.lock();
        for (name, entry) in all.iter().filter(|(_, entry)| entry.running.is_empty()) {
            self.unmount(name, entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.all
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Makes a volume; one that is there is the answer.
    pub fn create(&self, request: CreateVolume) -> Result<Volume> {
        let mut all = self.lock();
        let name = self.ensure(&mut all, request, None)?;
        self.shown(&all, &name)
    }

    /// Makes a volume where it is not there; its name.
    fn ensure(
        &self,
        all: &mut BTreeMap<String, Entry>,
        request: CreateVolume,
        container: Option<&str>,
    ) -> Result<String> {
        let CreateVolume {
            mut name,
            driver,
            driver_opts,
            mut labels,
        } = request;
        let anonymous = name.is_empty();
        if anonymous {
            name = crate::containers::create::random_id();
            labels
                .get_or_insert_default()
                .insert(ANONYMOUS.to_owned(), String::new());
        }
        let prefix = |error: Error| Error {
            message: format!("create {name}: {}", error.message),
            ..error
        };
        if !matches!(driver.as_str(), "" | LOCAL) {
            return Err(prefix(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin {driver:?} not found"
            ))));
        }
        if all.contains_key(&name) {
            return Ok(name);
        }
        check_name(&name).map_err(prefix)?;
        let options = driver_opts.filter(|options| !options.is_empty());
        if let Some(options) = &options {
            options::check(options).map_err(prefix)?;
        }
        let kept = Kept {
            created: Timestamp::now(),
            labels,
            options,
            made_for: container.filter(|_| anonymous).map(str::to_owned),
        };
        self.save(&name, &kept)?;
        if let Err(error) = self.make_folder(&name) {
            self.store.database.delete(KIND, &name)?;
            return Err(Error::caused(&format!("create {name}"), error));
        }
        all.insert(name.clone(), Entry::new(kept));
        self.tell("create", &name, &[]);
        Ok(name)
    }

    fn save(&self, name: &str, kept: &Kept) -> Result<()> {
        let json = serde_json::to_string(kept)
            .map_err(|e| Error::caused("cannot encode the volume's record", e))?;
        Ok(self.store.database.put(KIND, name, &json)?)
    }

    fn make_folder(&self, name: &str) -> std::io::Result<()> {
        let new = self.tmp.join(format!("volume-{name}"));
        make_dir(&new, 0o701)?;
        make_dir(&new.join("_data"), 0o755)?;
        std::fs::rename(new, self.root.join(name))
    }

    /// Has a container use a volume, which is made where it is not there. Its name, and where its files are.
    pub(crate) fn take(&self, request: CreateVolume, container: &str) -> Result<(String, PathBuf)> {
        let mut all = self.lock();
        let name = self.ensure(&mut all, request, Some(container))?;
        if let Some(entry) = all.get_mut(&name) {
            entry.users.insert(container.to_owned());
        }
        let folder = self.folder(&name);
        Ok((name, folder))
    }

    /// A container uses its volumes no more. With `anonymous` those that have no name of their own and no other user
    /// are removed, else they stay, as anybody's.
    pub(crate) fn release(&self, container: &str, anonymous: bool) {
        let mut unused = Vec::new();
        {
            let mut all = self.lock();
            for (name, entry) in all.iter_mut() {
                entry.running.remove(container);
                if !entry.users.remove(container) {
                    continue;
                }
                let ours = entry.kept.made_for.as_deref() == Some(container);
                if anonymous && entry.is_anonymous() && entry.users.is_empty() {
                    unused.push(name.clone());
                } else if ours {
                    entry.kept.made_for = None;
                    if let Err(error) = self.save(name, &entry.kept) {
                        tracing::warn!(volume = name, %error, "cannot record that a volume stays");
                    }
                }
            }
        }
        for name in unused {
            if let Err(error) = self.remove(&name, false) {
                tracing::warn!(volume = name, %error, "cannot remove an anonymous volume");
            }
        }
    }

    /// Says who uses a volume before a container goes: anonymous volumes that are to stay are nobody's from now on, so
    /// that a daemon that dies in between does not take them for left over.
    pub(crate) fn keep_without(&self, container: &str) {
        self.keep_some_without(container, |_| true);
    }

    /// The same for some of them.
    pub(crate) fn keep_some_without(&self, container: &str, which: impl Fn(&str) -> bool) {
        for (name, entry) in self.lock().iter_mut() {
            if entry.kept.made_for.as_deref() == Some(container) && which(name) {
                entry.kept.made_for = None;
                if let Err(error) = self.save(name, &entry.kept) {
                    tracing::warn!(volume = name, %error, "cannot record that a volume stays");
                }
            }
        }
    }

    /// A container has no other volumes than these any more. One that was only made for it and never came to be used is
    /// removed.
    pub(crate) fn settle(&self, container: &str, used: &BTreeSet<String>) {
        let (mut unused, mut free) = (Vec::new(), Vec::new());
        for (name, entry) in self.lock().iter_mut() {
            if used.contains(name) {
                continue;
            }
            if entry.running.remove(container) && entry.running.is_empty() {
                free.push(name.clone());
            }
            if entry.users.remove(container)
                && entry.users.is_empty()
                && entry.kept.made_for.as_deref() == Some(container)
            {
                unused.push(name.clone());
            }
        }
        free.iter()
            .for_each(|name| self.bring_in_line_or_warn(name));
        for name in unused {
            if let Err(error) = self.remove(&name, false) {
                tracing::warn!(volume = name, %error, "cannot remove an anonymous volume");
            }
        }
    }

    /// Makes a volume's files ready for a container that starts, and tells where they are.
    pub(crate) fn use_for(&self, name: &str, container: &str) -> Result<PathBuf> {
        let place = {
            let mut all = self.lock();
            let entry = all.get_mut(name).ok_or_else(|| missing(name))?;
            entry.running.insert(container.to_owned());
            options::place(entry.kept.options.as_ref())
        };
        if let Err(error) = self.bring_in_line(name) {
            if let Some(entry) = self.lock().get_mut(name) {
                entry.running.remove(container);
            }
            return Err(error);
        }
        Ok(match place {
            Place::Bound(path) => path,
            _ => self.folder(name),
        })
    }

    /// A container that has ended uses no volume's files any more.
    pub(crate) fn unuse(&self, container: &str) {
        let mut free = Vec::new();
        for (name, entry) in self.lock().iter_mut() {
            if entry.running.remove(container) && entry.running.is_empty() {
                free.push(name.clone());
            }
        }
        free.iter()
            .for_each(|name| self.bring_in_line_or_warn(name));
    }

    fn bring_in_line_or_warn(&self, name: &str) {
        if let Err(error) = self.bring_in_line(name) {
            tracing::warn!(volume = name, %error, "a volume's file system stays as it is");
        }
    }

    /// Mounts the file system of a volume that is used, or takes it away from one that is not. A server that does not
    /// answer holds up who uses this volume, and nobody else.
    fn bring_in_line(&self, name: &str) -> Result<()> {
        let known = |entry: &Entry| {
            let place = options::place(entry.kept.options.as_ref());
            (entry.mounting.clone(), place)
        };
        let found = self.lock().get(name).map(known);
        let Some((mounting, place @ Place::Mounted { .. })) = found else {
            return Ok(());
        };
        let _turn = mounting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = self.folder(name);
        let used = self.lock().get(name).is_some_and(|e| !e.running.is_empty());
        match (used, is_mount(&folder)) {
            (true, false) => options::mount(&place, &folder).map_err(|e| Error {
                message: format!(
                    "error while mounting volume '{}': {}",
                    folder.display(),
                    e.message
                ),
                ..e
            }),
            (false, true) => options::unmount(&folder),
            _ => Ok(()),
        }
    }

    fn unmount(&self, name: &str, entry: &Entry) {
        let folder = self.folder(name);
        let own = matches!(
            options::place(entry.kept.options.as_ref()),
            Place::Mounted { .. }
        );
        if own
            && is_mount(&folder)
            && let Err(error) = options::unmount(&folder)
        {
            tracing::warn!(volume = name, %error, "cannot unmount a volume");
        }
    }

    /// Removes a volume that nobody uses; `force`: one that is not there is fine.
    pub fn remove(&self, name: &str, force: bool) -> Result<()> {
        let gone = {
            let mut all = self.lock();
            let Some(entry) = all.get(name) else {
                return if force { Ok(()) } else { Err(missing(name)) };
            };
            if !entry.users.is_empty() {
                let users: Vec<&str> = entry.users.iter().map(String::as_str).collect();
                return Err(Error::conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            self.unmount(name, entry);
            let gone = discard(&self.root.join(name), &self.tmp)?;
            self.store.database.delete(KIND, name)?;
            all.remove(name);
            gone
        };
        self.tell("destroy", name, &[]);
        if let Some(gone) = gone
            && let Err(error) = std::fs::remove_dir_all(&gone)
        {
            // The next start of the daemon empties the folder that it is in.
            tracing::warn!(volume = name, %error, "cannot delete a removed volume's files");
        }
        Ok(())
    }

    /// One volume.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        self.shown(&self.lock(), name)
    }

    fn shown(&self, all: &BTreeMap<String, Entry>, name: &str) -> Result<Volume> {
        let entry = all.get(name).ok_or_else(|| missing(name))?;
        Ok(self.show(name, entry))
    }

    fn show(&self, name: &str, entry: &Entry) -> Volume {
        Volume {
            created_at: entry
                .kept
                .created
                .strftime("%Y-%m-%dT%H:%M:%SZ")
                .to_string(),
            driver: LOCAL.to_owned(),
            labels: entry.kept.labels.clone(),
            mountpoint: self.folder(name).display().to_string(),
            name: name.to_owned(),
            options: entry.kept.options.clone(),
            scope: "local".to_owned(),
            usage_data: None,
        }
    }

    /// The volumes that the filters let through.
    pub fn list(&self, filters: &Filters) -> Result<VolumeList> {
        filters
            .validate(&["dangling", "driver", "label", "name"])
            .map_err(|e| Error::invalid(e.0))?;
        let dangling = filters
            .contains("dangling")
            .then(|| filters.boolean("dangling", false))
            .transpose()
            .map_err(|e| Error::invalid(e.0))?;
        let patterns: Vec<regex::Regex> = filters
            .get("name")
            .map(|text| {
                regex::Regex::new(text).or_else(|_| regex::Regex::new(&regex::escape(text)))
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| Error::invalid(e.to_string()))?;
        let all = self.lock();
        let none = Map::new();
        let volumes = all
            .iter()
            .filter(|(name, entry)| {
                let labels = entry.kept.labels.as_ref().unwrap_or(&none);
                dangling.is_none_or(|wanted| wanted == entry.users.is_empty())
                    && filters.matches_exactly("driver", LOCAL)
                    && filters.matches_all_labels("label", labels)
                    && (patterns.is_empty() || patterns.iter().any(|p| p.is_match(name)))
            })
            .map(|(name, entry)| self.show(name, entry))
            .collect();
        Ok(VolumeList {
            volumes,
            warnings: None,
        })
    }

    /// Every volume with its size, for `system df`.
    pub fn usage(&self) -> Vec<Volume> {
        let mut volumes: Vec<(Volume, i64)> = {
            let all = self.lock();
            let users = |entry: &Entry| entry.users.len() as i64;
            all.iter()
                .map(|(name, entry)| (self.show(name, entry), users(entry)))
                .collect()
        };
        for (volume, ref_count) in &mut volumes {
            volume.usage_data = Some(UsageData {
                ref_count: *ref_count,
                size: size_of(Path::new(&volume.mountpoint)) as i64,
            });
        }
        volumes.into_iter().map(|(volume, _)| volume).collect()
    }

    /// Removes unused volumes: the anonymous ones, or with `all` every one.
    pub fn prune(&self, filters: &Filters) -> Result<VolumesPruned> {
        filters
            .validate(&["all", "label", "label!"])
            .map_err(|e| Error::invalid(e.0))?;
        let every = filters
            .boolean("all", false)
            .map_err(|e| Error::invalid(e.0))?;
        let none = Map::new();
        let unused: Vec<String> = self
            .lock()
            .iter()
            .filter(|(_, entry)| {
                let labels = entry.kept.labels.as_ref().unwrap_or(&none);
                entry.users.is_empty()
                    && (every || entry.is_anonymous())
                    && filters.matches_all_labels("label", labels)
                    && !(filters.contains("label!") && filters.matches_all_labels("label!", labels))
            })
            .map(|(name, _)| name.clone())
            .collect();
        let mut pruned = VolumesPruned::default();
        for name in unused {
            let size = size_of(&self.folder(&name));
            // Somebody may use it by now.
            if self.remove(&name, false).is_ok() {
                pruned.volumes_deleted.push(name);
                pruned.space_reclaimed += size;
            }
        }
        let reclaimed = pruned.space_reclaimed.to_string();
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed)]);
        self.events.publish("volume", "prune", "", attributes);
        Ok(pruned)
    }

    /// Publishes an event about a volume.
    pub(crate) fn tell(&self, action: &str, name: &str, extra: &[(&str, &str)]) {
        let attributes = extra.iter().chain([&("driver", LOCAL)]);
        let attributes = attributes
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.events.publish("volume", action, name, attributes);
    }
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    if is_name(name) && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidParameter,
        format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"{NAME_PATTERN}\" are allowed. \
             If you intended to pass a host directory, use absolute path"
        ),
    ))
}

/// Makes a directory whatever the umask is; one that is there keeps its mode.
fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::create_dir(path) {
        Ok(()) => std::fs::set_permissions(path, PermissionsExt::from_mode(mode)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames a folder to where the next start of the daemon deletes it; its new place, none where there was nothing.
fn discard(folder: &Path, tmp: &Path) -> Result<Option<PathBuf>> {
    let place = tmp.join(format!(
        "removed-{}",
        crate::containers::create::random_id()
    ));
    match std::fs::rename(folder, &place) {
        Ok(()) => Ok(Some(place)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::caused(
            &format!("cannot remove {}", folder.display()),
            error,
        )),
    }
}

/// Whether something is mounted on a folder. No server is asked for that.
fn is_mount(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(CWD, folder, flags, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Bytes of the disk that what is in a folder takes.
// COMPAT: Docker tells the lengths of the files (`directory.Size`).
fn size_of(folder: &Path) -> u64 {
    gantry_store::usage::of_content(folder).unwrap_or_else(|error| {
        tracing::warn!(%error, "the size of a volume cannot be told");
        0
    })
}
