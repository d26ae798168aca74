//! Snapshot drivers: a container's writable layer over an image's layers.

mod bases;
mod btrfs;
mod changes;
mod compare;
pub(crate) mod legacy_mount;
mod merged;
mod overlay;
mod trees;
mod vfs;

use crate::database::Database;
use crate::layers::Layers;
use crate::{Result, StoreError};
use gantry_oci::Digest;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a container's file system stands on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Base {
    /// An image's layers, lowest first.
    Layers(Vec<Digest>),
    /// A directory of the host as the read-only lower layer (`--rootfs DIR:O`).
    Directory(PathBuf),
}

/// Files that can be held against others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stack {
    /// All that a container sees, but its mounts.
    Container(String),
    /// An image's layers, lowest first.
    Layers(Vec<Digest>),
}

/// How a path differs from what is below (Docker's `archive.ChangeType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, in the container.
    pub path: String,
    pub kind: ChangeKind,
}

/// One way of making snapshots.
pub trait Driver: std::fmt::Debug + Send + Sync {
    /// `overlay2`, as `docker info` names it.
    fn name(&self) -> &'static str;
    /// Makes the writable layer of a container.
    fn prepare(&self, id: &str, base: &Base) -> Result<()>;
    /// Mounts it, as a detached mount that lives while a descriptor or a mount namespace holds it.
    /// `volatile`: its data need not survive a crash of the machine (`--rm`).
    fn mount(&self, id: &str, volatile: bool) -> Result<OwnedFd>;
    /// Removes the writable layer; fine when there is none.
    fn remove(&self, id: &str) -> Result<()>;
    /// Bytes in the writable layer.
    fn size(&self, id: &str) -> Result<u64>;
    /// What the writable layer changes, sorted by path; a changed path's parents are listed as modified.
    fn changes(&self, id: &str) -> Result<Vec<Change>>;
    /// Writes the writable layer as a layer's tar, with its whiteouts.
    fn pack(&self, id: &str, to: &mut dyn std::io::Write) -> Result<()>;
    /// What changed from the other one to this one, by content, sorted by path.
    fn compare(&self, one: &Stack, other: &Stack) -> Result<Vec<Change>>;
    /// `MergedDir`, `UpperDir`, `WorkDir`, `LowerDir` as inspect shows them.
    fn describe(&self, id: &str) -> Vec<(String, String)>;
    /// IDs that have a writable layer.
    fn list(&self) -> Result<Vec<String>>;
    /// Removes what the driver made of stacks of layers (lowest first) that no image and no container stands on.
    fn collect(&self, _used: &HashSet<Vec<Digest>>) -> Result<()> {
        Ok(())
    }
}

/// The drivers, the best one first.
const DRIVERS: [&str; 3] = ["overlay2", "btrfs", "vfs"];

/// Opens the driver of a data root: the one that was asked for, the one that containers have been made with, or the best
/// one that works here.
pub(crate) fn open(
    root: &Path,
    database: Arc<Database>,
    layers: Arc<Layers>,
    asked: Option<&str>,
) -> Result<Arc<dyn Driver>> {
    let dir = |name: &str| root.join("layers").join(name);
    let probe = |name: &str| probe(name, root);
    let name = match asked {
        Some(asked) => {
            let asked = if asked == "overlay" {
                "overlay2"
            } else {
                asked
            };
            if !DRIVERS.contains(&asked) {
                return Err(StoreError::Conflict(format!(
                    "unknown storage driver {asked:?}: choose one of {}",
                    DRIVERS.join(", ")
                )));
            }
            probe(asked).map_err(|why| {
                StoreError::Conflict(format!(
                    "the storage driver {asked:?} does not work in {}: {why}",
                    root.display()
                ))
            })?;
            asked
        }
        None => {
            let used = |name: &&&str| {
                let containers = std::fs::read_dir(dir(name).join("c"));
                containers.is_ok_and(|mut entries| entries.next().is_some())
            };
            let works = |name: &&&str| match probe(name) {
                Ok(()) => true,
                Err(why) => {
                    tracing::info!(driver = name, %why, "a storage driver does not work here");
                    false
                }
            };
            let used = DRIVERS.iter().find(used).filter(works);
            used.or_else(|| DRIVERS.iter().find(works))
                .unwrap_or(&"vfs")
        }
    };
    let dir = dir(name);
    Ok(match name {
        "btrfs" => Arc::new(trees::Trees::open(
            &dir,
            database,
            layers,
            btrfs::Btrfs::new(&dir),
        )?),
        "vfs" => Arc::new(trees::Trees::open(&dir, database, layers, vfs::Vfs)?),
        _ => Arc::new(overlay::Overlay::open(&dir, database, layers)?),
    })
}

/// Whether a driver works in a data root.
fn probe(name: &str, root: &Path) -> std::io::Result<()> {
    let dir = root.join("tmp/probe");
    let probed = match name {
        "overlay2" => overlay::Overlay::probe(&dir),
        "btrfs" => btrfs::probe(root),
        _ => Ok(()),
    };
    let _ = std::fs::remove_dir_all(&dir);
    probed
}
