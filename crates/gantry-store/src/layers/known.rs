//! The compressed forms that a layer is known by, and the repositories that have them: what a push need not send.

use super::{Layers, parse};
use crate::Result;
use gantry_oci::Digest;
use std::fs::File;

/// A compressed form of a layer, as some registry has or had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub media_type: String,
}

impl Layers {
    /// The forms that a layer came in or was sent in; the one it came in first is the first.
    pub fn blobs_of(&self, diff_id: &Digest) -> Result<Vec<LayerBlob>> {
        let mut known = Vec::new();
        {
            let connection = self.database.lock();
            let mut statement = connection.prepare_cached(
                "SELECT digest, size, media_type FROM layer_blob WHERE diff_id = ? ORDER BY rowid",
            )?;
            let mut rows = statement.query([diff_id.as_str()])?;
            while let Some(row) = rows.next()? {
                known.push(LayerBlob {
                    digest: parse(&row.get::<_, String>(0)?)?,
                    size: row.get::<_, i64>(1)? as u64,
                    media_type: row.get(2)?,
                });
            }
        }
        Ok(known)
    }

    /// Notes one more form of a layer.
    pub fn add_blob(&self, diff_id: &Digest, blob: &LayerBlob) -> Result<()> {
        self.database.execute(
            "INSERT OR IGNORE INTO layer_blob VALUES (?, ?, ?, ?)",
            (
                diff_id.as_str(),
                blob.digest.as_str(),
                blob.size as i64,
                &blob.media_type,
            ),
        )
    }

    /// The layer that came, or was sent, as this blob.
    pub fn by_blob(&self, blob: &Digest) -> Result<Option<super::Layer>> {
        let rows = self.database.pairs(
            "SELECT diff_id, media_type FROM layer_blob WHERE digest = ?",
            [blob.as_str()],
        )?;
        for (diff_id, _) in rows {
            if let Some(layer) = self.get(&parse(&diff_id)?)? {
                return Ok(Some(layer));
            }
        }
        Ok(None)
    }

    /// Repositories (`host[:port]/path`) that a blob came from or was sent to.
    pub fn sources(&self, blob: &Digest) -> Result<Vec<String>> {
        let rows = self.database.pairs(
            "SELECT repository, digest FROM blob_source WHERE digest = ?",
            [blob.as_str()],
        )?;
        Ok(rows.into_iter().map(|(repository, _)| repository).collect())
    }

    /// Notes that a repository has a blob of a layer that is in the store.
    pub fn add_source(&self, blob: &Digest, repository: &str) -> Result<()> {
        self.database.execute(
            "INSERT OR IGNORE INTO blob_source VALUES (?, ?)",
            (blob.as_str(), repository),
        )
    }

    /// Notes that a repository does not have a blob any more.
    pub fn remove_source(&self, blob: &Digest, repository: &str) -> Result<()> {
        self.database.execute(
            "DELETE FROM blob_source WHERE digest = ? AND repository = ?",
            (blob.as_str(), repository),
        )
    }

    /// A layer's compressed blob, where the store keeps it.
    pub fn blob_file(&self, blob: &Digest) -> Result<Option<File>> {
        match self.blobs.has(blob) {
            true => self.blobs.open_blob(blob).map(Some),
            false => Ok(None),
        }
    }
}
