//! `load`: an archive is read once, in whatever order its files come. Layers are unpacked as they pass, small files
//! (manifests, configurations) are kept in memory until the end tells what they are for.

use super::{DockerImage, IMAGE_NAME, REF_NAME, invalid};
use crate::layers::{Expected, Layer, decoder};
use crate::{Result, Store, StoreError};
use gantry_oci::config::ImageConfig;
use gantry_oci::manifest::{Descriptor, ImageIndex, Manifest, Platform};
use gantry_oci::{Digest, Reference, media_type};
use std::collections::HashMap;
use std::io::{self, Read};
use tar::{Archive, EntryType, Header};

/// JSON documents larger than this are no manifests.
const LARGEST_DOCUMENT: u64 = 8 << 20;
const MOST_DOCUMENTS: usize = 20_000;
/// All documents of an archive together: they are kept in memory until its end.
const ALL_DOCUMENTS: u64 = 64 << 20;
/// Indexes may name indexes, so deep.
const DEEPEST_INDEX: usize = 4;
/// Manifests that are looked at, in all indexes together.
const MOST_MANIFESTS: usize = 4096;
/// Progress is told at most once in so many bytes.
const STEP: u64 = 512 << 10;

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub id: Digest,
    pub tags: Vec<Reference>,
    /// Those of the tags that were another image's before, with its ID.
    pub taken: Vec<(Reference, Digest)>,
}

/// What is loaded of an archive, and how that is told of.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Images for this platform alone.
    pub platform: Option<&'a Platform>,
    /// Is told a layer's name, how many of its bytes have passed, and how many there are.
    pub progress: &'a dyn Fn(&str, u64, u64),
    /// Whether a name may be given, or why not: asked for all of them before the first one is.
    pub admit: &'a dyn Fn(&Reference) -> std::result::Result<(), String>,
}

impl std::fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoadOptions({:?})", self.platform)
    }
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

/// An image that all parts of are there.
struct Found {
    id: Digest,
    platform: Platform,
    names: Vec<Reference>,
    parent: Option<Digest>,
}

/// Loads every image of an archive (plain or compressed). `progress` is told the layers' names and sizes as they are done.
pub fn load(
    store: &Store,
    reader: &mut (dyn Read + Send),
    progress: &dyn Fn(&str, u64),
) -> Result<Vec<Loaded>> {
    let at_end = |name: &str, current, total| {
        if current == total {
            progress(name, total);
        }
    };
    let options = LoadOptions {
        platform: None,
        progress: &at_end,
        admit: &|_| Ok(()),
    };
    load_with(store, reader, &options)
}

/// Loads images of an archive.
pub fn load_with(
    store: &Store,
    reader: &mut (dyn Read + Send),
    options: &LoadOptions<'_>,
) -> Result<Vec<Loaded>> {
    let lease = store.layers.lease();
    let loaded = load_leased(store, reader, options);
    drop(lease);
    store.images.collect_layers()?;
    loaded
}

fn load_leased(
    store: &Store,
    reader: &mut (dyn Read + Send),
    options: &LoadOptions<'_>,
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
                let size = entry.size();
                contents.take(store, &path, &mut entry, size, options.progress)?
            }
            _ => {}
        }
    }
    // COMPAT: Docker wants a manifest.json; an OCI layout alone is an archive here, too.
    let mut found = contents.docker_images(store)?;
    let docker = found.is_some();
    contents.oci_images(store, &mut found)?;
    let Some(found) = found else {
        return Err(invalid(
            "the archive is no image archive: neither manifest.json nor index.json is in it",
        ));
    };
    let (all, wanted) = (found.len(), chosen(found, options.platform));
    match options.platform {
        Some(platform) if all > 0 && wanted.is_empty() => Err(StoreError::NotFound(format!(
            "no images providing the requested platform(s) found: [{platform}]"
        ))),
        None if all == 0 && !docker && contents.has_entries() => Err(invalid(NOT_FOR_US)),
        _ => {
            for name in wanted.iter().flat_map(|one| &one.names) {
                (options.admit)(name).map_err(invalid)?;
            }
            name_all(store, wanted)
        }
    }
}

/// Those for a platform; of several that serve it, the best ones.
fn chosen(found: Vec<Found>, platform: Option<&Platform>) -> Vec<Found> {
    let Some(platform) = platform else {
        return found;
    };
    let rank = |one: &Found| platform.rank(&one.platform);
    let best = found.iter().filter_map(rank).min();
    let serves = |one: &Found| best.is_some() && rank(one) == best;
    found.into_iter().filter(serves).collect()
}

/// Gives images their names: a name that was another's stands for those of the archive alone.
fn name_all(store: &Store, found: Vec<Found>) -> Result<Vec<Loaded>> {
    let mut loaded: Vec<Loaded> = Vec::with_capacity(found.len());
    let mut named: Vec<Reference> = Vec::new();
    for one in &found {
        let mut taken = Vec::new();
        for name in &one.names {
            if named.contains(name) {
                store.images.tag_platform(name, &one.id)?;
                continue;
            }
            let before = store.images.named(name);
            if let Some(before) = before.first().filter(|_| !before.contains(&one.id)) {
                taken.push((name.clone(), before.clone()));
            }
            store.images.tag(name, &one.id)?;
            named.push(name.clone());
        }
        loaded.push(Loaded {
            id: one.id.clone(),
            tags: one.names.clone(),
            taken,
        });
    }
    for one in &found {
        if let Some(parent) = &one.parent
            && is_child(store, &one.id, parent)?
        {
            store.images.set_parent(&one.id, parent)?;
        }
    }
    Ok(loaded)
}

/// Whether an image can have been made from another one: it has one step more.
fn is_child(store: &Store, id: &Digest, parent: &Digest) -> Result<bool> {
    let (Some(image), Some(parent)) = (store.images.get(id)?, store.images.get(parent)?) else {
        return Ok(false);
    };
    let (own, before) = (&image.config.history, &parent.config.history);
    let plain = own.is_empty() && before.is_empty();
    Ok(image.id != parent.id
        && (plain || (own.len() == before.len() + 1 && own.starts_with(before))))
}

/// Tells how much of a layer has passed.
struct Watched<'a, R> {
    from: R,
    name: &'a str,
    current: u64,
    told: u64,
    total: u64,
    progress: &'a dyn Fn(&str, u64, u64),
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.current += n as u64;
        let step = STEP.max(self.total / 100);
        if self.current - self.told >= step || (n > 0 && self.current == self.total) {
            self.told = self.current;
            (self.progress)(self.name, self.current, self.total);
        }
        Ok(n)
    }
}

/// What a layer is called while it passes: the first 12 digits of its digest, or of the folder that it is in.
fn shown(path: &str) -> &str {
    let mut parts = path.rsplit('/').filter(|part| *part != "layer.tar");
    let name = parts.next().unwrap_or(path);
    name.get(..12).unwrap_or(name)
}

impl Contents {
    /// Looks at a file: a layer is unpacked, a document kept.
    fn take(
        &mut self,
        store: &Store,
        path: &str,
        entry: &mut dyn Read,
        size: u64,
        progress: &dyn Fn(&str, u64, u64),
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
                .map(|d| known(store, d))
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
            let mut watched = Watched {
                from: io::Cursor::new(head).chain(entry),
                name: shown(path),
                current: 0,
                told: 0,
                total: size,
                progress,
            };
            let layer = store.layers.unpack(&mut watched, &expected)?;
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

    fn store_image(
        &self,
        store: &Store,
        config: &[u8],
        layers: &[&Layer],
    ) -> Result<(Digest, Platform)> {
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
        if !matches!(parsed.os.as_str(), "linux" | "") {
            return Err(invalid(format!("cannot load {} image on linux", parsed.os)));
        }
        let platform = Platform::of("linux", &parsed.architecture, &parsed.variant);
        Ok((store.images.put(config)?, platform))
    }

    /// The images of Docker's `manifest.json`, where there is one.
    fn docker_images(&self, store: &Store) -> Result<Option<Vec<Found>>> {
        let Some(bytes) = self.documents.get("manifest.json") else {
            return Ok(None);
        };
        let images: Option<Vec<DockerImage>> =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("manifest.json: {e}")))?;
        let images = images
            .ok_or_else(|| invalid("invalid manifest, manifest cannot be null (but can be [])"))?;
        let found = images.iter().map(|image| self.docker_image(store, image));
        found.collect::<Result<_>>().map(Some)
    }

    fn docker_image(&self, store: &Store, image: &DockerImage) -> Result<Found> {
        let config = self.document(&image.config)?;
        let layers = image
            .layers
            .iter()
            .flatten()
            .map(|path| self.layer(path))
            .collect::<Result<Vec<_>>>()?;
        let names = image.repo_tags.iter().flatten().map(|tag| {
            let name = Reference::parse(tag);
            let name = name.map_err(|e| invalid(format!("invalid tag {tag:?}: {e}")))?;
            // COMPAT: Docker takes no name without a tag.
            match name.tag {
                Some(_) => Ok(name),
                None => Err(invalid(format!("invalid tag {tag:?}"))),
            }
        });
        let names = names.collect::<Result<Vec<_>>>()?;
        let (id, platform) = self.store_image(store, config, &layers)?;
        let parent = image.parent.as_deref().map(Digest::parse);
        Ok(Found {
            id,
            platform,
            names,
            parent: parent.and_then(std::result::Result::ok),
        })
    }

    fn index(&self) -> Result<Option<ImageIndex>> {
        let bytes = self.documents.get("index.json");
        let parsed = bytes.map(|bytes| serde_json::from_slice(bytes)).transpose();
        parsed.map_err(|e| invalid(format!("index.json: {e}")))
    }

    fn has_entries(&self) -> bool {
        matches!(self.index(), Ok(Some(index)) if !index.manifests.is_empty())
    }

    /// Adds the images of the OCI layout's index, where there is one, to those of Docker's list: what that one does not
    /// tell of, and names for other platforms.
    fn oci_images(&self, store: &Store, found: &mut Option<Vec<Found>>) -> Result<()> {
        // An index that is not what it should be is no matter where Docker's list tells all.
        let strict = found.is_none();
        let index = match self.index() {
            Ok(Some(index)) => index,
            Ok(None) => return Ok(()),
            Err(_) if !strict => return Ok(()),
            Err(error) => return Err(error),
        };
        let known = found.get_or_insert_default();
        let mut left = MOST_MANIFESTS;
        for descriptor in index.manifests.iter().filter(|d| is_for_linux(d)) {
            let name = name_of(descriptor);
            let images = match self.oci_image(store, descriptor, 0, &mut left) {
                Err(_) if !strict => continue,
                other => other?,
            };
            for (id, platform) in images {
                let same = known.iter_mut().find(|one| one.id == id);
                match (same, &name) {
                    (Some(one), Some(name)) if !one.names.contains(name) => {
                        one.names.push(name.clone());
                    }
                    (Some(_), _) => {}
                    (None, name) => known.push(Found {
                        id,
                        platform,
                        names: name.iter().cloned().collect(),
                        parent: None,
                    }),
                }
            }
        }
        Ok(())
    }

    /// The image, or images, of one entry of an OCI index; of an index within it, those that are in the archive.
    fn oci_image(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        depth: usize,
        left: &mut usize,
    ) -> Result<Vec<(Digest, Platform)>> {
        *left = left.checked_sub(1).ok_or_else(|| {
            invalid(format!(
                "the archive's indexes have more than {MOST_MANIFESTS} manifests"
            ))
        })?;
        let bytes = self.document(&blob(&descriptor.digest))?;
        let parsed =
            Manifest::parse(bytes).map_err(|e| invalid(format!("{}: {e}", descriptor.digest)))?;
        let manifest = match parsed {
            Manifest::Image(manifest) => manifest,
            Manifest::Index(_) if depth >= DEEPEST_INDEX => {
                return Err(invalid("indexes within indexes, too deep"));
            }
            Manifest::Index(index) => {
                let mut found = Vec::new();
                let there = |d: &&Descriptor| self.documents.contains_key(&blob(&d.digest));
                let mut wanted: Vec<&Descriptor> = index
                    .manifests
                    .iter()
                    .filter(|d| is_for_linux(d))
                    .filter(there)
                    .collect();
                wanted.dedup_by_key(|d| &d.digest);
                for one in wanted {
                    found.extend(self.oci_image(store, one, depth + 1, left)?);
                }
                return match found.is_empty() {
                    true => Err(invalid(NOT_FOR_US)),
                    false => Ok(found),
                };
            }
        };
        let config = self.document(&blob(&manifest.config.digest))?;
        let layers = manifest.layers.iter().map(|l| self.layer(&blob(&l.digest)));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        Ok(vec![self.store_image(store, config, &layers)?])
    }
}

/// A layer that is there already, by the digest of its blob or of its tar.
fn known(store: &Store, digest: &Digest) -> Result<Option<Layer>> {
    match store.layers.by_blob(digest)? {
        None => store.layers.get(digest),
        there => Ok(there),
    }
}

/// Where a blob is in an OCI layout.
fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that an entry of an index has for its image.
fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotation = |name: &str| descriptor.annotations.as_ref().and_then(|a| a.get(name));
    // A bare tag, as skopeo writes it for a layout, names nothing by itself.
    let name = annotation(IMAGE_NAME).or_else(|| annotation(REF_NAME));
    let name = name.filter(|n| n.contains([':', '/']))?;
    Reference::parse(name).ok().map(Reference::or_latest)
}

const NOT_FOR_US: &str = "the archive has no image for linux";

/// Neither for another system nor an attestation, which stands beside images with the platform `unknown/unknown`.
fn is_for_linux(descriptor: &Descriptor) -> bool {
    let platform = descriptor.platform.as_ref();
    platform.is_none_or(|platform| platform.os == "linux")
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
