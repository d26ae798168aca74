//! The writer of a container's log, in the format of Docker's json-file driver.
//!
//! One JSON object a line: `{"log":"text\n","stream":"stdout","attrs":{...},"time":"2025-01-02T03:04:05.678Z"}`. A line
//! of output longer than 16 KB is kept in parts, and so is a last one without a newline: a part's text does not end in
//! `\n`, and the next entry of the same stream goes on with it. The current file has the plain name; older ones end in
//! `.1` (the latest), `.2` and so on. A line is never divided between two files, and a file never changes but at its end.
//!
//! The writer is made for the shim: an opened directory instead of a path, one write(2) for a chunk of output, and no
//! error that could stop the container: what cannot be written is dropped and counted.

mod format;

#[cfg(test)]
mod tests;

use crate::plan::LogPlan;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest text of one entry, bytes (the buffer of Docker's copier).
const PART: usize = 16 * 1024;
/// An output buffer that has grown beyond this is given back.
const KEPT_BUFFER: usize = 64 * 1024;

/// Where a chunk of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// A line that is not complete yet.
#[derive(Debug, Default)]
struct Pending {
    text: Vec<u8>,
    /// The time of the line's first part, once a part has been written: the others carry it, too.
    since: Option<SystemTime>,
}

/// An open log.
#[derive(Debug)]
pub struct JsonLog {
    directory: OwnedFd,
    name: String,
    file: OwnedFd,
    /// Bytes in the current file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    /// `"attrs":{...},` or nothing.
    attrs: Vec<u8>,
    pending: [Pending; 2],
    out: Vec<u8>,
    /// Entries in `out`.
    entries: u64,
    dropped: u64,
}

impl JsonLog {
    /// Opens the log in its directory, new or to be continued.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn open(directory: OwnedFd, plan: &LogPlan) -> io::Result<Self> {
        let name = plan.name.as_str();
        let (file, size) = open_file(&directory, name)?;
        let mut log = Self {
            directory,
            name: name.to_owned(),
            file,
            size,
            max_size: plan.max_size,
            max_files: plan.max_files.max(1),
            attrs: format::attributes(&plan.attrs),
            pending: Default::default(),
            out: Vec::new(),
            entries: 0,
            dropped: 0,
        };
        if size > 0 && !ends_with_newline(&log.directory, name, size) {
            // The last writer was killed in the middle of an entry.
            log.out.push(b'\n');
            log.flush();
        }
        Ok(log)
    }

    /// Takes a chunk of output as it was read at `now`: `kind` is the stream's number, 1 for stdout (also all of a
    /// terminal's) and 2 for stderr. Never fails: see [`Self::dropped`].
    pub fn write(&mut self, kind: u8, mut chunk: &[u8], now: SystemTime) {
        let stream = if kind == 2 {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        // The buffers are taken out so that the entries can be made from them.
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        while !chunk.is_empty() {
            let newline = chunk.iter().position(|b| *b == b'\n');
            let room = PART - pending.text.len();
            if let Some(end) = newline.filter(|end| *end <= room) {
                let time = pending.since.take().unwrap_or(now);
                if pending.text.is_empty() {
                    self.entry(stream, &chunk[..=end], time);
                } else {
                    pending.text.extend_from_slice(&chunk[..=end]);
                    self.entry(stream, &pending.text, time);
                    pending.text.clear();
                }
                chunk = &chunk[end + 1..];
                continue;
            }
            let taken = room.min(chunk.len());
            pending.text.extend_from_slice(&chunk[..taken]);
            chunk = &chunk[taken..];
            if pending.text.len() >= PART {
                // COMPAT: Docker cuts after exactly 16 KB, and so a character there becomes two U+FFFD; we cut before it.
                let cut = format::whole_characters(&pending.text);
                let time = *pending.since.get_or_insert(now);
                self.entry(stream, &pending.text[..cut], time);
                pending.text.drain(..cut);
            }
        }
        if pending.text.is_empty() {
            // An idle container's log holds no memory.
            pending.text = Vec::new();
        }
        self.pending[stream as usize] = pending;
        self.flush();
    }

    /// Writes what has come without a newline. Call it when the container has ended.
    pub fn close(mut self) {
        self.write_rest();
    }

    fn write_rest(&mut self) {
        let now = SystemTime::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.text.is_empty() {
                self.entry(stream, &pending.text, pending.since.unwrap_or(now));
            }
        }
        self.flush();
    }

    /// Entries that could not be written, for want of space or an error of the disk.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds one entry to the output buffer; before that the file is changed for a new one, if it is full.
    fn entry(&mut self, stream: Stream, text: &[u8], time: SystemTime) {
        if self
            .max_size
            .is_some_and(|max| self.size + self.out.len() as u64 >= max)
        {
            self.flush();
            // What could not be written may have left the file short of its limit.
            if self.max_size.is_some_and(|max| self.size >= max) {
                self.rotate();
            }
        }
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        format::entry(&mut self.out, stream, text, &self.attrs, since);
        self.entries += 1;
    }

    fn flush(&mut self) {
        let mut written = 0;
        while written < self.out.len() {
            match rustix::io::write(&self.file, &self.out[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(Errno::INTR) => {}
                _ => {
                    self.keep_whole_lines(written);
                    break;
                }
            }
        }
        if written == self.out.len() {
            self.size += written as u64;
        }
        self.entries = 0;
        self.out.clear();
        if self.out.capacity() > KEPT_BUFFER {
            self.out = Vec::new();
        }
    }

    /// After a failed write: cuts the file after the last entry that is whole, and counts those that are not.
    fn keep_whole_lines(&mut self, written: usize) {
        let whole = self.out[..written]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let kept = self.out[..whole].iter().filter(|b| **b == b'\n').count() as u64;
        self.dropped += self.entries.saturating_sub(kept);
        self.size += whole as u64;
        if written > whole {
            let _ = rustix::fs::ftruncate(&self.file, self.size);
        }
    }

    /// Renames the files one further and begins a new one. If that fails, the old one grows on.
    fn rotate(&mut self) {
        let name = |number: u32| match number {
            0 => self.name.clone(),
            number => format!("{}.{number}", self.name),
        };
        for number in (0..self.max_files - 1).rev() {
            let _ = rustix::fs::renameat(
                &self.directory,
                name(number),
                &self.directory,
                name(number + 1),
            );
        }
        if self.max_files == 1 {
            // Not truncated: who follows the log can read the old file to its end.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, rustix::fs::AtFlags::empty());
        }
        if let Ok((file, size)) = open_file(&self.directory, &self.name) {
            (self.file, self.size) = (file, size);
        }
    }
}

impl Drop for JsonLog {
    fn drop(&mut self) {
        self.write_rest();
    }
}

fn open_file(directory: &OwnedFd, name: &str) -> io::Result<(OwnedFd, u64)> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o640))?;
    let size = rustix::fs::fstat(&file)?.st_size;
    Ok((file, u64::try_from(size).unwrap_or(0)))
}

fn ends_with_newline(directory: &OwnedFd, name: &str, size: u64) -> bool {
    let mut last = [0];
    let read = rustix::fs::openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(|file| rustix::io::pread(&file, &mut last, size - 1));
    read != Ok(1) || last == *b"\n"
}
