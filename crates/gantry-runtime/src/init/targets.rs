//! Places inside a container's root, found without ever leaving it (openat2 with RESOLVE_IN_ROOT), made where missing.

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

fn resolve(root: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let path = match path.trim_start_matches('/') {
        "" => ".",
        other => other,
    };
    loop {
        let opened = openat2(
            root,
            path,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        // AGAIN: something was renamed or mounted on the machine while `..` was looked up.
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            return opened;
        }
    }
}

/// A [`directory`] that is no link and is reached through none: the place of `/proc` and `/sys`, whose content is
/// trusted later.
pub(super) fn plain_directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    directory(root, path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let plain = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(
        root,
        path.trim_start_matches('/'),
        flags,
        Mode::empty(),
        plain,
    )?)
}

/// Opens what is there.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(resolve(root, path, flags, Mode::empty())?)
}

/// A directory, made with its parents where it is missing.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match resolve(root, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let mut sofar = String::new();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let parent = resolve(root, &sofar, flags, Mode::empty())?;
        sofar.push('/');
        sofar.push_str(part);
        match resolve(root, &sofar, flags, Mode::empty()) {
            Ok(_) => {}
            Err(Errno::NOENT) => match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(resolve(root, path, flags, Mode::empty())?)
}

/// A file to mount on, made empty where it is missing.
pub(crate) fn file(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match resolve(root, path, OFlags::PATH, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    if let Some((parent, _)) = path.rsplit_once('/') {
        directory(root, parent)?;
    }
    resolve(
        root,
        path,
        OFlags::CREATE | OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK,
        Mode::from_raw_mode(0o644),
    )?;
    Ok(resolve(root, path, OFlags::PATH, Mode::empty())?)
}
