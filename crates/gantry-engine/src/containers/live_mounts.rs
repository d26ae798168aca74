//! Mounts that are put into a container, or taken out of it, after its creation: at once where it runs, and in its record
//! for each start to come.

use super::record::{MountKind, MountRecord, Record};
use super::{Container, Containers, lock, mounts, spec};
use crate::error::{Error, Result};
use gantry_api::container::HostConfig;
use gantry_api::update::Changes;
use gantry_runtime::live_mount::Target;
use std::os::fd::AsFd;

/// What an update does to a container's mounts.
#[derive(Debug, Default)]
pub(super) struct MountChange {
    added: Vec<MountRecord>,
    removed: Vec<MountRecord>,
    /// It was done to the processes, too.
    live: bool,
}

impl Containers {
    /// Changes a container's mounts: first in `record`, then, where it runs, for its processes. On failure all is as before.
    pub(super) fn change_mounts(
        &self,
        container: &Container,
        record: &mut Record,
        changes: &Changes,
    ) -> Result<MountChange> {
        let mut change = MountChange::default();
        for destination in &changes.mounts_remove {
            let destination = mounts::clean(destination);
            let at = record
                .mounts
                .iter()
                .position(|m| m.destination == destination);
            let at = at.ok_or_else(|| {
                Error::invalid(format!("the container has no mount at {destination}"))
            })?;
            change.removed.push(record.mounts.remove(at));
            forget(record, &destination);
        }
        for mount in &changes.mounts {
            let asked = mounts::from_mount(mount)?;
            mounts::add(&mut record.mounts, asked.clone())?;
            change.added.push(asked);
            let listed = record.host_config.mounts.get_or_insert_default();
            listed.push(mount.clone());
        }
        if change.added.is_empty() && change.removed.is_empty() {
            return Ok(change);
        }
        let taken = self.take_volumes(record);
        for mount in &mut change.added {
            let made = record
                .mounts
                .iter()
                .find(|m| m.destination == mount.destination);
            if let Some(made) = made {
                mount.clone_from(made);
            }
        }
        let mounted = taken.and_then(|()| {
            if !record.state.status.is_alive() {
                return Ok(());
            }
            let target = self.target_of(container, record)?;
            change.live = true;
            self.mount_live(&target, record, &change.added, &change.removed)
        });
        match mounted {
            Ok(()) => Ok(change),
            Err(error) => {
                self.leave_volumes(record, &change.added, &change.removed);
                Err(error)
            }
        }
    }

    /// Takes a change back that could not be recorded.
    pub(super) fn change_mounts_back(
        &self,
        container: &Container,
        record: &Record,
        change: &MountChange,
    ) {
        if change.live {
            let done = self.target_of(container, record).and_then(|target| {
                self.mount_live(&target, record, &change.removed, &change.added)
            });
            if let Err(error) = done {
                tracing::warn!(container = %record.id, %error, "cannot take a change of mounts back");
            }
        }
        self.leave_volumes(record, &change.added, &change.removed);
    }

    /// What is left to do once a change is recorded: volumes that the container had are free.
    pub(super) fn change_of_mounts_recorded(&self, record: &Record, change: &MountChange) {
        self.leave_volumes(record, &change.removed, &change.added);
    }

    /// The volumes of some mounts are not the container's any more, unless others of its mounts have them.
    fn leave_volumes(&self, record: &Record, gone: &[MountRecord], stay: &[MountRecord]) {
        for mount in gone {
            let Some(volume) = &mount.volume else {
                continue;
            };
            let is_gone = |m: &MountRecord| gone.iter().any(|g| g.destination == m.destination);
            let others = record.mounts.iter().filter(|m| !is_gone(m)).chain(stay);
            let used = others
                .filter_map(|m| m.volume.as_ref())
                .any(|other| other.name == volume.name);
            if !used {
                self.context.volumes.leave(&volume.name, &record.id);
            }
        }
    }

    fn target_of(&self, container: &Container, record: &Record) -> Result<Target> {
        let target = Target::of(record.state.pid);
        let live = lock(&container.live);
        let there = live
            .pidfd
            .as_ref()
            .is_some_and(|fd| gantry_runtime::signal::send(fd.as_fd(), 0).is_ok());
        match target {
            // While its descriptor says that it is there, no other process has its number.
            Ok(target) if there => Ok(target),
            _ => Err(super::stop::not_running(&record.id)),
        }
    }

    fn mount_live(
        &self,
        target: &Target,
        record: &Record,
        added: &[MountRecord],
        removed: &[MountRecord],
    ) -> Result<()> {
        let failed = |what: &str, destination: &str, e: std::io::Error| {
            Error::caused(&format!("cannot {what} {destination}"), e)
        };
        let attach = |mount: &MountRecord| -> Result<()> {
            make_source(mount)?;
            let (ready, _held) = self.with_volumes(std::slice::from_ref(mount), &record.id)?;
            for one in &ready {
                target
                    .attach(&spec::user_mount(one))
                    .map_err(|e| failed("mount", &one.destination, e))?;
            }
            Ok(())
        };
        let undo = |attached: &[MountRecord], detached: &[MountRecord]| {
            for mount in attached {
                let _ = target.detach(&mount.destination);
            }
            for mount in detached {
                if let Err(error) = attach(mount) {
                    tracing::warn!(container = %record.id, %error, "cannot put a mount back");
                }
            }
        };
        // First out, then in: one may take the other's place.
        for (at, mount) in removed.iter().enumerate() {
            if let Err(error) = target.detach(&mount.destination) {
                undo(&[], &removed[..at]);
                return Err(failed("unmount", &mount.destination, error));
            }
        }
        for (at, mount) in added.iter().enumerate() {
            if let Err(error) = attach(mount) {
                undo(&added[..at], removed);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Takes a destination out of what was asked for.
fn forget(record: &mut Record, destination: &str) {
    let HostConfig {
        binds,
        mounts: asked,
        tmpfs,
        ..
    } = &mut record.host_config;
    if let Some(binds) = binds {
        binds.retain(|text| mounts::bind(text).map_or(true, |m| m.destination != destination));
    }
    if let Some(asked) = asked {
        asked.retain(|mount| mounts::clean(&mount.target) != destination);
    }
    if let Some(tmpfs) = tmpfs {
        tmpfs.retain(|path, _| mounts::clean(path) != destination);
    }
    if let Some(volumes) = &mut record.config.volumes {
        volumes.retain(|path, _| mounts::clean(path) != destination);
    }
}

/// Makes a bind's source folder where the request wants that.
pub(super) fn make_source(mount: &MountRecord) -> Result<()> {
    if mount.kind != MountKind::Bind || !mount.create_source {
        return Ok(());
    }
    std::fs::create_dir_all(&mount.source)
        .or_else(|e| {
            if std::path::Path::new(&mount.source).exists() {
                Ok(())
            } else {
                Err(e)
            }
        })
        .map_err(|e| {
            Error::caused(
                &format!("error while creating mount source path '{}'", mount.source),
                e,
            )
        })
}
