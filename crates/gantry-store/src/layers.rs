//! Unpacked layers, one directory each, keyed by diff ID.
use crate::Result;
use gantry_oci::Digest;
use std::io::Read;

#[derive(Debug)]
pub struct Layers {}

/// What is known of a layer before it is unpacked.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Digest of the compressed blob as it comes.
    pub blob: Option<Digest>,
    /// Size of the compressed blob, bytes.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

/// A layer that was unpacked and verified.
#[derive(Debug, Clone)]
pub struct Layer {
    pub diff_id: Digest,
    pub blob: Digest,
    /// Sum of the file sizes, bytes.
    pub size: u64,
    pub blob_size: u64,
}

impl Layers {
    /// Reads a layer (tar; gzip or zstd are recognised by their magic), hashing, decompressing, keeping the blob
    /// and unpacking in one pass. Both digests are verified before the layer is named. Safe to call
    /// from several threads at once, also for the same layer.
    pub fn unpack(&self, _reader: &mut dyn Read, _expected: &Expected) -> Result<Layer> {
        todo!()
    }
    pub fn get(&self, _diff_id: &Digest) -> Result<Option<Layer>> {
        todo!()
    }
    /// The layer whose compressed blob has this digest, if it was unpacked before.
    pub fn by_blob(&self, _blob: &Digest) -> Result<Option<Layer>> {
        todo!()
    }
}
