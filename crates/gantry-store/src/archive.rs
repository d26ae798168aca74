//! `docker load` archives (Docker's manifest.json and OCI layouts), `import` of a plain tar, `save`.
use crate::{Result, Store};
use gantry_oci::{Digest, Reference};
use std::io::{Read, Write};

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub id: Digest,
    pub tags: Vec<Reference>,
}

/// Loads every image of an archive (plain or compressed).
pub fn load(
    _store: &Store,
    _reader: &mut dyn Read,
    _progress: &dyn Fn(&str, u64),
) -> Result<Vec<Loaded>> {
    todo!()
}

/// Makes an image of one layer out of a root file system's tar; `config` is completed with `rootfs` and `history`.
pub fn import(
    _store: &Store,
    _reader: &mut dyn Read,
    _config: gantry_oci::config::ImageConfig,
) -> Result<Digest> {
    todo!()
}

/// Writes images as one archive that `docker load`, skopeo and podman read.
pub fn save(
    _store: &Store,
    _images: &[(Digest, Vec<Reference>)],
    _writer: &mut dyn Write,
) -> Result<()> {
    todo!()
}
