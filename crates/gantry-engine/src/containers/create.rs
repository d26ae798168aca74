//! `create`: a request becomes a record and a writable layer.
//!
//! Order of writes: the layer and the folder first, then the record that names them; without the record they are
//! garbage that the next start of the daemon removes.

use super::record::{MountRecord, Record, State};
use super::{Container, Containers, defaults, mounts, names, validate};
use crate::error::{Error, Result};
use crate::images::resolve;
use crate::volumes::populate;
use gantry_api::container::{ContainerConfig, CreateBody, CreateResponse};
use gantry_oci::manifest::Platform;
use gantry_store::snapshots::Base;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

pub(crate) const NAME_PATTERN: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// Whether a text (without leading slash) can be a container's name.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Docker's words for a name that is in use.
pub(crate) fn name_taken(name: &str, owner: &str) -> String {
    format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )
}

/// `10m`, `1.5g`, `1000`: bytes by powers of 1024 (Go's units.RAMInBytes).
pub fn size_in_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, factor) = match digits.char_indices().last()? {
        (at, unit) if unit.is_ascii_alphabetic() => {
            (&digits[..at], 1024_u64.pow(1 + "kmgtp".find(unit)? as u32))
        }
        _ => (digits, 1),
    };
    let number: f64 = number
        .trim()
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    Some((number * factor as f64) as u64)
}

/// 64 random hexadecimal digits that cannot be taken for a number.
pub(crate) fn random_id() -> String {
    loop {
        let mut bytes = [0_u8; 32];
        fill_random(&mut bytes);
        let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // A short ID of digits only would be read as a number by programs that look at it.
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return id;
        }
    }
}

fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        if let Ok(n) =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += n;
        }
    }
}

impl Containers {
    /// Makes a container. Its image must be in the store: else `NotFound`, and the client pulls.
    pub async fn create(
        self: &Arc<Self>,
        name: Option<&str>,
        platform: Option<Platform>,
        body: CreateBody,
    ) -> Result<CreateResponse> {
        let this = self.clone();
        let name = name.map(str::to_owned);
        crate::blocking(move || this.create_blocking(name.as_deref(), platform.as_ref(), body))
            .await?
    }

    fn create_blocking(
        &self,
        name: Option<&str>,
        platform: Option<&Platform>,
        body: CreateBody,
    ) -> Result<CreateResponse> {
        let CreateBody {
            mut config,
            mut host_config,
            networking_config,
        } = body;
        let name = name
            .map(|n| n.strip_prefix('/').unwrap_or(n))
            .filter(|n| !n.is_empty());
        if let Some(name) = name.filter(|n| !is_name(n)) {
            return Err(Error::invalid(format!(
                "Invalid container name ({name}), only {NAME_PATTERN} are allowed"
            )));
        }
        validate::config(&config)?;
        validate::host_config(&host_config)?;
        let links = self.resolve_links(&host_config)?;
        self.check_volumes_from(&host_config)?;
        let mut warnings = Vec::new();
        defaults::host_config(
            &mut host_config,
            (
                &self.context.settings.log_driver,
                &self.context.settings.log_options,
            ),
            self.context.settings.shm_size,
            self.context.unified_cgroup,
        );
        let log = &host_config.log_config;
        crate::logs::validate(&log.kind, &log.config).map_err(Error::invalid)?;
        let (base, image_id) = self.base_of(&mut config, &host_config, platform, &mut warnings)?;
        super::spec::check_security_options(&host_config)?;
        let inherited = self.inherited(&host_config)?;
        let mounts = mounts::parse(&config, &host_config, inherited)?;
        let networks = self.networks_of(&host_config.network_mode, networking_config)?;
        let id = random_id();
        complete_config(&mut config, &host_config, &id)?;
        let record = Record {
            name: String::new(),
            created: jiff::Timestamp::now(),
            image_id,
            config,
            host_config,
            networks,
            base,
            state: State::default(),
            endpoints: Vec::new(),
            mounts,
            links,
            mounts_before: None,
            restart_count: 0,
            id: id.clone(),
        };
        self.keep_with_volumes(record, name)?;
        Ok(CreateResponse { id, warnings })
    }

    /// Other containers that the request names must be there.
    fn check_volumes_from(&self, host_config: &gantry_api::container::HostConfig) -> Result<()> {
        for text in host_config.volumes_from.iter().flatten() {
            let (name, _) = mounts::volumes_from(text);
            self.find(name).map_err(|e| Error::invalid(e.message))?;
        }
        Ok(())
    }

    /// The mounts of the containers that `--volumes-from` names.
    fn inherited(
        &self,
        host_config: &gantry_api::container::HostConfig,
    ) -> Result<Vec<MountRecord>> {
        let mut all = Vec::new();
        for text in host_config.volumes_from.iter().flatten() {
            let (name, mode) = mounts::volumes_from(text);
            let other = self.find(name).map_err(|e| Error::invalid(e.message))?;
            all.extend(mounts::inherited(&other.snapshot(), mode)?);
        }
        Ok(all)
    }

    /// Takes the container's volumes, and gives them back when it cannot be kept.
    fn keep_with_volumes(&self, mut record: Record, name: Option<&str>) -> Result<()> {
        let id = record.id.clone();
        let kept = self
            .take_volumes(&mut record, &[])
            .and_then(|()| self.keep(record, name));
        if kept.is_err() {
            self.context.volumes.release(&id, true);
        }
        kept
    }

    /// Makes the volumes that are not there, and notes that the container uses them; not those that it has already.
    pub(super) fn take_volumes(&self, record: &mut Record, has: &[MountRecord]) -> Result<()> {
        let driver = record.host_config.volume_driver.clone();
        for mount in record.mounts.iter_mut().filter(|m| !has.contains(m)) {
            let Some(volume) = &mut mount.volume else {
                continue;
            };
            let mut asked = record.host_config.mounts.iter().flatten();
            let asked = asked
                .find(|m| mounts::clean(&m.target) == mount.destination)
                .and_then(|m| m.volume_options.as_ref());
            let config = asked.and_then(|a| a.driver_config.as_ref());
            let request = gantry_api::volume::CreateVolume {
                name: volume.name.clone(),
                driver: config
                    .and_then(|c| c["Name"].as_str())
                    .map_or_else(|| driver.clone(), str::to_owned),
                driver_opts: config.and_then(|c| serde_json::from_value(c["Options"].clone()).ok()),
                labels: asked.and_then(|a| a.labels.clone()),
            };
            let (name, folder) = self.context.volumes.take(request, &record.id)?;
            volume.name = name;
            mount.source = folder.display().to_string();
        }
        Ok(())
    }

    /// Fills new volumes with what the image has at their places.
    fn fill_volumes(&self, record: &Record) -> Result<()> {
        let rootfs = || Ok(self.context.store.snapshots.mount(&record.id, true)?);
        let filled = self.fill(&record.id, &record.mounts, rootfs);
        self.context.volumes.unuse(&record.id);
        filled
    }

    /// Fills those of the volumes that are new, from a file system that is asked for when there is one. They are in use
    /// afterwards.
    pub(super) fn fill(
        &self,
        id: &str,
        mounts: &[MountRecord],
        rootfs: impl Fn() -> Result<OwnedFd>,
    ) -> Result<()> {
        let mut made = None;
        for mount in mounts {
            let volume = mount.volume.as_ref();
            let Some(volume) = volume.filter(|v| v.copy_up && v.subpath.is_empty()) else {
                continue;
            };
            let rootfs = match &made {
                Some(rootfs) => rootfs,
                None => made.insert(rootfs()?),
            };
            let folder = self.context.volumes.use_for(&volume.name, id)?;
            populate::copy_up(rootfs.as_fd(), &mount.destination, &folder)?;
        }
        Ok(())
    }

    /// The file system that the container stands on; the image's configuration is merged into the request's.
    fn base_of(
        &self,
        config: &mut ContainerConfig,
        host: &gantry_api::container::HostConfig,
        platform: Option<&Platform>,
        warnings: &mut Vec<String>,
    ) -> Result<(Base, String)> {
        if !host.gantry_rootfs.is_empty() {
            let dir = host.gantry_rootfs.strip_suffix(":O").ok_or_else(|| {
                Error::invalid(format!(
                    "rootfs {:?}: DIR:O is expected (a copy-on-write layer over the folder)",
                    host.gantry_rootfs
                ))
            })?;
            let path = std::path::PathBuf::from(dir);
            if !path.is_absolute() || !path.is_dir() {
                return Err(Error::invalid(format!(
                    "rootfs {dir:?}: an absolute path of a folder is expected"
                )));
            }
            return Ok((Base::Directory(path), String::new()));
        }
        if config.image.is_empty() {
            // COMPAT: Docker makes a container without image and without files here.
            return Ok((Base::Layers(Vec::new()), String::new()));
        }
        let image = resolve::find(&self.context.store, &config.image, platform)?;
        let (own, machine) = (image.platform(), Platform::of_machine());
        if platform.is_none() && machine.rank(&own).is_none() {
            warnings.push(format!(
                "The requested image's platform ({own}) does not match the detected host platform ({machine}) and no \
                 specific platform was requested"
            ));
        }
        let own = serde_json::to_value(&image.config.config)
            .and_then(serde_json::from_value::<ContainerConfig>);
        defaults::merge_image(
            config,
            own.map_err(|e| Error::caused("the image's configuration is broken", e))?,
        );
        Ok((Base::Layers(image.diff_ids.clone()), image.id.to_string()))
    }

    /// Names the container, makes its layer and folder, and writes the record.
    fn keep(&self, mut record: Record, name: Option<&str>) -> Result<()> {
        self.reserve_name(&mut record, name)?;
        let made = self.make_files(&record);
        if let Err(error) = made {
            let _ = self.context.store.snapshots.remove(&record.id);
            let _ = std::fs::remove_dir_all(self.context.container_dir(&record.id));
            self.table_mut().by_name.remove(&record.name);
            return Err(error);
        }
        self.context.tell(&record, "create", &[]);
        self.insert(Arc::new(Container::new(record)));
        Ok(())
    }

    fn make_files(&self, record: &Record) -> Result<()> {
        self.context
            .store
            .snapshots
            .prepare(&record.id, &record.base)?;
        let dir = self.context.container_dir(&record.id);
        std::fs::create_dir(&dir)
            .map_err(|e| Error::caused(&format!("cannot make {}", dir.display()), e))?;
        self.fill_volumes(record)?;
        self.save(record)
    }

    fn reserve_name(&self, record: &mut Record, asked: Option<&str>) -> Result<()> {
        let mut table = self.table_mut();
        if let Some(name) = asked {
            if let Some(owner) = table.by_name.get(name) {
                return Err(Error::conflict(name_taken(name, owner)));
            }
            record.name = name.to_owned();
        } else {
            let mut random = [0_u8; 8];
            for attempt in 0.. {
                fill_random(&mut random);
                record.name = names::generate(u64::from_ne_bytes(random), attempt / 4);
                if !table.by_name.contains_key(&record.name) {
                    break;
                }
            }
        }
        table.by_name.insert(record.name.clone(), record.id.clone());
        Ok(())
    }
}

/// Docker's words for an image that is not in the store.
pub(crate) fn no_such_image(text: &str) -> Error {
    match gantry_oci::Reference::parse(text) {
        Ok(reference) => Error::not_found(format!(
            "No such image: {}",
            reference.or_latest().familiar()
        )),
        Err(error) => Error::invalid(error.to_string()),
    }
}

/// What depends on the merged configuration: a command must be there; the host name has a default.
fn complete_config(
    config: &mut ContainerConfig,
    host: &gantry_api::container::HostConfig,
    id: &str,
) -> Result<()> {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if empty(&config.entrypoint) && empty(&config.cmd) {
        return Err(Error::invalid("no command specified"));
    }
    if config.hostname.is_empty() {
        config.hostname = if host.network_mode == "host" || host.uts_mode == "host" {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        } else {
            id[..12].to_owned()
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_in_bytes("10m"), Some(10 << 20));
        assert_eq!(size_in_bytes("1.5kb"), Some(1536));
        assert_eq!(size_in_bytes("1GiB"), Some(1 << 30));
        assert_eq!(size_in_bytes("77"), Some(77));
        assert_eq!(size_in_bytes("x"), None);
        assert_eq!(size_in_bytes(""), None);
    }

    #[test]
    fn names_that_are_taken_and_that_are_not() {
        assert!(is_name("tx-a.b_1"));
        assert!(!is_name("x"));
        assert!(!is_name("-bad"));
        assert!(!is_name("a/b"));
    }
}
