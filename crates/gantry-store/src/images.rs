//! Images (configuration + layers) and the references that name them. All of it is kept in memory, too: a look-up costs
//! no query.

use crate::blobs::Blobs;
use crate::database::Database;
use crate::layers::Layers;
use crate::snapshots::{Base, Driver};
use crate::{At, Result, StoreError};
use gantry_oci::config::ImageConfig;
use gantry_oci::{Digest, Reference};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The images of the store.
#[derive(Debug)]
pub struct Images {
    blobs: Arc<Blobs>,
    layers: Arc<Layers>,
    snapshots: Arc<dyn Driver>,
    database: Arc<Database>,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    images: BTreeMap<Digest, Image>,
    /// Full references (with tag, or with digest) to image IDs.
    references: BTreeMap<String, Digest>,
}

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
    /// The image that it was made from here (`commit`); it may be gone by now.
    pub parent: Option<Digest>,
}

/// What `rmi` did, in Docker's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A familiar reference.
    Untagged(String),
    Deleted(Digest),
}

impl Images {
    pub(crate) fn open(
        blobs: Arc<Blobs>,
        layers: Arc<Layers>,
        snapshots: Arc<dyn Driver>,
        database: Arc<Database>,
    ) -> Result<Self> {
        let images = Self {
            blobs,
            layers,
            snapshots,
            database,
            table: RwLock::default(),
        };
        images.read()?;
        Ok(images)
    }

    /// Fills the table from the database; an image whose configuration or layers are gone is forgotten.
    fn read(&self) -> Result<()> {
        for (id, tagged) in self
            .database
            .pairs("SELECT id, coalesce(last_tagged, '') || '' FROM image", [])?
        {
            let loaded = Digest::parse(&id)
                .map_err(|e| StoreError::Invalid(e.to_string()))
                .and_then(|digest| self.load(&self.blobs.read(&digest)?));
            match loaded {
                Ok(mut image) => {
                    image.last_tagged = tagged
                        .parse()
                        .ok()
                        .map(|s| UNIX_EPOCH + Duration::from_secs(s));
                    self.write().images.insert(image.id.clone(), image);
                }
                // A failing disk, or too many open files, is no reason to forget images.
                Err(error) if !is_gone(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(image = id, %error, "an image is broken: its record is removed");
                    self.database
                        .execute("DELETE FROM image WHERE id = ?", [&id])?;
                    self.database
                        .execute("DELETE FROM reference WHERE image = ?", [&id])?;
                }
            }
        }
        for (id, parent) in self
            .database
            .pairs("SELECT image, parent FROM parent", [])?
        {
            if let (Ok(id), Ok(parent)) = (Digest::parse(&id), Digest::parse(&parent))
                && let Some(image) = self.write().images.get_mut(&id)
            {
                image.parent = Some(parent);
            }
        }
        for (name, id) in self
            .database
            .pairs("SELECT name, image FROM reference ORDER BY name", [])?
        {
            if let (Ok(reference), Ok(id)) = (Reference::parse(&name), Digest::parse(&id)) {
                self.write().name(&reference, &id);
            }
        }
        Ok(())
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// An image out of its configuration's bytes; its layers must be in the store.
    fn load(&self, bytes: &[u8]) -> Result<Image> {
        let config: ImageConfig = serde_json::from_slice(bytes)
            .map_err(|e| StoreError::Invalid(format!("invalid image configuration: {e}")))?;
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() > gantry_oci::manifest::MOST_ENTRIES {
            return Err(StoreError::Invalid(format!(
                "the image has {} layers",
                diff_ids.len()
            )));
        }
        let mut size = 0;
        for diff_id in &diff_ids {
            let layer = self.layers.find(diff_id)?;
            size += layer
                .ok_or_else(|| {
                    StoreError::NotFound(format!("layer {diff_id} is not in the store"))
                })?
                .size;
        }
        let id = Digest::of(bytes);
        Ok(Image {
            id,
            config,
            diff_ids,
            size,
            tags: Vec::new(),
            digests: Vec::new(),
            last_tagged: None,
            parent: None,
        })
    }

    /// Stores an image whose layers are all unpacked; `config` are the exact bytes of the configuration.
    pub fn put(&self, config: &[u8]) -> Result<Digest> {
        let _held = self.layers.hold();
        let image = self.load(config)?;
        let id = self.blobs.put(config)?;
        self.database.execute(
            "INSERT OR IGNORE INTO image VALUES (?, NULL)",
            [id.as_str()],
        )?;
        self.write().images.entry(id.clone()).or_insert(image);
        Ok(id)
    }

    /// Notes which image another one was made from.
    pub(crate) fn set_parent(&self, id: &Digest, parent: &Digest) -> Result<()> {
        self.database.execute(
            "INSERT OR REPLACE INTO parent VALUES (?, ?)",
            (id.as_str(), parent.as_str()),
        )?;
        if let Some(image) = self.write().images.get_mut(id) {
            image.parent = Some(parent.clone());
        }
        Ok(())
    }

    /// Names an image; the name is taken from the image that had it.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<()> {
        let reference = reference.clone().or_latest();
        if !self.table().images.contains_key(id) {
            return Err(StoreError::NotFound(format!("No such image: {id}")));
        }
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        self.record(&reference, id)?;
        self.database.execute(
            "UPDATE image SET last_tagged = ? WHERE id = ?",
            (seconds, id.as_str()),
        )?;
        if let Some(image) = self.write().images.get_mut(id) {
            image.last_tagged = Some(now);
        }
        Ok(())
    }

    fn record(&self, reference: &Reference, id: &Digest) -> Result<()> {
        self.database.execute(
            "INSERT OR REPLACE INTO reference VALUES (?, ?)",
            (reference.to_string(), id.as_str()),
        )?;
        self.write().name(reference, id);
        Ok(())
    }

    /// Records `name@digest` of the manifest that the image was pulled by (and keeps the manifest's bytes as a blob).
    pub fn add_digest(&self, reference: &Reference, id: &Digest, manifest: &[u8]) -> Result<()> {
        let digest = self.blobs.put(manifest)?;
        let reference = Reference {
            tag: None,
            digest: Some(digest),
            ..reference.clone()
        };
        self.record(&reference, id)
    }

    /// Finds by reference, by ID (`sha256:...` or bare) or by a prefix of the ID that is not ambiguous.
    pub fn find(&self, text: &str) -> Result<Option<Image>> {
        let table = self.table();
        if let Ok(id) = Digest::parse(text).or_else(|_| Digest::from_hex(text)) {
            return Ok(table.images.get(&id).cloned());
        }
        if let Ok(reference) = Reference::parse(text) {
            let mut reference = reference.or_latest();
            if reference.digest.is_some() {
                // The digest says all; a tag beside it is decoration.
                reference.tag = None;
            }
            if let Some(id) = table.references.get(&reference.to_string()) {
                return Ok(table.images.get(id).cloned());
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut matching = table
            .images
            .values()
            .filter(|image| image.id.hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Ok(Some(image.clone())),
            (Some(_), Some(_)) => Err(StoreError::Invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
            _ => Ok(None),
        }
    }

    /// An image by its ID.
    pub fn get(&self, id: &Digest) -> Result<Option<Image>> {
        Ok(self.table().images.get(id).cloned())
    }

    /// Every image.
    pub fn all(&self) -> Result<Vec<Image>> {
        Ok(self.table().images.values().cloned().collect())
    }

    /// Removes one name (a tag, or `name@digest`).
    pub fn untag(&self, reference: &Reference) -> Result<()> {
        let reference = reference.clone().or_latest();
        self.database.execute(
            "DELETE FROM reference WHERE name = ?",
            [reference.to_string()],
        )?;
        self.write().unname(&reference);
        Ok(())
    }

    /// Removes the image, its names, and the layers and blobs that no other image or container uses.
    pub fn delete(&self, id: &Digest) -> Result<Vec<Removed>> {
        let held = self.layers.hold();
        let Some(image) = self.get(id)? else {
            return Err(StoreError::NotFound(format!("No such image: {id}")));
        };
        let mut removed = Vec::new();
        for reference in image.tags.iter().chain(&image.digests) {
            self.untag(reference)?;
            removed.push(Removed::Untagged(reference.familiar()));
        }
        self.database
            .execute("DELETE FROM image WHERE id = ?", [id.as_str()])?;
        self.database
            .execute("DELETE FROM parent WHERE image = ?", [id.as_str()])?;
        self.write().images.remove(id);
        self.blobs.remove(id)?;
        for digest in image.digests.iter().filter_map(|r| r.digest.as_ref()) {
            let used = self
                .table()
                .images
                .values()
                .any(|i| i.digests.iter().any(|r| r.digest.as_ref() == Some(digest)));
            if !used {
                self.blobs.remove(digest)?;
            }
        }
        removed.push(Removed::Deleted(id.clone()));
        drop(held);
        self.collect_layers()?;
        Ok(removed)
    }

    /// Removes the layers that no image and no container uses, and no lease protects.
    pub fn collect_layers(&self) -> Result<()> {
        let held = self.layers.hold();
        let stacks: HashSet<Vec<Digest>> = {
            let table = self.table();
            let images = table.images.values();
            images.map(|image| image.diff_ids.clone()).collect()
        };
        let mut used: HashSet<Digest> = stacks.iter().flatten().cloned().collect();
        for (id, base) in self.database.pairs("SELECT id, base FROM snapshot", [])? {
            let base = serde_json::from_str(&base)
                .map_err(|e| StoreError::Invalid(format!("the base of {id}: {e}")))?;
            if let Base::Layers(layers) = base {
                used.extend(layers);
            }
        }
        let mut trees = Vec::new();
        for (diff_id, _) in self.layers.all()? {
            if !used.contains(&diff_id) && !held.protect(&diff_id) {
                trees.extend(self.layers.remove(&diff_id)?);
            }
        }
        drop(held);
        for tree in trees {
            std::fs::remove_dir_all(&tree).at("cannot remove the layer", &tree)?;
        }
        self.snapshots.collect(&stacks)
    }
}

/// Whether what an image needs is not there, or not what it was, for good.
fn is_gone(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound(_) | StoreError::Invalid(_) => true,
        StoreError::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Table {
    fn name(&mut self, reference: &Reference, id: &Digest) {
        self.unname(reference);
        let Some(image) = self.images.get_mut(id) else {
            return;
        };
        let names = if reference.digest.is_some() {
            &mut image.digests
        } else {
            &mut image.tags
        };
        names.push(reference.clone());
        self.references.insert(reference.to_string(), id.clone());
    }

    fn unname(&mut self, reference: &Reference) {
        let Some(owner) = self.references.remove(&reference.to_string()) else {
            return;
        };
        if let Some(image) = self.images.get_mut(&owner) {
            image.tags.retain(|r| r != reference);
            image.digests.retain(|r| r != reference);
        }
    }
}
