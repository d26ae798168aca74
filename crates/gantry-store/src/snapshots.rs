//! Snapshot drivers: a container's writable layer over an image's layers.
use crate::Result;
use gantry_oci::Digest;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What a container's file system stands on.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Base {
    /// An image's layers, lowest first.
    Layers(Vec<Digest>),
    /// A directory of the host as the read-only lower layer (`--rootfs DIR:O`).
    Directory(PathBuf),
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
    /// `MergedDir`, `UpperDir`, `WorkDir`, `LowerDir` as inspect shows them.
    fn describe(&self, id: &str) -> Vec<(String, String)>;
    /// IDs that have a writable layer.
    fn list(&self) -> Result<Vec<String>>;
}
