//! Blobs, references, layers, snapshots.
//!
//! Owns: all that is below the data root but the containers' own folders; the database file.
//! Never: opens a network socket.
//! Start here: [`Store::open`], then [`layers`], [`images`], [`snapshots`], [`archive`].
//!
//! Order of writes: content first, then the record that names it; what no record names is garbage that
//! [`Store::open`] collects.

pub mod archive;
pub mod blobs;
pub mod database;
pub mod images;
pub mod layers;
pub mod snapshots;

use std::path::{Path, PathBuf};

/// Everything that can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what}: {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("database")]
    Database(#[source] rusqlite::Error),
    #[error("{what} has digest {found}, {expected} was expected")]
    DigestMismatch {
        what: String,
        expected: gantry_oci::Digest,
        found: gantry_oci::Digest,
    },
    /// Foreign bytes are broken or hostile (tar, manifest, archive).
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    /// The data root is used by another daemon.
    #[error("{0}")]
    Locked(String),
}
pub type Result<T> = std::result::Result<T, StoreError>;

/// The store below one data root. Share it by `Arc`; every method takes `&self` and may block.
#[derive(Debug)]
pub struct Store {
    pub database: database::Database,
    pub blobs: blobs::Blobs,
    pub layers: layers::Layers,
    pub images: images::Images,
    pub snapshots: Box<dyn snapshots::Driver>,
}

impl Store {
    /// Opens or makes the store; locks it (a second daemon gets [`StoreError::Locked`]) and removes what an
    /// interrupted write left behind.
    pub fn open(_root: &Path) -> Result<Self> {
        todo!()
    }
}
