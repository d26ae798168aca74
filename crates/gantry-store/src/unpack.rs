//! A layer's tar into a directory: the layer's whiteouts become overlay's, and nothing leaves the directory.
//!
//! Every path is resolved by openat2 with RESOLVE_IN_ROOT below the layer's root, whatever links the archive has made.

use crate::overlay::{make_opaque, make_whiteout};
use crate::{At, Result, StoreError};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, linkat, makedev, mkdirat, mknodat, openat, openat2, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use tar::{Archive, Entry, EntryType};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR: &str = "SCHILY.xattr.";

/// Unpacks an archive and reads it to its end; the answer is the sum of the files' sizes.
pub(crate) fn unpack(reader: &mut dyn Read, dir: &Path) -> Result<u64> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty()).at("cannot open", dir)?;
    let mut unpacker = Unpacker {
        root,
        dir,
        parent: None,
        times: Vec::new(),
        total: 0,
        chunk: vec![0; 128 << 10],
    };
    let mut archive = Archive::new(&mut *reader);
    for entry in archive.entries().map_err(broken)? {
        unpacker.entry(entry.map_err(broken)?)?;
    }
    unpacker.set_times()?;
    let total = unpacker.total;
    // The padding is part of what is hashed.
    io::copy(reader, &mut io::sink()).map_err(broken)?;
    Ok(total)
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
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories' times, set last, since what is made in them changes them.
    times: Vec<(Vec<u8>, Timespec)>,
    total: u64,
    chunk: Vec<u8>,
}

/// What a header and its PAX records say of an entry.
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    time: Timespec,
    xattrs: Vec<(OsString, Vec<u8>)>,
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
    fn io<T, E: Into<io::Error>>(
        &self,
        result: std::result::Result<T, E>,
        path: &[u8],
    ) -> Result<T> {
        result.at("cannot unpack", &self.dir.join(OsStr::from_bytes(path)))
    }

    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if matches!(
            kind,
            EntryType::XGlobalHeader
                | EntryType::XHeader
                | EntryType::GNULongName
                | EntryType::GNULongLink
        ) {
            return Ok(());
        }
        let path = clean(&entry.path_bytes())?;
        let facts = facts(&mut entry)?;
        if path.is_empty() {
            if kind.is_dir() {
                self.root_entry(&facts)?;
            }
            return Ok(());
        }
        let (parent, name) = split(&path);
        let dir = self.directory(parent)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            let made = match hidden {
                _ if name.as_bytes() == OPAQUE => self.io(make_opaque(&dir), &path),
                // Other marks of aufs mean nothing here.
                _ if hidden.starts_with(WHITEOUT) => Ok(()),
                b"" | b"." | b".." => return Err(hostile("a whiteout of nothing", &path)),
                hidden => {
                    let hidden = OsStr::from_bytes(hidden);
                    self.clear(&dir, hidden, &path)?;
                    self.io(make_whiteout(&dir, hidden), &path)
                }
            };
            self.parent = Some((parent.to_vec(), dir));
            return made;
        }
        self.make(&mut entry, kind, &dir, name, &path, &facts)?;
        self.parent = Some((parent.to_vec(), dir));
        Ok(())
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        facts: &Facts,
    ) -> Result<()> {
        if kind.is_dir() {
            return self.make_dir(dir, name, path, facts);
        }
        self.clear(dir, name, path)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_file(entry, dir, name, path)?
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| hostile("a link without a target", path))?;
                self.io(symlinkat(OsStr::from_bytes(&target), dir, name), path)?;
            }
            EntryType::Link => return self.make_link(entry, dir, name, path),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
                let header = entry.header();
                let device = makedev(number(header.device_major()), number(header.device_minor()));
                let (kind, device) = match kind {
                    EntryType::Char => (FileType::CharacterDevice, device),
                    EntryType::Block => (FileType::BlockDevice, device),
                    _ => (FileType::Fifo, 0),
                };
                self.io(
                    mknodat(dir, name, kind, Mode::from_raw_mode(facts.mode), device),
                    path,
                )?;
            }
            _ => return Ok(()),
        }
        self.decorate(dir, name, path, facts, kind.is_symlink())?;
        let times = Timestamps {
            last_access: facts.time,
            last_modification: facts.time,
        };
        self.io(
            utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
            path,
        )
    }

    fn root_entry(&mut self, facts: &Facts) -> Result<()> {
        let done = rustix::fs::fchown(
            &self.root,
            Some(Uid::from_raw(facts.uid)),
            Some(Gid::from_raw(facts.gid)),
        )
        .and_then(|()| rustix::fs::fchmod(&self.root, Mode::from_raw_mode(facts.mode)));
        self.io(done, b".")?;
        self.times.push((Vec::new(), facts.time));
        Ok(())
    }

    fn open_dir(&self, path: &[u8]) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(
            &self.root,
            OsStr::from_bytes(path),
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// A directory below the root, made with its parents where the archive did not.
    fn directory(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((last, fd)) = self.parent.take()
            && last == path
        {
            return Ok(fd);
        }
        match self.open_dir(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP) => return Err(hostile("too many links", path)),
            other => return self.io(other, path),
        }
        let mut end = 0;
        while end < path.len() {
            let next = path[end + 1..]
                .iter()
                .position(|b| *b == b'/')
                .map_or(path.len(), |at| end + 1 + at);
            let (parent, name) = split(&path[..next]);
            let parent = self.io(self.open_dir(parent), path)?;
            match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return self.io(Err(error), path),
            }
            end = next;
        }
        self.io(self.open_dir(path), path)
    }

    /// Takes away what an earlier entry of the same name made.
    fn clear(&self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => self.io(remove_tree(dir, name), path),
            Err(error) => self.io(Err(error), path),
        }
    }

    fn make_dir(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], facts: &Facts) -> Result<()> {
        match mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => {
                let there = self.io(
                    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW),
                    path,
                )?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    self.clear(dir, name, path)?;
                    self.io(mkdirat(dir, name, Mode::from_raw_mode(0o700)), path)?;
                }
            }
            other => self.io(other, path)?,
        }
        self.decorate(dir, name, path, facts, false)?;
        self.times.push((path.to_vec(), facts.time));
        Ok(())
    }

    fn make_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(
            self.io(openat(dir, name, flags, Mode::from_raw_mode(0o600)), path)?,
        );
        let mut hole = false;
        loop {
            let n = match entry.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            self.total += n as u64;
            let chunk = &self.chunk[..n];
            // Nothing but zeros: a hole.
            hole = n >= 4096 && chunk.iter().all(|b| *b == 0);
            let written = if hole {
                file.seek(SeekFrom::Current(n as i64)).map(drop)
            } else {
                file.write_all(chunk)
            };
            self.io(written, path)?;
        }
        if hole {
            let end = self.io(file.stream_position(), path)?;
            self.io(file.set_len(end), path)?;
        }
        Ok(())
    }

    fn make_link<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
    ) -> Result<()> {
        let target = entry
            .link_name_bytes()
            .ok_or_else(|| hostile("a link without a target", path))?;
        let target = clean(&target)?;
        let (parent, target_name) = split(&target);
        let linked = self
            .open_dir(parent)
            .and_then(|from| linkat(&from, target_name, dir, name, AtFlags::empty()));
        match linked {
            Err(Errno::NOENT) => Err(hostile("a hard link to what is not there", path)),
            other => self.io(other, path),
        }
    }

    /// Owner, then mode (a change of owner takes the setuid bit away), then extended attributes.
    fn decorate(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &[u8],
        facts: &Facts,
        symlink: bool,
    ) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
        self.io(
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW),
            path,
        )?;
        if !symlink {
            self.io(
                chmodat(dir, name, Mode::from_raw_mode(facts.mode), AtFlags::empty()),
                path,
            )?;
        }
        for (key, value) in &facts.xattrs {
            let place = Path::new("/proc/self/fd")
                .join(dir.as_raw_fd().to_string())
                .join(name);
            match rustix::fs::lsetxattr(&place, key.as_os_str(), value, XattrFlags::empty()) {
                // As Docker: the file system may not know the attribute.
                Err(Errno::NOTSUP) => {}
                other => self.io(other, path)?,
            }
        }
        Ok(())
    }

    fn set_times(&mut self) -> Result<()> {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            match self.open_dir(&path) {
                Ok(dir) => self.io(rustix::fs::futimens(&dir, &times), &path)?,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return self.io(Err(error), &path),
            }
        }
        Ok(())
    }
}

/// Removes a directory with all that is in it, following nothing.
fn remove_tree(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    std::fs::remove_dir_all(
        Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name),
    )
}

fn facts<R: Read>(entry: &mut Entry<'_, R>) -> Result<Facts> {
    let header = entry.header();
    let id = |n: io::Result<u64>| n.map(|n| n as u32).map_err(broken);
    let mut facts = Facts {
        mode: header.mode().map_err(broken)? & 0o7777,
        uid: id(header.uid())?,
        gid: id(header.gid())?,
        time: Timespec {
            tv_sec: header.mtime().map_err(broken)? as i64,
            tv_nsec: 0,
        },
        xattrs: Vec::new(),
    };
    let Some(records) = entry.pax_extensions().map_err(broken)? else {
        return Ok(facts);
    };
    for record in records {
        let record = record.map_err(broken)?;
        let Ok(key) = record.key() else { continue };
        let text = || record.value().unwrap_or_default();
        match key {
            "uid" => facts.uid = text().parse().unwrap_or(facts.uid),
            "gid" => facts.gid = text().parse().unwrap_or(facts.gid),
            "mtime" => facts.time = time(text()).unwrap_or(facts.time),
            _ => {
                // Those of overlay itself are nothing for an image to set.
                if let Some(name) = key
                    .strip_prefix(XATTR)
                    .filter(|n| !n.starts_with("trusted.overlay."))
                {
                    facts.xattrs.push((
                        OsString::from_vec(name.as_bytes().to_vec()),
                        record.value_bytes().to_vec(),
                    ));
                }
            }
        }
    }
    Ok(facts)
}

/// `1700000000.123` of a PAX record.
fn time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    Some(Timespec {
        tv_sec: seconds.parse().ok()?,
        tv_nsec: digits.parse().ok()?,
    })
}
