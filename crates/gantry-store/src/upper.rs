//! Looking into a writable layer whose container may run: every step is from a descriptor and follows no link, since what
//! was a directory a moment ago may be a link to the host's files by now.

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest value of an extended attribute that is looked at, bytes.
const LONGEST_VALUE: usize = 64 << 10;

/// Opens the layer itself; its path is the store's own.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A directory below `root`.
pub(crate) fn open_dir(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// The names in a directory, in order.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
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

/// What there is of a name; none when it is gone.
pub(crate) fn stat(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An extended attribute of a name, where it has one. A link is not followed.
pub(crate) fn xattr(dir: &OwnedFd, name: &OsStr, key: &str) -> Option<Vec<u8>> {
    let place = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    let mut value = vec![0_u8; 256];
    loop {
        match rustix::fs::lgetxattr(&place, key, &mut value[..]) {
            Ok(n) => {
                value.truncate(n);
                return Some(value);
            }
            Err(Errno::RANGE) if value.len() < LONGEST_VALUE => value = vec![0; LONGEST_VALUE],
            Err(_) => return None,
        }
    }
}

/// Bytes of all that is below a directory but directories, what has several names counted once (moby's
/// `directory.Size`).
pub(crate) fn size(root: &OwnedFd) -> io::Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut total = 0;
    add(root, &mut seen, &mut total)?;
    Ok(total)
}

fn add(
    dir: &OwnedFd,
    seen: &mut std::collections::HashSet<u64>,
    total: &mut u64,
) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        // A running container may take it away in the meantime.
        let Some(stat) = stat(dir, name)? else {
            continue;
        };
        if is_dir(&stat) {
            match open_dir(dir, Path::new(name)) {
                Ok(below) => add(&below, seen, total)?,
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        } else if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
            *total += stat.st_size.unsigned_abs();
        }
    }
    Ok(())
}

pub(crate) fn is_dir(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
}

/// Whether what was a directory is none any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}
