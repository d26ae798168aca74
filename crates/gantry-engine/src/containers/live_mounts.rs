//! Mounts that come to a container and go from it, at once where it runs.
//!
//! Order: the volumes that come are made; the record gets the new mounts, with a note of the old ones; the kernel; the
//! record without the note; the volumes that have gone are given back. A daemon that dies in between has the next one
//! see the note and do it again from the kernel on, which may be done twice.

use super::record::{MountKind, MountRecord, MountsBefore, Record};
use super::{Container, Containers, lock, start};
use crate::error::{Error, ErrorKind, Result};
use gantry_runtime::live_mounts::{self, ChangeError, Removal};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// Where a container has mounts of its own from its start on: below these, and at them, nothing of a running one goes.
const OWN: [&str; 10] = [
    "/proc",
    "/sys",
    "/sys/fs/cgroup",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
];

/// What is different: the mounts that go, and those that come.
#[derive(Clone, Debug)]
struct Difference {
    going: Vec<MountRecord>,
    coming: Vec<MountRecord>,
}

impl Difference {
    fn between(before: &[MountRecord], after: &[MountRecord]) -> Self {
        let without = |some: &[MountRecord], others: &[MountRecord]| {
            let mut left: Vec<MountRecord> = some
                .iter()
                .filter(|m| !others.contains(m))
                .cloned()
                .collect();
            left.sort_by_key(|m| m.destination.split('/').count());
            left
        };
        Self {
            going: without(before, after),
            coming: without(after, before),
        }
    }
}

impl Containers {
    /// Gives a container the mounts of `after`; the caller holds its turn. In the database it is `after` then.
    pub(super) async fn change_mounts(
        self: &Arc<Self>,
        container: &Arc<Container>,
        before: &Record,
        after: &mut Record,
    ) -> Result<()> {
        let running = running(container)?;
        if running.is_some() {
            let difference = Difference::between(&before.mounts, &after.mounts);
            check(&difference, &after.mounts)?;
        } else {
            // Who looks into its files would go on seeing the old mounts.
            container.views.settle().await;
        }
        let (this, old, new) = (self.clone(), before.clone(), after.clone());
        *after = crate::blocking(move || {
            let changed = this.change_blocking(&old, new, running);
            if changed.is_err() {
                this.settle_volumes(&old);
            }
            changed
        })
        .await??;
        // An exit that came in the meantime has not known of them.
        if lock(&container.live).pidfd.is_none() {
            self.context.volumes.unuse(&container.id);
        }
        Ok(())
    }

    fn change_blocking(
        &self,
        before: &Record,
        mut after: Record,
        running: Option<Running>,
    ) -> Result<Record> {
        let id = &before.id;
        self.take_volumes(&mut after, &before.mounts)?;
        let difference = Difference::between(&before.mounts, &after.mounts);
        let gone = |name: &str| !after.volumes().any(|used| used == name);
        self.context.volumes.keep_some_without(id, |name| {
            before.volumes().any(|used| used == name) && gone(name)
        });
        after.mounts_before = Some(Box::new(MountsBefore {
            mounts: before.mounts.clone(),
            host_config: before.host_config.clone(),
        }));
        self.save(&after)?;
        let alive = running.is_some();
        if let Err(error) = self.apply(&after, &difference, running) {
            if let Err(error) = self.save(before) {
                tracing::error!(container = id, %error, "cannot record that mounts are as before");
            }
            return Err(error);
        }
        after.mounts_before = None;
        if let Err(error) = self.save(&after) {
            // The next daemon does it again.
            tracing::error!(container = id, %error, "cannot record that mounts have been changed");
        }
        self.settle_volumes(&after);
        if alive {
            self.tell_mounts(id, &difference.going, "unmount");
            self.tell_mounts(id, &difference.coming, "mount");
        }
        Ok(after)
    }

    /// Has a container, and its new volumes, as the difference says.
    fn apply(
        &self,
        record: &Record,
        difference: &Difference,
        running: Option<Running>,
    ) -> Result<()> {
        let (Difference { going, coming }, id) = (difference, record.id.as_str());
        let Some(Running { pid, pidfd }) = running else {
            let rootfs = || Ok(self.context.store.snapshots.mount(id, false)?);
            let filled = self.fill(id, coming, rootfs);
            self.context.volumes.unuse(id);
            return filled;
        };
        start::make_sources(coming)?;
        self.fill(id, coming, || {
            let bare = gantry_runtime::view::of_process(pid)
                .and_then(|view| view.bare().try_clone_to_owned())
                // While its descriptor says that it is there, no other process has its number.
                .and_then(|bare| {
                    gantry_runtime::signal::send(pidfd.as_fd(), 0)?;
                    Ok(bare)
                });
            bare.map_err(|e| Error::caused("cannot look into the container", e))
        })?;
        let stay = record.mounts.iter().filter(|m| !coming.contains(m));
        let stay: Vec<&str> = stay.map(|m| m.destination.as_str()).collect();
        let (coming, _held) = self.with_volumes(coming, id)?;
        let add: Vec<_> = coming.iter().map(super::spec::user_mount).collect();
        let mut held = Vec::new();
        let remove: Vec<Removal> = going
            .iter()
            .rev()
            .map(|mount| Removal {
                destination: mount.destination.clone(),
                source: self.source_of(id, mount, &mut held),
            })
            .collect();
        match live_mounts::change(pidfd.as_fd(), &remove, &stay, &add) {
            Err(ChangeError::Ended) => Ok(()),
            other => other.map_err(refused),
        }
    }

    /// What a mount shows, as well as can be told.
    fn source_of(
        &self,
        id: &str,
        mount: &MountRecord,
        held: &mut Vec<OwnedFd>,
    ) -> Option<std::path::PathBuf> {
        if mount.kind == MountKind::Tmpfs {
            return None;
        }
        let (ready, folders) = self.with_volumes(std::slice::from_ref(mount), id).ok()?;
        held.extend(folders);
        ready.into_iter().next().map(|m| m.source.into())
    }

    fn settle_volumes(&self, record: &Record) {
        let used = record.volumes().map(str::to_owned).collect();
        self.context.volumes.settle(&record.id, &used);
    }

    /// Finishes a change that an earlier daemon did not live to finish.
    pub(super) async fn finish_mounts(self: &Arc<Self>, container: &Arc<Container>) {
        let _turn = container.turn.lock().await;
        let record = container.snapshot();
        let Some(before) = record.mounts_before.clone() else {
            return;
        };
        tracing::info!(container = %container.id, "a change of mounts that was cut off is finished");
        let this = self.clone();
        let running = running(container).unwrap_or_default();
        let finished =
            crate::blocking(move || this.finish_blocking(record, *before, running)).await;
        match finished {
            Ok(finished) => {
                let mut record = container.record();
                record.mounts = finished.mounts;
                record.host_config = finished.host_config;
                record.mounts_before = None;
            }
            Err(error) => {
                tracing::error!(container = %container.id, %error, "cannot finish a change of mounts");
            }
        }
    }

    fn finish_blocking(
        &self,
        mut record: Record,
        before: MountsBefore,
        running: Option<Running>,
    ) -> Record {
        let id = record.id.clone();
        let mut difference = Difference::between(&before.mounts, &record.mounts);
        if running.is_some() {
            // How far it came is not known: what came already goes and comes again.
            difference.going.extend(difference.coming.clone());
        }
        if let Err(error) = self.apply(&record, &difference, running) {
            tracing::error!(container = id, %error, "a change of mounts is taken back");
            record.mounts = before.mounts;
            record.host_config = before.host_config;
        }
        record.mounts_before = None;
        if let Err(error) = self.save(&record) {
            tracing::error!(container = id, %error, "cannot record that mounts have been changed");
        }
        self.settle_volumes(&record);
        record
    }
}

/// A container's first process.
#[derive(Debug)]
struct Running {
    pid: u32,
    pidfd: OwnedFd,
}

/// The first process of a container; none when it does not run.
fn running(container: &Container) -> Result<Option<Running>> {
    let pid = {
        let record = container.record();
        if !record.state.status.is_alive() {
            return Ok(None);
        }
        record.state.pid
    };
    let live = lock(&container.live);
    let Some(pidfd) = &live.pidfd else {
        return Ok(None);
    };
    let pidfd = pidfd
        .try_clone()
        .map_err(|e| Error::caused("cannot hold the container's process", e))?;
    Ok(Some(Running { pid, pidfd }))
}

/// Whether mounts of a running container may go: not those of its own, and none that another one stands on.
fn check(difference: &Difference, after: &[MountRecord]) -> Result<()> {
    let below = |path: &str, parent: &str| {
        path.strip_prefix(parent)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    for MountRecord { destination, .. } in &difference.going {
        let own = |place: &str| place == destination.as_str() || below(place, destination);
        if OWN.iter().any(|place| own(place)) {
            return Err(Error::conflict(format!(
                "the mount {destination} can only be removed while the container does not run"
            )));
        }
        let mut stay = after.iter().filter(|m| !difference.coming.contains(m));
        if let Some(other) = stay.find(|m| below(&m.destination, destination)) {
            return Err(Error::conflict(format!(
                "the mount {} is below {destination}: remove it first",
                other.destination
            )));
        }
    }
    Ok(())
}

fn refused(error: ChangeError) -> Error {
    let kind = match &error {
        ChangeError::Hides { .. } | ChangeError::LinksMoved(_) => ErrorKind::Conflict,
        ChangeError::InsideProc(_) => ErrorKind::InvalidParameter,
        _ => ErrorKind::System,
    };
    Error::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(destination: &str) -> MountRecord {
        MountRecord {
            kind: MountKind::Bind,
            source: "/tmp".into(),
            destination: destination.into(),
            read_only: false,
            recursive: true,
            propagation: "rprivate".into(),
            mode: String::new(),
            options: Vec::new(),
            create_source: false,
            volume: None,
        }
    }

    #[test]
    fn what_goes_and_what_comes() {
        let (a, b, deep) = (bind("/a"), bind("/b"), bind("/a/x/y"));
        let mut other = a.clone();
        other.source = "/var".into();
        let before = [a.clone(), deep.clone(), b.clone()];
        let difference = Difference::between(&before, &[b, other.clone()]);
        assert_eq!(difference.going, [a, deep]);
        assert_eq!(difference.coming, [other]);
    }

    fn checked(before: &[&str], after: &[&str]) -> Result<()> {
        let mounts = |all: &[&str]| -> Vec<MountRecord> { all.iter().map(|d| bind(d)).collect() };
        check(
            &Difference::between(&mounts(before), &mounts(after)),
            &mounts(after),
        )
    }

    #[test]
    fn what_a_running_container_keeps() {
        checked(&["/a", "/b"], &["/b"]).unwrap();
        checked(&["/a"], &["/a/b"]).unwrap();
        checked(&["/a", "/ab"], &["/ab"]).unwrap();
        checked(&["/a", "/a/b"], &[]).unwrap();
        let refused = checked(&["/a", "/a/b"], &["/a/b"]).unwrap_err();
        assert_eq!(
            refused.message,
            "the mount /a/b is below /a: remove it first"
        );
        for own in ["/dev", "/dev/shm", "/etc", "/etc/hosts", "/sys/fs"] {
            assert_eq!(
                checked(&[own], &[]).unwrap_err().kind,
                ErrorKind::Conflict,
                "{own}"
            );
        }
    }
}
