//! A container's file system for the daemon to look into: of a running container its own, of another one its layers with
//! its mounts, put together in a mount namespace that nothing but a descriptor keeps.
//!
//! No process lives in such a namespace and nothing of it shows on the host, so a daemon that is killed leaves nothing.

use crate::sys;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is mounted over the layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder or file of the host.
    Path {
        path: std::path::PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        read_only: bool,
    },
    /// An empty file system, which is gone with the view.
    Tmpfs,
}

/// One mount of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    /// Absolute, in the container.
    pub destination: String,
}

/// A file system to look into. Paths are to be resolved below [`View::tree`] by openat2 alone.
#[derive(Debug)]
pub struct View {
    tree: OwnedFd,
    bare: Option<OwnedFd>,
    /// Keeps what is mounted in the tree there.
    _namespace: Option<OwnedFd>,
}

impl View {
    /// The root, with all mounts.
    pub fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// The root without any mount over it.
    pub fn bare(&self) -> BorrowedFd<'_> {
        self.bare.as_ref().unwrap_or(&self.tree).as_fd()
    }
}

/// Runs work on a thread that shares neither root nor working directory with others, nor what `more` says.
pub(crate) fn apart<T: Send, E: From<io::Error> + Send>(
    more: UnshareFlags,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            sys::unshare(UnshareFlags::FS | more)?;
            work()
        });
        let panicked = |_| io::Error::other("the thread that mounts panicked");
        thread.join().map_err(panicked)?
    })
}

/// The root of a mount alone, without what is mounted on it.
pub(crate) fn without_mounts(root: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(root, "", flags)?)
}

/// Looks into a running container: its mounts stay as long as the view, even when it ends. `pid` is its first process;
/// the caller makes sure, after this, that it is still the same process.
pub fn of_process(pid: u32) -> io::Result<View> {
    let path = |what: &str| format!("/proc/{pid}/{what}");
    let namespace = rustix::fs::open(
        path("ns/mnt"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tree = rustix::fs::open(path("root"), flags, Mode::empty())?;
    let (inner, root) = (namespace.as_fd(), tree.as_fd());
    let bare: io::Result<_> = apart(UnshareFlags::empty(), || {
        rustix::thread::move_into_link_name_space(inner, Some(LinkNameSpaceType::Mount))?;
        without_mounts(root)
    });
    Ok(View {
        tree,
        bare: Some(bare?),
        _namespace: Some(namespace),
    })
}

/// Puts the file system of a container that does not run together: its layers as a detached mount, and its mounts over
/// them. Sources that are not there are left out.
pub fn of_layers(rootfs: OwnedFd, mounts: &[Mount]) -> io::Result<View> {
    if mounts.is_empty() {
        return Ok(View {
            tree: rootfs,
            bare: None,
            _namespace: None,
        });
    }
    let root = rootfs.as_fd();
    // Here, in the namespace that their paths and descriptors are of.
    let mut sources = Vec::new();
    for mount in mounts {
        if let Some(source) = detached(&mount.source)? {
            sources.push((source, mount));
        }
    }
    let made: io::Result<_> = apart(UnshareFlags::NEWNS, || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        let bare = without_mounts(root)?;
        // The host's mounts are not to be kept by this namespace: a disk could not be taken out. From an initial ramdisk
        // there is no pivoting, and then they are.
        rustix::process::fchdir(root)?;
        if rustix::process::pivot_root(".", ".").is_ok() {
            unmount(".", UnmountFlags::DETACH)?;
        }
        for (source, mount) in sources {
            put(root, source.as_fd(), &mount.destination)?;
        }
        Ok((bare, namespace))
    });
    let (bare, namespace) = made?;
    Ok(View {
        tree: rootfs,
        bare: Some(bare),
        _namespace: Some(namespace),
    })
}

fn detached(source: &Source) -> io::Result<Option<OwnedFd>> {
    match source {
        Source::Path {
            path,
            recursive,
            read_only,
        } => {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if *recursive {
                flags |= OpenTreeFlags::AT_RECURSIVE;
            }
            let tree = match open_tree(CWD, path, flags) {
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
                other => other?,
            };
            let set = if *read_only {
                libc::MOUNT_ATTR_RDONLY
            } else {
                0
            };
            sys::mount_setattr(tree.as_fd(), *recursive, set, 0, libc::MS_PRIVATE)?;
            Ok(Some(tree))
        }
        Source::Tmpfs => {
            let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(context.as_fd(), "mode", "1777")?;
            fsconfig_create(context.as_fd())?;
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            Ok(Some(fsmount(context.as_fd(), flags, attributes)?))
        }
    }
}

fn put(root: BorrowedFd<'_>, mount: BorrowedFd<'_>, destination: &str) -> io::Result<()> {
    let stat = rustix::fs::statat(mount, "", rustix::fs::AtFlags::EMPTY_PATH)?;
    let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let target = if is_dir {
        crate::init::targets::directory(root, destination)?
    } else {
        crate::init::targets::file(root, destination)?
    };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target.as_fd(), "", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read(view: &View, path: &str) -> io::Result<String> {
        let fd = crate::init::targets::open(view.tree(), path, OFlags::RDONLY)?;
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }

    fn tmpfs() -> OwnedFd {
        detached(&Source::Tmpfs).unwrap().unwrap()
    }

    fn write(root: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
        let fd = crate::init::targets::file(root, path)?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        std::fs::write(path, text)
    }

    #[test]
    fn layers_with_mounts_over_them() {
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("file"), "host").unwrap();
        let rootfs = tmpfs();
        write(rootfs.as_fd(), "/data/file", "below").unwrap();
        std::os::unix::fs::symlink("/", host.path().join("way")).unwrap();
        let bind = |destination: &str, read_only| Mount {
            source: Source::Path {
                path: host.path().to_owned(),
                recursive: true,
                read_only,
            },
            destination: destination.to_owned(),
        };
        let missing = Mount {
            source: Source::Path {
                path: "/nowhere/at/all".into(),
                recursive: true,
                read_only: false,
            },
            destination: "/missing".to_owned(),
        };
        let scratch = Mount {
            source: Source::Tmpfs,
            destination: "/scratch".to_owned(),
        };
        let before = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = [bind("/data", false), bind("/ro", true), missing, scratch];
        let view = of_layers(rootfs, &mounts).unwrap();
        assert_eq!(read(&view, "/data/file").unwrap(), "host");
        assert_eq!(read(&view, "/data/way/ro/file").unwrap(), "host");
        assert!(read(&view, "/missing").is_err());
        write(view.tree(), "/data/new", "x").unwrap();
        assert_eq!(
            std::fs::read_to_string(host.path().join("new")).unwrap(),
            "x"
        );
        let refused = write(view.tree(), "/ro/new", "y").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        write(view.tree(), "/scratch/s", "z").unwrap();
        // Without the mounts: what is below them.
        let below = crate::init::targets::open(view.bare(), "/data/file", OFlags::RDONLY).unwrap();
        let mut text = String::new();
        std::fs::File::from(below)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "below");
        // The host sees nothing of it.
        let after = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn a_running_process_and_the_layer_below_its_mounts() {
        let view = of_process(std::process::id()).unwrap();
        assert!(crate::init::targets::open(view.tree(), "/proc/self", OFlags::PATH).is_ok());
        assert!(crate::init::targets::open(view.bare(), "/proc/version", OFlags::PATH).is_err());
    }
}
