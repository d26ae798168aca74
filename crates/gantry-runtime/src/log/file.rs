//! The files of one log: appending, rotating, and compressing what was rotated.
//!
//! The current file has the plain name; older ones end in `.1` (the latest), `.2` and so on, with `.gz` behind that once
//! they are compressed. An entry is never divided between two files, and a file never changes but at its end. A
//! compressed file is made under the name `NAME.gz.tmp`, renamed, and only then the plain one goes; where both are there
//! after a crash, the plain one counts. Its gzip header carries (RFC 1952, extra field `GI`) the inode number of the file
//! it was made from, by which a reader that still has that one open finds its place.

use crate::plan::LogFilePlan;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use rustix::fs::{AtFlags, Mode, OFlags, Timestamps};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// An output buffer that has grown beyond this is given back.
const KEPT_BUFFER: usize = 64 * 1024;
/// Bytes that are compressed at a time, so that output is never kept waiting for long.
const SLICE: usize = 64 * 1024;

/// A log's files, opened for writing.
#[derive(Debug)]
pub(super) struct Files {
    directory: OwnedFd,
    name: String,
    file: OwnedFd,
    /// Bytes in the current file.
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    compress: bool,
    compressing: Option<Compressing>,
    /// Whole entries that wait to be written.
    pub(super) out: Vec<u8>,
    /// Entries in `out`.
    entries: u64,
    pub(super) dropped: u64,
}

impl Files {
    /// Opens the log in its directory, new or to be continued. Every entry must end in a newline, and have no other.
    pub(super) fn open(directory: OwnedFd, plan: &LogFilePlan) -> io::Result<Self> {
        let name = plan.name.as_str();
        let (file, size) = open_file(&directory, name)?;
        let mut files = Self {
            directory,
            name: name.to_owned(),
            file,
            size,
            max_size: plan.max_size,
            max_files: plan.max_files.max(1),
            compress: plan.compress,
            compressing: None,
            out: Vec::new(),
            entries: 0,
            dropped: 0,
        };
        if size > 0 && !ends_with_newline(&files.directory, name, size) {
            // The last writer was killed in the middle of an entry.
            files.out.push(b'\n');
            files.flush();
        }
        Ok(files)
    }

    /// Before an entry is added to `out`: changes the file for a new one, if it is full.
    pub(super) fn begin_entry(&mut self) {
        let full = |size: u64, max: Option<u64>| max.is_some_and(|max| size >= max);
        if full(self.size + self.out.len() as u64, self.max_size) {
            self.flush();
            // What could not be written may have left the file short of its limit.
            if full(self.size, self.max_size) {
                self.rotate();
            }
        }
        self.entries += 1;
    }

    pub(super) fn flush(&mut self) {
        let mut written = 0;
        while written < self.out.len() {
            match rustix::io::write(&self.file, &self.out[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(Errno::INTR) => {}
                _ => {
                    self.keep_whole_entries(written);
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
    fn keep_whole_entries(&mut self, written: usize) {
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

    fn numbered(&self, number: u32, suffix: &str) -> String {
        match number {
            0 => self.name.clone(),
            number => format!("{}.{number}{suffix}", self.name),
        }
    }

    /// Renames the files one further and begins a new one. If that fails, the old one grows on.
    fn rotate(&mut self) {
        // Its file is about to get another name.
        self.finish_compressing();
        let (directory, name) = (&self.directory, |n, suffix| self.numbered(n, suffix));
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            for suffix in ["", ".gz"] {
                let (from, to) = (name(number, suffix), name(number + 1, suffix));
                if rustix::fs::renameat(directory, from, directory, to).is_ok() {
                    let other = if suffix.is_empty() { ".gz" } else { "" };
                    let _ =
                        rustix::fs::unlinkat(directory, name(number + 1, other), AtFlags::empty());
                }
            }
        }
        if self.max_files == 1 {
            // Not truncated: who follows the log can read the old file to its end.
            let _ = rustix::fs::unlinkat(directory, &self.name, AtFlags::empty());
        } else {
            let _ = rustix::fs::renameat(directory, &self.name, directory, name(1, ""));
        }
        if let Ok((file, size)) = open_file(&self.directory, &self.name) {
            (self.file, self.size) = (file, size);
            if self.compress && self.max_files > 1 {
                let plain = self.numbered(1, "");
                self.compressing = Compressing::begin(&self.directory, plain).ok();
            }
        }
    }

    /// The current file's inode number and size.
    pub(super) fn position(&self) -> (u64, u64) {
        let inode = rustix::fs::fstat(&self.file).map_or(0, |stat| stat.st_ino);
        (inode, self.size)
    }

    #[cfg(test)]
    pub(super) fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// Whether [`Self::step`] has something to do.
    pub(super) fn is_compressing(&self) -> bool {
        self.compressing.is_some()
    }

    /// Does the next bit of what can wait.
    pub(super) fn step(&mut self) {
        if let Some(compressing) = &mut self.compressing {
            match compressing.step(&self.directory) {
                Ok(false) => {}
                // One that cannot be compressed stays as it is.
                Ok(true) | Err(_) => self.compressing = None,
            }
        }
    }

    pub(super) fn finish_compressing(&mut self) {
        while self.is_compressing() {
            self.step();
        }
    }
}

/// A rotated file that is being compressed.
#[derive(Debug)]
struct Compressing {
    plain: String,
    source: File,
    offset: u64,
    encoder: Option<GzEncoder<File>>,
}

impl Compressing {
    fn begin(directory: &OwnedFd, plain: String) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let source = rustix::fs::openat(directory, &plain, flags, Mode::empty())?;
        let inode = rustix::fs::fstat(&source)?.st_ino;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let target = rustix::fs::openat(
            directory,
            format!("{plain}.gz.tmp"),
            flags,
            Mode::from_raw_mode(0o640),
        )?;
        let mut extra = b"GI\x08\x00".to_vec();
        extra.extend(inode.to_le_bytes());
        let encoder = GzBuilder::new()
            .extra(extra)
            .write(File::from(target), Compression::default());
        Ok(Self {
            plain,
            source: File::from(source),
            offset: 0,
            encoder: Some(encoder),
        })
    }

    /// Compresses a slice; true when all is done.
    fn step(&mut self, directory: &OwnedFd) -> io::Result<bool> {
        let mut slice = vec![0; SLICE];
        let count = self.source.read_at(&mut slice, self.offset)?;
        self.offset += count as u64;
        if count > 0 {
            if let Some(encoder) = &mut self.encoder {
                encoder.write_all(&slice[..count])?;
            }
            return Ok(false);
        }
        if let Some(encoder) = self.encoder.take() {
            let target = encoder.finish()?;
            // A reader that wants entries from some time on passes over files that were last written before.
            let stat = rustix::fs::fstat(&self.source)?;
            let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds as _,
            };
            let times = Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            };
            let _ = rustix::fs::futimens(&target, &times);
            let done = format!("{}.gz", self.plain);
            rustix::fs::renameat(directory, format!("{done}.tmp"), directory, &done)?;
            let _ = rustix::fs::unlinkat(directory, &self.plain, AtFlags::empty());
        }
        Ok(true)
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
