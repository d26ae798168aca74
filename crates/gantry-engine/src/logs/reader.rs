//! The files of one log, read as one: from the oldest to the newest, and on over rotations.
//!
//! Synchronous and without a clock: the caller asks again when something may have changed. A rotation renames `log` to
//! `log.1`, that to `log.2` and so on (see `gantry_runtime::log`), so files are told apart by their inodes.

use super::Frame;
use super::entry::{Format, Wanted};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const BLOCK: usize = 64 * 1024;
/// A line longer than this is not ours (an entry is at most six times 16 KB of text, and attributes).
const LONGEST: usize = 1 << 20;

/// A rotation under way leaves a hole of one number; after this many there are no more files.
const HOLES: u32 = 2;
/// How often the files are opened anew while a rotation changes them.
const TRIES: u32 = 100;

/// What a call to [`Reader::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// There may be more at once.
    More,
    /// All that is there now has been read.
    End,
    /// Nothing that follows is wanted (`until`).
    Done,
}

/// A position in a log.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    current: Option<File>,
    offset: u64,
    /// Opened files that follow the current one, oldest first.
    following: VecDeque<File>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    format: Format,
}

impl Reader {
    /// Opens the log at `path` where the wanted entries begin.
    pub(super) fn open(path: &Path, wanted: Wanted, tail: Option<u64>) -> io::Result<Self> {
        let mut following = open_all(path, wanted.most_files)?;
        let mut offset = 0;
        if let Some(lines) = tail {
            offset = skip_to_tail(&mut following, lines)?;
        }
        Ok(Self {
            path: path.to_owned(),
            current: following.pop_front(),
            offset,
            following,
            rest: Vec::new(),
            format: Format::new(wanted),
        })
    }

    /// Reads a block and appends its entries.
    pub(super) fn read(&mut self, frames: &mut Vec<Frame>) -> io::Result<Reached> {
        let Some(file) = &self.current else {
            return self.advance();
        };
        let start = self.rest.len();
        self.rest.resize(start + BLOCK, 0);
        let count = file.read_at(&mut self.rest[start..], self.offset)?;
        self.rest.truncate(start + count);
        self.offset += count as u64;
        if count == 0 {
            if file.metadata()?.len() < self.offset {
                // The writer took a torn entry back, or somebody emptied the file.
                self.offset = self.offset.saturating_sub(self.rest.len() as u64);
                self.rest.clear();
                if file.metadata()?.len() < self.offset {
                    self.offset = 0;
                }
            }
            return self.advance();
        }
        let mut begin = 0;
        let mut reached = Reached::More;
        while let Some(length) = self.rest[begin..].iter().position(|b| *b == b'\n') {
            let line = &self.rest[begin..begin + length];
            begin += length + 1;
            if !self.format.line(line, frames) {
                reached = Reached::Done;
                break;
            }
        }
        self.rest.drain(..begin);
        if self.rest.len() > LONGEST {
            self.rest.clear();
        }
        Ok(reached)
    }

    /// At the end of a file: on to the next one, if there is one.
    fn advance(&mut self) -> io::Result<Reached> {
        let next = match self.following.pop_front() {
            Some(next) => Some(next),
            None => self.newer()?,
        };
        let Some(next) = next else {
            return Ok(Reached::End);
        };
        // What was written between the last read and the rotation comes first.
        if let Some(current) = &self.current
            && current.metadata()?.len() > self.offset
        {
            self.following.push_front(next);
            return Ok(Reached::More);
        }
        self.current = Some(next);
        self.offset = 0;
        self.rest.clear();
        Ok(Reached::More)
    }

    /// The file that took the current one's place; none when the current one is the newest, or a rotation is under way.
    fn newer(&self) -> io::Result<Option<File>> {
        let Some(current) = &self.current else {
            return open(&self.path);
        };
        let own = identity(current)?;
        let is_own = |path: &Path| std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == own);
        if is_own(&self.path) {
            return Ok(None);
        }
        let mut holes = 0;
        let mut place = None;
        for number in 1.. {
            let path = numbered(&self.path, number);
            if is_own(&path) {
                place = Some(number);
                break;
            }
            holes = if path.exists() { 0 } else { holes + 1 };
            if holes == HOLES {
                break;
            }
        }
        let Some(place) = place else {
            // Rotated away altogether: the oldest that is left is next. Or it was faster than we: the one after it is.
            let mut files = open_all(&self.path, u32::MAX)?;
            while let Some(file) = files.pop_front() {
                let found = identity(&file)? == own;
                let any_own = found || holds(&files, own)?;
                if !any_own {
                    return Ok(Some(file));
                }
                if found {
                    return Ok(files.pop_front());
                }
            }
            return Ok(None);
        };
        let next = open(&numbered(&self.path, place - 1))?;
        // Were the files renamed meanwhile, it is another one: the next call looks again.
        Ok(next.filter(|_| is_own(&numbered(&self.path, place))))
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn holds(files: &VecDeque<File>, wanted: (u64, u64)) -> io::Result<bool> {
    for file in files {
        if identity(file)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

/// All files that are there, oldest first. They are opened from the newest on, and again when a rotation has changed
/// the newest meanwhile.
fn open_all(path: &Path, most: u32) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    for _ in 0..TRIES {
        let unchanged = open_once(path, most, &mut files)?;
        if unchanged {
            break;
        }
    }
    Ok(files)
}

fn open_once(path: &Path, most: u32, files: &mut VecDeque<File>) -> io::Result<bool> {
    files.clear();
    let mut holes = 0;
    for number in 0..most.max(1) {
        match open(&numbered(path, number))? {
            Some(file) => {
                holes = 0;
                // One that was renamed under our hands is met twice.
                if !holds(files, identity(&file)?)? {
                    files.push_front(file);
                }
            }
            None => holes += 1,
        }
        if holes == HOLES {
            break;
        }
    }
    let newest = files.back().map(identity).transpose()?;
    let now = open(path)?.as_ref().map(identity).transpose()?;
    Ok(newest == now)
}

/// Drops the files before the last `lines` entries; the offset of the first entry in the file that is left.
fn skip_to_tail(files: &mut VecDeque<File>, lines: u64) -> io::Result<u64> {
    let mut missing = lines;
    let mut block = vec![0; BLOCK];
    for at in (0..files.len()).rev() {
        let mut end = files[at].metadata()?.len();
        let mut first = true;
        while end > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let read = &mut block[..(end - start) as usize];
            files[at].read_exact_at(read, start)?;
            for (place, _) in read.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                // The newline at the very end closes the last entry; each other one stands before an entry.
                if std::mem::take(&mut first)
                    && start + place as u64 + 1 == files[at].metadata()?.len()
                    && missing > 0
                {
                    continue;
                }
                if missing == 0 || {
                    missing -= 1;
                    missing == 0
                } {
                    files.drain(..at);
                    return Ok(start + place as u64 + 1);
                }
            }
            end = start;
        }
        // The file's first entry has no newline before it.
        if files[at].metadata()?.len() > 0 {
            missing = missing.saturating_sub(1);
            if missing == 0 && lines > 0 {
                files.drain(..at);
                return Ok(0);
            }
        }
    }
    Ok(0)
}
