//! Recipes: what it takes, beside a layer's unpacked files, to write the very same tar again.
//!
//! While a layer is unpacked, a [`Recorder`] stands between the archive and its reader. What is no file's content
//! (headers, padding, the archive's end) is kept as it came; of content only the file's path, offset and length. A file
//! that a later entry of the same archive takes away is put aside instead of removed.
//!
//! ```text
//! recipe     zstd: 1 <u32 length> <bytes> | 2 <u32 length> <path> <u64 offset> <u64 length>   ... 0
//! moved      JSON: [[records before, path], ...], where something was put aside
//! aside/<n>  what the n-th of these was
//! ```

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of headers that are gathered before they are written.
const RAW: usize = 64 << 10;
/// Buffer for the files' content.
const CHUNK: usize = 256 << 10;
/// Headers compress well at any level.
const LEVEL: i32 = 1;
/// Paths beyond this are no recipe's.
const LONGEST_PATH: usize = 1 << 20;

const END: u8 = 0;
const RAW_BYTES: u8 = 1;
const CONTENT: u8 = 2;

/// Reads an archive and notes what passes.
pub(crate) struct Recorder<R> {
    from: R,
    dir: PathBuf,
    to: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    content: bool,
    records: u64,
    moved: Vec<(u64, Vec<u8>)>,
    /// Why the recipe cannot be written, which is not the archive's fault.
    failed: Option<io::Error>,
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        if !self.content {
            self.raw.extend_from_slice(&buffer[..n]);
            if self.raw.len() >= RAW {
                let flushed = self.flush();
                self.noted(flushed)?;
            }
        }
        Ok(n)
    }
}

impl<R: Read> Recorder<R> {
    /// Makes the recipe's folder.
    pub(crate) fn new(from: R, dir: &Path) -> io::Result<Self> {
        std::fs::create_dir(dir)?;
        let file = BufWriter::new(File::create(dir.join("recipe"))?);
        Ok(Self {
            from,
            dir: dir.to_owned(),
            to: zstd::stream::write::Encoder::new(file, LEVEL)?,
            raw: Vec::with_capacity(RAW + 4096),
            content: false,
            records: 0,
            moved: Vec::new(),
            failed: None,
        })
    }

    /// Why the recipe could not be written, where that is why reading failed.
    pub(crate) fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    fn noted(&mut self, done: io::Result<()>) -> io::Result<()> {
        done.map_err(|error| {
            let shown = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            shown
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        self.to.write_all(&[RAW_BYTES])?;
        self.to.write_all(&(self.raw.len() as u32).to_le_bytes())?;
        self.to.write_all(&self.raw)?;
        self.raw.clear();
        Ok(())
    }

    /// From here on comes a file's content, which the file will have.
    pub(crate) fn begin_content(&mut self) {
        self.content = true;
    }

    /// All of a file's content has passed: these parts of it, in this order. `path` is below the layer's root and
    /// leads through no link.
    pub(crate) fn end_content(&mut self, path: &[u8], parts: &[(u64, u64)]) -> io::Result<()> {
        self.content = false;
        let written = self.write_content(path, parts);
        self.noted(written)
    }

    fn write_content(&mut self, path: &[u8], parts: &[(u64, u64)]) -> io::Result<()> {
        self.flush()?;
        for (offset, length) in parts.iter().filter(|(_, length)| *length > 0) {
            self.to.write_all(&[CONTENT])?;
            self.to.write_all(&(path.len() as u32).to_le_bytes())?;
            self.to.write_all(path)?;
            self.to.write_all(&offset.to_le_bytes())?;
            self.to.write_all(&length.to_le_bytes())?;
            self.records += 1;
        }
        Ok(())
    }

    /// Puts aside what has this name, file or folder: the archive replaces it, and its content is still needed.
    pub(crate) fn put_aside(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> io::Result<()> {
        let aside = self.dir.join("aside");
        std::fs::create_dir_all(&aside)?;
        let place = aside.join(self.moved.len().to_string());
        rustix::fs::renameat(dir, name, rustix::fs::CWD, &place)?;
        self.moved.push((self.records, path.to_vec()));
        Ok(())
    }

    /// Completes the recipe.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.to.write_all(&[END])?;
        self.to.finish()?.flush()?;
        if !self.moved.is_empty() {
            let text = serde_json::to_vec(&self.moved)?;
            std::fs::write(self.dir.join("moved"), text)?;
        }
        Ok(())
    }
}

/// A recipe and the files that it tells of.
struct Replay {
    root: OwnedFd,
    dir: PathBuf,
    moved: Vec<(u64, Vec<u8>)>,
    records: u64,
    chunk: Vec<u8>,
    /// Many files have several parts.
    last: Option<(Vec<u8>, File)>,
}

/// Writes the tar whose recipe is in `dir` and whose files are in `tree`. Whether it is the very same, the caller finds
/// out by its digest.
pub(crate) fn replay(dir: &Path, tree: &Path, to: &mut dyn Write) -> io::Result<()> {
    let mut from =
        zstd::stream::read::Decoder::new(BufReader::new(File::open(dir.join("recipe"))?))?;
    let moved = match std::fs::read(dir.join("moved")) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut replay = Replay {
        root: rustix::fs::open(tree, flags, Mode::empty())?,
        dir: dir.to_owned(),
        moved,
        records: 0,
        chunk: vec![0; CHUNK],
        last: None,
    };
    loop {
        match number::<1>(&mut from)?[0] {
            END => return Ok(()),
            RAW_BYTES => {
                let length = u64::from(u32::from_le_bytes(number(&mut from)?));
                if io::copy(&mut (&mut from).take(length), to)? < length {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            CONTENT => {
                let length = u32::from_le_bytes(number(&mut from)?) as usize;
                if length > LONGEST_PATH {
                    return Err(broken("a path is too long"));
                }
                let mut path = vec![0; length];
                from.read_exact(&mut path)?;
                let offset = u64::from_le_bytes(number(&mut from)?);
                let length = u64::from_le_bytes(number(&mut from)?);
                replay.content(path, offset, length, to)?;
            }
            _ => return Err(broken("an unknown record")),
        }
    }
}

fn number<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the recipe has {what}"))
}

impl Replay {
    fn content(
        &mut self,
        path: Vec<u8>,
        mut offset: u64,
        mut left: u64,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let file = match self.last.take() {
            Some((last, file)) if last == path && self.moved.is_empty() => file,
            _ => self.open(&path)?,
        };
        self.records += 1;
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK, |n| n.min(CHUNK));
            let n = match file.read_at(&mut self.chunk[..most], offset) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            to.write_all(&self.chunk[..n])?;
            (offset, left) = (offset + n as u64, left - n as u64);
        }
        self.last = Some((path, file));
        Ok(())
    }

    /// The file that had this path when the present record was made.
    fn open(&self, path: &[u8]) -> io::Result<File> {
        let later = self.moved.iter().enumerate();
        let mut later = later.filter(|(_, (before, _))| *before > self.records);
        let moved = later.find_map(|(n, (_, from))| {
            let rest = path.strip_prefix(from.as_slice())?;
            (rest.is_empty() || rest[0] == b'/').then_some((n, rest))
        });
        let aside;
        let (root, path) = match moved {
            None => (&self.root, path.to_vec()),
            Some((n, rest)) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                aside = rustix::fs::open(self.dir.join("aside"), flags, Mode::empty())?;
                (&aside, [n.to_string().as_bytes(), rest].concat())
            }
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = openat2(
            root,
            OsStr::from_bytes(&path),
            flags,
            Mode::empty(),
            resolve,
        )?;
        Ok(File::from(file))
    }
}
