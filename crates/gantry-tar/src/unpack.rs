//! An archive into a directory, by the rules of `docker cp` (go-archive's `Unpack`, held against Docker 28.5.2), while
//! somebody else may change the directory: every parent is found by openat2, the directory being its `/`, and what was
//! made is completed by its descriptor.

use crate::content::{copy_content, remove_tree, times};
use crate::error::{Error, Result, at};
use crate::reader::{Entry, Kind, TarReader};
use crate::root::{self, Root, clean};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags, chownat, fchmod,
    fchown, futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const CHUNK: usize = 128 << 10;

/// Who is to own what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the archive says.
    Archive,
    /// This user and group.
    Fixed(u32, u32),
    /// Whoever unpacks.
    Unpacker,
}

/// Where links in the way of an entry may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Anywhere below the directory, which is `/` to them.
    Inside,
    /// Nowhere: an entry behind a link is refused.
    Nowhere,
}

/// Renames what the archive has: a name that begins with the first gets the second instead of it.
pub type Rename = (Vec<u8>, Vec<u8>);

/// How an archive is unpacked.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory is not replaced by something else, nor the other way round.
    pub keep_kind: bool,
    pub owner: Owner,
    pub links: Links,
    pub rename: Option<Rename>,
}

/// Unpacks into a directory; `shown` is its path in messages.
pub fn unpack(archive: &mut dyn Read, dest: &Root, shown: &[u8], options: &Options) -> Result<()> {
    let resolve = match options.links {
        Links::Inside => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        Links::Nowhere => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    };
    let mut unpacker = Unpacker {
        dest,
        shown,
        resolve,
        options,
        parent: None,
        dirs: Vec::new(),
        chunk: vec![0; CHUNK],
    };
    let mut tar = TarReader::new(archive);
    while let Some(mut entry) = tar.next_entry().map_err(Error::Archive)? {
        unpacker.entry(&mut entry, &mut tar)?;
    }
    unpacker.set_times()?;
    // Whoever sends the archive is still sending the padding.
    tar.finish().map_err(Error::Archive)
}

struct Unpacker<'a> {
    dest: &'a Root,
    shown: &'a [u8],
    resolve: ResolveFlags,
    options: &'a Options,
    /// The directory of the last entry, which is the next one's more often than not.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories' times, set last, since what is made in them changes them.
    dirs: Vec<(Vec<u8>, (i64, u32))>,
    chunk: Vec<u8>,
}

fn quoted(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], OsStr::from_bytes(&path[at + 1..])),
        None => (b"", OsStr::from_bytes(path)),
    }
}

/// Go's `strings.Replace(name, old, new, 1)` for names that begin with it.
fn renamed(name: &[u8], rename: &Rename) -> Vec<u8> {
    let (old, new) = rename;
    match name.strip_prefix(&old[..]) {
        Some(rest) => [&new[..], rest].concat(),
        None => name.to_vec(),
    }
}

impl Unpacker<'_> {
    fn at<T, E: Into<io::Error>>(
        &self,
        result: std::result::Result<T, E>,
        operation: &'static str,
        path: &[u8],
    ) -> Result<T> {
        at(result, operation, path)
    }

    /// A name of the archive as a path below the destination; empty for the destination itself.
    fn inside(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name.contains(&0) {
            return Err(Error::Refused("invalid argument".to_owned()));
        }
        // What is absolute is so below the directory, and may not go up from there either.
        let from = name.iter().position(|b| *b != b'/').unwrap_or(name.len());
        let cleaned = clean(&name[from..]);
        if cleaned == b".." || cleaned.starts_with(b"../") {
            let text = format!("invalid entry name {}", quoted(name));
            return Err(Error::Refused(text));
        }
        Ok(if cleaned == b"." { Vec::new() } else { cleaned })
    }

    fn entry(&mut self, entry: &mut Entry, data: &mut dyn Read) -> Result<()> {
        if entry.kind == Kind::Other {
            return Ok(());
        }
        if let Some(rename) = &self.options.rename {
            entry.path = renamed(&entry.path, rename);
            if entry.kind == Kind::Link {
                entry.link = renamed(&entry.link, rename);
            }
        }
        let path = self.inside(&entry.path)?;
        if path.is_empty() {
            // The destination is there, and stays as it is.
            return Ok(());
        }
        let (parent, name) = split(&path);
        let dir = self.directory(parent, &path)?;
        if let Some(there) = self.there(&dir, name, &path)? {
            self.make_room(entry, &dir, name, &path, &there)?;
        }
        self.make(entry, data, &dir, name, &path)?;
        self.parent = Some((parent.to_vec(), dir));
        Ok(())
    }

    fn there(&self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<Option<Stat>> {
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => self.at(other, "statat", path).map(Some),
        }
    }

    fn not_over(&self, directory: bool, path: &[u8]) -> Error {
        let (place, dest) = (quoted(path), quoted(self.shown));
        Error::Refused(if directory {
            format!("cannot overwrite directory {place} with non-directory {dest}")
        } else {
            format!("cannot overwrite non-directory {place} with directory {dest}")
        })
    }

    /// What is there goes, unless both are directories.
    fn make_room(
        &self,
        entry: &Entry,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        there: &Stat,
    ) -> Result<()> {
        let is_dir = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        let both = is_dir && entry.kind == Kind::Dir;
        if self.options.keep_kind && !both && (is_dir || entry.kind == Kind::Dir) {
            return Err(self.not_over(is_dir, path));
        }
        if both {
            return Ok(());
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.at(remove_tree(dir, name), "unlinkat", path),
            Err(error) => self.at(Err(error), "unlinkat", path),
        }
    }

    fn open_dir(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        root::open(self.dest, path, flags, self.resolve)
    }

    /// A directory below the destination, made with its parents where it is not there.
    fn directory(&mut self, path: &[u8], entry: &[u8]) -> Result<OwnedFd> {
        if let Some((last, fd)) = self.parent.take()
            && last == path
        {
            return Ok(fd);
        }
        match self.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error)
                if self.options.links == Links::Nowhere
                    && Errno::from_io_error(&error) == Some(Errno::LOOP) =>
            {
                let text = format!("{} is behind a link", quoted(path));
                return Err(Error::Refused(text));
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
                return self.at(Err(error), "statat", path);
            }
            other => return self.at(other, "openat", entry),
        }
        // A link may lead to what is not there yet, as long as it is inside.
        let real = match self.options.links {
            Links::Inside => self.at(self.dest.resolved(path), "statat", path)?,
            Links::Nowhere => path.to_vec(),
        };
        let real = real.strip_prefix(b"/").unwrap_or(&real);
        let ends = real.iter().enumerate().filter(|(_, b)| **b == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([real.len()]).collect();
        for end in ends {
            let (parent, name) = split(&real[..end]);
            let parent = self.at(self.open_dir(parent), "openat", entry)?;
            match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => continue,
                other => self.at(other, "mkdirat", &real[..end])?,
            }
            let made = self.at(open_made(&parent, name), "openat", entry)?;
            self.at(fchmod(&made, Mode::from_raw_mode(0o755)), "chmodat", real)?;
        }
        self.at(self.open_dir(path), "openat", entry)
    }

    fn make(
        &mut self,
        entry: &Entry,
        data: &mut dyn Read,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        match entry.kind {
            Kind::Dir => self.make_dir(entry, dir, name, path),
            Kind::File => self.make_file(entry, data, dir, name, path),
            Kind::Link => self.make_link(entry, dir, name, path),
            Kind::Symlink => self.make_symlink(entry, dir, name, path),
            _ => self.make_node(entry, dir, name, path),
        }
    }

    fn make_dir(&mut self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        match mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {}
            other => self.at(other, "mkdirat", path)?,
        }
        let made = self.at(open_made(dir, name), "openat", path)?;
        self.decorate(entry, &made, path)?;
        self.dirs.push((path.to_vec(), entry.time));
        Ok(())
    }

    fn make_file(
        &mut self,
        entry: &Entry,
        data: &mut dyn Read,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(dir, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(self.at(made, "openat", path)?);
        let copied = copy_content(entry, data, &mut file, &mut self.chunk);
        let written = copied.map_err(Error::Archive)?;
        self.at(written, "write", path)?;
        let file = OwnedFd::from(file);
        self.decorate(entry, &file, path)?;
        self.at(futimens(&file, &times(entry.time)), "chtimesat", path)
    }

    fn make_link(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let refuse = || {
            let target = quoted(&entry.link);
            Error::Refused(format!("invalid hardlink target {target}"))
        };
        let target = self.inside(&entry.link).map_err(|_| refuse())?;
        let (parent, file) = split(&target);
        if file.is_empty() {
            return Err(refuse());
        }
        let from = self.at(self.open_dir(parent), "linkat", path)?;
        let linked = linkat(&from, file, dir, name, AtFlags::empty());
        self.at(linked, "linkat", path)
    }

    fn make_symlink(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        // Wherever it leads: nothing is unpacked through it but what is inside.
        let made = symlinkat(OsStr::from_bytes(&entry.link), dir, name);
        self.at(made, "symlinkat", path)?;
        if let Some((uid, gid)) = self.owner(entry) {
            let done = chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            self.at(done, "lchownat", path)?;
        }
        let done = utimensat(dir, name, &times(entry.time), AtFlags::SYMLINK_NOFOLLOW);
        self.at(done, "chtimesat", path)
    }

    fn make_node(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = match kind {
            FileType::Fifo => 0,
            _ => makedev(entry.device.0, entry.device.1),
        };
        let mode = Mode::from_raw_mode(0o600);
        self.at(mknodat(dir, name, kind, mode, device), "mknodat", path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.at(openat(dir, name, flags, Mode::empty()), "openat", path)?;
        // Somebody may have put something else in its place.
        let stat = self.at(statat(&made, "", AtFlags::EMPTY_PATH), "statat", path)?;
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Ok(());
        }
        let itself = format!("/proc/self/fd/{}", made.as_raw_fd());
        if let Some((uid, gid)) = self.owner(entry) {
            let done = chownat(&made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH);
            self.at(done, "lchownat", path)?;
        }
        let mode = Mode::from_raw_mode(entry.mode);
        self.at(rustix::fs::chmod(&*itself, mode), "chmodat", path)?;
        let (here, follow) = (rustix::fs::CWD, AtFlags::empty());
        let done = utimensat(here, &*itself, &times(entry.time), follow);
        self.at(done, "chtimesat", path)
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        let (uid, gid) = match self.options.owner {
            Owner::Archive => (entry.uid, entry.gid),
            Owner::Fixed(uid, gid) => (uid, gid),
            Owner::Unpacker => return None,
        };
        Some((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    /// Owner, then mode (a change of owner takes the setuid bit away), then extended attributes.
    fn decorate(&self, entry: &Entry, made: &OwnedFd, path: &[u8]) -> Result<()> {
        if let Some((uid, gid)) = self.owner(entry) {
            self.at(fchown(made, Some(uid), Some(gid)), "lchownat", path)?;
        }
        let mode = Mode::from_raw_mode(entry.mode);
        self.at(fchmod(made, mode), "chmodat", path)?;
        for (key, value) in &entry.xattrs {
            if key.starts_with(b"trusted.overlay.") || key.contains(&0) || key.is_empty() {
                continue;
            }
            let key = OsStr::from_bytes(key);
            match rustix::fs::fsetxattr(made, key, value, XattrFlags::empty()) {
                // The file system may not know the attribute, nor may everybody set it.
                Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
                other => self.at(other, "lsetxattr", path)?,
            }
        }
        Ok(())
    }

    fn set_times(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.dirs).into_iter().rev() {
            // A later entry, or somebody else, may have replaced it.
            if let Ok(dir) = self.open_dir(&path) {
                self.at(futimens(&dir, &times(time)), "chtimesat", &path)?;
            }
        }
        Ok(())
    }
}

/// A directory that was there or made a moment ago; no link in its place is followed.
fn open_made(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests;
