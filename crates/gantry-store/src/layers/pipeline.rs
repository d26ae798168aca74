//! A layer's way into the store: three threads, with short queues of chunks in between. The caller's reads, hashes and
//! (where asked) keeps the blob; a second decompresses and hashes the tar; a third unpacks.

use super::bounds::{Bounded, Counted, Swelling};
use crate::unpack::{self, Place};
use crate::{At, Result, StoreError};
use gantry_oci::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes handed on at a time, and how many such chunks wait at most between two threads: what bounds the memory of one
/// layer, whatever its size.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 6;

/// Where a layer comes from.
pub(super) struct Source<'a> {
    pub(super) reader: &'a mut dyn Read,
    /// Bytes, where known.
    pub(super) size: Option<u64>,
    /// Where the blob is kept, and how many of its first bytes are there already.
    pub(super) keep: Option<(File, &'a Path, u64)>,
}

/// What the pipeline found out.
pub(super) struct Found {
    pub(super) blob: Digest,
    pub(super) blob_size: u64,
    pub(super) media_type: &'static str,
    pub(super) diff_id: Digest,
    pub(super) tar_size: u64,
    /// Sum of the files' sizes, bytes.
    pub(super) size: u64,
}

/// Unpacks a layer.
pub(super) fn run(source: Source<'_>, place: &Place<'_>, swelling: Swelling) -> Result<Found> {
    let (to_decoder, compressed) = queue();
    let (to_unpacker, plain) = queue();
    std::thread::scope(|scope| {
        let decoder = scope.spawn(move || decode(compressed, to_unpacker, swelling));
        let unpacker = scope.spawn(move || {
            let mut plain = plain;
            unpack::unpack(&mut plain, place)
        });
        let read = keep(source, to_decoder);
        let broken = |_| StoreError::Invalid("a thread that unpacked a layer panicked".into());
        let decoded = decoder.join().map_err(broken)?;
        let unpacked = unpacker.join().map_err(broken)?;
        // What came first is what the others failed of.
        let kept = read?;
        if !kept.complete {
            // The unpacker lacks what the decoder could not give; the other way around the decoder does not complain.
            decoded.map_err(undecodable)?;
            unpacked?;
            return Err(StoreError::Invalid(
                "the layer has more bytes than its tar archive".into(),
            ));
        }
        let decoded = decoded.map_err(undecodable)?;
        Ok(Found {
            // What is not compressed is hashed once.
            diff_id: decoded.digest.unwrap_or_else(|| kept.digest.clone()),
            tar_size: decoded.bytes,
            media_type: decoded.media_type,
            blob: kept.digest,
            blob_size: kept.bytes,
            size: unpacked?,
        })
    })
}

fn undecodable(error: io::Error) -> StoreError {
    StoreError::Invalid(format!("the layer cannot be decompressed: {error}"))
}

/// Bytes on their way between two threads.
struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
}

/// The writing end of a queue of chunks, which come back when they are read.
struct ToQueue {
    to: SyncSender<Chunk>,
    back: Receiver<Vec<u8>>,
    /// Why the source broke, when there was something to hand on before.
    failed: Option<io::Error>,
}

/// The reading end.
struct FromQueue {
    from: Receiver<Chunk>,
    back: Sender<Vec<u8>>,
    chunk: Chunk,
    at: usize,
}

fn queue() -> (ToQueue, FromQueue) {
    let (to, from) = sync_channel(WAITING);
    let (returned, back) = channel();
    let chunk = Chunk {
        bytes: Vec::new(),
        filled: 0,
    };
    let reader = FromQueue {
        from,
        back: returned,
        chunk,
        at: 0,
    };
    let writer = ToQueue {
        to,
        back,
        failed: None,
    };
    (writer, reader)
}

impl ToQueue {
    /// Reads until a chunk is full or the end is there. What came before an error is handed on first.
    fn fill(&mut self, reader: &mut dyn Read) -> io::Result<Chunk> {
        let bytes = self.back.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        let mut chunk = Chunk { bytes, filled: 0 };
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        while chunk.filled < CHUNK {
            match reader.read(&mut chunk.bytes[chunk.filled..]) {
                Ok(0) => break,
                Ok(n) => chunk.filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if chunk.filled == 0 => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(chunk)
    }

    /// False when the reader has given up.
    fn send(&self, chunk: Chunk) -> bool {
        self.to.send(chunk).is_ok()
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl BufRead for FromQueue {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.chunk.filled {
            let Ok(next) = self.from.recv() else {
                return Ok(&[]);
            };
            let last = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            if !last.bytes.is_empty() {
                // The other end may be gone already.
                let _ = self.back.send(last.bytes);
            }
        }
        Ok(&self.chunk.bytes()[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for FromQueue {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let n = buffer.len().min(there.len());
        buffer[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}

struct Kept {
    digest: Digest,
    bytes: u64,
    /// False when the threads behind gave up before the end.
    complete: bool,
}

/// The first stage: hashes and keeps the blob as it comes.
fn keep(source: Source<'_>, mut to: ToQueue) -> Result<Kept> {
    let Source {
        reader,
        size,
        mut keep,
    } = source;
    let mut hash = Sha256::default();
    let mut bytes = 0_u64;
    let mut complete = true;
    loop {
        let chunk = to
            .fill(reader)
            .map_err(|e| StoreError::Interrupted(format!("the layer cannot be read: {e}")))?;
        if chunk.filled == 0 {
            break;
        }
        let before = bytes;
        bytes += chunk.filled as u64;
        if size.is_some_and(|size| bytes > size) {
            return Err(StoreError::Invalid(
                "the layer has more bytes than its manifest says".into(),
            ));
        }
        if let Some((file, path, there)) = &mut keep {
            let seen = there.saturating_sub(before).min(chunk.filled as u64) as usize;
            file.write_all(&chunk.bytes()[seen..])
                .at("cannot write", path)?;
        }
        hash.update(chunk.bytes());
        if !to.send(chunk) {
            complete = false;
            break;
        }
    }
    if let Some(size) = size.filter(|size| complete && bytes < *size) {
        return Err(StoreError::Interrupted(format!(
            "the layer ends after {bytes} of {size} bytes"
        )));
    }
    Ok(Kept {
        digest: hash.finish(),
        bytes,
        complete,
    })
}

struct Decoded {
    /// None where nothing was compressed: the tar is the blob.
    digest: Option<Digest>,
    bytes: u64,
    media_type: &'static str,
}

/// The second stage: decompresses and hashes the tar.
fn decode(chunks: FromQueue, mut to: ToQueue, swelling: Swelling) -> io::Result<Decoded> {
    let (mut decoder, media_type) = decoder(chunks, swelling)?;
    let mut hash = (media_type != gantry_oci::media_type::OCI_LAYER).then(Sha256::default);
    let mut bytes = 0;
    loop {
        let chunk = to.fill(&mut *decoder)?;
        let ended = chunk.filled == 0;
        bytes += chunk.filled as u64;
        if let Some(hash) = &mut hash {
            hash.update(chunk.bytes());
        }
        // Where the unpacker gave up, its error is the one to tell.
        if ended || !to.send(chunk) {
            return Ok(Decoded {
                digest: hash.map(Sha256::finish),
                bytes,
                media_type,
            });
        }
    }
}

/// Memory that an xz stream may ask for, KiB: what `xz -9` makes takes 65 MiB.
// COMPAT: Docker starts the host's xz, which takes what it is asked for.
const MOST_XZ_MEMORY: u32 = 100 << 10;

/// A decoder of what the first bytes say: gzip, bzip2 or xz (also of several members), zstd, or nothing; and the media
/// type of such a layer.
pub(super) fn decoder<'a>(
    reader: impl BufRead + Send + 'a,
    swelling: Swelling,
) -> io::Result<(Box<dyn Read + Send + 'a>, &'static str)> {
    let (mut reader, taken) = Counted::new(reader);
    let mut magic = [0_u8; gantry_oci::media_type::MAGIC];
    let mut n = 0;
    while n < magic.len() {
        match reader.read(&mut magic[n..])? {
            0 => break,
            more => n += more,
        }
    }
    let media_type = gantry_oci::media_type::layer_of(&magic[..n]);
    let whole = io::Cursor::new(magic[..n].to_vec()).chain(reader);
    let decoder: Box<dyn Read + Send> = match media_type {
        gantry_oci::media_type::OCI_LAYER_GZIP => {
            let decoder = flate2::bufread::MultiGzDecoder::new(whole);
            Box::new(Bounded::new(decoder, taken, swelling))
        }
        gantry_oci::media_type::OCI_LAYER_ZSTD => {
            let decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            Box::new(Bounded::new(decoder, taken, swelling))
        }
        gantry_oci::media_type::LAYER_BZIP2 => {
            let decoder = bzip2::bufread::MultiBzDecoder::new(whole);
            Box::new(Bounded::new(decoder, taken, swelling))
        }
        gantry_oci::media_type::LAYER_XZ => {
            let decoder = lzma_rust2::XzReader::new_mem_limit(whole, true, MOST_XZ_MEMORY);
            Box::new(Bounded::new(decoder, taken, swelling))
        }
        _ => Box::new(whole),
    };
    Ok((decoder, media_type))
}
