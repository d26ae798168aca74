//! How two stacks of layers differ in what they show, by content. Directories that both have from the same layers are not
//! looked into, nor files that are the same layer's.

use super::merged::{Merged, Names, Shown};
use super::{Change, ChangeKind};
use crate::upper::{self, is_dir, is_gone};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const CHUNK: usize = 64 << 10;

/// What makes two files of the same status and size differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Other bytes.
    Content,
    /// Another time of change, as in Docker.
    Time,
}

/// What changed from `other` to `one`, both stacks of directories, the uppermost first. Sorted by path.
pub(super) fn compare(one: &[PathBuf], other: &[PathBuf], by: By) -> io::Result<Vec<Change>> {
    let told = |(path, kind): (PathBuf, ChangeKind)| Change {
        path: format!("/{}", path.display()),
        kind,
    };
    Ok(differences(one, other, by)?.into_iter().map(told).collect())
}

/// The same with paths of any bytes, below the root.
pub(super) fn differences(
    one: &[PathBuf],
    other: &[PathBuf],
    by: By,
) -> io::Result<Vec<(PathBuf, ChangeKind)>> {
    let mut places: Vec<&PathBuf> = Vec::new();
    let mut number = |path| {
        places.iter().position(|p| *p == path).unwrap_or_else(|| {
            places.push(path);
            places.len() - 1
        })
    };
    let one: Vec<usize> = one.iter().map(&mut number).collect();
    let other: Vec<usize> = other.iter().map(&mut number).collect();
    let mut comparison = Comparison {
        merged: Merged::open(places)?,
        by,
        changes: Vec::new(),
    };
    comparison.directory(Path::new(""), &one, &other)?;
    comparison.changes.sort_by(|(a, _), (b, _)| {
        let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        bytes(a).cmp(&bytes(b))
    });
    Ok(comparison.changes)
}

struct Comparison {
    merged: Merged,
    by: By,
    changes: Vec<(PathBuf, ChangeKind)>,
}

impl Comparison {
    fn add(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push((path.to_owned(), kind));
    }

    fn directory(&mut self, path: &Path, one: &[usize], other: &[usize]) -> io::Result<()> {
        if one == other {
            return Ok(());
        }
        let names = |stack| self.merged.names(path, stack);
        let (one, other): (Names, Names) = (names(one)?, names(other)?);
        let all: BTreeSet<&OsString> = one.keys().chain(other.keys()).collect();
        for name in all {
            let child = path.join(name);
            match (one.get(name), other.get(name)) {
                (Some(new), None) => self.added(&child, new)?,
                (None, Some(_)) => self.add(&child, ChangeKind::Deleted),
                (Some(new), Some(old)) => self.both(&child, new, old)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn added(&mut self, path: &Path, new: &Shown) -> io::Result<()> {
        self.add(path, ChangeKind::Added);
        if is_dir(&new.stat) {
            self.directory(path, &new.stack, &[])?;
        }
        Ok(())
    }

    fn both(&mut self, path: &Path, new: &Shown, old: &Shown) -> io::Result<()> {
        let at = self.changes.len();
        match (is_dir(&new.stat), is_dir(&old.stat)) {
            (true, true) => {
                self.directory(path, &new.stack, &old.stack)?;
                if self.changes.len() > at || status(&new.stat) != status(&old.stat) {
                    self.add(path, ChangeKind::Modified);
                }
            }
            (true, false) => {
                self.directory(path, &new.stack, &[])?;
                self.add(path, ChangeKind::Modified);
            }
            (false, true) => self.add(path, ChangeKind::Modified),
            (false, false) => {
                if new.layer != old.layer && self.differ(path, new, old)? {
                    self.add(path, ChangeKind::Modified);
                }
            }
        }
        Ok(())
    }

    /// Whether two things, not both directories, are not the same.
    fn differ(&self, path: &Path, new: &Shown, old: &Shown) -> io::Result<bool> {
        if status(&new.stat) != status(&old.stat) || new.stat.st_rdev != old.stat.st_rdev {
            return Ok(true);
        }
        let open = |shown: &Shown| self.pinned(shown.layer, path);
        // What has gone meanwhile is not the same.
        let (Some((new_dir, new_fd)), Some((old_dir, old_fd))) = (open(new)?, open(old)?) else {
            return Ok(true);
        };
        let name = path.file_name().unwrap_or_default();
        let capability = |dir| upper::xattr(dir, name, "security.capability");
        if capability(&new_dir) != capability(&old_dir) {
            return Ok(true);
        }
        match FileType::from_raw_mode(new.stat.st_mode) {
            FileType::Symlink => {
                let target = |fd: &OwnedFd| readlinkat(fd, "", Vec::new());
                Ok(target(&new_fd)? != target(&old_fd)?)
            }
            FileType::RegularFile if self.by == By::Time => {
                let told = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
                Ok(told(&new.stat) != told(&old.stat))
            }
            FileType::RegularFile if new.stat.st_size == old.stat.st_size => {
                Ok(!same_bytes(reopened(&new_fd)?, reopened(&old_fd)?)?)
            }
            FileType::RegularFile => Ok(true),
            _ => Ok(false),
        }
    }

    /// A file of a layer and its directory, held so that nobody can put another thing in its place.
    fn pinned(&self, layer: usize, path: &Path) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        let opened = upper::open_dir(&self.merged.layers[layer], parent).and_then(|dir| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = openat(&dir, name, flags, Mode::empty())?;
            Ok((dir, fd))
        });
        match opened {
            Err(error) if is_gone(&error) => Ok(None),
            other => other.map(Some),
        }
    }
}

fn status(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

/// A regular file for reading; an error for anything else, which is never opened.
fn reopened(pinned: &OwnedFd) -> io::Result<File> {
    let stat = statat(pinned, "", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("a file has become something else"));
    }
    File::open(format!("/proc/self/fd/{}", pinned.as_raw_fd()))
}

fn same_bytes(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (n, m) = (fill(&mut one, &mut a)?, fill(&mut other, &mut b)?);
        if n != m || a[..n] != b[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn told(one: &[PathBuf], other: &[PathBuf]) -> Vec<String> {
        let changes = compare(one, other, By::Content).unwrap();
        let line = |c: &Change| format!("{:?} {}", c.kind, c.path);
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_layers_show() {
        let dir = tempfile::tempdir().unwrap();
        let at = |layer: &str| dir.path().join(layer);
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, text) in [
            ("base/etc/passwd", "root"),
            ("base/etc/group", "root"),
            ("base/home/a/file", "x"),
            ("base/opt/x", "x"),
            ("one/etc/passwd", "root"),
            ("one/etc/new", "n"),
            ("one/opt/y", "y"),
            ("two/etc/group", "toor"),
            ("two/srv/deep/file", "s"),
        ] {
            write(path, text);
        }
        symlink("/etc/passwd", at("one/link")).unwrap();
        symlink("/etc/group", at("two/link")).unwrap();
        let opened = upper::open(&at("one")).unwrap();
        crate::whiteouts::make_whiteout(&opened, std::ffi::OsStr::new("home")).unwrap();
        let opt = upper::open(&at("one/opt")).unwrap();
        crate::whiteouts::make_opaque(&opt).unwrap();
        let stack = |top: &str| vec![at(top), at("base")];
        assert_eq!(
            told(&stack("one"), &stack("two")),
            [
                "Modified /etc",
                "Modified /etc/group",
                "Added /etc/new",
                "Deleted /home",
                "Modified /link",
                "Modified /opt",
                "Deleted /opt/x",
                "Added /opt/y",
                "Deleted /srv",
            ]
        );
        assert_eq!(told(&stack("two"), &stack("two")), Vec::<String>::new());
        let added = told(&stack("two"), &[at("base")]);
        assert_eq!(
            added,
            [
                "Modified /etc",
                "Modified /etc/group",
                "Added /link",
                "Added /srv",
                "Added /srv/deep",
                "Added /srv/deep/file",
            ]
        );
    }
}
