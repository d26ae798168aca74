//! What a container's writable layer changes, found by walking that layer alone.
//!
//! COMPAT: Docker mounts both sides and compares every file; the rules of what differs are its own (moby's
//! pkg/archive): a directory by owner and mode, anything else by size and time, too; what was copied up and is as it
//! was is no change; a directory above a change is modified.

use super::{Change, ChangeKind};
use crate::upper::{self, is_dir, is_gone};
use crate::whiteouts::{is_opaque, is_opaque_fd, is_whiteout};
use rustix::fs::Stat;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Compares the writable layer with what is below, the uppermost layer first. Sorted by path.
pub(crate) fn changes(upper: &Path, lowers: &[PathBuf]) -> io::Result<Vec<Change>> {
    let mut walk = Walk {
        upper: upper::open(upper)?,
        lowers,
        changes: Vec::new(),
    };
    walk.directory(Path::new(""), true, false)?;
    walk.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.changes)
}

struct Walk<'a> {
    upper: OwnedFd,
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
        let own = match upper::open_dir(&self.upper, path) {
            // A running container may take it away in the meantime.
            Err(error) if is_gone(&error) => return Ok(()),
            other => other?,
        };
        let hidden = hidden || (below && is_opaque_fd(&own));
        let mut seen = HashSet::new();
        for name in upper::names(&own)? {
            let child = path.join(&name);
            let Some(stat) = upper::stat(&own, &name)? else {
                continue;
            };
            let old = match below {
                true => find(self.lowers, &child)?,
                false => None,
            };
            self.entry(&own, &child, &stat, old, hidden)?;
            seen.insert(name);
        }
        if below && hidden {
            self.gone(path, &seen)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        path: &Path,
        stat: &Stat,
        old: Option<(PathBuf, Stat)>,
        hidden: bool,
    ) -> io::Result<()> {
        if is_whiteout(stat.st_mode, stat.st_rdev) {
            if old.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let at = self.changes.len();
        let mut listed = true;
        let capability = || {
            let name = path.file_name().unwrap_or_default();
            upper::xattr(dir, name, CAPABILITY)
        };
        match &old {
            None => self.add(path, ChangeKind::Added),
            Some((place, old)) if differs(stat, old) || capability() != capability_of(place) => {
                self.add(path, ChangeKind::Modified);
            }
            Some(_) => listed = false,
        }
        if is_dir(stat) {
            let below = old.is_some_and(|(_, old)| is_dir(&old));
            self.directory(path, below, hidden)?;
            if !listed && self.changes.len() > at {
                self.add(path, ChangeKind::Modified);
            }
        }
        Ok(())
    }

    /// What was in a directory that has been replaced whole, and is not in the new one.
    fn gone(&mut self, path: &Path, seen: &HashSet<OsString>) -> io::Result<()> {
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

const CAPABILITY: &str = "security.capability";

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// What the layers, one over the other, have at a path. No link on the way is followed: in a layer it would lead to the
/// host's files.
fn find(lowers: &[PathBuf], path: &Path) -> io::Result<Option<(PathBuf, Stat)>> {
    for lower in lowers {
        let mut place = lower.clone();
        let mut parts = path.components().peekable();
        let mut opaque = false;
        while let Some(part) = parts.next() {
            place.push(part);
            let stat = match rustix::fs::lstat(&place) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            };
            if is_whiteout(stat.st_mode, stat.st_rdev) {
                return Ok(None);
            }
            if parts.peek().is_none() {
                return Ok(Some((place, stat)));
            }
            if !is_dir(&stat) {
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

fn differs(new: &Stat, old: &Stat) -> bool {
    let status = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev);
    let content = |s: &Stat| (s.st_mtime, s.st_mtime_nsec, s.st_size);
    status(new) != status(old) || (!is_dir(new) && content(new) != content(old))
}

fn capability_of(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0_u8; 64];
    let n = rustix::fs::lgetxattr(path, CAPABILITY, &mut value[..]).ok()?;
    Some(value[..n].to_vec())
}
