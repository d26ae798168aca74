//! What a stack of layers shows, seen without a mount: directory by directory, from descriptors.

use crate::upper::{self, is_dir, is_gone};
use crate::whiteouts::{is_opaque_fd, is_whiteout};
use rustix::fs::Stat;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Layers that stacks are made of, each opened once. A stack is a list of their numbers, the uppermost first.
pub(super) struct Merged {
    pub(super) layers: Vec<OwnedFd>,
}

/// A name as a stack of layers shows it.
pub(super) struct Shown {
    pub(super) stat: Stat,
    /// The layer that it is of.
    pub(super) layer: usize,
    /// The layers that a directory is put together from, the uppermost first.
    pub(super) stack: Vec<usize>,
}

pub(super) type Names = BTreeMap<OsString, Shown>;

impl Merged {
    /// Opens layers.
    pub(super) fn open<'a>(places: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Self> {
        let layers = places.into_iter().map(|place| upper::open(place));
        let layers = layers.collect::<io::Result<_>>()?;
        Ok(Self { layers })
    }

    /// What a directory shows. Empty when it is gone meanwhile.
    pub(super) fn names(&self, path: &Path, stack: &[usize]) -> io::Result<Names> {
        let mut shown = Names::new();
        // What no layer below can add to any more: hidden names, and directories that hide what is below.
        let mut closed: BTreeSet<OsString> = BTreeSet::new();
        for &layer in stack {
            let dir = match upper::open_dir(&self.layers[layer], path) {
                Err(error) if is_gone(&error) => continue,
                other => other?,
            };
            for name in upper::names(&dir)? {
                if closed.contains(&name) {
                    continue;
                }
                let Some(stat) = upper::stat(&dir, &name)? else {
                    continue;
                };
                let dir_here = is_dir(&stat);
                let opaque = || {
                    let opened = upper::open_dir(&dir, Path::new(&name));
                    opened.is_ok_and(|dir| is_opaque_fd(&dir))
                };
                if !dir_here || opaque() {
                    closed.insert(name.clone());
                }
                match shown.get_mut(&name) {
                    Some(above) if dir_here => above.stack.push(layer),
                    // A directory above hides it, or a whiteout shows nothing.
                    Some(_) => {}
                    None if is_whiteout(stat.st_mode, stat.st_rdev) => {}
                    None => {
                        let stack = vec![layer];
                        shown.insert(name, Shown { stat, layer, stack });
                    }
                }
            }
        }
        Ok(shown)
    }
}
