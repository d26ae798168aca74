//! Unpacked layers, one directory each, keyed by diff ID.
//!
//! A layer is read once, in a pipeline of three threads: the caller's reads, hashes and keeps the blob; a second
//! decompresses and hashes the tar; a third unpacks.

use crate::blobs::Blobs;
use crate::database::Database;
use crate::{At, Result, StoreError, unpack};
use gantry_oci::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes handed on at a time, and how many such chunks wait at most between two threads.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 6;

/// The layers of the store.
#[derive(Debug)]
pub struct Layers {
    dir: PathBuf,
    blobs: Arc<Blobs>,
    database: Arc<Database>,
    /// Pulls, loads and builds in progress: while there are any, no layer is collected.
    leases: Mutex<usize>,
}

/// Keeps layers from being collected while something is put together out of them. Whoever holds one calls
/// [`crate::images::Images::collect_layers`] after having dropped it.
#[derive(Debug)]
pub struct Lease(Arc<Layers>);

impl Drop for Lease {
    fn drop(&mut self) {
        *self.0.hold() -= 1;
    }
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
    pub blob: Digest,
    /// Sum of the file sizes, bytes.
    pub size: u64,
    pub blob_size: u64,
}

/// What the pipeline found out.
struct Found {
    blob: Digest,
    blob_size: u64,
    diff_id: Digest,
    size: u64,
}

impl Layers {
    pub(crate) fn open(root: &Path, blobs: Arc<Blobs>, database: Arc<Database>) -> Result<Self> {
        let dir = root.join("layers/overlay2/l");
        std::fs::create_dir_all(&dir).at("cannot make", &dir)?;
        Ok(Self {
            dir,
            blobs,
            database,
            leases: Mutex::default(),
        })
    }

    /// A lease for one pull, load or build.
    pub fn lease(self: &Arc<Self>) -> Lease {
        *self.hold() += 1;
        Lease(self.clone())
    }

    /// The number of leases. While the guard is held no layer is removed and no lease begins: whoever decides by what
    /// is in the store, and acts on it, holds it meanwhile. Held for short.
    pub(crate) fn hold(&self) -> MutexGuard<'_, usize> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a layer is unpacked.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join(diff_id.hex())
    }

    /// Reads a layer (tar; gzip or zstd are recognised by their magic), hashing, decompressing, keeping the blob
    /// and unpacking in one pass. Both digests are verified before the layer is named. Safe to call
    /// from several threads at once, also for the same layer.
    pub fn unpack(&self, reader: &mut dyn Read, expected: &Expected) -> Result<Layer> {
        let (dir, blob) = (self.blobs.unfinished(), self.blobs.unfinished());
        let unpacked = self.unpack_to(reader, expected, &dir, &blob);
        if unpacked.is_err() {
            let _ = std::fs::remove_dir_all(&dir);
            let _ = std::fs::remove_file(&blob);
        }
        unpacked
    }

    fn unpack_to(
        &self,
        reader: &mut dyn Read,
        expected: &Expected,
        dir: &Path,
        blob: &Path,
    ) -> Result<Layer> {
        std::fs::create_dir(dir).at("cannot make", dir)?;
        crate::set_mode(dir, 0o755)?;
        let found = pipeline(reader, expected.size, dir, blob)?;
        verify("the layer's blob", expected.blob.as_ref(), &found.blob)?;
        verify("the layer's tar", expected.diff_id.as_ref(), &found.diff_id)?;
        let layer = Layer {
            diff_id: found.diff_id,
            blob: found.blob,
            size: found.size,
            blob_size: found.blob_size,
        };
        let _held = self.hold();
        if let Some(there) = self.get(&layer.diff_id)? {
            // Another pull was first.
            let _ = std::fs::remove_dir_all(dir);
            let _ = std::fs::remove_file(blob);
            return Ok(there);
        }
        self.blobs.adopt(blob, &layer.blob)?;
        let place = self.path(&layer.diff_id);
        match std::fs::rename(dir, &place) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                let _ = std::fs::remove_dir_all(dir);
            }
            other => other.at("cannot name the layer", &place)?,
        }
        self.database.execute(
            "INSERT OR REPLACE INTO layer VALUES (?, ?, ?, ?)",
            (
                layer.diff_id.as_str(),
                layer.blob.as_str(),
                layer.size as i64,
                layer.blob_size as i64,
            ),
        )?;
        Ok(layer)
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
        let digest =
            |text: String| Digest::parse(&text).map_err(|e| StoreError::Invalid(e.to_string()));
        Ok(Some(Layer {
            diff_id: digest(row.get(0)?)?,
            blob: digest(row.get(1)?)?,
            size: row.get::<_, i64>(2)? as u64,
            blob_size: row.get::<_, i64>(3)? as u64,
        }))
    }

    /// A layer of the store.
    pub fn get(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        self.query("diff_id", diff_id.as_str())
    }

    /// The layer whose compressed blob has this digest, if it was unpacked before.
    pub fn by_blob(&self, blob: &Digest) -> Result<Option<Layer>> {
        self.query("blob", blob.as_str())
    }

    /// Forgets a layer and puts its files where the caller, or the next start, removes them: a tree may be large, and
    /// a half-removed one must never have a layer's name.
    pub(crate) fn remove(&self, diff_id: &Digest) -> Result<Option<PathBuf>> {
        let Some(layer) = self.get(diff_id)? else {
            return Ok(None);
        };
        self.database
            .execute("DELETE FROM layer WHERE diff_id = ?", [diff_id.as_str()])?;
        if self.by_blob(&layer.blob)?.is_none() {
            self.blobs.remove(&layer.blob)?;
        }
        let place = self.path(diff_id);
        let tmp = self.blobs.unfinished();
        match std::fs::rename(&place, &tmp) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other
                .at("cannot remove the layer", &place)
                .map(|()| Some(tmp)),
        }
    }

    /// Diff IDs of all layers that are named by a record.
    pub(crate) fn all(&self) -> Result<Vec<(Digest, Digest)>> {
        let rows = self.database.pairs("SELECT diff_id, blob FROM layer", [])?;
        Ok(rows
            .into_iter()
            .filter_map(|(d, b)| Some((Digest::parse(&d).ok()?, Digest::parse(&b).ok()?)))
            .collect())
    }

    /// Names in the directory of layers.
    pub(crate) fn on_disk(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.dir).at("cannot read", &self.dir)?;
        Ok(entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect())
    }
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

/// The reading end of a channel of chunks.
struct Chunks {
    from: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Chunks {
    fn new(from: Receiver<Vec<u8>>) -> Self {
        Self {
            from,
            chunk: Vec::new(),
            at: 0,
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.from.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Reads until a chunk is full or the end is there.
fn fill(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

fn pipeline(reader: &mut dyn Read, size: Option<u64>, dir: &Path, blob: &Path) -> Result<Found> {
    let file = File::create(blob).at("cannot write", blob)?;
    let (to_decoder, compressed) = sync_channel(WAITING);
    let (to_unpacker, plain) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let decoder = scope.spawn(move || decode(Chunks::new(compressed), &to_unpacker));
        let unpacker = scope.spawn(move || {
            let mut chunks = Chunks::new(plain);
            unpack::unpack(&mut chunks, dir)
        });
        let read = keep(reader, size, file, blob, to_decoder);
        let broken = |_| StoreError::Invalid("a thread that unpacked a layer panicked".into());
        let decoded = decoder.join().map_err(broken)?;
        let unpacked = unpacker.join().map_err(broken)?;
        // What came first is what the others failed of.
        let Kept {
            digest: blob,
            bytes: blob_size,
            complete,
        } = read?;
        if !complete {
            unpacked?;
            decoded.map_err(undecodable)?;
            return Err(StoreError::Invalid(
                "the layer has more bytes than its tar archive".into(),
            ));
        }
        let diff_id = decoded.map_err(undecodable)?;
        Ok(Found {
            blob,
            blob_size,
            diff_id,
            size: unpacked?,
        })
    })
}

fn undecodable(error: io::Error) -> StoreError {
    StoreError::Invalid(format!("the layer cannot be decompressed: {error}"))
}

struct Kept {
    digest: Digest,
    bytes: u64,
    /// False when the threads behind gave up before the end.
    complete: bool,
}

/// The first stage: hashes and keeps the blob as it comes.
fn keep(
    reader: &mut dyn Read,
    size: Option<u64>,
    mut file: File,
    path: &Path,
    to: SyncSender<Vec<u8>>,
) -> Result<Kept> {
    let mut hash = Sha256::default();
    let mut bytes = 0_u64;
    let mut complete = true;
    loop {
        let chunk = fill(reader)
            .map_err(|e| StoreError::Invalid(format!("the layer cannot be read: {e}")))?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        if size.is_some_and(|size| bytes > size) {
            return Err(StoreError::Invalid(
                "the layer has more bytes than its manifest says".into(),
            ));
        }
        hash.update(&chunk);
        file.write_all(&chunk).at("cannot write", path)?;
        if to.send(chunk).is_err() {
            complete = false;
            break;
        }
    }
    if let Some(size) = size.filter(|size| complete && bytes < *size) {
        return Err(StoreError::Invalid(format!(
            "the layer ends after {bytes} of {size} bytes"
        )));
    }
    Ok(Kept {
        digest: hash.finish(),
        bytes,
        complete,
    })
}

/// A decoder of what the first bytes say: gzip (also of several members), zstd, or nothing.
pub fn decoder<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = [0_u8; 4];
    let mut n = 0;
    while n < magic.len() {
        match reader.read(&mut magic[n..])? {
            0 => break,
            more => n += more,
        }
    }
    let media_type = gantry_oci::media_type::layer_of(&magic[..n]);
    let whole = io::Cursor::new(magic[..n].to_vec()).chain(reader);
    Ok(match media_type {
        gantry_oci::media_type::OCI_LAYER_GZIP => {
            Box::new(flate2::read::MultiGzDecoder::new(whole))
        }
        gantry_oci::media_type::OCI_LAYER_ZSTD => {
            Box::new(zstd::stream::read::Decoder::new(whole)?)
        }
        _ => Box::new(whole),
    })
}

/// The second stage: decompresses and hashes the tar.
fn decode(chunks: Chunks, to: &SyncSender<Vec<u8>>) -> io::Result<Digest> {
    let mut decoder = decoder(chunks)?;
    let mut hash = Sha256::default();
    loop {
        let chunk = fill(&mut *decoder)?;
        if chunk.is_empty() {
            return Ok(hash.finish());
        }
        hash.update(&chunk);
        if to.send(chunk).is_err() {
            // The unpacker gave up; its error is the one to tell.
            return Ok(hash.finish());
        }
    }
}
