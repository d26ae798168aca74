//! What things take on the disk, as `du` counts it: blocks, not lengths, and a file with several names once.

use crate::{At, Result, Store};
use gantry_oci::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a block in `st_blocks`, whatever the file system's own blocks are (stat(2)).
const BLOCK: u64 = 512;

/// After so long all of a layer's blocks are told by the file system.
const SETTLED: Duration = Duration::from_secs(60);

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

/// Bytes of a layer that nobody else has: its files may have a name by their digest, and be other layers', too.
pub(crate) fn of_shared_tree(path: &Path) -> Result<u64> {
    let mut own: HashMap<(u64, u64), (u64, u64, u64)> = HashMap::new();
    let mut dirs = vec![path.to_owned()];
    let mut bytes = of_tree(path)?;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).at("cannot read", &dir)? {
            let entry = entry.at("cannot read", &dir)?;
            let meta = entry.metadata().at("cannot read", &entry.path())?;
            if meta.is_dir() {
                dirs.push(entry.path());
            } else if meta.nlink() > 1 {
                let file = own.entry((meta.dev(), meta.ino()));
                let (names, _, _) = file.or_insert((0, meta.nlink(), meta.blocks()));
                *names += 1;
            }
        }
    }
    for (names, links, blocks) in own.into_values() {
        // One name more is that by the digest.
        if links > names + 1 {
            bytes = bytes.saturating_sub(blocks * BLOCK);
        }
    }
    Ok(bytes)
}

/// Where the drivers have what is theirs: all below `layers` but the layers themselves.
fn drivers(layers: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(layers).at("cannot read", layers)?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| !path.ends_with("l")).collect())
}

/// Bytes of the disk that images take: layers and how their tars are written again, manifests and configurations,
/// downloads that came in part. A layer never changes: it is counted once in its life, and that is noted in the database.
pub fn of_images(store: &Store, root: &Path) -> Result<u64> {
    let mut count = Count::default();
    for part in ["image", "partial"] {
        count.add(&root.join(part))?;
    }
    let layers = root.join("layers");
    if store
        .layers
        .sharing()
        .is_some_and(crate::layers::Sharing::links)
    {
        // What a layer takes depends on the others.
        count.add(&layers.join("l"))?;
        for driver in drivers(&layers)? {
            count.add_but(&driver, &["c"])?;
        }
        return Ok(count.bytes());
    }
    for driver in drivers(&layers)? {
        count.add_but(&driver, &["c"])?;
    }
    let rows = store
        .database
        .pairs("SELECT diff_id, bytes || '' FROM layer_disk", [])?;
    let mut known: HashMap<String, u64> = rows
        .into_iter()
        .filter_map(|(id, bytes)| Some((id, bytes.parse().ok()?)))
        .collect();
    let mut total = count.bytes();
    for (diff_id, _) in store.layers.all()? {
        total += match known.remove(diff_id.as_str()) {
            Some(bytes) => bytes,
            None => counted(store, &diff_id)?,
        };
    }
    for gone in known.keys() {
        let sql = "DELETE FROM layer_disk WHERE diff_id = ?";
        store.database.execute(sql, [gone])?;
    }
    Ok(total)
}

fn counted(store: &Store, diff_id: &Digest) -> Result<u64> {
    let bytes = of_tree(&store.layers.path(diff_id))?;
    // Delayed writes may not have their blocks yet: what is counted this early is counted again.
    let settled = store.layers.path(diff_id).metadata().is_ok_and(|meta| {
        let age = meta.created().ok().and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age > SETTLED)
    });
    if settled {
        store.database.execute(
            "INSERT OR REPLACE INTO layer_disk VALUES (?, ?)",
            (diff_id.as_str(), bytes as i64),
        )?;
    }
    Ok(bytes)
}

/// Bytes of the disk that a container's writable layer takes, whatever driver it is of, beyond the folders that each
/// container has from its beginning.
pub fn of_container(root: &Path, id: &str) -> Result<u64> {
    let mut bytes = 0;
    for driver in drivers(&root.join("layers"))? {
        let dir = driver.join("c").join(id);
        let first = ["", "upper", "work", "work/work"].map(|part| dir.join(part));
        bytes += of_tree(&dir)?.saturating_sub(first.iter().map(|dir| own(dir)).sum());
    }
    Ok(bytes)
}

/// Bytes of what is in a folder, without the folder itself.
pub fn of_content(path: &Path) -> Result<u64> {
    Ok(of_tree(path)?.saturating_sub(own(path)))
}

/// Bytes of a folder itself.
fn own(dir: &Path) -> u64 {
    dir.metadata().map_or(0, |meta| meta.blocks() * BLOCK)
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
