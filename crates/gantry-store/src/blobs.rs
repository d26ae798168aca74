//! The OCI image layout's `blobs/sha256`: manifests, configurations, layer blobs.
use crate::Result;
use gantry_oci::Digest;
use std::fs::File;

#[derive(Debug)]
pub struct Blobs {}

impl Blobs {
    /// Writes a small blob (manifest, configuration).
    pub fn put(&self, _bytes: &[u8]) -> Result<Digest> {
        todo!()
    }
    pub fn read(&self, _digest: &Digest) -> Result<Vec<u8>> {
        todo!()
    }
    pub fn open(&self, _digest: &Digest) -> Result<File> {
        todo!()
    }
    pub fn has(&self, _digest: &Digest) -> bool {
        todo!()
    }
}
