//! The manifests that images came by or went by, byte for byte: a push to where an image came from names the very same
//! one again. They go with their image.

use crate::blobs::Blobs;
use crate::database::Database;
use crate::{Result, StoreError};
use gantry_oci::Digest;
use std::sync::Arc;

/// The manifests of the store's images.
#[derive(Debug)]
pub struct Manifests {
    blobs: Arc<Blobs>,
    database: Arc<Database>,
}

/// A manifest as a repository has or had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownManifest {
    pub digest: Digest,
    /// `host[:port]/path`
    pub repository: String,
}

impl Manifests {
    pub(crate) fn new(blobs: Arc<Blobs>, database: Arc<Database>) -> Self {
        Self { blobs, database }
    }

    /// Keeps the manifest that a repository has for an image.
    pub fn add(&self, image: &Digest, repository: &str, bytes: &[u8]) -> Result<Digest> {
        let digest = self.blobs.put(bytes)?;
        self.database.execute(
            "INSERT OR REPLACE INTO manifest VALUES (?, ?, ?)",
            (image.as_str(), digest.as_str(), repository),
        )?;
        Ok(digest)
    }

    /// An image's manifests, the last that was added first.
    pub fn of(&self, image: &Digest) -> Result<Vec<KnownManifest>> {
        let rows = self.database.pairs(
            "SELECT digest, repository FROM manifest WHERE image = ? ORDER BY rowid DESC",
            [image.as_str()],
        )?;
        rows.into_iter()
            .map(|(digest, repository)| {
                let digest = Digest::parse(&digest);
                let digest = digest.map_err(|e| StoreError::Invalid(e.to_string()))?;
                Ok(KnownManifest { digest, repository })
            })
            .collect()
    }

    /// A manifest's bytes.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.blobs.read(digest)
    }
}

/// The manifests that images of the store have.
pub(crate) fn all(database: &Database) -> Result<Vec<String>> {
    let rows = database.pairs("SELECT DISTINCT digest, '' FROM manifest", [])?;
    Ok(rows.into_iter().map(|(digest, _)| digest).collect())
}

/// Forgets the manifests of images that are gone; the answer is those that no image has any more.
pub(crate) fn forget(database: &Database) -> Result<Vec<Digest>> {
    let gone = "image NOT IN (SELECT id FROM image)";
    let mut candidates = database.pairs(
        &format!("SELECT DISTINCT digest, '' FROM manifest WHERE {gone}"),
        [],
    )?;
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    database.execute(&format!("DELETE FROM manifest WHERE {gone}"), [])?;
    let left = all(database)?;
    candidates.retain(|(digest, _)| !left.contains(digest));
    let digests = candidates.into_iter().map(|(digest, _)| digest);
    Ok(digests
        .filter_map(|digest| Digest::parse(&digest).ok())
        .collect())
}
