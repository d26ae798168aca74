//! A tree into an archive, from descriptor to descriptor: what is a directory now may be a link in a moment, and a file a
//! device. Only what was seen to be a regular file is ever opened for reading.
//!
//! As Docker (moby's go-archive): names in order, times in whole seconds, no sockets, hard links by their first name.
//! COMPAT: beside `security.capability`, which is all that Docker takes, `user.` attributes go along.

use crate::error::{Error, Result, at};
use crate::reader::{Entry, Kind};
use crate::root;
use crate::writer::TarWriter;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, major, minor, openat,
    readlinkat, seek, statat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const CHUNK: usize = 256 << 10;
/// Directories that are kept open on the way down; those above are opened again on the way up.
const OPEN_LEVELS: usize = 64;
/// Longest list of attributes' names, and longest value, bytes.
const LONGEST_XATTR: usize = 64 << 10;
const OPAQUE: &str = "trusted.overlay.opaque";

/// What a tree's archive is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Overlay's whiteouts become a layer's (`.wh.NAME`).
    pub whiteouts: bool,
    /// Told of what cannot be opened, which is left out then; without it that is the end.
    pub skipped: Option<fn(&Error)>,
}

/// An archive in the making.
#[derive(Debug)]
pub struct Packer<W: Write> {
    tar: TarWriter<W>,
    options: Options,
    /// First names of files that have several.
    links: HashMap<(u64, u64), Vec<u8>>,
    chunk: Vec<u8>,
}

/// One directory on the way down.
struct Level {
    fd: Option<OwnedFd>,
    /// From the tree's root.
    path: Vec<u8>,
    names: std::vec::IntoIter<OsString>,
}

impl<W: Write> Packer<W> {
    pub fn new(to: W, options: Options) -> Self {
        Self {
            tar: TarWriter::new(to),
            options,
            links: HashMap::new(),
            chunk: vec![0; CHUNK],
        }
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<W> {
        self.tar.finish().map_err(Error::Write)
    }

    /// A directory and all below it. `prefix` is what names in it begin with (`a/`, `./`, or nothing); it is the
    /// directory's own name, too, which has an entry unless it is empty.
    pub fn directory(&mut self, dir: OwnedFd, prefix: &[u8]) -> Result<()> {
        if !prefix.is_empty() {
            let stat = at(rustix::fs::fstat(&dir), "lstat", prefix)?;
            let mut entry = entry_of(&stat, Kind::Dir, prefix.to_vec());
            entry.xattrs = xattrs(&dir);
            self.write_header(&entry)?;
        }
        let root = at(rustix::io::fcntl_dupfd_cloexec(&dir, 3), "dup", prefix)?;
        let first = Level {
            names: at(names(&dir), "open", prefix)?.into_iter(),
            fd: Some(dir),
            path: Vec::new(),
        };
        let mut levels = vec![first];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            if level.fd.is_none() {
                level.fd = open_again(&root, &level.path)?;
            }
            let Some(dir) = &level.fd else {
                levels.pop();
                continue;
            };
            let path = below(&level.path, &name);
            let below = self.entry(dir, &name, [prefix, &path[..]].concat())?;
            if let Some((fd, names)) = below {
                let at = levels.len();
                if at >= OPEN_LEVELS {
                    levels[at - OPEN_LEVELS].fd = None;
                }
                levels.push(Level {
                    fd: Some(fd),
                    path,
                    names: names.into_iter(),
                });
            }
        }
        Ok(())
    }

    /// One name of a directory, as `name` in the archive; a link is packed as a link.
    pub fn one(&mut self, dir: &OwnedFd, entry: &OsStr, name: &[u8]) -> Result<()> {
        self.entry(dir, entry, name.to_vec()).map(drop)
    }

    /// Hides a name of the layers below (image spec, layer.md, "Whiteouts").
    pub fn hide(&mut self, name: &[u8]) -> Result<()> {
        self.whiteout(Entry {
            kind: Kind::Char,
            path: name.to_vec(),
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            time: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            segments: None,
        })
    }

    fn write_header(&mut self, entry: &Entry) -> Result<()> {
        self.tar.entry(entry).map_err(Error::Write)
    }

    /// Packs a name; of a directory gives what is in it. What has gone meanwhile is left out.
    fn entry(
        &mut self,
        dir: &OwnedFd,
        file: &OsStr,
        name: Vec<u8>,
    ) -> Result<Option<(OwnedFd, Vec<OsString>)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pinned = match openat(dir, file, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => at(other, "lstat", &name)?,
        };
        let stat = at(statat(&pinned, "", AtFlags::EMPTY_PATH), "lstat", &name)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(None),
        };
        if kind == Kind::Dir {
            return self.enter(&pinned, &stat, name);
        }
        let mut entry = entry_of(&stat, kind, name);
        if self.options.whiteouts && kind == Kind::Char && stat.st_rdev == 0 {
            return self.whiteout(entry).map(|()| None);
        }
        if kind == Kind::Symlink {
            let target = at(readlinkat(&pinned, "", Vec::new()), "readlink", &entry.path)?;
            entry.link = target.into_bytes();
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                entry.kind = Kind::Link;
                entry.link.clone_from(first);
                entry.size = 0;
                return self.write_header(&entry).map(|()| None);
            }
            self.links.insert(inode, entry.path.clone());
        }
        if kind == Kind::File {
            let opened = reopen(&pinned, OFlags::RDONLY | OFlags::NONBLOCK);
            let file = match at(opened, "open", &entry.path) {
                Err(error) => return self.skip(error),
                Ok(file) => file,
            };
            entry.xattrs = xattrs(&file);
            self.write_header(&entry)?;
            self.content(file, &stat, &entry.path)?;
        } else {
            self.write_header(&entry)?;
        }
        Ok(None)
    }

    fn skip<T>(&self, error: Error) -> Result<Option<T>> {
        let Some(tell) = self.options.skipped else {
            return Err(error);
        };
        tell(&error);
        Ok(None)
    }

    fn enter(
        &mut self,
        pinned: &OwnedFd,
        stat: &Stat,
        mut name: Vec<u8>,
    ) -> Result<Option<(OwnedFd, Vec<OsString>)>> {
        let opened = reopen(pinned, OFlags::RDONLY | OFlags::DIRECTORY);
        let dir = match at(opened, "open", &name) {
            Err(error) => return self.skip(error),
            Ok(dir) => dir,
        };
        name.push(b'/');
        let mut entry = entry_of(stat, Kind::Dir, name);
        entry.xattrs = xattrs(&dir);
        self.write_header(&entry)?;
        if self.options.whiteouts && is_opaque(&dir) {
            entry.path.extend(b".wh..wh..opq");
            entry.kind = Kind::File;
            entry.mode &= 0o777;
            entry.xattrs.clear();
            self.write_header(&entry)?;
        }
        let names = at(names(&dir), "open", &entry.path)?;
        Ok(Some((dir, names)))
    }

    /// What hides a name of the layers below, as layers have it (image spec, layer.md, "Whiteouts").
    fn whiteout(&mut self, mut entry: Entry) -> Result<()> {
        let at = entry.path.iter().rposition(|b| *b == b'/');
        let at = at.map_or(0, |slash| slash + 1);
        entry.path.splice(at..at, *b".wh.");
        entry.kind = Kind::File;
        entry.mode = 0o600;
        entry.device = (0, 0);
        self.write_header(&entry)
    }

    /// Exactly as many bytes as the header says, whatever happens to the file meanwhile.
    fn content(&mut self, file: OwnedFd, stat: &Stat, path: &[u8]) -> Result<()> {
        let size = stat.st_size.unsigned_abs();
        let sparse = stat.st_blocks.unsigned_abs() * 512 < size;
        let mut file = std::fs::File::from(file);
        let mut place = 0_u64;
        // Where the next hole begins, as far as that is known.
        let mut data_end = if sparse { 0 } else { size };
        while place < size {
            if sparse && place >= data_end {
                let (start, end) = next_data(&file, place, size);
                self.zeros(start - place)?;
                (place, data_end) = (start, end);
                continue;
            }
            let most = (data_end.min(size) - place).min(CHUNK as u64) as usize;
            match file.read(&mut self.chunk[..most]) {
                // It has been cut short.
                Ok(0) => return self.zeros(size - place),
                Ok(n) => {
                    let chunk = &self.chunk[..n];
                    self.tar.data(chunk).map_err(Error::Write)?;
                    place += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return at(Err(error), "read", path),
            }
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let n = count.min(ZEROS.len() as u64);
            self.tar.data(&ZEROS[..n as usize]).map_err(Error::Write)?;
            count -= n;
        }
        Ok(())
    }
}

/// The next stretch of data, whose beginning the file is at afterwards.
fn next_data(file: &std::fs::File, from: u64, size: u64) -> (u64, u64) {
    let start = match seek(file, SeekFrom::Data(from)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => size,
        // The file system does not tell.
        Err(_) => return (from, size),
    };
    let end = seek(file, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
    let _ = seek(file, SeekFrom::Start(start));
    // Whatever is said, there must be a way forward.
    (start, if end > start { end } else { size })
}

fn entry_of(stat: &Stat, kind: Kind, path: Vec<u8>) -> Entry {
    let device = match kind {
        Kind::Char | Kind::Block => (major(stat.st_rdev), minor(stat.st_rdev)),
        _ => (0, 0),
    };
    Entry {
        kind,
        path,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        time: (stat.st_mtime, 0),
        device,
        xattrs: Vec::new(),
        size: if kind == Kind::File {
            stat.st_size.unsigned_abs()
        } else {
            0
        },
        segments: None,
    }
}

/// Opens what a descriptor holds, and nothing else.
fn reopen(pinned: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A directory whose descriptor was let go; none when it is gone.
fn open_again(root: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let below = if path.is_empty() { b"." } else { path };
    match root::open(root.as_fd(), below, flags, resolve) {
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => at(Err(error), "open", path),
        },
        Ok(fd) => Ok(Some(fd)),
    }
}

fn below(path: &[u8], name: &OsStr) -> Vec<u8> {
    match path {
        b"" => name.as_bytes().to_vec(),
        path => [path, b"/", name.as_bytes()].concat(),
    }
}

fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    matches!(rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}

/// The attributes that go along; none where the file system has none.
fn xattrs(file: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut short = [0_u8; 512];
    let mut long = Vec::new();
    let names: &[u8] = match rustix::fs::flistxattr(file, &mut short[..]) {
        Ok(n) => &short[..n],
        Err(Errno::RANGE) => {
            long.resize(LONGEST_XATTR, 0);
            match rustix::fs::flistxattr(file, &mut long[..]) {
                Ok(n) => &long[..n],
                Err(_) => return Vec::new(),
            }
        }
        Err(_) => return Vec::new(),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0) {
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        let mut value = vec![0; LONGEST_XATTR];
        if let Ok(n) = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]) {
            value.truncate(n);
            found.push((name.to_vec(), value));
        }
    }
    found
}
