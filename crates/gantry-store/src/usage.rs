//! What things take on the disk, as `du` counts it: blocks, not lengths, and a file with several names once.

use crate::{At, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Bytes of a block in `st_blocks`, whatever the file system's own blocks are (stat(2)).
const BLOCK: u64 = 512;

/// A directory on the way down, with its directories that were not looked into yet.
struct Level {
    dir: OwnedFd,
    below: Vec<CString>,
}

/// Counts trees; files that several of them share are counted once.
#[derive(Debug, Default)]
pub struct Count {
    bytes: u64,
    /// Device and inode of what has several names.
    known: HashSet<(u64, u64)>,
}

impl Count {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a file or a folder with all that is in it. What goes away meanwhile, or is not there, takes nothing.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        self.add_but(path, &[])
    }

    /// The same without some of the folder's own entries.
    pub fn add_but(&mut self, path: &Path, not: &[&str]) -> Result<()> {
        match self.walk(path, not) {
            Err(Errno::NOENT) => Ok(()),
            other => other.at("cannot count the disk usage of", path),
        }
    }

    fn walk(&mut self, path: &Path, not: &[&str]) -> std::result::Result<(), Errno> {
        let own = statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        self.take(&own);
        if FileType::from_raw_mode(own.st_mode) != FileType::Directory {
            return Ok(());
        }
        let mut top = self.level(opened(rustix::fs::CWD, path)?)?;
        top.below
            .retain(|name| !not.iter().any(|not| name.to_bytes() == not.as_bytes()));
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.below.pop() else {
                levels.pop();
                continue;
            };
            let entered = statat(&level.dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .and_then(|stat| Ok((stat, opened(&level.dir, &name)?)));
            match entered {
                Ok((stat, dir)) => {
                    self.take(&stat);
                    let next = self.level(dir)?;
                    levels.push(next);
                }
                // Gone, or something else by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts a directory's files, and lists its directories.
    fn level(&mut self, dir: OwnedFd) -> std::result::Result<Level, Errno> {
        let mut below = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                below.push(name.to_owned());
                continue;
            }
            match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                // A file system that does not tell types in its lists.
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    below.push(name.to_owned());
                }
                Ok(stat) => self.take(&stat),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Level { dir, below })
    }

    fn take(&mut self, stat: &rustix::fs::Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !directory && stat.st_nlink > 1 && !self.known.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.bytes += stat.st_blocks as u64 * BLOCK;
    }
}

fn opened(
    at: impl std::os::fd::AsFd,
    path: impl rustix::path::Arg,
) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// Bytes of one tree.
pub fn of_tree(path: &Path) -> Result<u64> {
    let mut count = Count::default();
    count.add(path)?;
    Ok(count.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn du(path: &Path) -> u64 {
        let said = std::process::Command::new("du")
            .args(["-s", "--block-size=1"])
            .arg(path)
            .output()
            .unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn trees_are_counted_as_du_does() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        for (name, bytes) in [("small", 1), ("a/large", 300_000), ("a/b/c/x", 5000)] {
            std::fs::write(root.join(name), vec![b'x'; bytes]).unwrap();
        }
        std::fs::hard_link(root.join("a/large"), root.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/usr", root.join("link")).unwrap();
        let sparse = std::fs::File::create(root.join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        assert_eq!(of_tree(root).unwrap(), du(root));
        assert_eq!(
            of_tree(&root.join("small")).unwrap(),
            du(&root.join("small"))
        );
        assert_eq!(of_tree(&root.join("nothing")).unwrap(), 0);
        let mut count = Count::default();
        count.add_but(root, &["a"]).unwrap();
        assert_eq!(count.bytes() + du(&root.join("a")), du(root));
        // A file with names in two trees is one file.
        count.add(&root.join("a")).unwrap();
        count.add(&root.join("a/b/again")).unwrap();
        assert_eq!(count.bytes(), du(root));
    }
}
