//! `save`: one archive that `docker load`, skopeo and podman read. It is written as it goes to whoever reads it.

use super::{DockerImage, IMAGE_NAME, REF_NAME, invalid};
use crate::images::Image;
use crate::{Result, Store, StoreError};
use gantry_oci::manifest::{Descriptor, ImageIndex, ImageManifest, Platform};
use gantry_oci::{Digest, Reference, media_type};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};
use std::sync::Arc;
use tar::{EntryType, Header};

/// An image as the archive has it.
struct Written {
    image: Arc<Image>,
    names: Vec<Reference>,
    manifest: Descriptor,
    layers: Vec<Descriptor>,
}

/// Writes images as an archive, each with the names that it is to have there. A name that several images have stands for
/// the first one where no platform is asked for.
pub fn save(
    store: &Store,
    images: &[(Digest, Vec<Reference>)],
    writer: &mut dyn Write,
) -> Result<()> {
    let mut archive = Saved {
        tar: tar::Builder::new(writer),
        written: HashSet::new(),
    };
    archive.folder("blobs/")?;
    archive.folder("blobs/sha256/")?;
    let mut written = Vec::with_capacity(images.len());
    for (id, names) in images {
        let image = store.images.get(id)?;
        let image = image.ok_or_else(|| StoreError::NotFound(format!("No such image: {id}")))?;
        written.push(archive.image(store, image, names)?);
    }
    let mut named: Vec<(&Reference, Vec<&Written>)> = Vec::new();
    for one in &written {
        for name in &one.names {
            match named.iter_mut().find(|(known, _)| *known == name) {
                Some((_, set)) => set.push(one),
                None => named.push((name, vec![one])),
            }
        }
    }
    let mut index = Vec::new();
    for (name, set) in &named {
        let target = match set.as_slice() {
            [one] => one.manifest.clone(),
            // COMPAT: Docker has one image for a name (unless it is set up with containerd's store).
            several => archive.index(several)?,
        };
        let annotations = BTreeMap::from([
            (IMAGE_NAME.to_owned(), name.to_string()),
            (REF_NAME.to_owned(), name.tag.clone().unwrap_or_default()),
        ]);
        index.push(Descriptor {
            annotations: Some(annotations),
            ..target
        });
    }
    let nameless = written.iter().filter(|one| one.names.is_empty());
    index.extend(nameless.map(|one| one.manifest.clone()));
    archive.file("index.json", &json(&index_of(index))?)?;
    archive.file("manifest.json", &lines(&docker_list(&written, &named))?)?;
    archive.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)?;
    let repositories = repositories(&named);
    if !repositories.is_empty() {
        archive.file("repositories", &lines(&repositories)?)?;
    }
    archive.tar.finish().map_err(unwritable)
}

/// The manifest that an image is saved with.
pub fn manifest(store: &Store, image: &Image) -> Result<Vec<u8>> {
    let config = store.blobs.read(&image.id)?;
    let mut layers = Vec::with_capacity(image.diff_ids.len());
    for diff_id in &image.diff_ids {
        let size = store.layers.tar_size(diff_id)?;
        layers.push(descriptor(media_type::OCI_LAYER, diff_id.clone(), size));
    }
    manifest_of(&image.id, config.len() as u64, layers)
}

fn manifest_of(id: &Digest, config_size: u64, layers: Vec<Descriptor>) -> Result<Vec<u8>> {
    json(&ImageManifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.into(),
        config: descriptor(media_type::OCI_CONFIG, id.clone(), config_size),
        layers,
        annotations: None,
    })
}

/// Docker's `manifest.json`: it knows no platforms, so a name is there with the first of its images.
fn docker_list(written: &[Written], named: &[(&Reference, Vec<&Written>)]) -> Vec<DockerImage> {
    let first = |one: &Written, name: &Reference| {
        let mut sets = named.iter().filter(|(known, _)| *known == name);
        sets.any(|(_, set)| {
            set.first()
                .is_some_and(|first| first.image.id == one.image.id)
        })
    };
    let mut list = Vec::with_capacity(written.len());
    for one in written {
        let names = one.names.iter().filter(|name| first(one, name));
        let names: Vec<String> = names.map(Reference::familiar).collect();
        if names.is_empty() && !one.names.is_empty() {
            continue;
        }
        let parent = one.image.parent.as_ref();
        let parent = parent.filter(|parent| written.iter().any(|w| w.image.id == **parent));
        let sources = one.layers.iter().map(|l| (l.digest.clone(), l.clone()));
        list.push(DockerImage {
            config: blob(&one.image.id),
            repo_tags: Some(names).filter(|names| !names.is_empty()),
            layers: Some(one.layers.iter().map(|l| blob(&l.digest)).collect()),
            parent: parent.map(ToString::to_string),
            layer_sources: Some(sources.collect()).filter(|map: &BTreeMap<_, _>| !map.is_empty()),
        });
    }
    list
}

/// The file of Docker before 1.10: names, tags, and the highest layer of each.
fn repositories(
    named: &[(&Reference, Vec<&Written>)],
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, set) in named {
        let layer = set.first().and_then(|one| one.layers.last());
        if let (Some(layer), Some(tag)) = (layer, &name.tag) {
            let tags = all.entry(name.familiar_name()).or_default();
            tags.insert(tag.clone(), layer.digest.hex().to_owned());
        }
    }
    all
}

fn index_of(manifests: Vec<Descriptor>) -> ImageIndex {
    ImageIndex {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.into(),
        manifests,
        annotations: None,
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| invalid(e.to_string()))
}

/// With the line's end that Docker writes behind these.
fn lines(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = json(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn unwritable(error: io::Error) -> StoreError {
    StoreError::Io {
        what: "cannot write the archive",
        path: "-".into(),
        source: error,
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
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

struct Saved<W: Write> {
    tar: tar::Builder<W>,
    written: HashSet<Digest>,
}

impl<W: Write> Saved<W> {
    /// An image's layers, configuration and manifest.
    fn image(&mut self, store: &Store, image: Arc<Image>, names: &[Reference]) -> Result<Written> {
        let config = store.blobs.read(&image.id)?;
        let mut layers = Vec::with_capacity(image.diff_ids.len());
        for diff_id in &image.diff_ids {
            let size = store.layers.tar_size(diff_id)?;
            layers.push(descriptor(media_type::OCI_LAYER, diff_id.clone(), size));
            self.layer(store, diff_id, size)?;
        }
        self.blob(&image.id, config.len() as u64, &mut &config[..])?;
        let manifest = manifest_of(&image.id, config.len() as u64, layers.clone())?;
        let digest = Digest::of(&manifest);
        let size = manifest.len() as u64;
        self.blob(&digest, size, &mut &manifest[..])?;
        Ok(Written {
            image,
            names: names.to_vec(),
            manifest: descriptor(media_type::OCI_MANIFEST, digest, size),
            layers,
        })
    }

    /// An index of one name's images for several platforms.
    fn index(&mut self, set: &[&Written]) -> Result<Descriptor> {
        let manifests = set.iter().map(|one| Descriptor {
            platform: Some(Platform {
                os_version: None,
                ..one.image.platform()
            }),
            ..one.manifest.clone()
        });
        let bytes = json(&index_of(manifests.collect()))?;
        let digest = Digest::of(&bytes);
        self.blob(&digest, bytes.len() as u64, &mut &bytes[..])?;
        Ok(descriptor(
            media_type::OCI_INDEX,
            digest,
            bytes.len() as u64,
        ))
    }

    fn blob(&mut self, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<()> {
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        self.append(&blob(digest), size, content)
    }

    /// A layer's tar, which is not compressed.
    fn layer(&mut self, store: &Store, diff_id: &Digest, size: u64) -> Result<()> {
        if !self.written.insert(diff_id.clone()) {
            return Ok(());
        }
        let mut header = header(size);
        header.set_path(blob(diff_id)).map_err(unwritable)?;
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
        self.tar
            .append_data(&mut header(size), path, content)
            .map_err(unwritable)
    }

    fn folder(&mut self, path: &str) -> Result<()> {
        let mut header = header(0);
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        let appended = self.tar.append_data(&mut header, path, io::empty());
        appended.map_err(unwritable)
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}
