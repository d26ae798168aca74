//! Mounts of a running container, put in and taken out: by descriptors in its mount namespace, without a word from its
//! programs.
//!
//! The target is found below the container's root by openat2 alone, so no link that its programs make or change leads
//! out of it; the mount is made on what was found, whatever has that name by then.

use crate::compile;
use crate::init::{mounts, targets};
use crate::plan::Mounted;
use crate::view::apart;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A running container's mounts. It stays good for as long as it is held; the caller makes sure, after
/// [`Target::of`], that the process is still the same.
#[derive(Debug)]
pub struct Target {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Target {
    /// The mounts that a container's first process has.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        let open = |what: &str, flags| {
            rustix::fs::open(
                format!("/proc/{pid}/{what}"),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        Ok(Self {
            namespace: open("ns/mnt", OFlags::RDONLY)?,
            root: open("root", OFlags::PATH | OFlags::DIRECTORY)?,
        })
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let namespace = self.namespace.as_fd();
        apart(UnshareFlags::empty(), || {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
            work()
        })
    }

    /// Mounts what the spec's mount says; its target is made where it is missing.
    ///
    /// # Errors
    /// The source is not there, the target cannot be made, or the kernel refuses.
    pub fn attach(&self, mount: &oci_spec::runtime::Mount) -> io::Result<()> {
        let mut fds = compile::Fds::default();
        let plan = compile::mount_plan(mount, &mut fds).map_err(io::Error::other)?;
        let mut fds = fds.into_inner();
        let (tree, is_dir) = match &plan.what {
            Mounted::Bind { mount, is_dir } => (fds.swap_remove(*mount), *is_dir),
            Mounted::New {
                kind,
                source,
                options,
            } => (
                mounts::new_file_system(kind, source, options, plan.attributes)?,
                true,
            ),
            Mounted::Cgroup { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        let (root, place) = (self.root.as_fd(), plan.destination.as_str());
        self.inside(|| {
            let target = if is_dir {
                targets::directory(root, place)?
            } else {
                targets::file(root, place)?
            };
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            Ok(move_mount(tree.as_fd(), "", target.as_fd(), "", flags)?)
        })
    }

    /// Takes a mount away. Programs that have files of it open keep these.
    ///
    /// # Errors
    /// Nothing is mounted there.
    pub fn detach(&self, destination: &str) -> io::Result<()> {
        let trimmed = destination.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if matches!(name, "" | "." | "..") {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let root = self.root.as_fd();
        self.inside(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let parent = targets::open(root, parent, flags)?;
            // This thread's working directory is its own; the last name follows no link.
            rustix::process::fchdir(parent)?;
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            Ok(unmount(OsStr::from_bytes(name.as_bytes()), flags)?)
        })
    }
}
