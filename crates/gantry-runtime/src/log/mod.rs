//! A container's log, as its shim writes it: to files, to a log elsewhere, or both.
//!
//! A line of output longer than 16 KB is kept in parts, and so is a last one without a newline: a part does not end in
//! `\n`, and the next entry of the same stream goes on with it. Two formats of files, an entry a line in both:
//!
//! - [`LogFormat::Json`], that of Docker's json-file driver:
//!   `{"log":"text\n","stream":"stdout","attrs":{...},"time":"2025-01-02T03:04:05.678Z"}`.
//! - [`LogFormat::Local`]: a letter (`o` stdout, `e` stderr; `O` and `E` for a part), the time (Unix nanoseconds, 13 digits
//!   in base 32 of `0-9a-v`), and the text's bytes as they are, without its newline.
//!
//! Files and their rotation: [`file`]; logs elsewhere: [`remote`].
//!
//! The writer is made for the shim: opened descriptors instead of paths, one write(2) for a chunk of output, and no
//! error that could stop the container: what cannot be written is dropped and counted.

mod file;
mod format;
mod remote;
mod settings;

#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;

pub use remote::connect;
pub use settings::{
    Address, Compression, Gelf, LogFile, LogFormat, LogRequest, Protocol, RemoteLog,
    RemoteSettings, Syslog, SyslogFormat,
};

use crate::plan::{LogFilePlan, LogPlan};
use file::Files;
use remote::Remote;
use rustix::event::PollFlags;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest text of one entry, bytes (the buffer of Docker's copier).
const PART: usize = 16 * 1024;

/// Where a chunk of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A line or a part of one.
#[derive(Debug)]
struct Entry<'a> {
    stream: Stream,
    /// Without the newline.
    text: &'a [u8],
    /// Whether the line's end comes with it.
    ends: bool,
    time: SystemTime,
    /// For a line in parts: which one it is, from 1.
    part: Option<(&'a str, u32)>,
}

impl Entry<'_> {
    fn since_1970(&self) -> Duration {
        self.time.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A line that is not complete yet.
#[derive(Debug, Default)]
struct Pending {
    text: Vec<u8>,
    /// Once a part has been written: the time of the first, which the others carry, too.
    since: Option<SystemTime>,
    /// Parts written.
    parts: u32,
    /// What the line's parts have in common, 64 hexadecimal digits.
    id: String,
}

/// An open log; by default one of nothing.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<FileLog>,
    remote: Option<Remote>,
    pending: [Pending; 2],
}

/// A log in files with the format of its entries.
#[derive(Debug)]
struct FileLog {
    files: Files,
    format: LogFormat,
    /// `"attrs":{...},` or nothing.
    attrs: Vec<u8>,
}

impl FileLog {
    fn open(directory: OwnedFd, plan: &LogFilePlan) -> io::Result<Self> {
        Ok(Self {
            files: Files::open(directory, plan)?,
            format: plan.format,
            attrs: format::attributes(&plan.attrs),
        })
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        self.files.begin_entry();
        match self.format {
            LogFormat::Json => format::json(&mut self.files.out, entry, &self.attrs),
            LogFormat::Local => format::local(&mut self.files.out, entry),
        }
    }
}

impl Log {
    /// Opens a log; `take` gives the descriptors that the plan names.
    ///
    /// # Errors
    /// When a file cannot be made. A remote that cannot be reached is none: it is tried again.
    pub(crate) fn open<E: From<io::Error>>(
        plan: &LogPlan,
        mut take: impl FnMut(usize) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        let file = match &plan.file {
            Some(file) => Some(FileLog::open(take(file.dir)?, file)?),
            None => None,
        };
        let remote = match &plan.remote {
            Some(remote) => {
                let socket = remote.socket.map(&mut take).transpose()?;
                let directory = remote.directory.map(&mut take).transpose()?;
                Some(Remote::new(remote.settings.clone(), socket, directory))
            }
            None => None,
        };
        Ok(Self {
            file,
            remote,
            pending: Default::default(),
        })
    }

    /// Takes a chunk of output as it was read at `now`: `kind` is the stream's number, 1 for stdout (also all of a
    /// terminal's) and 2 for stderr. Never fails and never waits.
    pub(crate) fn write(&mut self, kind: u8, mut chunk: &[u8], now: SystemTime) {
        let stream = if kind == 2 {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        // Taken out so that the entries can be made from it.
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        while !chunk.is_empty() {
            let newline = chunk.iter().position(|b| *b == b'\n');
            let room = PART - pending.text.len();
            if let Some(end) = newline.filter(|end| *end <= room) {
                if pending.text.is_empty() {
                    self.piece(stream, &chunk[..end], true, now, &mut pending);
                } else {
                    let mut text = std::mem::take(&mut pending.text);
                    text.extend_from_slice(&chunk[..end]);
                    self.piece(stream, &text, true, now, &mut pending);
                    text.clear();
                    pending.text = text;
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
                let mut text = std::mem::take(&mut pending.text);
                self.piece(stream, &text[..cut], false, now, &mut pending);
                text.drain(..cut);
                pending.text = text;
            }
        }
        if pending.text.is_empty() {
            // An idle container's log holds no memory.
            pending.text = Vec::new();
        }
        self.pending[stream as usize] = pending;
        self.flush();
    }

    /// Passes a line or a part of one on, and keeps count of the parts.
    fn piece(
        &mut self,
        stream: Stream,
        text: &[u8],
        ends: bool,
        now: SystemTime,
        pending: &mut Pending,
    ) {
        let in_parts = !ends || pending.parts > 0;
        if in_parts {
            if pending.parts == 0 && self.remote.is_some() {
                pending.id = remote::random_id();
            }
            pending.parts += 1;
            pending.since.get_or_insert(now);
        }
        let entry = Entry {
            stream,
            text,
            ends,
            time: pending.since.unwrap_or(now),
            part: in_parts.then_some((pending.id.as_str(), pending.parts)),
        };
        if let Some(file) = &mut self.file {
            file.entry(&entry);
        }
        if let Some(remote) = &mut self.remote {
            remote.push(&entry);
        }
        if ends {
            (pending.since, pending.parts) = (None, 0);
            pending.id.clear();
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            file.files.flush();
        }
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
    }

    /// Writes what has come without a newline. Call it when the container has ended.
    pub(crate) fn end(&mut self) {
        let now = SystemTime::now();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut pending = std::mem::take(&mut self.pending[stream as usize]);
            let text = std::mem::take(&mut pending.text);
            if !text.is_empty() {
                self.piece(stream, &text, false, now, &mut pending);
            }
        }
        self.flush();
    }

    /// Gives what is left to send its last chance, and ends the log. Takes a few seconds at most.
    pub(crate) fn close(mut self) {
        self.end();
        if let Some(remote) = &mut self.remote {
            remote.drain();
        }
        if let Some(file) = &mut self.file {
            file.files.finish_compressing();
        }
    }

    /// The current file's inode number and size; zeros where there is none.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.file.as_ref().map_or((0, 0), |f| f.files.position())
    }

    /// What has come of a stream behind the last entry.
    pub(crate) fn begun(&self, kind: u8) -> &[u8] {
        &self.pending[usize::from(kind == 2)].text
    }

    /// Whether the container has to wait with its output.
    pub(crate) fn is_full(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_full)
    }

    /// What to wait for besides the clock.
    pub(crate) fn poll_fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.remote.as_ref().and_then(Remote::poll_fd)
    }

    /// When [`Self::step`] is to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.file.as_ref().is_some_and(|f| f.files.is_compressing()) {
            return Some(Instant::now());
        }
        self.remote.as_ref().and_then(Remote::deadline)
    }

    /// Does the next bit of what can wait: sending, connecting, compressing.
    pub(crate) fn step(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.flush();
        }
        if let Some(file) = &mut self.file {
            file.files.step();
        }
    }

    /// Entries that could not be written, for want of space or an error of the disk, or could not be sent.
    #[cfg(test)]
    fn dropped(&self) -> u64 {
        self.file.as_ref().map_or(0, |f| f.files.dropped)
            + self.remote.as_ref().map_or(0, |r| r.dropped)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}
