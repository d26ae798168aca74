//! The files of one log, read as one: from the oldest to the newest, and on over rotations.
//!
//! Synchronous and without a clock: the caller asks again when something may have changed. A rotation renames `log` to
//! `log.1`, that to `log.2` and so on, and may compress them (see `gantry_runtime::log`): files are told apart by inodes.

use super::Frame;
use super::entry::{Format, Wanted};
use super::segment::Segment;
use gantry_runtime::shim_client::Position;
use std::collections::VecDeque;
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
    current: Option<Segment>,
    offset: u64,
    /// Opened files that follow the current one, oldest first.
    following: VecDeque<Segment>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    format: Format,
    /// Where the last file ends for this reader, which then looks for no newer one.
    end: Option<u64>,
}

impl Reader {
    /// Opens the log at `path` where the wanted entries begin.
    pub(super) fn open(path: &Path, wanted: Wanted, tail: Option<u64>) -> io::Result<Self> {
        let mut following = open_all(path, wanted.most_files)?;
        let mut offset = 0;
        if let Some(lines) = tail {
            offset = skip_to_tail(&mut following, lines)?;
        }
        // A file that was last written before has nothing that is wanted.
        if let Some(since) = wanted.options.since {
            while following.len() > 1 && following[0].modified()? < since {
                following.pop_front();
                offset = 0;
            }
        }
        Ok(Self {
            path: path.to_owned(),
            current: following.pop_front(),
            offset,
            following,
            rest: Vec::new(),
            format: Format::new(wanted),
            end: None,
        })
    }

    /// Opens the log for what is before a place in it; none: before its end now.
    pub(super) fn open_until(
        path: &Path,
        wanted: Wanted,
        position: Option<Position>,
    ) -> io::Result<Self> {
        let mut following = open_all(path, wanted.most_files)?;
        let end = match position {
            Some(position) => {
                let last = following
                    .iter()
                    .rposition(|file| file.identity.1 == position.inode);
                // Rotated away since: then nothing is left that is older.
                following.truncate(last.map_or(0, |at| at + 1));
                position.offset
            }
            None => match following.back_mut() {
                Some(last) => last.file()?.metadata()?.len(),
                None => 0,
            },
        };
        Ok(Self {
            path: path.to_owned(),
            current: following.pop_front(),
            offset: 0,
            following,
            rest: Vec::new(),
            format: Format::new(wanted),
            end: Some(end),
        })
    }

    /// Reads a block and appends its entries.
    pub(super) fn read(&mut self, frames: &mut Vec<Frame>) -> io::Result<Reached> {
        let Some(current) = &mut self.current else {
            return self.advance();
        };
        let file = current.file()?;
        let start = self.rest.len();
        let left = match self.end {
            Some(end) if self.following.is_empty() => end.saturating_sub(self.offset),
            _ => u64::MAX,
        };
        if left == 0 {
            return Ok(Reached::Done);
        }
        let block = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        self.rest.resize(start + block, 0);
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
            None if self.end.is_some() => return Ok(Reached::Done),
            None => self.newer()?,
        };
        let Some(next) = next else {
            return Ok(Reached::End);
        };
        // What was written between the last read and the rotation comes first.
        if let Some(current) = &mut self.current
            && current.file()?.metadata()?.len() > self.offset
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
    fn newer(&self) -> io::Result<Option<Segment>> {
        let Some(current) = &self.current else {
            return Segment::open(&self.path);
        };
        let own = current.physical;
        // Most often asked, so without opening it.
        if std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == own) {
            return Ok(None);
        }
        let mut holes = 0;
        let mut place = None;
        for number in 1.. {
            let path = numbered(&self.path, number);
            let found = Segment::open(&path)?;
            if found.as_ref().is_some_and(|segment| segment.is(current)) {
                place = Some(number);
                break;
            }
            holes = if found.is_some() { 0 } else { holes + 1 };
            if holes == HOLES {
                break;
            }
        }
        let Some(place) = place else {
            // Rotated away altogether: the oldest that is left is next. Or it was faster than we: the one after it is.
            let mut files = open_all(&self.path, u32::MAX)?;
            while let Some(file) = files.pop_front() {
                let found = file.is(current);
                let any_own = found || files.iter().any(|file| file.is(current));
                if !any_own {
                    return Ok(Some(file));
                }
                if found {
                    return Ok(files.pop_front());
                }
            }
            return Ok(None);
        };
        let next = Segment::open(&numbered(&self.path, place - 1))?;
        // Were the files renamed meanwhile, it is another one: the next call looks again.
        let still = Segment::open(&numbered(&self.path, place))?;
        Ok(next.filter(|_| still.is_some_and(|segment| segment.is(current))))
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// All files that are there, oldest first. They are opened from the newest on, and again when a rotation has changed
/// the newest meanwhile.
fn open_all(path: &Path, most: u32) -> io::Result<VecDeque<Segment>> {
    let mut files = VecDeque::new();
    for _ in 0..TRIES {
        let unchanged = open_once(path, most, &mut files)?;
        if unchanged {
            break;
        }
    }
    Ok(files)
}

fn open_once(path: &Path, most: u32, files: &mut VecDeque<Segment>) -> io::Result<bool> {
    files.clear();
    let mut holes = 0;
    for number in 0..most.max(1) {
        match Segment::open(&numbered(path, number))? {
            Some(file) => {
                holes = 0;
                // One that was renamed under our hands is met twice.
                if !files.iter().any(|held| held.physical == file.physical) {
                    files.push_front(file);
                }
            }
            None => holes += 1,
        }
        if holes == HOLES {
            break;
        }
    }
    let newest = files.back().map(|file| file.physical);
    let now = Segment::open(path)?.map(|file| file.physical);
    Ok(newest == now)
}

/// Drops the files before the last `lines` entries; the offset of the first entry in the file that is left.
fn skip_to_tail(files: &mut VecDeque<Segment>, lines: u64) -> io::Result<u64> {
    let mut missing = lines;
    let mut block = vec![0; BLOCK];
    for at in (0..files.len()).rev() {
        let file = files[at].file()?;
        let length = file.metadata()?.len();
        let mut end = length;
        let mut first = true;
        while end > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let read = &mut block[..(end - start) as usize];
            file.read_exact_at(read, start)?;
            for (place, _) in read.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                // The newline at the very end closes the last entry; each other one stands before an entry.
                if std::mem::take(&mut first) && start + place as u64 + 1 == length && missing > 0 {
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
        if length > 0 {
            missing = missing.saturating_sub(1);
            if missing == 0 && lines > 0 {
                files.drain(..at);
                return Ok(0);
            }
        }
    }
    Ok(0)
}
