//! What a container's writable layer changes, found by walking that layer alone.
//!
//! COMPAT: Docker mounts both sides and compares every file; the rules of what differs are its own (moby's
//! pkg/archive): a directory by owner and mode, anything else by size and time, too; what was copied up and is as it
//! was is no change; a directory above a change is modified.

use crate::overlay::{is_opaque, is_whiteout};
use crate::snapshots::{Change, ChangeKind};
use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Compares the writable layer with what is below, the uppermost layer first. Sorted by path.
pub(crate) fn changes(upper: &Path, lowers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let mut walk = Walk {
        upper,
        lowers,
        changes: Vec::new(),
    };
    walk.directory(Path::new(""), true, false)?;
    walk.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.changes)
}

struct Walk<'a> {
    upper: &'a Path,
    lowers: &'a [PathBuf],
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn add(&mut self, path: &Path, kind: ChangeKind) {
        self.changes.push(Change {
            path: format!("/{}", path.display()),
            kind,
        });
    }

    /// `below`: there is such a directory below; `hidden`: nothing of what is in it shines through.
    fn directory(&mut self, path: &Path, below: bool, hidden: bool) -> io::Result<()> {
        let own = self.upper.join(path);
        let hidden = hidden || (below && is_opaque(&own));
        let mut seen = HashSet::new();
        for name in names(&own)? {
            let child = path.join(&name);
            // A running container may take it away in the meantime.
            let Ok(meta) = self.upper.join(&child).symlink_metadata() else {
                continue;
            };
            let old = match below {
                true => find(self.lowers, &child)?,
                false => None,
            };
            seen.insert(name);
            self.entry(&child, &meta, old, hidden)?;
        }
        if below && hidden {
            self.gone(path, &seen)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        meta: &Metadata,
        old: Option<(PathBuf, Metadata)>,
        hidden: bool,
    ) -> io::Result<()> {
        if is_whiteout(meta.mode(), meta.rdev()) {
            if old.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let at = self.changes.len();
        let mut listed = true;
        match &old {
            None => self.add(path, ChangeKind::Added),
            Some((place, old)) if differs(&self.upper.join(path), meta, place, old) => {
                self.add(path, ChangeKind::Modified);
            }
            Some(_) => listed = false,
        }
        if meta.is_dir() {
            let below = old.is_some_and(|(_, old)| old.is_dir());
            self.directory(path, below, hidden)?;
            if !listed && self.changes.len() > at {
                self.add(path, ChangeKind::Modified);
            }
        }
        Ok(())
    }

    /// What was in a directory that has been replaced whole, and is not in the new one.
    fn gone(&mut self, path: &Path, seen: &HashSet<std::ffi::OsString>) -> io::Result<()> {
        let mut told = HashSet::new();
        for lower in self.lowers {
            for name in names(&lower.join(path)).unwrap_or_default() {
                let child = path.join(&name);
                if !seen.contains(&name)
                    && told.insert(name)
                    && find(self.lowers, &child)?.is_some()
                {
                    self.add(&child, ChangeKind::Deleted);
                }
            }
        }
        Ok(())
    }
}

fn names(dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// What the layers, one over the other, have at a path. No link on the way is followed: in a layer it would lead to the
/// host's files.
fn find(lowers: &[PathBuf], path: &Path) -> io::Result<Option<(PathBuf, Metadata)>> {
    for lower in lowers {
        let mut place = lower.clone();
        let mut parts = path.components().peekable();
        let mut opaque = false;
        while let Some(part) = parts.next() {
            place.push(part);
            let meta = match place.symlink_metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            if is_whiteout(meta.mode(), meta.rdev()) {
                return Ok(None);
            }
            if parts.peek().is_none() {
                return Ok(Some((place, meta)));
            }
            if !meta.is_dir() {
                return Ok(None);
            }
            opaque |= is_opaque(&place);
        }
        if opaque {
            return Ok(None);
        }
    }
    Ok(None)
}

fn differs(path: &Path, meta: &Metadata, old_path: &Path, old: &Metadata) -> bool {
    let status = |m: &Metadata| (m.mode(), m.uid(), m.gid(), m.rdev());
    let content = |m: &Metadata| (m.mtime(), m.mtime_nsec(), m.len());
    status(meta) != status(old)
        || (!meta.is_dir() && content(meta) != content(old))
        || capability(path) != capability(old_path)
}

fn capability(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0_u8; 64];
    let n = rustix::fs::lgetxattr(path, "security.capability", &mut value[..]).ok()?;
    Some(value[..n].to_vec())
}
