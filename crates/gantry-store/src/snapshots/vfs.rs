//! The vfs driver: every container has a copy of its image's files. On a file system with reflinks the copies share
//! their blocks; on others it is for the kernels and file systems that can do nothing better.

use super::merged::{Merged, Names, Shown};
use super::trees::Maker;
use crate::upper;
use crate::whiteouts::is_overlays;
use gantry_oci::Digest;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, futimens, linkat, mkdirat, mknodat, openat, readlinkat, seek,
    symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const CHUNK: usize = 256 << 10;
/// Longest list of attributes' names, and longest value, bytes.
const LONGEST_XATTR: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Vfs;

impl Maker for Vfs {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn make(&self, tree: &Path, _layers: &[Digest], lowers: &[PathBuf]) -> io::Result<()> {
        std::fs::create_dir(tree)?;
        copy(tree, lowers)
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(tree)
    }

    fn collect(&self, _used: &HashSet<Vec<Digest>>) -> io::Result<()> {
        Ok(())
    }
}

/// Copies what a stack of layers (uppermost first) shows into an empty folder, which is 0755 root:root whatever the
/// layers say.
pub(super) fn copy(tree: &Path, lowers: &[PathBuf]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(tree, PermissionsExt::from_mode(0o755))?;
    let mut copying = Copying {
        merged: Merged::open(lowers)?,
        tree: upper::open(tree)?,
        links: HashMap::new(),
        reflinks: true,
        chunk: vec![0; CHUNK],
    };
    let stack: Vec<usize> = (0..lowers.len()).collect();
    let root = upper::open(tree)?;
    copying.directory(Path::new(""), &stack, &root)
}

struct Copying {
    merged: Merged,
    /// Where to.
    tree: OwnedFd,
    /// First names of files that have several, by layer and inode.
    links: HashMap<(usize, u64), PathBuf>,
    /// False once the file system has shown to have none.
    reflinks: bool,
    chunk: Vec<u8>,
}

impl Copying {
    fn directory(&mut self, path: &Path, stack: &[usize], to: &OwnedFd) -> io::Result<()> {
        let names: Names = self.merged.names(path, stack)?;
        for (name, shown) in names {
            let child = path.join(&name);
            self.one(&child, &name, &shown, to)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, name: &OsStr, shown: &Shown, to: &OwnedFd) -> io::Result<()> {
        let stat = &shown.stat;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let made = upper::open_dir(to, Path::new(name))?;
            self.directory(path, &shown.stack, &made)?;
            let from = upper::open_dir(&self.merged.layers[shown.layer], path)?;
            attributes(&from, &made)?;
            return finish(&made, stat);
        }
        if stat.st_nlink > 1 {
            let inode = (shown.layer, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                linkat(&self.tree, first, to, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert(inode, path.to_owned());
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let from = upper::open_dir(&self.merged.layers[shown.layer], parent)?;
        if kind == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = openat(&from, name, flags, Mode::empty())?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let target = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
            let target = self.content(source, target, stat)?;
            return finish(&target, stat);
        }
        self.special(&from, name, to, stat)
    }

    fn special(&self, from: &OwnedFd, name: &OsStr, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if kind == FileType::Symlink {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
        } else {
            mknodat(to, name, kind, mode, stat.st_rdev)?;
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            chmodat(to, name, mode, AtFlags::empty())?;
        }
        link_attributes(from, to, name)?;
        Ok(utimensat(
            to,
            name,
            &times(stat),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// The same blocks where the file system can share them, else the same bytes, holes left out.
    fn content(&mut self, from: OwnedFd, to: OwnedFd, stat: &Stat) -> io::Result<OwnedFd> {
        let size = stat.st_size.unsigned_abs();
        if self.reflinks && size > 0 {
            match rustix::fs::ioctl_ficlone(&to, &from) {
                Ok(()) => {
                    attributes(&from, &to)?;
                    return Ok(to);
                }
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::INVAL) => {
                    self.reflinks = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (mut source, mut target) = (File::from(from), File::from(to));
        let mut place = 0;
        while place < size {
            let start = match seek(&source, SeekFrom::Data(place)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let end = seek(&source, SeekFrom::Hole(start))?;
            source.seek(io::SeekFrom::Start(start))?;
            target.seek(io::SeekFrom::Start(start))?;
            let mut left = end.saturating_sub(start);
            while left > 0 {
                let most = left.min(CHUNK as u64) as usize;
                let n = source.read(&mut self.chunk[..most])?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                target.write_all(&self.chunk[..n])?;
                left -= n as u64;
            }
            place = end;
        }
        target.set_len(size)?;
        let (from, to) = (OwnedFd::from(source), OwnedFd::from(target));
        attributes(&from, &to)?;
        Ok(to)
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime as _,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Owner, then mode (a change of owner takes the setuid bit away), then times. Capabilities go with a change of owner,
/// too, so attributes are set again by whoever needs them after it.
fn finish(file: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let capability = "security.capability";
    let mut value = [0_u8; 64];
    let kept = rustix::fs::fgetxattr(file, capability, &mut value[..]).ok();
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(file, Some(uid), Some(gid))?;
    fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    if let Some(n) = kept {
        rustix::fs::fsetxattr(file, capability, &value[..n], XattrFlags::empty())?;
    }
    Ok(futimens(file, &times(stat))?)
}

fn names_of(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = list.split(|b| *b == 0);
    names.filter(|name| !name.is_empty() && !is_overlays(name))
}

/// Copies extended attributes.
fn attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut list = [0_u8; 512];
    let mut long = Vec::new();
    let list: &[u8] = match rustix::fs::flistxattr(from, &mut list[..]) {
        Ok(n) => &list[..n],
        Err(Errno::RANGE) => {
            long.resize(LONGEST_XATTR, 0);
            let n = rustix::fs::flistxattr(from, &mut long[..])?;
            &long[..n]
        }
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names_of(list) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; LONGEST_XATTR];
        let n = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..n], XattrFlags::empty()) {
            // The file system may not know the attribute.
            Err(Errno::NOTSUP | Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The same of what cannot be opened: links, devices, fifos, sockets.
fn link_attributes(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let place = |dir: &OwnedFd| {
        Path::new("/proc/self/fd")
            .join(dir.as_raw_fd().to_string())
            .join(name)
    };
    let (from, to) = (place(from), place(to));
    let mut list = vec![0_u8; LONGEST_XATTR];
    let n = match rustix::fs::llistxattr(&from, &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    for name in names_of(&list[..n]) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; LONGEST_XATTR];
        let n = rustix::fs::lgetxattr(&from, name, &mut value[..])?;
        match rustix::fs::lsetxattr(&to, name, &value[..n], XattrFlags::empty()) {
            Err(Errno::NOTSUP | Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}
