//! Drivers whose containers have a whole tree each, made of the layers by copying.

use super::bases::Bases;
use super::compare::{By, compare, differences};
use super::{Base, Change, ChangeKind, Driver, Stack};
use crate::database::Database;
use crate::layers::Layers;
use crate::{At, Result, StoreError, upper};
use gantry_oci::Digest;
use gantry_tar::pack::{Options, Packer};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a driver makes trees and takes them away.
pub(super) trait Maker: std::fmt::Debug + Send + Sync {
    /// As `docker info` names it.
    fn name(&self) -> &'static str;
    /// Makes the folder `tree` out of a stack of layers (lowest first), whose folders are `lowers` (uppermost first).
    fn make(&self, tree: &Path, layers: &[Digest], lowers: &[PathBuf]) -> io::Result<()>;
    /// Removes such a folder.
    fn remove(&self, tree: &Path) -> io::Result<()>;
    /// Removes what is kept of stacks that nothing uses.
    fn collect(&self, used: &HashSet<Vec<Digest>>) -> io::Result<()>;
}

/// A driver with such a maker. A container's tree is `c/<id>/fs`.
#[derive(Debug)]
pub(super) struct Trees<M> {
    bases: Bases,
    maker: M,
}

impl<M: Maker> Trees<M> {
    pub(super) fn open(
        dir: &Path,
        database: Arc<Database>,
        layers: Arc<Layers>,
        maker: M,
    ) -> Result<Self> {
        let bases = Bases::open(dir, database, layers)?;
        Ok(Self { bases, maker })
    }

    fn tree(&self, id: &str) -> PathBuf {
        self.bases.container(id).join("fs")
    }

    /// What the container changed of its layers, by Docker's measure. Paths are below the root.
    fn differences(&self, id: &str) -> Result<Vec<(PathBuf, ChangeKind)>> {
        let tree = self.tree(id);
        let lowers = self.bases.lowers(&self.bases.base(id)?);
        differences(std::slice::from_ref(&tree), &lowers, By::Time).at("cannot read", &tree)
    }
}

fn pack(root: &OwnedFd, changes: &[(PathBuf, ChangeKind)], to: &mut dyn Write) -> Packed {
    let mut packer = Packer::new(to, Options::default());
    for (path, kind) in changes {
        let name = path.as_os_str().as_bytes();
        if *kind == ChangeKind::Deleted {
            packer.hide(name)?;
            continue;
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let file = path.file_name().unwrap_or_default();
        match upper::open_dir(root, parent) {
            Ok(dir) => packer.one(&dir, file, name)?,
            // A running container may take it away in the meantime.
            Err(error) if upper::is_gone(&error) => {}
            Err(source) => {
                return Err(gantry_tar::Error::File {
                    operation: "open",
                    path: parent.display().to_string(),
                    source,
                });
            }
        }
    }
    packer.finish().map(drop)
}

type Packed = gantry_tar::Result<()>;

impl<M: Maker> Driver for Trees<M> {
    fn name(&self) -> &'static str {
        self.maker.name()
    }

    fn prepare(&self, id: &str, base: &Base) -> Result<()> {
        let Base::Layers(layers) = base else {
            return Err(StoreError::Conflict(format!(
                "the storage driver {} cannot put a container over a folder of the host: only overlay2 can",
                self.name()
            )));
        };
        // The layers must not go while they are copied, and the copy takes its time.
        let lease = self.bases.layers.lease();
        for diff_id in layers {
            self.bases.layers.get(diff_id)?;
        }
        let prepared = self.bases.prepare(id, base, |dir| {
            let tree = dir.join("fs");
            let made = self.maker.make(&tree, layers, &self.bases.lowers(base));
            if made.is_err() {
                let _ = self.maker.remove(&tree);
            }
            made.at("cannot make the container's files", &tree)
        });
        drop(lease);
        prepared
    }

    fn mount(&self, id: &str, _volatile: bool) -> Result<OwnedFd> {
        self.bases.base(id)?;
        let tree = self.tree(id);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, &tree, flags).at("cannot mount the container's files", &tree)
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.bases.remove(id, |dir| {
            match self.maker.remove(&dir.join("fs")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            std::fs::remove_dir_all(dir)
        })
    }

    fn size(&self, id: &str) -> Result<u64> {
        let tree = self.tree(id);
        let root = upper::open(&tree).at("cannot read", &tree)?;
        let mut seen = HashSet::new();
        let mut total = 0;
        for (path, _) in self.differences(id)? {
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
                continue;
            };
            let stat = upper::open_dir(&root, parent).and_then(|dir| upper::stat(&dir, name));
            if let Ok(Some(stat)) = stat
                && !upper::is_dir(&stat)
                && seen.insert(stat.st_ino)
            {
                total += stat.st_size.unsigned_abs();
            }
        }
        Ok(total)
    }

    fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let tree = self.tree(id);
        let lowers = self.bases.lowers(&self.bases.base(id)?);
        compare(std::slice::from_ref(&tree), &lowers, By::Time).at("cannot read", &tree)
    }

    fn pack(&self, id: &str, to: &mut dyn Write) -> Result<()> {
        let tree = self.tree(id);
        let root = upper::open(&tree).at("cannot read", &tree)?;
        pack(&root, &self.differences(id)?, to).map_err(|error| match error {
            gantry_tar::Error::Write(source) => StoreError::Io {
                what: "cannot write the layer",
                path: tree,
                source,
            },
            other => StoreError::Invalid(format!("cannot pack the layer of {id}: {other}")),
        })
    }

    fn compare(&self, one: &Stack, other: &Stack) -> Result<Vec<Change>> {
        let stack = |of: &Stack| match of {
            Stack::Layers(layers) => self.bases.lowers(&Base::Layers(layers.clone())),
            Stack::Container(id) => vec![self.tree(id)],
        };
        compare(&stack(one), &stack(other), By::Content).at("cannot compare", &self.bases.dir)
    }

    /// COMPAT: Docker's vfs and btrfs have nothing to tell, either.
    fn describe(&self, _id: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    fn list(&self) -> Result<Vec<String>> {
        self.bases.list()
    }

    fn collect(&self, used: &HashSet<Vec<Digest>>) -> Result<()> {
        self.maker.collect(used).at("cannot clear", &self.bases.dir)
    }
}
