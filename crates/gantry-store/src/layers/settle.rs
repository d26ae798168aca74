//! Layers and power cuts. A layer is named as soon as it is unpacked, when its files are in the kernel's memory only;
//! its record says under which boot that was. When the last lease ends, the file system is synced in the background, and
//! the mark goes. A start under another boot reads the layers that still have it, and forgets those whose digest is not
//! right any more.

use super::{Layer, Layers};
use crate::database::Database;
use crate::{At, Result};
use gantry_oci::Digest;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The marks of one data root.
#[derive(Debug)]
pub(super) struct Settling {
    boot: String,
    busy: Arc<AtomicBool>,
}

impl Settling {
    /// `boot`: what tells one boot of the machine from another.
    pub(super) fn new(boot: Option<String>) -> Self {
        let boot = boot.unwrap_or_else(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            id.unwrap_or_else(|_| "unknown".to_owned())
                .trim()
                .to_owned()
        });
        Self {
            boot,
            busy: Arc::default(),
        }
    }

    /// Records a layer that was just unpacked.
    pub(super) fn record(&self, database: &Database, layer: &Layer, tar_size: u64) -> Result<()> {
        let mut connection = database.lock();
        let both = connection.transaction()?;
        both.execute(
            "INSERT OR REPLACE INTO layer VALUES (?, ?, ?, ?)",
            (
                layer.diff_id.as_str(),
                layer.blob.as_str(),
                layer.size as i64,
                layer.blob_size as i64,
            ),
        )?;
        both.execute(
            "INSERT OR REPLACE INTO layer_tar VALUES (?, ?, ?)",
            (layer.diff_id.as_str(), tar_size as i64, &self.boot),
        )?;
        Ok(both.commit()?)
    }

    /// Syncs in a thread of its own what is not synced yet, unless one is at it.
    pub(super) fn begin(&self, database: &Arc<Database>, dir: &Path) {
        if self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let (busy, database, dir) = (self.busy.clone(), database.clone(), dir.to_owned());
        std::thread::spawn(move || {
            let settled = settle(&database, &dir);
            busy.store(false, Ordering::Release);
            if let Err(error) = settled {
                tracing::warn!(%error, "layers cannot be synced to the disk");
            }
        });
    }
}

/// Syncs until nothing is left to be.
fn settle(database: &Database, dir: &PathBuf) -> Result<()> {
    loop {
        let marked = database.pairs("SELECT diff_id, boot FROM layer_tar WHERE boot <> ''", [])?;
        if marked.is_empty() {
            return Ok(());
        }
        let root = std::fs::File::open(dir).at("cannot open", dir)?;
        rustix::fs::syncfs(&root).at("cannot sync", dir)?;
        for (diff_id, boot) in marked {
            // Gone and come again in between, it has a mark of its own time, and the sync may not have had it.
            let sql = "UPDATE layer_tar SET boot = '' WHERE diff_id = ? AND boot = ?";
            database.execute(sql, [diff_id, boot])?;
        }
    }
}

impl Layers {
    /// Has layers written to the disk, in the background.
    pub(crate) fn settle(&self) {
        self.settling.begin(&self.database, &self.trees);
    }

    /// The layers that a power cut may have broken, read and found wrong.
    pub(crate) fn broken_by_a_power_cut(&self) -> Result<Vec<Digest>> {
        let marked = self.database.pairs(
            "SELECT diff_id, boot FROM layer_tar WHERE boot <> '' AND boot <> ?",
            [&self.settling.boot],
        )?;
        if let Some(sharing) = self.sharing().filter(|_| !marked.is_empty()) {
            sharing.forget()?;
        }
        let mut broken = Vec::new();
        for (diff_id, _) in marked {
            let Ok(diff_id) = Digest::parse(&diff_id) else {
                continue;
            };
            if let Err(error) = self.write_tar(&diff_id, &mut std::io::sink()) {
                tracing::warn!(layer = %diff_id, %error, "a layer did not survive a power cut");
                broken.push(diff_id);
            }
        }
        Ok(broken)
    }
}
