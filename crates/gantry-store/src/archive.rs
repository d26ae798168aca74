//! `docker load` archives (Docker's manifest.json and OCI layouts), `import` of a plain tar, `save`.
//!
//! An archive is read once, in whatever order its files come: layers are unpacked as they pass, small files (manifests,
//! configurations) are kept in memory until the end tells what they are for.

use crate::layers::{Expected, Layer, decoder};
use crate::{Result, Store, StoreError};
use gantry_oci::config::{History, ImageConfig, RootFs};
use gantry_oci::manifest::{Descriptor, ImageIndex, ImageManifest, Manifest};
use gantry_oci::{Digest, Reference, media_type};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use tar::{Archive, EntryType, Header};

/// JSON documents larger than this are no manifests.
const LARGEST_DOCUMENT: u64 = 8 << 20;
const MOST_DOCUMENTS: usize = 20_000;
/// All documents of an archive together: they are kept in memory until its end.
const ALL_DOCUMENTS: u64 = 64 << 20;
/// Indexes may name indexes, so deep.
const DEEPEST_INDEX: usize = 4;

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub id: Digest,
    pub tags: Vec<Reference>,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What passed by.
#[derive(Default)]
struct Contents {
    documents: HashMap<String, Vec<u8>>,
    /// Bytes of the documents.
    kept: u64,
    layers: HashMap<String, Layer>,
    links: HashMap<String, String>,
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::Invalid(message.into())
}

/// Loads every image of an archive (plain, gzip or zstd). `progress` is told the layers' names and sizes as they are done.
pub fn load(
    store: &Store,
    reader: &mut (dyn Read + Send),
    progress: &dyn Fn(&str, u64),
) -> Result<Vec<Loaded>> {
    let lease = store.layers.lease();
    let loaded = load_leased(store, reader, progress);
    drop(lease);
    store.images.collect_layers()?;
    loaded
}

fn load_leased(
    store: &Store,
    reader: &mut (dyn Read + Send),
    progress: &dyn Fn(&str, u64),
) -> Result<Vec<Loaded>> {
    let broken = |e: io::Error| invalid(format!("invalid tar archive: {e}"));
    let mut archive = Archive::new(decoder(reader).map_err(broken)?);
    let mut contents = Contents::default();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry
            .path()
            .map_err(broken)?
            .to_string_lossy()
            .trim_start_matches("./")
            .to_owned();
        match entry.header().entry_type() {
            EntryType::Symlink | EntryType::Link => {
                let target = entry
                    .link_name()
                    .map_err(broken)?
                    .map(|t| t.to_string_lossy().into_owned());
                contents.link(path, target.unwrap_or_default())?;
            }
            EntryType::Regular | EntryType::Continuous => {
                contents.take(store, &path, &mut entry, progress)?
            }
            _ => {}
        }
    }
    if let Some(bytes) = contents.documents.get("manifest.json") {
        let images: Vec<DockerImage> =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("manifest.json: {e}")))?;
        return images
            .iter()
            .map(|image| contents.docker_image(store, image))
            .collect();
    }
    let Some(bytes) = contents.documents.get("index.json") else {
        return Err(invalid(
            "the archive is no image archive: neither manifest.json nor index.json is in it",
        ));
    };
    let index: ImageIndex =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("index.json: {e}")))?;
    let mut loaded = Vec::new();
    for descriptor in index.manifests.iter().filter(|d| is_for_us(d)) {
        loaded.extend(contents.oci_image(store, descriptor, 0)?);
    }
    if loaded.is_empty() && !index.manifests.is_empty() {
        return Err(invalid(NOT_FOR_US));
    }
    Ok(loaded)
}

impl Contents {
    /// Looks at a file: a layer is unpacked, a document kept.
    fn take(
        &mut self,
        store: &Store,
        path: &str,
        entry: &mut dyn Read,
        progress: &dyn Fn(&str, u64),
    ) -> Result<()> {
        let broken = |e: io::Error| invalid(format!("invalid tar archive: {e}"));
        let mut head = Vec::with_capacity(512);
        entry.take(512).read_to_end(&mut head).map_err(broken)?;
        let named = path
            .strip_prefix("blobs/sha256/")
            .and_then(|hex| Digest::from_hex(hex).ok());
        if is_layer(&head) {
            if let Some(there) = named
                .as_ref()
                .map(|d| store.layers.by_blob(d))
                .transpose()?
                .flatten()
            {
                self.layers.insert(path.to_owned(), there);
                return Ok(());
            }
            let expected = Expected {
                blob: named,
                ..Expected::default()
            };
            let layer = store
                .layers
                .unpack(&mut io::Cursor::new(head).chain(entry), &expected)?;
            progress(layer.diff_id.as_str(), layer.blob_size);
            self.layers.insert(path.to_owned(), layer);
            return Ok(());
        }
        let mut bytes = head;
        entry
            .take(LARGEST_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(broken)?;
        self.kept += bytes.len() as u64;
        if bytes.len() as u64 > LARGEST_DOCUMENT
            || self.documents.len() >= MOST_DOCUMENTS
            || self.kept > ALL_DOCUMENTS
        {
            return Err(invalid(format!(
                "{path}: the archive has files that belong to no image"
            )));
        }
        if let Some(expected) = named {
            let found = Digest::of(&bytes);
            if expected != found {
                return Err(StoreError::DigestMismatch {
                    what: path.to_owned(),
                    expected,
                    found,
                });
            }
        }
        self.documents.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn link(&mut self, path: String, target: String) -> Result<()> {
        self.kept += (path.len() + target.len()) as u64;
        if self.links.len() >= MOST_DOCUMENTS || self.kept > ALL_DOCUMENTS {
            return Err(invalid(format!(
                "{path}: the archive has links that belong to no image"
            )));
        }
        self.links.insert(path, target);
        Ok(())
    }

    fn document(&self, path: &str) -> Result<&Vec<u8>> {
        self.documents
            .get(path)
            .ok_or_else(|| invalid(format!("{path} is named in the archive, but not in it")))
    }

    /// A layer by its path, through the links that old versions of Docker wrote.
    fn layer(&self, path: &str) -> Result<&Layer> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            if let Some(layer) = self.layers.get(&path) {
                return Ok(layer);
            }
            let Some(target) = self.links.get(&path) else {
                break;
            };
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            path = join(dir, target);
        }
        Err(invalid(format!(
            "layer {path} is named in the archive, but not in it"
        )))
    }

    fn store_image(&self, store: &Store, config: &[u8], layers: &[&Layer]) -> Result<Digest> {
        let parsed: ImageConfig = serde_json::from_slice(config)
            .map_err(|e| invalid(format!("invalid image configuration: {e}")))?;
        let found: Vec<&Digest> = layers.iter().map(|l| &l.diff_id).collect();
        let expected = &parsed.rootfs.diff_ids;
        if expected.len() != found.len() {
            return Err(invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                expected.len(),
                found.len()
            )));
        }
        for (expected, found) in expected.iter().zip(found) {
            if expected != found {
                let what = "the layer's tar".to_owned();
                return Err(StoreError::DigestMismatch {
                    what,
                    expected: expected.clone(),
                    found: found.clone(),
                });
            }
        }
        store.images.put(config)
    }

    fn docker_image(&self, store: &Store, image: &DockerImage) -> Result<Loaded> {
        let config = self.document(&image.config)?;
        let layers = image
            .layers
            .iter()
            .flatten()
            .map(|path| self.layer(path))
            .collect::<Result<Vec<_>>>()?;
        let tags = image.repo_tags.iter().flatten().map(|tag| {
            Reference::parse(tag).map_err(|e| invalid(format!("invalid tag {tag:?}: {e}")))
        });
        let tags = tags.collect::<Result<Vec<_>>>()?;
        let id = self.store_image(store, config, &layers)?;
        for tag in &tags {
            store.images.tag(tag, &id)?;
        }
        Ok(Loaded { id, tags })
    }

    /// The image, or images, of one entry of an OCI index.
    fn oci_image(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<Vec<Loaded>> {
        let bytes = self.document(&format!("blobs/sha256/{}", descriptor.digest.hex()))?;
        let parsed =
            Manifest::parse(bytes).map_err(|e| invalid(format!("{}: {e}", descriptor.digest)))?;
        let manifest = match parsed {
            Manifest::Image(manifest) => manifest,
            Manifest::Index(_) if depth >= DEEPEST_INDEX => {
                return Err(invalid("indexes within indexes, too deep"));
            }
            Manifest::Index(index) => {
                let chosen = index.manifests.iter().find(|d| is_for_us(d));
                let chosen = chosen.ok_or_else(|| invalid(NOT_FOR_US))?;
                let mut chosen = chosen.clone();
                if chosen.annotations.is_none() {
                    chosen.annotations.clone_from(&descriptor.annotations);
                }
                return self.oci_image(store, &chosen, depth + 1);
            }
        };
        let config = self.document(&format!("blobs/sha256/{}", manifest.config.digest.hex()))?;
        let layers = manifest
            .layers
            .iter()
            .map(|l| self.layer(&format!("blobs/sha256/{}", l.digest.hex())));
        let id = self.store_image(store, config, &layers.collect::<Result<Vec<_>>>()?)?;
        let annotation = |name: &str| descriptor.annotations.as_ref().and_then(|a| a.get(name));
        let name = annotation("io.containerd.image.name")
            .or_else(|| annotation("org.opencontainers.image.ref.name"));
        // A bare tag, as skopeo writes it for a layout, names nothing by itself.
        let tag = name
            .filter(|n| n.contains([':', '/']))
            .and_then(|n| Reference::parse(n).ok());
        if let Some(tag) = &tag {
            store.images.tag(tag, &id)?;
        }
        Ok(vec![Loaded {
            id,
            tags: tag.into_iter().collect(),
        }])
    }
}

/// The architecture's name in images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

const NOT_FOR_US: &str = "the archive has no image for linux and this processor";

/// Neither for another machine nor an attestation, which stands beside images with the platform `unknown/unknown`.
fn is_for_us(descriptor: &Descriptor) -> bool {
    match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
        None => true,
    }
}

fn join(dir: &str, target: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// Whether a file's first bytes are those of a layer: a tar archive, empty or not, or something compressed.
fn is_layer(head: &[u8]) -> bool {
    media_type::layer_of(head) != media_type::OCI_LAYER
        || head.get(257..262) == Some(b"ustar")
        || (head.len() == 512 && (head.iter().all(|b| *b == 0) || old_tar(head)))
}

/// A header of the format before ustar: its check sum is right.
fn old_tar(head: &[u8]) -> bool {
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(head);
    let sum: u32 = head
        .iter()
        .enumerate()
        .map(|(at, b)| u32::from(if (148..156).contains(&at) { b' ' } else { *b }))
        .sum();
    header.cksum().is_ok_and(|found| found == sum)
}

/// Makes an image of one layer out of a root file system's tar; `config` is completed with `rootfs` and `history`.
pub fn import(store: &Store, reader: &mut dyn Read, mut config: ImageConfig) -> Result<Digest> {
    let lease = store.layers.lease();
    let stored = store
        .layers
        .unpack(reader, &Expected::default())
        .and_then(|layer| {
            config.rootfs = RootFs {
                diff_ids: vec![layer.diff_id],
                ..RootFs::default()
            };
            let (created, comment) = (config.created.clone(), config.comment.clone());
            config.history.push(History {
                created,
                comment,
                ..History::default()
            });
            let bytes = serde_json::to_vec(&config).map_err(|e| invalid(e.to_string()))?;
            store.images.put(&bytes)
        });
    drop(lease);
    store.images.collect_layers()?;
    stored
}

/// Writes images as one archive that `docker load`, skopeo and podman read: an OCI layout with Docker's manifest.json.
pub fn save(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
    writer: &mut dyn Write,
) -> Result<()> {
    let mut archive = Saved {
        tar: tar::Builder::new(writer),
        written: Vec::new(),
    };
    let (mut docker, mut index) = (Vec::new(), Vec::new());
    for (id, tags) in images {
        let image = store
            .images
            .get(id)?
            .ok_or_else(|| StoreError::NotFound(format!("No such image: {id}")))?;
        let config = store.blobs.read(id)?;
        let mut layers = Vec::new();
        for diff_id in &image.diff_ids {
            let size = store.layers.tar_size(diff_id)?;
            layers.push(descriptor(media_type::OCI_LAYER, diff_id.clone(), size));
            archive.layer(store, diff_id, size)?;
        }
        archive.blob(id, config.len() as u64, &mut &config[..])?;
        let manifest = json(&ImageManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.into(),
            config: descriptor(media_type::OCI_CONFIG, id.clone(), config.len() as u64),
            layers: layers.clone(),
            annotations: None,
        })?;
        let digest = Digest::of(&manifest);
        archive.blob(&digest, manifest.len() as u64, &mut &manifest[..])?;
        index.extend(entries(&digest, manifest.len() as u64, tags));
        docker.push(DockerImage {
            config: format!("blobs/sha256/{}", id.hex()),
            repo_tags: Some(tags.iter().map(Reference::familiar).collect()),
            layers: Some(
                layers
                    .iter()
                    .map(|l| format!("blobs/sha256/{}", l.digest.hex()))
                    .collect(),
            ),
        });
    }
    let index = ImageIndex {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.into(),
        manifests: index,
        annotations: None,
    };
    archive.file("index.json", &json(&index)?)?;
    archive.file("manifest.json", &json(&docker)?)?;
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.tar.finish().map_err(unwritable)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| invalid(e.to_string()))
}

fn unwritable(error: io::Error) -> StoreError {
    StoreError::Io {
        what: "cannot write the archive",
        path: "-".into(),
        source: error,
    }
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

/// The index's entries of one image: one for each of its names.
fn entries(digest: &Digest, size: u64, tags: &[Reference]) -> Vec<Descriptor> {
    let plain = descriptor(media_type::OCI_MANIFEST, digest.clone(), size);
    if tags.is_empty() {
        return vec![plain];
    }
    let named = tags.iter().map(|tag| {
        let annotations = BTreeMap::from([
            ("io.containerd.image.name".to_owned(), tag.to_string()),
            (
                "org.opencontainers.image.ref.name".to_owned(),
                tag.tag.clone().unwrap_or_default(),
            ),
        ]);
        Descriptor {
            annotations: Some(annotations),
            ..plain.clone()
        }
    });
    named.collect()
}

struct Saved<W: Write> {
    tar: tar::Builder<W>,
    written: Vec<Digest>,
}

impl<W: Write> Saved<W> {
    fn blob(&mut self, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<()> {
        if self.written.contains(digest) {
            return Ok(());
        }
        self.written.push(digest.clone());
        self.append(&format!("blobs/sha256/{}", digest.hex()), size, content)
    }

    /// A layer's tar, which is not compressed.
    fn layer(&mut self, store: &Store, diff_id: &Digest, size: u64) -> Result<()> {
        if self.written.contains(diff_id) {
            return Ok(());
        }
        self.written.push(diff_id.clone());
        let path = format!("blobs/sha256/{}", diff_id.hex());
        let mut header = Header::new_ustar();
        header.set_path(&path).map_err(unwritable)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        let to = self.tar.get_mut();
        to.write_all(header.as_bytes()).map_err(unwritable)?;
        store.layers.write_tar(diff_id, to)?;
        let padding = size.wrapping_neg() % 512;
        to.write_all(&[0; 512][..padding as usize])
            .map_err(unwritable)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.append(path, bytes.len() as u64, &mut &bytes[..])
    }

    fn append(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.tar
            .append_data(&mut header, path, content)
            .map_err(unwritable)
    }
}
