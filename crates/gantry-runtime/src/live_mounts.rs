//! Mounts of a container that runs, put in and taken out: nothing is asked of its image, its processes notice nothing.
//!
//! What is to be mounted is made or cloned on the host, attached nowhere. Then a thread of the caller's enters the
//! container's mount namespace for a few system calls and finds the places below its root, by openat2 alone.
//!
//! The container may have changed what leads to a place since. A mount is only taken out where no symbolic link leads to
//! it, or where it shows what it is said to show; and one is only put in where it hides no other. So nobody's mounts are
//! taken out by a link that points to them, above all not those over parts of `/proc`.

use crate::init::{put, targets};
use crate::sys;
use crate::view::{apart, without_mounts};
use oci_spec::runtime::Mount;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the kernel calls a tmpfs (linux/magic.h).
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// A mount to take out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Absolute, in the container.
    pub destination: String,
    /// The host's file or folder that it shows; none of a file system of its own.
    pub source: Option<PathBuf>,
}

/// Why the mounts could not be changed. They are as they were.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It ended meanwhile; with it, its mounts are gone.
    #[error("the container has ended")]
    Ended,
    /// The place is one of a mount, or above one.
    #[error("cannot mount {destination}: something is mounted at {mounted}")]
    Hides {
        destination: String,
        mounted: String,
    },
    /// Docker's runtime says the same of such a mount at the start.
    #[error("\"{0}\" cannot be mounted because it is inside /proc")]
    InsideProc(String),
    /// Links on the way have been changed by the container, or folders moved.
    #[error(
        "cannot remove the mount {0}: what leads to it has been changed, and it is not clear which mount it is"
    )]
    LinksMoved(String),
    /// The mount cannot be made: its source is not there, an option is wrong, ...
    #[error(transparent)]
    Source(crate::spawn::StartError),
    /// A step inside the container failed.
    #[error("{step}: {source}")]
    Step { step: String, source: io::Error },
}

impl From<io::Error> for ChangeError {
    fn from(source: io::Error) -> Self {
        Self::Step {
            step: "enter the container's mounts".into(),
            source,
        }
    }
}

fn step<E: Into<io::Error>>(words: impl Into<String>) -> impl FnOnce(E) -> ChangeError {
    let step = words.into();
    move |source| ChangeError::Step {
        step,
        source: source.into(),
    }
}

/// Takes mounts out of a running container, then puts others in, in the given order; all of them or none. `container` is
/// a pidfd of its first process, `stay` are the destinations of mounts that are not to be touched. What is not there any
/// more counts as taken out. Blocks, but waits for no process of the container.
///
/// A file that is open in a mount that is taken out stays open.
///
/// # Errors
/// See [`ChangeError`]; nothing has changed then.
pub fn change(
    container: BorrowedFd<'_>,
    remove: &[Removal],
    stay: &[&str],
    add: &[Mount],
) -> Result<(), ChangeError> {
    let mut coming = Vec::new();
    for mount in add {
        let (tree, is_dir) = crate::compile::detached(mount).map_err(ChangeError::Source)?;
        coming.push(Coming {
            destination: mount.destination().display().to_string(),
            tree,
            is_dir,
        });
    }
    let going: Vec<Going<'_>> = remove
        .iter()
        .map(|removal| Going {
            destination: &removal.destination,
            shows: removal.source.as_deref().and_then(identity_of),
        })
        .collect();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty()).map_err(step("open /proc"))?;
    apart(UnshareFlags::empty(), move || {
        match move_into_thread_name_spaces(container, ThreadNameSpaceType::MOUNT) {
            Err(Errno::SRCH) => return Err(ChangeError::Ended),
            other => other.map_err(io::Error::from)?,
        }
        let root = rustix::fs::open("/", flags, Mode::empty()).map_err(io::Error::from)?;
        let inside = Inside { root, proc, stay };
        let mut done = Done::default();
        let changed = inside.change(&going, &coming, &mut done);
        if changed.is_err() {
            inside.undo(&done);
        }
        changed
    })
}

/// A file's device and number.
type Identity = (u64, u64);

fn identity_of(path: &Path) -> Option<Identity> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

#[derive(Debug)]
struct Going<'a> {
    destination: &'a str,
    shows: Option<Identity>,
}

#[derive(Debug)]
struct Coming {
    destination: String,
    tree: OwnedFd,
    is_dir: bool,
}

/// What has been done so far, by index.
#[derive(Debug, Default)]
struct Done<'a> {
    /// What was there, with what was mounted below it.
    removed: Vec<(&'a str, OwnedFd)>,
    added: Vec<BorrowedFd<'a>>,
}

/// The container's mount namespace, which the thread is in.
#[derive(Debug)]
struct Inside<'s> {
    root: OwnedFd,
    /// The host's `/proc`.
    proc: OwnedFd,
    stay: &'s [&'s str],
}

impl Inside<'_> {
    fn change<'a>(
        &self,
        going: &'a [Going<'a>],
        coming: &'a [Coming],
        done: &mut Done<'a>,
    ) -> Result<(), ChangeError> {
        for mount in going {
            let words = || format!("cannot remove the mount {}", mount.destination);
            let Some(there) = self.mounted_at(mount)? else {
                continue;
            };
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE;
            // What cannot be cloned cannot be put back either: then it is gone if another step fails.
            let kept = open_tree(&there, "", flags).ok();
            self.unmount(there.as_fd()).map_err(step(words()))?;
            done.removed
                .extend(kept.map(|tree| (mount.destination, tree)));
        }
        for mount in coming {
            let words = || format!("cannot mount {}", mount.destination);
            let target = self
                .place(&mount.destination, mount.is_dir)
                .map_err(step(words()))?;
            self.check_place(&mount.destination, target.as_fd())?;
            put(mount.tree.as_fd(), target.as_fd()).map_err(step(words()))?;
            done.added.push(mount.tree.as_fd());
        }
        Ok(())
    }

    /// As well as it goes.
    fn undo(&self, done: &Done<'_>) {
        for tree in done.added.iter().rev() {
            let _ = self.unmount(*tree);
        }
        for (destination, tree) in done.removed.iter().rev() {
            let _ = targets::open(self.root.as_fd(), destination, OFlags::PATH)
                .and_then(|target| put(tree.as_fd(), target.as_fd()));
        }
    }

    /// Takes out a mount that a descriptor is the root of.
    fn unmount(&self, mount: BorrowedFd<'_>) -> io::Result<()> {
        rustix::process::fchdir(&self.proc)?;
        let path = format!("thread-self/fd/{}", mount.as_raw_fd());
        Ok(unmount(path, UnmountFlags::DETACH)?)
    }

    /// The root of the mount that is to go; none when it is not there.
    fn mounted_at(&self, mount: &Going<'_>) -> Result<Option<OwnedFd>, ChangeError> {
        let words = || format!("cannot find the mount {}", mount.destination);
        if let Some(place) = self.straight(mount.destination).map_err(step(words()))? {
            return Ok(Some(place));
        }
        // Links lead to it, or the container has moved what is above it.
        let by_links = match targets::open(self.root.as_fd(), mount.destination, OFlags::PATH) {
            Ok(place) => mount_root(place).map_err(step(words()))?,
            Err(_) => None,
        };
        let Some(shown) = mount.shows else {
            return match by_links {
                Some(place) if self.is_users_tmpfs(place.as_fd()).map_err(step(words()))? => {
                    Ok(Some(place))
                }
                Some(_) => Err(ChangeError::LinksMoved(mount.destination.to_owned())),
                None => Ok(None),
            };
        };
        if let Some(place) = by_links
            && identity(place.as_fd()).map_err(step(words()))? == shown
        {
            return Ok(Some(place));
        }
        let mut found = None;
        for point in self.mount_points().map_err(step(words()))? {
            if self.stays(&point) {
                continue;
            }
            let Ok(Some(place)) = self.straight(Path::new(OsStr::from_bytes(&point))) else {
                continue;
            };
            if identity(place.as_fd()).is_ok_and(|shows| shows == shown)
                && found.replace(place).is_some()
            {
                return Err(ChangeError::LinksMoved(mount.destination.to_owned()));
            }
        }
        Ok(found)
    }

    fn stays(&self, point: &[u8]) -> bool {
        self.stay.iter().any(|place| place.as_bytes() == point)
    }

    /// Whether it is a file system in memory as users have them, and none of the container's own, which are below these
    /// places or read-only.
    fn is_users_tmpfs(&self, place: BorrowedFd<'_>) -> io::Result<bool> {
        let point = [self.path_of(place)?];
        let own = ["/proc", "/sys", "/dev"];
        let is_own = |own: &str| hidden_by(own.as_bytes(), &point).is_some();
        let read_only = rustix::fs::fstatvfs(place)?
            .f_flag
            .contains(rustix::fs::StatVfsMountFlags::RDONLY);
        Ok(rustix::fs::fstatfs(place)?.f_type == TMPFS
            && !read_only
            && !self.stays(&point[0])
            && !own.into_iter().any(is_own))
    }

    /// Where a file is, for the container.
    fn path_of(&self, file: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
        let link = format!("thread-self/fd/{}", file.as_raw_fd());
        Ok(rustix::fs::readlinkat(&self.proc, link, Vec::new())?.into_bytes())
    }

    /// The mount at a place that no link leads to; none where there is none.
    fn straight(&self, path: impl AsRef<Path>) -> io::Result<Option<OwnedFd>> {
        let relative = path.as_ref().strip_prefix("/").unwrap_or(path.as_ref());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let straight = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), straight) {
            Ok(place) => mount_root(place),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The place to mount at, made where it is missing: also in a root that the container may not write to.
    fn place(&self, destination: &str, is_dir: bool) -> io::Result<OwnedFd> {
        let made = |root: BorrowedFd<'_>| {
            if is_dir {
                targets::directory(root, destination)
            } else {
                targets::file(root, destination)
            }
        };
        match made(self.root.as_fd()) {
            Err(error)
                if error.kind() == io::ErrorKind::ReadOnlyFilesystem
                    && self.belongs_to_root(destination)? => {}
            other => return other,
        }
        let writable = without_mounts(&self.root)?;
        sys::mount_setattr(writable.as_fd(), false, 0, libc::MOUNT_ATTR_RDONLY, 0)?;
        made(writable.as_fd())?;
        targets::open(self.root.as_fd(), destination, OFlags::PATH)
    }

    /// Whether the deepest directory on the way that is there is the root mount's.
    fn belongs_to_root(&self, destination: &str) -> io::Result<bool> {
        let mut path = Path::new(destination);
        while let Some(parent) = path.parent() {
            path = parent;
            let text = path.to_str().unwrap_or("/");
            match targets::open(self.root.as_fd(), text, OFlags::PATH) {
                Ok(dir) => return Ok(mount_id(dir.as_fd())? == mount_id(self.root.as_fd())?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Refuses places where a mount would hide another, and those inside `/proc`.
    fn check_place(&self, destination: &str, target: BorrowedFd<'_>) -> Result<(), ChangeError> {
        let words = || format!("cannot look at {destination}");
        let kind = rustix::fs::fstatfs(target).map_err(step(words()))?.f_type;
        if kind == rustix::fs::PROC_SUPER_MAGIC {
            return Err(ChangeError::InsideProc(destination.to_owned()));
        }
        let resolved = self.path_of(target).map_err(step(words()))?;
        let table = self.mount_points().map_err(step(words()))?;
        match hidden_by(&resolved, &table) {
            None => Ok(()),
            Some(mounted) => Err(ChangeError::Hides {
                destination: destination.to_owned(),
                mounted: String::from_utf8_lossy(mounted).into_owned(),
            }),
        }
    }

    fn mount_points(&self) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = "thread-self/mountinfo";
        let file = rustix::fs::openat(&self.proc, path, flags, Mode::empty())?;
        let mut table = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(file), &mut table)?;
        Ok(table
            .split(|b| *b == b'\n')
            .filter_map(|line| line.split(|b| *b == b' ').nth(4))
            .map(unescape)
            .collect())
    }
}

/// What is given where it is the root of a mount.
fn mount_root(place: OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(&place, "", flags, StatxFlags::TYPE)?;
    let is_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok(is_root.then_some(place))
}

fn identity(file: BorrowedFd<'_>) -> io::Result<Identity> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn mount_id(file: BorrowedFd<'_>) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    Ok(rustix::fs::statx(file, "", flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// A mount point that is the place itself, or below it.
fn hidden_by<'t>(place: &[u8], table: &'t [Vec<u8>]) -> Option<&'t [u8]> {
    let below = |point: &[u8]| {
        point
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    let all = table.iter().map(Vec::as_slice);
    all.filter(|point| place == b"/" || below(point)).min()
}

/// A path of `mountinfo`, where blanks are octal numbers (`\040`).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match number {
            Some(number) if *first == b'\\' => {
                path.push(number);
                rest = &after[3..];
            }
            _ => {
                path.push(*first);
                rest = after;
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_hide_others() {
        let table: Vec<Vec<u8>> = ["/", "/proc", "/etc/hosts", "/a b"]
            .map(|p| p.as_bytes().to_vec())
            .into();
        let hidden = |place: &str| hidden_by(place.as_bytes(), &table);
        assert_eq!(hidden("/etc"), Some(&b"/etc/hosts"[..]));
        assert_eq!(hidden("/etc/hosts"), Some(&b"/etc/hosts"[..]));
        assert_eq!(hidden("/etc/host"), None);
        assert_eq!(hidden("/et"), None);
        assert_eq!(hidden("/data"), None);
        assert_eq!(hidden("/"), Some(&b"/"[..]));
    }

    #[test]
    fn escaped_paths() {
        assert_eq!(unescape(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape(b"/a\\04"), b"/a\\04");
    }
}
