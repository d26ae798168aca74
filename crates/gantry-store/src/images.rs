//! Images (configuration + layers) and the references that name them.
use crate::Result;
use gantry_oci::config::ImageConfig;
use gantry_oci::{Digest, Reference};
use std::time::SystemTime;

#[derive(Debug)]
pub struct Images {}

/// A stored image. Its ID is the digest of its configuration.
#[derive(Debug, Clone)]
pub struct Image {
    pub id: Digest,
    pub config: ImageConfig,
    pub diff_ids: Vec<Digest>,
    /// Unpacked size of all layers, bytes.
    pub size: u64,
    /// Tags, as `docker.io/library/busybox:latest`.
    pub tags: Vec<Reference>,
    /// Names with manifest digests, where it was pulled.
    pub digests: Vec<Reference>,
    pub last_tagged: Option<SystemTime>,
}

/// What `rmi` did, in Docker's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Untagged(String),
    Deleted(Digest),
}

impl Images {
    /// Stores an image whose layers are all unpacked; `config` are the exact bytes of the configuration.
    pub fn put(&self, _config: &[u8]) -> Result<Digest> {
        todo!()
    }
    pub fn tag(&self, _reference: &Reference, _id: &Digest) -> Result<()> {
        todo!()
    }
    /// Records `name@digest` of the manifest that the image was pulled by (and keeps the manifest's bytes as a blob).
    pub fn add_digest(&self, _reference: &Reference, _id: &Digest, _manifest: &[u8]) -> Result<()> {
        todo!()
    }
    /// Finds by reference, by ID (`sha256:...` or bare) or by a prefix of the ID that is not ambiguous.
    pub fn find(&self, _text: &str) -> Result<Option<Image>> {
        todo!()
    }
    pub fn get(&self, _id: &Digest) -> Result<Option<Image>> {
        todo!()
    }
    pub fn all(&self) -> Result<Vec<Image>> {
        todo!()
    }
    /// Removes one tag; the answer says whether the image has names left.
    pub fn untag(&self, _reference: &Reference) -> Result<()> {
        todo!()
    }
    /// Removes the image, its names, and the layers and blobs that no other image or container uses.
    pub fn delete(&self, _id: &Digest) -> Result<Vec<Removed>> {
        todo!()
    }
}
