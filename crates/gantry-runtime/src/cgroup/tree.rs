//! Directories and files below a hierarchy's root.

use super::{CgroupError, Hierarchy, Result, Version};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The path without its leading slash. It names a group below the root and nothing else.
pub(super) fn checked(path: &str) -> Result<&str> {
    let inner = path.strip_prefix('/').unwrap_or_default();
    if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(CgroupError::BadPath(path.to_owned()));
    }
    Ok(inner)
}

pub(super) fn open_dir(at: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Makes the group and its parents; each new parent is prepared so that the group's files work.
pub(super) fn make(hierarchy: &Hierarchy, path: &str) -> Result<OwnedFd> {
    let root = hierarchy.root();
    let fail = |operation, path: &str, e| {
        CgroupError::file(operation, format!("{}/{path}", hierarchy.mount_point()), e)
    };
    let mut parent = open_dir(root, ".").map_err(|e| fail("open", "", e))?;
    for part in path.split('/') {
        if hierarchy.version() == Version::V2 {
            super::v2::enable_controllers(parent.as_fd(), hierarchy)?;
        }
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(fail("make", path, e)),
        }
        let dir = open_dir(parent.as_fd(), part).map_err(|e| fail("open", path, e))?;
        if hierarchy.version() == Version::V1 && hierarchy.has("cpuset") {
            super::v1::inherit_cpuset(parent.as_fd(), dir.as_fd())?;
        }
        parent = dir;
    }
    Ok(parent)
}

/// Opens a file of a group for writing.
pub(super) fn open_write(dir: BorrowedFd<'_>, file: &str) -> Result<OwnedFd> {
    rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| CgroupError::file("open", file, e))
}

/// Opens a file of a group for reading.
pub(super) fn open_read(dir: BorrowedFd<'_>, file: &str) -> Result<OwnedFd> {
    rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| CgroupError::file("open", file, e))
}

/// Writes a value with one write(2), as the kernel wants it.
pub(super) fn put(dir: BorrowedFd<'_>, file: &str, value: &str) -> Result<()> {
    let opened = open_write(dir, file)?;
    rustix::io::write(&opened, value.as_bytes())
        .map(|_| ())
        .map_err(|e| CgroupError::file("write", format!("{value:?} to {file}"), e))
}

/// [`put`] where a kernel without the file is no error; tells whether the file was there.
pub(super) fn put_if_there(dir: BorrowedFd<'_>, file: &str, value: &str) -> Result<bool> {
    match put(dir, file, value) {
        Err(CgroupError::File {
            operation: "open",
            source,
            ..
        }) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Writes a file of the group at `path`.
pub(super) fn write(root: BorrowedFd<'_>, path: &str, file: &str, value: &str) -> Result<()> {
    let dir = open_dir(root, path).map_err(|e| CgroupError::file("open", path, e))?;
    put(dir.as_fd(), file, value)
}

/// A file's text.
pub(super) fn text(dir: BorrowedFd<'_>, file: &str) -> Result<String> {
    let opened = open_read(dir, file)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(opened), &mut text).map_err(
        |source| CgroupError::File {
            operation: "read",
            path: file.to_owned(),
            source,
        },
    )?;
    Ok(text)
}

/// Names of the groups right below a directory.
fn children(dir: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Adds the processes of a group and of those below it; a group that is not there has none.
pub(super) fn collect_pids(
    root: BorrowedFd<'_>,
    path: &str,
    pids: &mut BTreeSet<u32>,
) -> Result<()> {
    match open_dir(root, path) {
        Ok(dir) => collect_below(&dir, pids),
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(CgroupError::file("open", path, e)),
    }
}

fn collect_below(dir: &OwnedFd, pids: &mut BTreeSet<u32>) -> Result<()> {
    match text(dir.as_fd(), "cgroup.procs") {
        // A 0 is a process that this PID namespace does not see.
        Ok(text) => pids.extend(
            text.lines()
                .filter_map(|l| l.parse::<u32>().ok())
                .filter(|pid| *pid != 0),
        ),
        // ENODEV: removed meanwhile. EOPNOTSUPP: a threaded group, whose processes its parent lists.
        Err(error) => match error
            .io()
            .and_then(std::io::Error::raw_os_error)
            .map(Errno::from_raw_os_error)
        {
            Some(Errno::NODEV | Errno::NOENT | Errno::OPNOTSUPP) => {}
            _ => return Err(error),
        },
    }
    for name in children(dir).map_err(|e| CgroupError::file("list", "a group", e))? {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(child) = rustix::fs::openat(dir, &name, flags, Mode::empty()) {
            collect_below(&child, pids)?;
        }
    }
    Ok(())
}

/// Removes a group and those below it; false when one is in use.
pub(super) fn remove(root: BorrowedFd<'_>, path: &str) -> Result<bool> {
    // Mostly there is nothing below: then this one call does it.
    match rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::BUSY) => {}
        Err(e) => return Err(CgroupError::file("remove", path, e)),
    }
    match open_dir(root, path) {
        Ok(dir) => {
            remove_below(&dir);
            match rustix::fs::unlinkat(root, path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(true),
                Err(Errno::BUSY) => Ok(false),
                Err(e) => Err(CgroupError::file("remove", path, e)),
            }
        }
        Err(Errno::NOENT) => Ok(true),
        Err(e) => Err(CgroupError::file("open", path, e)),
    }
}

/// Removes what can be removed; what stays shows when the parent is tried.
fn remove_below(dir: &OwnedFd) {
    for name in children(dir).unwrap_or_default() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(child) = rustix::fs::openat(dir, &name, flags, Mode::empty()) {
            remove_below(&child);
        }
        let _ = rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR);
    }
}
