//! With `keep-blobs`, the folder `image` is a whole OCI image layout (image spec, image-layout.md) that other programs can
//! read: `index.json` names a manifest for each image, by the image's names.

use crate::blobs::Blobs;
use crate::database::Database;
use crate::images::Image;
use crate::layers::Layers;
use crate::{At, Result, StoreError};
use gantry_oci::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest};
use gantry_oci::{Digest, media_type};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What keeps the layout true.
#[derive(Debug)]
pub(crate) struct Layout {
    blobs: Arc<Blobs>,
    layers: Arc<Layers>,
    database: Arc<Database>,
    writing: Mutex<()>,
}

impl Layout {
    pub(crate) fn new(blobs: Arc<Blobs>, layers: Arc<Layers>, database: Arc<Database>) -> Self {
        Self {
            blobs,
            layers,
            database,
            writing: Mutex::default(),
        }
    }

    /// Writes the index anew, of what `images` gives while nobody else writes it. The answer is the manifests that it
    /// names; those that it named before are removed unless something else has them.
    pub(crate) fn write(
        &self,
        images: impl FnOnce() -> Vec<Arc<Image>>,
    ) -> Result<HashSet<Digest>> {
        let _held = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let images = images();
        let place = self.blobs.index();
        let before = std::fs::read(&place).at("cannot read", &place)?;
        let before: Option<ImageIndex> = serde_json::from_slice(&before).ok();
        let mut manifests = Vec::new();
        for image in &images {
            if let Some((digest, size)) = self.manifest(image)? {
                manifests.extend(entries(image, &digest, size));
            }
        }
        let named: HashSet<Digest> = manifests.iter().map(|d| d.digest.clone()).collect();
        self.blobs.write_index(&json(&ImageIndex {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            manifests,
            annotations: None,
        })?)?;
        let known = crate::manifests::all(&self.database)?;
        for old in before.map(|index| index.manifests).unwrap_or_default() {
            let digests = images.iter().flat_map(|image| &image.digests);
            let mut digests = digests.filter_map(|name| name.digest.as_ref());
            if !named.contains(&old.digest)
                && !known.iter().any(|digest| *digest == old.digest.as_str())
                && !digests.any(|digest| *digest == old.digest)
            {
                self.blobs.remove(&old.digest)?;
            }
        }
        Ok(named)
    }

    /// A manifest of an image all of whose blobs are there: the one that it came by, or one of ours. None where a layer's
    /// blob was not kept, having come before blobs were.
    fn manifest(&self, image: &Image) -> Result<Option<(Digest, u64)>> {
        let sql = "SELECT digest, '' FROM manifest WHERE image = ? ORDER BY rowid DESC";
        for (digest, _) in self.database.pairs(sql, [image.id.as_str()])? {
            let digest = Digest::parse(&digest).map_err(|e| StoreError::Invalid(e.to_string()))?;
            if !self.blobs.has(&digest) {
                continue;
            }
            let bytes = self.blobs.read(&digest)?;
            if let Ok(Manifest::Image(manifest)) = Manifest::parse(&bytes)
                && manifest.config.digest == image.id
                && manifest
                    .layers
                    .iter()
                    .all(|layer| self.blobs.has(&layer.digest))
            {
                return Ok(Some((digest, bytes.len() as u64)));
            }
        }
        let mut layers = Vec::new();
        for diff_id in &image.diff_ids {
            let known = self.layers.blobs_of(diff_id)?.into_iter();
            let Some(kept) = known.into_iter().find(|blob| self.blobs.has(&blob.digest)) else {
                tracing::info!(image = %image.id, layer = %diff_id, "the layout leaves an image out: a layer's blob was not kept");
                return Ok(None);
            };
            layers.push(descriptor(&kept.media_type, kept.digest, kept.size));
        }
        let config = self.blobs.path(&image.id);
        let size = config.metadata().at("cannot read", &config)?.len();
        let bytes = json(&ImageManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.into(),
            config: descriptor(media_type::OCI_CONFIG, image.id.clone(), size),
            layers,
            annotations: None,
        })?;
        Ok(Some((self.blobs.put(&bytes)?, bytes.len() as u64)))
    }
}

/// The index's entries of an image: one for each of its tags, or one without a name.
fn entries(image: &Image, digest: &Digest, size: u64) -> Vec<Descriptor> {
    let plain = Descriptor {
        platform: Some(image.platform()),
        ..descriptor(media_type::OCI_MANIFEST, digest.clone(), size)
    };
    if image.tags.is_empty() {
        return vec![plain];
    }
    let named = image.tags.iter().map(|tag| {
        let annotations = [
            ("io.containerd.image.name", tag.to_string()),
            ("org.opencontainers.image.ref.name", tag.familiar()),
        ];
        let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
        Descriptor {
            annotations: Some(BTreeMap::from(annotations)),
            ..plain.clone()
        }
    });
    named.collect()
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size,
        urls: Vec::new(),
        annotations: None,
        platform: None,
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| StoreError::Invalid(e.to_string()))
}
