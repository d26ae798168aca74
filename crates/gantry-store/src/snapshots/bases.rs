//! What each container's file system stands on: the records of all drivers, and the lowest layer of all.

use super::Base;
use crate::database::Database;
use crate::layers::Layers;
use crate::{At, Result, StoreError};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The containers of one driver, below `layers/<driver>`.
#[derive(Debug)]
pub(super) struct Bases {
    pub(super) dir: PathBuf,
    database: Arc<Database>,
    pub(super) layers: Arc<Layers>,
}

impl Bases {
    pub(super) fn open(dir: &Path, database: Arc<Database>, layers: Arc<Layers>) -> Result<Self> {
        let containers = dir.join("c");
        std::fs::create_dir_all(&containers).at("cannot make", &containers)?;
        let bases = Self {
            dir: dir.to_owned(),
            database,
            layers,
        };
        bases.make_init()?;
        Ok(bases)
    }

    /// The lowest layer: what every container has to mount on. Being the lowest, whatever an image has wins.
    fn make_init(&self) -> Result<()> {
        let init = self.dir.join("init");
        let tmp = self.dir.join("init.new");
        if init.exists() {
            return Ok(());
        }
        let _ = std::fs::remove_dir_all(&tmp);
        for dir in ["dev/pts", "dev/shm", "proc", "sys", "etc"] {
            std::fs::create_dir_all(tmp.join(dir)).at("cannot make", &tmp)?;
            crate::set_mode(&tmp.join(dir), 0o755)?;
        }
        for dir in ["dev", "."] {
            crate::set_mode(&tmp.join(dir), 0o755)?;
        }
        for file in [
            ".dockerenv",
            "dev/console",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
        ] {
            std::fs::write(tmp.join(file), "").at("cannot make", &tmp)?;
            crate::set_mode(&tmp.join(file), 0o644)?;
        }
        std::os::unix::fs::symlink("/proc/mounts", tmp.join("etc/mtab")).at("cannot make", &tmp)?;
        std::fs::rename(&tmp, &init).at("cannot make", &init)
    }

    /// A container's folder.
    pub(super) fn container(&self, id: &str) -> PathBuf {
        self.dir.join("c").join(id)
    }

    /// What a container stands on.
    pub(super) fn base(&self, id: &str) -> Result<Base> {
        let missing = || StoreError::NotFound(format!("container {id} has no writable layer"));
        let sql = "SELECT id, base FROM snapshot WHERE id = ?";
        let rows = self.database.pairs(sql, [id])?;
        let (_, text) = rows.into_iter().next().ok_or_else(missing)?;
        if !self.container(id).exists() {
            let driver = self.dir.file_name().unwrap_or_default();
            return Err(StoreError::NotFound(format!(
                "container {id} has no writable layer of the storage driver {}: it was made under another one",
                driver.display()
            )));
        }
        serde_json::from_str(&text)
            .map_err(|e| StoreError::Invalid(format!("the base of {id}: {e}")))
    }

    /// Makes a container's folder by `make`, then its record. From the look at the layers to the record none of them
    /// goes, however many images are removed in this very moment.
    pub(super) fn prepare(
        &self,
        id: &str,
        base: &Base,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let dir = self.container(id);
        let made = std::fs::create_dir(&dir)
            .at("cannot make", &dir)
            .and_then(|()| crate::set_mode(&dir, 0o755))
            .and_then(|()| make(&dir));
        let recorded = made.and_then(|()| {
            let _held = self.layers.hold();
            if let Base::Layers(layers) = base {
                for diff_id in layers {
                    self.layers.find(diff_id)?.ok_or_else(|| {
                        StoreError::NotFound(format!("layer {diff_id} is not in the store"))
                    })?;
                }
            }
            let text =
                serde_json::to_string(base).map_err(|e| StoreError::Invalid(e.to_string()))?;
            self.database
                .execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?)", (id, text))
        });
        if recorded.is_err() {
            let _ = std::fs::remove_dir_all(&dir);
        }
        recorded
    }

    /// Removes a container's folder by `remove`, and its record.
    pub(super) fn remove(
        &self,
        id: &str,
        remove: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<()> {
        let sql = "DELETE FROM snapshot WHERE id = ?";
        let forgotten = self.database.execute(sql, [id]);
        let dir = self.container(id);
        match remove(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.at("cannot remove the writable layer", &dir)?,
        }
        // On a full disk there is room for it only now.
        forgotten.or_else(|_| self.database.execute(sql, [id]))
    }

    /// Lower directories, the uppermost first.
    pub(super) fn lowers(&self, base: &Base) -> Vec<PathBuf> {
        let layers = match base {
            // Alone: overlay refuses a lower layer that is inside another one, and the folder may be `/`.
            Base::Directory(dir) => return vec![dir.clone()],
            Base::Layers(layers) => layers.iter().rev(),
        };
        let mut lowers: Vec<PathBuf> = layers.map(|l| self.layers.path(l)).collect();
        lowers.push(self.dir.join("init"));
        // The same layer twice in an image: overlay refuses it, and the lower one is hidden anyway.
        let mut seen = HashSet::new();
        lowers.retain(|lower| seen.insert(lower.clone()));
        lowers
    }

    /// IDs that have a folder.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let dir = self.dir.join("c");
        let entries = std::fs::read_dir(&dir).at("cannot read", &dir)?;
        Ok(entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect())
    }
}
