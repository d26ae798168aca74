//! A layer's tar into a directory: the layer's whiteouts become overlay's, and nothing leaves the directory.
//!
//! Every path is resolved by openat2 with RESOLVE_IN_ROOT below the layer's root, whatever links the archive has made.

use crate::layers::{Hashed, Recorder, Sharer, Sharing};
use crate::whiteouts::{is_overlays, is_whiteout, make_opaque, make_whiteout};
use crate::{At, Result, StoreError};
use gantry_tar::{Entry, Kind, TarReader, copy_content, times};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, chmodat, chownat, linkat,
    makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

type Archive<'a> = TarReader<Recorder<&'a mut dyn Read>>;

/// Where a layer goes.
pub(crate) struct Place<'a> {
    /// An empty folder, for its files.
    pub(crate) tree: &'a Path,
    /// What becomes a folder with what it takes to write the archive again.
    pub(crate) recipe: &'a Path,
    /// How files are shared with other layers.
    pub(crate) sharing: Option<&'a Sharing>,
}

/// Unpacks an archive and reads it to its end. The answer is the sum of the files' sizes.
pub(crate) fn unpack(reader: &mut dyn Read, place: &Place<'_>) -> Result<u64> {
    let (dir, recipe) = (place.tree, place.recipe);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).at("cannot open", dir)?;
    let recorder = Recorder::new(reader, recipe).at("cannot write", recipe)?;
    let mut archive = TarReader::new(recorder);
    let sharer = place
        .sharing
        .map(|sharing| Sharer::new(sharing, dir, recipe));
    let mut unpacker = Unpacker {
        root,
        dir,
        parent: None,
        times: Vec::new(),
        total: 0,
        chunk: vec![0; 128 << 10],
        sharer: sharer.transpose().at("cannot write", recipe)?,
    };
    let unpacked = unpacker.all(&mut archive);
    if let Some(error) = archive.source().failure() {
        return Err(error).at("cannot write", recipe);
    }
    unpacked?;
    archive.into_source().finish().at("cannot write", recipe)?;
    if let Some(sharer) = unpacker.sharer {
        sharer.finish().at("cannot write", recipe)?;
    }
    Ok(unpacker.total)
}

fn broken(error: io::Error) -> StoreError {
    StoreError::Invalid(format!("invalid tar archive: {error}"))
}

fn hostile(what: &str, path: &[u8]) -> StoreError {
    StoreError::Invalid(format!(
        "invalid tar archive: {what}: {}",
        String::from_utf8_lossy(path)
    ))
}

struct Unpacker<'a> {
    root: OwnedFd,
    dir: &'a Path,
    /// The directory of the last entry, which is the next one's more often than not.
    parent: Option<Parent>,
    /// Directories' times, set last, since what is made in them changes them.
    times: Vec<(Vec<u8>, (i64, u32))>,
    total: u64,
    sharer: Option<Sharer<'a>>,
    chunk: Vec<u8>,
}

/// A directory that entries are made in.
struct Parent {
    /// As the archive calls it.
    asked: Vec<u8>,
    /// Below the root, through no link.
    path: Vec<u8>,
    fd: OwnedFd,
    /// What is made in it gets its group.
    setgid: bool,
}

impl Parent {
    fn child(&self, name: &OsStr) -> Vec<u8> {
        match self.path.as_slice() {
            b"" => name.as_bytes().to_vec(),
            path => [path, b"/", name.as_bytes()].concat(),
        }
    }
}

/// `a/b` of `./a//b/`; nothing of the root itself. `..` is nobody's honest wish.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(hostile("a path leads out of the root", path)),
            part if part.contains(&0) => return Err(hostile("a path has a NUL byte", path)),
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Ok(out)
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], OsStr::from_bytes(&path[at + 1..])),
        None => (b"", OsStr::from_bytes(path)),
    }
}

impl Unpacker<'_> {
    /// What the archive itself is to blame for is its fault; all else is the file system's.
    fn io<T, E: Into<io::Error>>(
        &self,
        result: std::result::Result<T, E>,
        path: &[u8],
    ) -> Result<T> {
        result.map_err(Into::into).or_else(|error| {
            let fault = match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => "its parent is no directory",
                Some(Errno::EXIST | Errno::ISDIR) => "something is there already",
                Some(Errno::LOOP) => "too many links",
                Some(Errno::NAMETOOLONG) => "the name is too long",
                Some(Errno::MLINK) => "too many hard links",
                _ => {
                    let place = self.dir.join(OsStr::from_bytes(path));
                    return Err(error).at("cannot unpack", &place);
                }
            };
            Err(hostile(fault, path))
        })
    }

    fn all(&mut self, archive: &mut Archive<'_>) -> Result<()> {
        while let Some(entry) = archive.next_entry().map_err(broken)? {
            self.entry(&entry, archive)?;
        }
        self.set_times()?;
        // The padding is part of what is hashed.
        archive.finish().map_err(broken)
    }

    fn entry(&mut self, entry: &Entry, archive: &mut Archive<'_>) -> Result<()> {
        if entry.kind == Kind::Other {
            return Ok(());
        }
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Dir => self.root_entry(entry),
                _ => Err(hostile("an entry without a name", &entry.path)),
            };
        }
        let (parent, name) = split(&path);
        let dir = self.directory(parent)?;
        match name.as_bytes().strip_prefix(WHITEOUT) {
            Some(hidden) => self.whiteout(&dir.fd, name, hidden, &path)?,
            None => self.make(entry, archive, &dir, name, &path)?,
        }
        self.parent = Some(dir);
        Ok(())
    }

    /// A whiteout hides what the layers below have, never what this one has, whichever comes first
    /// (image spec, layer.md, "Whiteouts").
    fn whiteout(&self, dir: &OwnedFd, name: &OsStr, hidden: &[u8], path: &[u8]) -> Result<()> {
        if name.as_bytes() == OPAQUE {
            return self.io(make_opaque(dir), path);
        }
        if hidden.starts_with(WHITEOUT) {
            // Other marks of aufs mean nothing here.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(hostile("a whiteout of nothing", path));
        }
        let hidden = OsStr::from_bytes(hidden);
        match statat(dir, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => self.io(make_whiteout(dir, hidden), path),
            Err(error) => self.io(Err(error), path),
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let own = self.io(openat(dir, hidden, flags, Mode::empty()), path)?;
                self.io(make_opaque(&own), path)
            }
            Ok(_) => Ok(()),
        }
    }

    fn make(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_>,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let device = || makedev(entry.device.0, entry.device.1);
        let (kind, device) = match entry.kind {
            Kind::Dir => return self.make_dir(entry, archive, dir, name, path),
            Kind::Link => return self.make_link(entry, archive, dir, name, path),
            Kind::File => return self.make_file(entry, archive, dir, name, path),
            Kind::Symlink => {
                self.clear(archive, dir, name, path)?;
                match symlinkat(OsStr::from_bytes(&entry.link), &dir.fd, name) {
                    Err(Errno::NOENT) => return Err(hostile("a link without a target", path)),
                    other => self.io(other, path)?,
                }
                return self.decorate_and_date(entry, dir, name, path);
            }
            Kind::Char => (FileType::CharacterDevice, device()),
            Kind::Block => (FileType::BlockDevice, device()),
            _ => (FileType::Fifo, 0),
        };
        self.clear(archive, dir, name, path)?;
        let mode = Mode::from_raw_mode(entry.mode);
        self.io(mknodat(&dir.fd, name, kind, mode, device), path)?;
        self.decorate_and_date(entry, dir, name, path)
    }

    fn decorate_and_date(
        &self,
        entry: &Entry,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        self.decorate(entry, &dir.fd, name, path)?;
        let times = times(entry.time);
        self.io(
            utimensat(&dir.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW),
            path,
        )
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        let root = self.io(rustix::io::fcntl_dupfd_cloexec(&self.root, 3), b".")?;
        self.decorate(entry, &root, OsStr::new("."), b".")?;
        self.times.push((Vec::new(), entry.time));
        Ok(())
    }

    /// Opens a directory below the root, and says whether links led there.
    fn open_dir(&self, path: &[u8]) -> std::result::Result<(OwnedFd, bool), Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let open = |resolve| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let path = OsStr::from_bytes(path);
            openat2(&self.root, path, flags, Mode::empty(), resolve)
        };
        match open(ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {
                let fd = open(ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
                Ok((fd, true))
            }
            other => other.map(|fd| (fd, false)),
        }
    }

    /// Where a directory below the root is, whatever links led there.
    fn path_of(&self, dir: &OwnedFd) -> io::Result<Vec<u8>> {
        let place = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            std::fs::read_link(link)
        };
        let (root, place) = (place(&self.root)?, place(dir)?);
        let below = place.strip_prefix(&root).map_err(io::Error::other)?;
        Ok(below.as_os_str().as_bytes().to_vec())
    }

    fn opened(&self, asked: &[u8], (fd, linked): (OwnedFd, bool)) -> Result<Parent> {
        let stat = self.io(rustix::fs::fstat(&fd), asked)?;
        let path = match linked {
            true => self.io(self.path_of(&fd), asked)?,
            false => asked.to_vec(),
        };
        Ok(Parent {
            asked: asked.to_vec(),
            path,
            fd,
            setgid: stat.st_mode & 0o2000 != 0,
        })
    }

    /// A directory below the root, made with its parents where the archive did not.
    fn directory(&mut self, path: &[u8]) -> Result<Parent> {
        if let Some(last) = self.parent.take()
            && last.asked == path
        {
            return Ok(last);
        }
        match self.open_dir(path) {
            // A whiteout may be in the way, too.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            other => return self.opened(path, self.io(other, path)?),
        }
        let mut end = 0;
        while end < path.len() {
            let next = path[end + 1..]
                .iter()
                .position(|b| *b == b'/')
                .map_or(path.len(), |at| end + 1 + at);
            let (parent, name) = split(&path[..next]);
            let (parent, _) = self.io(self.open_dir(parent), path)?;
            if self.new_dir(&parent, name, path)? {
                let mode = Mode::from_raw_mode(0o755);
                self.io(chmodat(&parent, name, mode, AtFlags::empty()), path)?;
            }
            end = next;
        }
        self.opened(path, self.io(self.open_dir(path), path)?)
    }

    /// Makes a directory, which hides what is below where this layer has a whiteout of its name; false when
    /// something else has the name.
    fn new_dir(&self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<bool> {
        let mode = Mode::from_raw_mode(0o700);
        match mkdirat(dir, name, mode) {
            Err(Errno::EXIST) => {}
            other => return self.io(other, path).map(|()| true),
        }
        let there = self.io(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW), path)?;
        if !is_whiteout(there.st_mode, there.st_rdev) {
            return Ok(false);
        }
        self.io(unlinkat(dir, name, AtFlags::empty()), path)?;
        self.io(mkdirat(dir, name, mode), path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.io(openat(dir, name, flags, Mode::empty()), path)?;
        self.io(make_opaque(&made), path)?;
        Ok(true)
    }

    /// Takes out of the way what an earlier entry of the same name made. Files and folders are put aside: the archive
    /// cannot be written again without what is in them.
    fn clear(
        &self,
        archive: &mut Archive<'_>,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let there = match statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => self.io(other, path)?,
        };
        match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                let place = dir.child(name);
                self.io(archive.source().put_aside(&dir.fd, name, &place), path)
            }
            _ => self.io(unlinkat(&dir.fd, name, AtFlags::empty()), path),
        }
    }

    fn make_dir(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_>,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        if !self.new_dir(&dir.fd, name, path)? {
            let there = self.io(statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW), path)?;
            if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                self.clear(archive, dir, name, path)?;
                self.new_dir(&dir.fd, name, path)?;
            }
        }
        self.decorate(entry, &dir.fd, name, path)?;
        self.times.push((path.to_vec(), entry.time));
        Ok(())
    }

    fn make_file(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<'_>,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(&dir.fd, name, flags, Mode::from_raw_mode(0o600));
        let opened = match open() {
            Err(Errno::EXIST) => {
                self.clear(archive, dir, name, path)?;
                open()
            }
            other => other,
        };
        let mut file = File::from(self.io(opened, path)?);
        let whole = [(0, entry.size)];
        archive.source().begin_content();
        let wanted = self.sharer.as_ref().is_some_and(|s| s.wants(entry));
        let mut data = Hashed::new(archive, wanted);
        let copied = copy_content(entry, &mut data, &mut file, &mut self.chunk).map_err(broken)?;
        let content = data.finish();
        let parts = entry.segments.as_deref().unwrap_or(&whole);
        let noted = archive.source().end_content(&dir.child(name), parts);
        self.io(copied, path)?;
        self.io(noted, path)?;
        self.total = self.total.saturating_add(entry.size);
        if let (Some(sharer), Some(content)) = (&mut self.sharer, content) {
            let shared = sharer.file(entry, &content, (&file, &dir.fd, name), &dir.child(name));
            if self.io(shared, path)? {
                return Ok(());
            }
        }
        if (entry.uid, entry.gid) != (0, 0) || dir.setgid {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            self.io(rustix::fs::fchown(&file, Some(uid), Some(gid)), path)?;
        }
        let mode = Mode::from_raw_mode(entry.mode);
        self.io(rustix::fs::fchmod(&file, mode), path)?;
        self.attributes(entry, &dir.fd, name, path)?;
        self.io(rustix::fs::futimens(&file, &times(entry.time)), path)
    }

    fn make_link(
        &self,
        entry: &Entry,
        archive: &mut Archive<'_>,
        dir: &Parent,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let target = clean(&entry.link)?;
        if target == path {
            // A link to itself: what is there stays.
            return match statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(()),
                Err(_) => Err(hostile("a hard link to what is not there", path)),
            };
        }
        let (parent, target_name) = split(&target);
        let from = match self.open_dir(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(hostile("a hard link to what is not there", path));
            }
            other => self.io(other, path)?.0,
        };
        let link = || linkat(&from, target_name, &dir.fd, name, AtFlags::empty());
        let linked = match link() {
            Err(Errno::EXIST) => {
                self.clear(archive, dir, name, path)?;
                link()
            }
            other => other,
        };
        match linked {
            Err(Errno::NOENT) => Err(hostile("a hard link to what is not there", path)),
            Err(Errno::PERM) => Err(hostile("a hard link to a directory", path)),
            other => self.io(other, path),
        }
    }

    /// Owner, then mode (a change of owner takes the setuid bit away), then extended attributes.
    fn decorate(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        self.io(
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW),
            path,
        )?;
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_raw_mode(entry.mode);
            self.io(chmodat(dir, name, mode, AtFlags::empty()), path)?;
        }
        self.attributes(entry, dir, name, path)
    }

    fn attributes(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        for (key, value) in &entry.xattrs {
            // Those of overlay itself are nothing for an image to set.
            if is_overlays(key) || key.contains(&0) || key.is_empty() {
                continue;
            }
            let place = Path::new("/proc/self/fd")
                .join(dir.as_raw_fd().to_string())
                .join(name);
            let key = OsStr::from_bytes(key);
            match rustix::fs::lsetxattr(&place, key, value, XattrFlags::empty()) {
                // As Docker: the file system may not know the attribute, nor have it on this kind of file.
                Err(Errno::NOTSUP | Errno::PERM) => {}
                other => self.io(other, path)?,
            }
        }
        Ok(())
    }

    fn set_times(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            match self.open_dir(&path) {
                Ok((dir, _)) => self.io(rustix::fs::futimens(&dir, &times(time)), &path)?,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return self.io(Err(error), &path),
            }
        }
        Ok(())
    }
}
