//! Blobs that come from afar: what has come stays on disk until the layer is unpacked, so that an interrupted download
//! goes on where it ended.

use super::{Expected, Layer, Layers, pipeline};
use crate::{At, Result, StoreError};
use gantry_oci::Digest;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

/// Partial blobs that nobody has asked for again in this time are forgotten.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Gives a blob's bytes from an offset on.
pub type Open<'a> = dyn FnMut(u64) -> io::Result<Box<dyn Read + Send>> + 'a;

/// The right to write a partial blob.
struct Turn<'a> {
    layers: &'a Layers,
    blob: &'a Digest,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let busy = self.layers.receiving.lock();
        busy.unwrap_or_else(PoisonError::into_inner)
            .remove(self.blob);
    }
}

/// First what is there, then what still has to come.
struct Resumed<'a, 'b> {
    there: io::Take<File>,
    open: &'a mut Open<'b>,
    offset: u64,
    size: u64,
    rest: Option<Box<dyn Read + Send>>,
}

impl Read for Resumed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_none() {
            let n = self.there.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            if self.offset >= self.size {
                return Ok(0);
            }
            self.rest = Some((self.open)(self.offset)?);
        }
        match &mut self.rest {
            Some(rest) => rest.read(buffer),
            None => Ok(0),
        }
    }
}

impl Layers {
    /// Like [`Layers::unpack`] for a blob whose digest and size are known, and which may have come in part before:
    /// `open` gives the bytes from an offset on. What came stays for the next try when the source breaks off.
    pub fn receive(&self, expected: &Expected, open: &mut Open<'_>) -> Result<Layer> {
        let (Some(blob), Some(size)) = (&expected.blob, expected.size) else {
            let mut reader = open(0).map_err(unreadable)?;
            return self.unpack(&mut reader, expected);
        };
        let mut busy = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(blob.clone()) {
            drop(busy);
            // Somebody else is at it; who is ready first names the layer.
            let mut reader = open(0).map_err(unreadable)?;
            return self.unpack(&mut reader, expected);
        }
        drop(busy);
        let _turn = Turn { layers: self, blob };
        let path = self.partial.join(blob.hex());
        let there = match std::fs::metadata(&path) {
            Ok(partial) if partial.len() <= size => partial.len(),
            Ok(_) => {
                std::fs::remove_file(&path).at("cannot remove", &path)?;
                0
            }
            Err(_) => 0,
        };
        let received = self.resume(expected, size, &path, there, open);
        match received {
            // What was there may have been broken: a power cut can do that.
            Err(StoreError::DigestMismatch { .. } | StoreError::Invalid(_)) if there > 0 => {
                self.resume(expected, size, &path, 0, open)
            }
            other => other,
        }
    }

    fn resume(
        &self,
        expected: &Expected,
        size: u64,
        path: &Path,
        there: u64,
        open: &mut Open<'_>,
    ) -> Result<Layer> {
        let received = self.read_resumed(expected, size, path, there, open);
        if !matches!(received, Err(StoreError::Interrupted(_))) && path.exists() {
            // Unpacked, of no use, or in the way on a full disk.
            std::fs::remove_file(path).at("cannot remove", path)?;
        }
        received
    }

    fn read_resumed(
        &self,
        expected: &Expected,
        size: u64,
        path: &Path,
        there: u64,
        open: &mut Open<'_>,
    ) -> Result<Layer> {
        let made = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = made.at("cannot write", path)?;
        let mut to = file.try_clone().at("cannot write", path)?;
        to.seek(SeekFrom::Start(there)).at("cannot write", path)?;
        // A position of its own.
        let from = File::open(path).at("cannot read", path)?;
        let mut reader = Resumed {
            there: from.take(there),
            open,
            offset: there,
            size,
            rest: None,
        };
        let source = pipeline::Source {
            reader: &mut reader,
            size: Some(size),
            keep: Some((to, path, there)),
        };
        self.take(source, expected, self.keep_blobs.then_some(path))
    }

    /// Bytes of a blob that are there already.
    pub fn received(&self, blob: &Digest) -> u64 {
        let partial = std::fs::metadata(self.partial.join(blob.hex()));
        partial.map_or(0, |file| file.len())
    }

    /// Removes partial blobs that nobody is at: those nobody asked for in a week, or all. The answer is how many bytes
    /// of disk they had.
    pub fn remove_partial(&self, all: bool) -> Result<u64> {
        let busy = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut freed = 0;
        for path in self.partials()? {
            let hex = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            if Digest::from_hex(hex).is_ok_and(|digest| busy.contains(&digest)) {
                continue;
            }
            let meta = path.metadata().at("cannot read", &path)?;
            let age = meta
                .modified()
                .ok()
                .and_then(|at| SystemTime::now().duration_since(at).ok());
            if all || age.is_some_and(|age| age > KEPT) {
                freed += std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
                std::fs::remove_file(&path).at("cannot remove", &path)?;
            }
        }
        Ok(freed)
    }

    fn partials(&self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.partial).at("cannot read", &self.partial)?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }
}

fn unreadable(error: io::Error) -> StoreError {
    StoreError::Interrupted(format!("the layer cannot be read: {error}"))
}
