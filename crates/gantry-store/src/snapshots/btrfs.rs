//! The btrfs driver: a container's tree is a snapshot, made by one ioctl, of a subvolume that has its image's files. That
//! one is made for the first container of an image, by copies that share the layers' blocks.

use super::trees::Maker;
use super::vfs;
use gantry_oci::Digest;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What statfs(2) says of btrfs (`linux/magic.h`).
const MAGIC: i64 = 0x9123_683e;

/// Whether a folder is on btrfs.
pub(super) fn probe(root: &Path) -> io::Result<()> {
    #[allow(clippy::unnecessary_cast, reason = "another type on other machines")]
    let found = rustix::fs::statfs(root)?.f_type as i64;
    match found {
        MAGIC => Ok(()),
        _ => Err(io::Error::other("the file system is not btrfs")),
    }
}

#[derive(Debug)]
pub(super) struct Btrfs {
    /// Subvolumes of images, by a digest of their layers' diff IDs.
    images: PathBuf,
    /// One at a time makes or removes them.
    making: Mutex<()>,
}

impl Btrfs {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            images: dir.join("images"),
            making: Mutex::new(()),
        }
    }

    fn image(&self, layers: &[Digest]) -> PathBuf {
        let ids: Vec<&str> = layers.iter().map(Digest::as_str).collect();
        self.images.join(Digest::of(ids.join(" ").as_bytes()).hex())
    }
}

impl Maker for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn make(&self, tree: &Path, layers: &[Digest], lowers: &[PathBuf]) -> io::Result<()> {
        let _held = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        std::fs::create_dir_all(&self.images)?;
        let image = self.image(layers);
        if !image.exists() {
            // Half-made after a crash.
            let unfinished = self.images.join("unfinished");
            remove(&unfinished)?;
            call::create(&unfinished)?;
            vfs::copy(&unfinished, lowers)?;
            std::fs::rename(&unfinished, &image)?;
        }
        call::snapshot(&image, tree)
    }

    fn remove(&self, tree: &Path) -> io::Result<()> {
        remove(tree)
    }

    fn collect(&self, used: &HashSet<Vec<Digest>>) -> io::Result<()> {
        let _held = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let used: HashSet<PathBuf> = used.iter().map(|layers| self.image(layers)).collect();
        let entries = match std::fs::read_dir(&self.images) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for entry in entries.flatten() {
            if !used.contains(&entry.path()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a subvolume; fine when there is none.
fn remove(tree: &Path) -> io::Result<()> {
    match call::destroy(tree) {
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Ok(()),
            // A container made subvolumes in its own: they go as folders do, once they are empty. And a folder that is
            // none goes like any.
            Some(Errno::NOTEMPTY | Errno::INVAL | Errno::BUSY) => {
                for entry in std::fs::read_dir(tree)? {
                    let entry = entry?;
                    match entry.file_type()?.is_dir() {
                        true => std::fs::remove_dir_all(entry.path())?,
                        false => std::fs::remove_file(entry.path())?,
                    }
                }
                call::destroy(tree).or_else(|_| std::fs::remove_dir(tree))
            }
            _ => Err(error),
        },
        Ok(()) => Ok(()),
    }
}

fn parent_and_name(path: &Path) -> io::Result<(File, &OsStr)> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((File::open(parent)?, name))
}

/// The ioctls (`linux/btrfs.h`).
mod call {
    use super::{AsRawFd, File, OsStr, OsStrExt, Path, io, parent_and_name};
    use rustix::ioctl::{Setter, ioctl, opcode};

    const MAGIC: u8 = 0x94;
    const CREATE: u32 = opcode::write::<Arguments>(MAGIC, 14);
    const DESTROY: u32 = opcode::write::<Arguments>(MAGIC, 15);
    const SNAPSHOT: u32 = opcode::write::<Arguments>(MAGIC, 1);

    /// `struct btrfs_ioctl_vol_args`.
    #[repr(C)]
    struct Arguments {
        fd: i64,
        name: [u8; 4088],
    }

    fn arguments(fd: i64, name: &OsStr) -> io::Result<Arguments> {
        let mut arguments = Arguments {
            fd,
            name: [0; 4088],
        };
        let bytes = name.as_bytes();
        // It ends with a NUL byte.
        let room = arguments.name.get_mut(..bytes.len() + 1);
        let room = room.ok_or(io::ErrorKind::InvalidFilename)?;
        room[..bytes.len()].copy_from_slice(bytes);
        Ok(arguments)
    }

    /// Makes an empty subvolume.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        let (parent, name) = parent_and_name(path)?;
        let arguments = arguments(0, name)?;
        // SAFETY: BTRFS_IOC_SUBVOL_CREATE reads a btrfs_ioctl_vol_args, which this is.
        Ok(unsafe { ioctl(&parent, Setter::<CREATE, Arguments>::new(arguments)) }?)
    }

    /// Makes a writable snapshot of a subvolume.
    pub(super) fn snapshot(of: &Path, path: &Path) -> io::Result<()> {
        let of = File::open(of)?;
        let (parent, name) = parent_and_name(path)?;
        let arguments = arguments(i64::from(of.as_raw_fd()), name)?;
        // SAFETY: BTRFS_IOC_SNAP_CREATE reads a btrfs_ioctl_vol_args, which this is; its descriptor is open.
        Ok(unsafe { ioctl(&parent, Setter::<SNAPSHOT, Arguments>::new(arguments)) }?)
    }

    /// Removes a subvolume with all that is in it, but no subvolumes.
    pub(super) fn destroy(path: &Path) -> io::Result<()> {
        let (parent, name) = parent_and_name(path)?;
        let arguments = arguments(0, name)?;
        // SAFETY: BTRFS_IOC_SNAP_DESTROY reads a btrfs_ioctl_vol_args, which this is.
        Ok(unsafe { ioctl(&parent, Setter::<DESTROY, Arguments>::new(arguments)) }?)
    }
}
