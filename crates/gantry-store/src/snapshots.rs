//! Snapshot drivers: a container's writable layer over an image's layers.
use crate::Result;
use gantry_oci::Digest;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

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
}
