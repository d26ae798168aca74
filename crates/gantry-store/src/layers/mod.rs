//! Unpacked layers, one directory each, keyed by diff ID; whatever the snapshot driver is.
//!
//! ```text
//! layers/l/<hex>/   the layer's files, whiteouts as overlay has them
//! layers/r/<hex>/   its recipe: what it takes to write the very same tar again
//! partial/<hex>     a blob that has come in part, or is being unpacked
//! ```
//!
//! A layer is read once ([`pipeline`]); its compressed blob is not kept unless the store keeps blobs.

mod bounds;
mod known;
mod lease;
mod pipeline;
mod receive;
mod recipe;
mod settle;
mod share;

pub use bounds::Swelling;
pub use known::LayerBlob;
pub use lease::Lease;
pub use receive::Open;
pub(crate) use recipe::Recorder;
pub(crate) use share::{Hashed, Sharer, Sharing};

use crate::blobs::Blobs;
use crate::database::Database;
use crate::{At, Options, Result, StoreError, unpack};
use gantry_oci::{Digest, Sha256};
use lease::Leases;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The layers of the store.
#[derive(Debug)]
pub struct Layers {
    trees: PathBuf,
    recipes: PathBuf,
    partial: PathBuf,
    blobs: Arc<Blobs>,
    database: Arc<Database>,
    leases: Mutex<Leases>,
    /// Partial blobs that somebody writes.
    receiving: Mutex<HashSet<Digest>>,
    settling: settle::Settling,
    keep_blobs: bool,
    sharing: Option<Sharing>,
    swelling: Swelling,
}

/// What is known of a layer before it is unpacked.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Digest of the compressed blob as it comes.
    pub blob: Option<Digest>,
    /// Size of the compressed blob, bytes.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

/// A layer that was unpacked and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub diff_id: Digest,
    /// The blob that it came as first.
    pub blob: Digest,
    /// Sum of the file sizes, bytes.
    pub size: u64,
    pub blob_size: u64,
}

/// A layer's folders before they have its name; taken away unless they get it.
struct Unnamed {
    tree: PathBuf,
    recipe: PathBuf,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        for dir in [&self.tree, &self.recipe] {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

impl Layers {
    pub(crate) fn open(
        root: &Path,
        blobs: Arc<Blobs>,
        database: Arc<Database>,
        options: &Options,
    ) -> Result<Self> {
        let layers = root.join("layers");
        let (trees, recipes) = (layers.join("l"), layers.join("r"));
        let partial = root.join("partial");
        let before = layers.join("overlay2/l");
        if before.exists() && !trees.exists() {
            // Where layers were before there were other drivers.
            std::fs::rename(&before, &trees).at("cannot move the layers", &before)?;
        }
        for dir in [&trees, &recipes, &partial] {
            std::fs::create_dir_all(dir).at("cannot make", dir)?;
        }
        Ok(Self {
            trees,
            recipes,
            partial,
            blobs,
            database,
            leases: Mutex::default(),
            receiving: Mutex::default(),
            settling: settle::Settling::new(options.boot_id.clone()),
            keep_blobs: options.keep_blobs,
            sharing: Sharing::open(root, options.dedupe)?,
            swelling: options.swelling,
        })
    }

    /// Protects the layers that are found or made from now on, for one pull, load or build. Whoever holds a lease calls
    /// [`crate::images::Images::collect_layers`] after having dropped it.
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease::new(self.clone())
    }

    /// While the guard is held no layer is removed and no lease begins: whoever decides by what is in the store, and
    /// acts on it, holds it meanwhile. Held for short.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a layer is unpacked.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.trees.join(diff_id.hex())
    }

    fn recipe(&self, diff_id: &Digest) -> PathBuf {
        self.recipes.join(diff_id.hex())
    }

    /// Reads a layer (tar; gzip or zstd are recognised by their magic), hashing, decompressing and unpacking in one pass.
    /// Both digests are verified before the layer is named. Safe to call from several threads at once, also for the same
    /// layer.
    pub fn unpack(&self, reader: &mut dyn Read, expected: &Expected) -> Result<Layer> {
        let blob = self.keep_blobs.then(|| self.blobs.unfinished());
        let keep = match &blob {
            Some(path) => Some((File::create(path).at("cannot write", path)?, &**path, 0)),
            None => None,
        };
        let source = pipeline::Source {
            reader,
            size: expected.size,
            keep,
        };
        let taken = self.take(source, expected, blob.as_deref());
        if let Some(blob) = &blob {
            // Adopted, it is not there any more.
            let _ = std::fs::remove_file(blob);
        }
        taken
    }

    /// Runs the pipeline and names what came out of it. `adopt`: the file that becomes the layer's blob.
    fn take(
        &self,
        source: pipeline::Source<'_>,
        expected: &Expected,
        adopt: Option<&Path>,
    ) -> Result<Layer> {
        let unnamed = Unnamed {
            tree: self.blobs.unfinished(),
            recipe: self.blobs.unfinished(),
        };
        let tree = &unnamed.tree;
        std::fs::create_dir(tree).at("cannot make", tree)?;
        crate::set_mode(tree, 0o755)?;
        let place = unpack::Place {
            tree,
            recipe: &unnamed.recipe,
            sharing: self.sharing.as_ref(),
        };
        let found = pipeline::run(source, &place, self.swelling)?;
        verify("the layer's blob", expected.blob.as_ref(), &found.blob)?;
        verify("the layer's tar", expected.diff_id.as_ref(), &found.diff_id)?;
        self.name(&unnamed, found, adopt)
    }

    fn name(
        &self,
        unnamed: &Unnamed,
        found: pipeline::Found,
        adopt: Option<&Path>,
    ) -> Result<Layer> {
        let layer = Layer {
            diff_id: found.diff_id,
            blob: found.blob,
            size: found.size,
            blob_size: found.blob_size,
        };
        let known = LayerBlob {
            digest: layer.blob.clone(),
            size: layer.blob_size,
            media_type: found.media_type.to_owned(),
        };
        let mut held = self.hold();
        held.touch(&layer.diff_id);
        if let Some(there) = self.find(&layer.diff_id)? {
            // Another pull was first.
            self.add_blob(&layer.diff_id, &known)?;
            return Ok(there);
        }
        if let Some(blob) = adopt {
            self.blobs.adopt(blob, &layer.blob)?;
        }
        for (from, to) in [
            (&unnamed.recipe, self.recipe(&layer.diff_id)),
            (&unnamed.tree, self.path(&layer.diff_id)),
        ] {
            self.clear(&to)?;
            std::fs::rename(from, &to).at("cannot name the layer", &to)?;
        }
        if let Some(sharing) = &self.sharing {
            sharing.adopt(&self.path(&layer.diff_id), &self.recipe(&layer.diff_id))?;
        }
        self.settling
            .record(&self.database, &layer, found.tar_size)?;
        self.add_blob(&layer.diff_id, &known)?;
        Ok(layer)
    }

    /// What has a layer's name without a record (a crash came in between) goes out of the way.
    fn clear(&self, place: &Path) -> Result<()> {
        match std::fs::rename(place, self.blobs.unfinished()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.at("cannot clear", place),
        }
    }

    fn query(&self, condition: &str, value: &str) -> Result<Option<Layer>> {
        let connection = self.database.lock();
        let sql = format!(
            "SELECT diff_id, blob, size, blob_size FROM layer WHERE {condition} = ? LIMIT 1"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([value])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Layer {
            diff_id: parse(&row.get::<_, String>(0)?)?,
            blob: parse(&row.get::<_, String>(1)?)?,
            size: row.get::<_, i64>(2)? as u64,
            blob_size: row.get::<_, i64>(3)? as u64,
        }))
    }

    /// A layer of the store; leases protect it from now on.
    pub fn get(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let mut held = self.hold();
        held.touch(diff_id);
        self.find(diff_id)
    }

    /// A layer of the store, for whoever holds the leases.
    pub(crate) fn find(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.query("diff_id", diff_id.as_str())
    }

    /// Bytes of a layer's uncompressed tar.
    pub fn tar_size(&self, diff_id: &Digest) -> Result<u64> {
        let rows = self.database.pairs(
            "SELECT tar_size || '', boot FROM layer_tar WHERE diff_id = ?",
            [diff_id.as_str()],
        )?;
        if let Some(size) = rows.first().and_then(|(size, _)| size.parse().ok()) {
            return Ok(size);
        }
        // A layer of the time before recipes.
        let mut count = Counter(0);
        self.write_tar(diff_id, &mut count)?;
        Ok(count.0)
    }

    /// Writes a layer's uncompressed tar, byte by byte as it came. An error at the end where the files are not any more
    /// what they were.
    pub fn write_tar(&self, diff_id: &Digest, to: &mut dyn Write) -> Result<()> {
        let layer = self.get(diff_id)?;
        let layer = layer.ok_or_else(|| not_there(diff_id))?;
        let mut hashing = Hashing {
            to,
            hash: Sha256::default(),
            failed: None,
        };
        let recipe = self.recipe(diff_id);
        let tree = self.path(diff_id);
        let written = if recipe.exists() {
            recipe::replay(&recipe, &tree, &mut hashing)
        } else {
            let blob = BufReader::with_capacity(256 << 10, self.blobs.open_blob(&layer.blob)?);
            pipeline::decoder(blob, self.swelling)
                .and_then(|(mut tar, _)| io::copy(&mut tar, &mut hashing).map(drop))
        };
        if let Some(error) = hashing.failed {
            return Err(error).at("cannot write the layer", Path::new("-"));
        }
        written.at("cannot read the layer", &tree)?;
        verify("the layer on disk", Some(diff_id), &hashing.hash.finish())
    }

    /// How files of several layers are one, where they are.
    pub(crate) fn sharing(&self) -> Option<&Sharing> {
        self.sharing.as_ref()
    }

    /// Lets go of shared files that no layer has any more.
    pub(crate) fn collect_shared(&self) -> Result<()> {
        match &self.sharing {
            Some(sharing) => sharing.collect(),
            None => Ok(()),
        }
    }

    /// Whether the store keeps the compressed blobs of layers.
    pub fn keeps_blobs(&self) -> bool {
        self.keep_blobs
    }

    /// Forgets a layer and puts its files where the caller, or the next start, removes them: a tree may be large, and
    /// a half-removed one must never have a layer's name.
    pub(crate) fn remove(&self, diff_id: &Digest) -> Result<Vec<PathBuf>> {
        let Some(layer) = self.find(diff_id)? else {
            return Ok(Vec::new());
        };
        self.forget(diff_id)?;
        if self.query("blob", layer.blob.as_str())?.is_none() {
            self.blobs.remove(&layer.blob)?;
        }
        let mut garbage = Vec::new();
        for place in [self.path(diff_id), self.recipe(diff_id)] {
            let tmp = self.blobs.unfinished();
            match std::fs::rename(&place, &tmp) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => {
                    other.at("cannot remove the layer", &place)?;
                    garbage.push(tmp);
                }
            }
        }
        Ok(garbage)
    }

    fn forget(&self, diff_id: &Digest) -> Result<()> {
        for table in ["layer", "layer_tar", "layer_blob"] {
            let sql = format!("DELETE FROM {table} WHERE diff_id = ?");
            self.database.execute(&sql, [diff_id.as_str()])?;
        }
        self.database.execute(
            "DELETE FROM blob_source WHERE digest NOT IN (SELECT digest FROM layer_blob)",
            [],
        )
    }

    /// Whether a layer's tar can be written without its blob.
    pub(crate) fn has_recipe(&self, diff_id: &Digest) -> Result<bool> {
        let place = self.recipe(diff_id);
        place.try_exists().at("cannot read", &place)
    }

    /// Whether all of a recorded layer is on the disk. An error where that cannot be told.
    pub(crate) fn is_there(&self, diff_id: &Digest) -> Result<bool> {
        let there = |place: PathBuf| place.try_exists().at("cannot read", &place);
        if !there(self.path(diff_id))? {
            return Ok(false);
        }
        // A layer of the time before recipes has its blob.
        let layer = self.find(diff_id)?;
        Ok(self.has_recipe(diff_id)? || layer.is_some_and(|l| self.blobs.has(&l.blob)))
    }

    /// Diff IDs of all layers that are named by a record, with their blobs.
    pub(crate) fn all(&self) -> Result<Vec<(Digest, Digest)>> {
        let rows = self.database.pairs("SELECT diff_id, blob FROM layer", [])?;
        Ok(rows
            .into_iter()
            .filter_map(|(d, b)| Some((Digest::parse(&d).ok()?, Digest::parse(&b).ok()?)))
            .collect())
    }

    /// Folders of layers or recipes with a layer's name, and that name.
    pub(crate) fn on_disk(&self) -> Result<Vec<(PathBuf, Digest)>> {
        let mut found = Vec::new();
        for dir in [&self.trees, &self.recipes] {
            let entries = std::fs::read_dir(dir).at("cannot read", dir)?;
            for entry in entries.flatten() {
                // What has no layer's name is somebody else's.
                let name = entry.file_name().into_string().unwrap_or_default();
                if let Ok(diff_id) = Digest::from_hex(&name) {
                    found.push((entry.path(), diff_id));
                }
            }
        }
        Ok(found)
    }
}

fn parse(text: &str) -> Result<Digest> {
    Digest::parse(text).map_err(|e| StoreError::Invalid(e.to_string()))
}

fn not_there(diff_id: &Digest) -> StoreError {
    StoreError::NotFound(format!("layer {diff_id} is not in the store"))
}

fn verify(what: &str, expected: Option<&Digest>, found: &Digest) -> Result<()> {
    match expected {
        Some(expected) if expected != found => Err(StoreError::DigestMismatch {
            what: what.to_owned(),
            expected: expected.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

/// A decoder of what the first bytes say: gzip (also of several members), zstd, or nothing.
pub fn decoder<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let reader = BufReader::with_capacity(128 << 10, reader);
    pipeline::decoder(reader, Swelling::default()).map(|(decoder, _)| decoder)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is written, and tells the writer's errors from the reader's.
struct Hashing<'a> {
    to: &'a mut dyn Write,
    hash: Sha256,
    failed: Option<io::Error>,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.to.write(bytes) {
            Ok(n) => {
                self.hash.update(&bytes[..n]);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let shown = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(shown)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
