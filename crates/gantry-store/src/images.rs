//! Images (configuration + layers) and the references that name them. All of it is kept in memory, too: a look-up costs
//! no query.
//!
//! A name stands for one image of each platform ([`crate::references`]): the `reference` table has the one that is meant
//! where no platform is asked for, `sibling` the others.

use crate::blobs::Blobs;
use crate::database::Database;
use crate::layers::Layers;
use crate::layout::Layout;
use crate::references::Table;
use crate::snapshots::{Base, Driver};
use crate::{At, Result, StoreError};
use gantry_oci::config::ImageConfig;
use gantry_oci::manifest::Platform;
use gantry_oci::{Digest, Reference, Sha256};
use std::collections::HashSet;
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
    /// With `keep-blobs`.
    layout: Option<Layout>,
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

impl Image {
    /// An image without names.
    pub(crate) fn of(id: Digest, config: ImageConfig, size: u64) -> Self {
        Self {
            id,
            diff_ids: config.rootfs.diff_ids.clone(),
            config,
            size,
            tags: Vec::new(),
            digests: Vec::new(),
            last_tagged: None,
            parent: None,
        }
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        let config = &self.config;
        Platform {
            os_version: Some(config.os_version.clone()).filter(|v| !v.is_empty()),
            ..Platform::of(&config.os, &config.architecture, &config.variant)
        }
    }
}

/// Docker's chain IDs: what the layers up to each one are called together, lowest first.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => {
                let mut hash = Sha256::default();
                hash.update(format!("{below} {diff_id}").as_bytes());
                hash.finish()
            }
        };
        chain.push(next);
    }
    chain
}

/// What went with an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Names that it still had.
    pub untagged: Vec<Reference>,
    /// Chain IDs of the layers that no other image and no container stands on, highest first.
    pub chains: Vec<Digest>,
    /// Bytes of the disk that are free again.
    pub freed: u64,
}

impl Images {
    pub(crate) fn open(
        blobs: Arc<Blobs>,
        layers: Arc<Layers>,
        snapshots: Arc<dyn Driver>,
        database: Arc<Database>,
    ) -> Result<Self> {
        let layout = layers
            .keeps_blobs()
            .then(|| Layout::new(blobs.clone(), layers.clone(), database.clone()));
        let images = Self {
            layout,
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
                    self.write()
                        .images
                        .insert(image.id.clone(), Arc::new(image));
                }
                // A failing disk, or too many open files, is no reason to forget images.
                Err(error) if !is_gone(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(image = id, %error, "an image is broken: its record is removed");
                    self.database
                        .execute("DELETE FROM image WHERE id = ?", [&id])?;
                    for table in ["reference", "sibling"] {
                        let sql = format!("DELETE FROM {table} WHERE image = ?");
                        self.database.execute(&sql, [&id])?;
                    }
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
                Arc::make_mut(image).parent = Some(parent);
            }
        }
        self.read_names()
    }

    fn read_names(&self) -> Result<()> {
        // What is meant comes last: it goes to the front of what is there.
        for sql in [
            "SELECT name, image FROM sibling ORDER BY rowid",
            "SELECT name, image FROM reference",
        ] {
            for (name, id) in self.database.pairs(sql, [])? {
                let (Ok(reference), Ok(id)) = (Reference::parse(&name), Digest::parse(&id)) else {
                    continue;
                };
                let mut table = self.write();
                let others = table.named(&reference).iter().filter(|other| **other != id);
                let ids: Vec<_> = std::iter::once(&id).chain(others).cloned().collect();
                table.name(&reference, &ids);
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
        Ok(Image::of(Digest::of(bytes), config, size))
    }

    /// Stores an image whose layers are all unpacked; `config` are the exact bytes of the configuration.
    pub fn put(&self, config: &[u8]) -> Result<Digest> {
        let held = self.layers.hold();
        let image = self.load(config)?;
        let id = self.blobs.put(config)?;
        self.database.execute(
            "INSERT OR IGNORE INTO image VALUES (?, NULL)",
            [id.as_str()],
        )?;
        self.write()
            .images
            .entry(id.clone())
            .or_insert_with(|| Arc::new(image));
        drop(held);
        self.lay_out()?;
        Ok(id)
    }

    /// Brings the layout's index up to date, where the store keeps blobs; the answer is the manifests that it names.
    pub(crate) fn lay_out(&self) -> Result<HashSet<Digest>> {
        match &self.layout {
            None => Ok(HashSet::new()),
            Some(layout) => layout.write(|| self.table().images.values().cloned().collect()),
        }
    }

    /// Notes which image another one was made from.
    pub(crate) fn set_parent(&self, id: &Digest, parent: &Digest) -> Result<()> {
        self.database.execute(
            "INSERT OR REPLACE INTO parent VALUES (?, ?)",
            (id.as_str(), parent.as_str()),
        )?;
        if let Some(image) = self.write().images.get_mut(id) {
            Arc::make_mut(image).parent = Some(parent.clone());
        }
        Ok(())
    }

    /// Lets a name stand for this image alone.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<()> {
        self.tag_set(reference, std::slice::from_ref(id))
    }

    /// Lets a name stand for these images alone, the one that is meant without a platform first.
    pub fn tag_set(&self, reference: &Reference, ids: &[Digest]) -> Result<()> {
        let reference = reference.clone().or_latest();
        if let Some(id) = ids.iter().find(|id| !self.table().images.contains_key(id)) {
            return Err(StoreError::NotFound(format!("No such image: {id}")));
        }
        self.record(&reference, ids)?;
        self.touch(ids)
    }

    /// Adds an image to those that a name stands for, in the place of the one for the same platform.
    pub fn tag_platform(&self, reference: &Reference, id: &Digest) -> Result<()> {
        let reference = reference.clone().or_latest();
        if !self.table().images.contains_key(id) {
            return Err(StoreError::NotFound(format!("No such image: {id}")));
        }
        let ids = self.table().with(&reference, id);
        self.record(&reference, &ids)?;
        self.touch(std::slice::from_ref(id))
    }

    /// Notes that images were named just now.
    fn touch(&self, ids: &[Digest]) -> Result<()> {
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        for id in ids {
            self.database.execute(
                "UPDATE image SET last_tagged = ? WHERE id = ?",
                (seconds, id.as_str()),
            )?;
            if let Some(image) = self.write().images.get_mut(id) {
                Arc::make_mut(image).last_tagged = Some(now);
            }
        }
        Ok(())
    }

    /// Writes what a name stands for: all of it, or nothing.
    fn record(&self, reference: &Reference, ids: &[Digest]) -> Result<()> {
        let name = reference.to_string();
        let mut connection = self.database.lock();
        let transaction = connection.transaction()?;
        transaction
            .prepare_cached("DELETE FROM sibling WHERE name = ?")?
            .execute([&name])?;
        match ids.split_first() {
            None => transaction
                .prepare_cached("DELETE FROM reference WHERE name = ?")?
                .execute([&name])?,
            Some((first, others)) => {
                // Oldest first: that is the order they are read in.
                for id in others.iter().rev() {
                    transaction
                        .prepare_cached("INSERT INTO sibling VALUES (?, ?)")?
                        .execute((&name, id.as_str()))?;
                }
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO reference VALUES (?, ?)")?
                    .execute((&name, first.as_str()))?
            }
        };
        transaction.commit()?;
        // Under the database's lock: two that name the same do not cross.
        self.write().name(reference, ids);
        drop(connection);
        self.lay_out().map(drop)
    }

    /// Records `name@digest` of the manifest that the image was pulled by (and keeps the manifest's bytes as a blob).
    pub fn add_digest(&self, reference: &Reference, id: &Digest, manifest: &[u8]) -> Result<()> {
        let digest = self.blobs.put(manifest)?;
        let reference = Reference {
            tag: None,
            digest: Some(digest),
            ..reference.clone()
        };
        let ids = self.table().with(&reference, id);
        self.record(&reference, &ids)
    }

    /// Finds by reference, by ID (`sha256:...` or bare) or by a prefix of the ID that is not ambiguous.
    pub fn find(&self, text: &str) -> Result<Option<Arc<Image>>> {
        Ok(self.find_all(text)?.into_iter().next())
    }

    /// The same with all images that a name stands for, the one that is meant without a platform first.
    pub fn find_all(&self, text: &str) -> Result<Vec<Arc<Image>>> {
        let table = self.table();
        if let Ok(id) = Digest::parse(text).or_else(|_| Digest::from_hex(text)) {
            return Ok(table.images.get(&id).cloned().into_iter().collect());
        }
        if let Ok(reference) = Reference::parse(text) {
            let mut reference = reference.or_latest();
            if reference.digest.is_some() {
                // The digest says all; a tag beside it is decoration.
                reference.tag = None;
            }
            let ids = table.named(&reference).iter();
            let images: Vec<_> = ids.filter_map(|id| table.images.get(id)).cloned().collect();
            if !images.is_empty() {
                return Ok(images);
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Vec::new());
        }
        let mut matching = table
            .images
            .values()
            .filter(|image| image.id.hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(image), None) => Ok(vec![image.clone()]),
            (Some(_), Some(_)) => Err(StoreError::Invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
            _ => Ok(Vec::new()),
        }
    }

    /// An image by its ID.
    pub fn get(&self, id: &Digest) -> Result<Option<Arc<Image>>> {
        Ok(self.table().images.get(id).cloned())
    }

    /// Every image.
    pub fn all(&self) -> Result<Vec<Arc<Image>>> {
        Ok(self.table().images.values().cloned().collect())
    }

    /// The images of a name, the one that is meant without a platform first.
    pub fn named(&self, reference: &Reference) -> Vec<Digest> {
        self.table().named(&reference.clone().or_latest()).to_vec()
    }

    /// Removes one name (a tag, or `name@digest`), whatever it stands for.
    pub fn untag(&self, reference: &Reference) -> Result<()> {
        self.record(&reference.clone().or_latest(), &[])
    }

    /// Takes one image away from those that a name stands for.
    pub fn untag_image(&self, reference: &Reference, id: &Digest) -> Result<()> {
        let reference = reference.clone().or_latest();
        let mut ids = self.named(&reference);
        ids.retain(|other| other != id);
        self.record(&reference, &ids)
    }

    /// Removes the image, its names, and the layers and blobs that no other image or container uses.
    pub fn delete(&self, id: &Digest) -> Result<Deletion> {
        let held = self.layers.hold();
        let Some(image) = self.get(id)? else {
            return Err(StoreError::NotFound(format!("No such image: {id}")));
        };
        let mut deletion = Deletion::default();
        for reference in image.tags.iter().chain(&image.digests) {
            self.untag_image(reference, id)?;
            deletion.untagged.push(reference.clone());
        }
        self.database
            .execute("DELETE FROM image WHERE id = ?", [id.as_str()])?;
        self.database
            .execute("DELETE FROM parent WHERE image = ?", [id.as_str()])?;
        self.database
            .execute("DELETE FROM parent WHERE parent = ?", [id.as_str()])?;
        self.forget(id);
        deletion.freed += self.remove_blob(id)?;
        let gone = crate::manifests::forget(&self.database)?;
        let left: HashSet<String> = crate::manifests::all(&self.database)?.into_iter().collect();
        let named = image.digests.iter().filter_map(|r| r.digest.clone());
        for digest in &named.chain(gone).collect::<HashSet<_>>() {
            let used = self
                .table()
                .images
                .values()
                .any(|i| i.digests.iter().any(|r| r.digest.as_ref() == Some(digest)));
            if !used && !left.contains(digest.as_str()) {
                deletion.freed += self.remove_blob(digest)?;
            }
        }
        deletion.chains = self.free_chains(&image)?;
        drop(held);
        self.lay_out()?;
        deletion.freed += self.free_layers()?;
        Ok(deletion)
    }

    /// Removes a blob; the answer is the bytes of the disk that it gave back.
    fn remove_blob(&self, digest: &Digest) -> Result<u64> {
        let bytes = crate::usage::of_tree(&self.blobs.path(digest))?;
        self.blobs.remove(digest)?;
        Ok(bytes)
    }

    /// Takes an image out of the table; what was made from it has no parent any more.
    fn forget(&self, id: &Digest) {
        let mut table = self.write();
        table.images.remove(id);
        for image in table.images.values_mut() {
            if image.parent.as_ref() == Some(id) {
                Arc::make_mut(image).parent = None;
            }
        }
    }

    /// The chain IDs of an image that is gone that no other image and no container stands on, highest first.
    fn free_chains(&self, image: &Image) -> Result<Vec<Digest>> {
        let shared = |other: &[Digest]| {
            let pairs = image.diff_ids.iter().zip(other);
            pairs.take_while(|(one, other)| one == other).count()
        };
        let by_images = self
            .table()
            .images
            .values()
            .map(|i| shared(&i.diff_ids))
            .max();
        let by_containers = self.bases()?.iter().map(|base| shared(base)).max();
        let kept = by_images.max(by_containers).unwrap_or(0);
        let mut free = chain_ids(&image.diff_ids).split_off(kept);
        free.reverse();
        Ok(free)
    }

    /// What containers stand on: layers, lowest first; each once, however many containers do.
    fn bases(&self) -> Result<Vec<Vec<Digest>>> {
        let mut bases = Vec::new();
        let sql = "SELECT min(id), base FROM snapshot GROUP BY base";
        for (id, base) in self.database.pairs(sql, [])? {
            let base = serde_json::from_str(&base)
                .map_err(|e| StoreError::Invalid(format!("the base of {id}: {e}")))?;
            if let Base::Layers(layers) = base {
                bases.push(layers);
            }
        }
        Ok(bases)
    }

    /// Removes the layers that no image and no container uses, and no lease protects.
    pub fn collect_layers(&self) -> Result<()> {
        self.free_layers().map(|_| ())
    }

    /// The same; the answer is the bytes of the disk that they gave back.
    fn free_layers(&self) -> Result<u64> {
        let held = self.layers.hold();
        let stacks: HashSet<Vec<Digest>> = {
            let table = self.table();
            let images = table.images.values();
            images.map(|image| image.diff_ids.clone()).collect()
        };
        let mut used: HashSet<Digest> = stacks.iter().flatten().cloned().collect();
        used.extend(self.bases()?.into_iter().flatten());
        let (mut trees, mut freed) = (Vec::new(), 0);
        for (diff_id, blob) in self.layers.all()? {
            if !used.contains(&diff_id) && !held.protect(&diff_id) {
                let bytes = crate::usage::of_tree(&self.blobs.path(&blob))?;
                trees.extend(self.layers.remove(&diff_id)?);
                if !self.blobs.has(&blob) {
                    freed += bytes;
                }
            }
        }
        drop(held);
        let mut gone = false;
        for tree in trees {
            freed += match self.layers.sharing() {
                Some(_) => crate::usage::of_shared_tree(&tree)?,
                None => crate::usage::of_tree(&tree)?,
            };
            std::fs::remove_dir_all(&tree).at("cannot remove the layer", &tree)?;
            gone = true;
        }
        if gone {
            self.layers.collect_shared()?;
        }
        self.snapshots.collect(&stacks)?;
        Ok(freed)
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
