//! A directory that stands as `/`: whatever links are below it, and whoever changes them meanwhile, no path leads out.
//!
//! The kernel resolves every path (openat2 with RESOLVE_IN_ROOT); what is worked out here by words is for people to read.

use crate::error::{Result, at};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Links that one path may go through (path_resolution(7) has 40).
const MOST_LINKS: usize = 255;
/// How often a path is tried while somebody moves directories under it (EAGAIN of openat2(2)).
const TRIES: usize = 1000;

/// The directory.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens with openat2, again and again while the kernel says that the tree moves.
pub(crate) fn open(
    dir: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        let opened = openat2(
            dir.as_fd(),
            OsStr::from_bytes(path),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        );
        match opened {
            Err(Errno::AGAIN) if tries < TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

impl Root {
    /// Takes a directory for the root.
    pub fn new(dir: OwnedFd) -> Self {
        Self(dir)
    }

    /// Opens a path, the root being `/`.
    pub fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open(&self.0, path, flags, resolve)
    }

    /// What a path is; a link at its end is not followed, unless a slash is after it.
    pub fn lstat(&self, path: &[u8]) -> Result<Stat> {
        let opened = self.open(path, OFlags::PATH | OFlags::NOFOLLOW);
        let stat = opened.and_then(|fd| Ok(statat(&fd, "", AtFlags::EMPTY_PATH)?));
        at(stat, "lstat", path)
    }

    /// The path without links (Go's `EvalSymlinks`). What is not there ends the search: the rest stays as it is.
    pub fn resolved(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut ahead: Vec<Vec<u8>> = parts(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let place = join(b"/", &done.join(&b'/'));
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let target = match self.open(&place, flags) {
                Ok(fd) => readlinkat(&fd, "", Vec::new()),
                Err(_) => Err(Errno::INVAL),
            };
            let Ok(target) = target else {
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = target.as_bytes();
            if target.starts_with(b"/") {
                done.clear();
            } else {
                done.pop();
            }
            ahead.extend(parts(target).rev().map(<[u8]>::to_vec));
        }
        Ok(join(b"/", &done.join(&b'/')))
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

/// Go's `filepath.Clean`: no `.`, no doubled slashes, and `..` only in front of a relative path.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.starts_with(b"/");
    let mut out: Vec<&[u8]> = Vec::new();
    for part in parts(path) {
        match part {
            b"." => {}
            b".." if out.last().is_some_and(|last| *last != b"..") => {
                out.pop();
            }
            b".." if absolute => {}
            part => out.push(part),
        }
    }
    let joined = out.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Go's `filepath.Join` of two.
pub fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    match (first, second) {
        (b"", second) => clean(second),
        (first, b"") => clean(first),
        _ => clean(&[first, b"/", second].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            ("./a//b/", "a/b"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("..", ".."),
            ("/", "/"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
        assert_eq!(join(b"/tmp", b"../../x"), b"/x");
    }

    #[test]
    fn links_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("a/b/file"), "x").unwrap();
        symlink("/a/b", root.join("absolute")).unwrap();
        symlink("../../../../a", root.join("a/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/none/x", root.join("broken")).unwrap();
        let root = Root::new(std::fs::File::open(root).unwrap().into());
        let resolved = |path: &str| {
            let path = root.resolved(path.as_bytes()).unwrap();
            String::from_utf8(path).unwrap()
        };
        assert_eq!(resolved("/absolute/file"), "/a/b/file");
        assert_eq!(resolved("a/up/b/../b"), "/a/b");
        assert_eq!(resolved("broken"), "/none/x");
        assert_eq!(resolved("/../../a"), "/a");
        assert!(root.resolved(b"loop").is_err());
        assert!(root.open(b"absolute/file", OFlags::RDONLY).is_ok());
        assert_eq!(
            root.lstat(b"/absolute").unwrap().st_mode & 0o170_000,
            0o120_000
        );
        assert_eq!(
            root.lstat(b"/absolute/").unwrap().st_mode & 0o170_000,
            0o040_000
        );
        let missing = root.lstat(b"/none").unwrap_err();
        assert!(missing.is_not_found());
        assert_eq!(
            missing.to_string(),
            "lstat /none: no such file or directory"
        );
        let wrong = root.lstat(b"/a/b/file/").unwrap_err();
        assert_eq!(wrong.to_string(), "lstat /a/b/file/: not a directory");
    }
}
