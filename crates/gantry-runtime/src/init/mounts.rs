//! The container's file systems, by the mount API of descriptors (fsopen, fsmount, open_tree, move_mount).

use super::{Failed, Step, failed, targets};
use crate::plan::{DevicePlan, InitPlan, MountPlan, Mounted, Plan};
use crate::spawner::{CGROUPS, ROOT};
use crate::sys;
use rustix::fs::{FileType, Mode, OFlags, makedev, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The container's root, attached in the new mount namespace but not yet `/`.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
}

impl Root {
    pub(super) fn attach(mount: BorrowedFd<'_>) -> Result<Self, Failed> {
        let step = || "attach the root file system".to_owned();
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .step(step)?;
        // A clone of a shared mount is of the host's peer group: what is mounted in it would show on the host.
        sys::mount_setattr(mount, true, 0, 0, libc::MS_PRIVATE).step(step)?;
        move_mount(
            mount,
            "",
            rustix::fs::CWD,
            ROOT,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .step(step)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(ROOT, flags, Mode::empty()).step(step)?;
        Ok(Self { fd })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes it `/`; the spawner's root is gone afterwards.
    pub(super) fn pivot(&self, init: &InitPlan) -> Result<(), Failed> {
        let step = || "change the root".to_owned();
        if init.readonly_root {
            sys::mount_setattr(self.fd(), false, libc::MOUNT_ATTR_RDONLY, 0, 0).step(step)?;
        }
        rustix::process::fchdir(&self.fd).step(step)?;
        rustix::process::pivot_root(".", ".").step(step)?;
        unmount(".", UnmountFlags::DETACH).step(step)?;
        rustix::process::chdir("/").step(step)?;
        if init.root_propagation != 0 {
            let flags = MountPropagationFlags::from_bits_retain(init.root_propagation as u32);
            mount_change("/", flags).step(step)?;
        }
        Ok(())
    }
}

/// Attaches a detached mount to a place that was found inside the root.
pub(crate) fn put(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

/// A file system of its own, as a detached mount.
pub(crate) fn new_file_system(
    kind: &str,
    source: &str,
    options: &[String],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !source.is_empty() {
        fsconfig_set_string(context.as_fd(), "source", source)?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// All mounts and devices of the plan.
pub(super) fn populate(root: &Root, plan: &Plan, fds: &[OwnedFd]) -> Result<(), Failed> {
    let mut devices_made = false;
    for mount in &plan.init.mounts {
        one(root, plan, fds, mount).step(|| format!("mount {}", mount.destination))?;
        if mount.destination == "/dev" && matches!(mount.what, Mounted::New { .. }) {
            devices(root, &plan.init)?;
            devices_made = true;
        }
    }
    if !devices_made && !plan.init.devices.is_empty() {
        devices(root, &plan.init)?;
    }
    Ok(())
}

fn one(root: &Root, plan: &Plan, fds: &[OwnedFd], mount: &MountPlan) -> io::Result<()> {
    let place = mount.destination.as_str();
    match &mount.what {
        Mounted::New {
            kind,
            source,
            options,
        } => {
            let made = new_file_system(kind, source, options, mount.attributes)?;
            let target = if matches!(kind.as_str(), "proc" | "sysfs") {
                targets::plain_directory(root.fd(), place)?
            } else {
                targets::directory(root.fd(), place)?
            };
            put(made.as_fd(), target.as_fd())?;
        }
        Mounted::Bind {
            mount: index,
            is_dir,
        } => {
            let target = if *is_dir {
                targets::directory(root.fd(), place)?
            } else {
                targets::file(root.fd(), place)?
            };
            put(fds[*index].as_fd(), target.as_fd())?;
        }
        Mounted::Cgroup { read_only } => cgroups(root, plan, place, *read_only)?,
    }
    Ok(())
}

/// The container's own groups, as clones of the hierarchies that the spawner keeps below [`CGROUPS`].
fn cgroups(root: &Root, plan: &Plan, place: &str, read_only: bool) -> io::Result<()> {
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    let clone = |hierarchy: &str| -> io::Result<OwnedFd> {
        let path = format!(
            "{CGROUPS}/{hierarchy}/{}",
            plan.cgroup_path.trim_start_matches('/')
        );
        let tree = open_tree(
            rustix::fs::CWD,
            path,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?;
        sys::mount_setattr(tree.as_fd(), false, attributes, 0, 0)?;
        Ok(tree)
    };
    let mut hierarchies: Vec<String> = std::fs::read_dir(CGROUPS)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    hierarchies.sort();
    let target = targets::directory(root.fd(), place)?;
    if hierarchies == ["unified"] {
        return put(clone("unified")?.as_fd(), target.as_fd());
    }
    let options = ["mode=755".to_owned(), "size=64k".to_owned()];
    let tmpfs = new_file_system(
        "tmpfs",
        "cgroup",
        &options,
        attributes & !libc::MOUNT_ATTR_RDONLY,
    )?;
    put(tmpfs.as_fd(), target.as_fd())?;
    for name in hierarchies.iter().filter(|name| *name != "unified") {
        let Ok(tree) = clone(name) else { continue };
        put(
            tree.as_fd(),
            targets::directory(root.fd(), &format!("{place}/{name}"))?.as_fd(),
        )?;
        if name.contains(',') {
            let dir = targets::directory(root.fd(), place)?;
            for part in name.split(',') {
                let _ = symlinkat(name.as_str(), &dir, part);
            }
        }
    }
    if read_only {
        sys::mount_setattr(tmpfs.as_fd(), false, libc::MOUNT_ATTR_RDONLY, 0, 0)?;
    }
    Ok(())
}

/// `/dev`: the devices that every container has (OCI runtime spec, config-linux.md), those of the plan, the links.
fn devices(root: &Root, init: &InitPlan) -> Result<(), Failed> {
    const DEFAULT: [(&str, u32, u32); 6] = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    const LINKS: [(&str, &str); 6] = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
        ("pts/ptmx", "ptmx"),
    ];
    let dev = targets::directory(root.fd(), "dev").step(|| "open /dev".into())?;
    for (name, major, minor) in DEFAULT {
        let device = DevicePlan {
            path: format!("/dev/{name}"),
            kind: 'c',
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        make_device(root, &device).step(|| format!("make {}", device.path))?;
    }
    for device in &init.devices {
        make_device(root, device).step(|| format!("make {}", device.path))?;
    }
    for (to, name) in LINKS {
        match symlinkat(to, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(format!("make /dev/{name}"), error)),
        }
    }
    Ok(())
}

fn make_device(root: &Root, device: &DevicePlan) -> io::Result<()> {
    let (parent, name) = device.path.rsplit_once('/').unwrap_or(("", &device.path));
    let dir = targets::directory(root.fd(), parent)?;
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    match mknodat(
        &dir,
        name,
        kind,
        Mode::from_raw_mode(device.mode),
        makedev(device.major, device.minor),
    ) {
        Err(Errno::EXIST) => return Ok(()),
        other => other?,
    }
    // The umask was in the way of the mode.
    rustix::fs::chmodat(
        &dir,
        name,
        Mode::from_raw_mode(device.mode),
        rustix::fs::AtFlags::empty(),
    )?;
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(device.uid),
            rustix::fs::Gid::from_raw(device.gid),
        );
        rustix::fs::chownat(
            &dir,
            name,
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// The terminal at `/dev/console`.
pub(super) fn console(root: &Root, slave: &OwnedFd) -> Result<(), Failed> {
    let step = || "put the terminal at /dev/console".to_owned();
    let target = targets::file(root.fd(), "dev/console").step(step)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = open_tree(slave.as_fd(), "", flags).step(step)?;
    put(clone.as_fd(), target.as_fd()).step(step)
}

/// Writes to a file inside the root.
pub(super) fn write_in(root: &Root, path: &str, text: &str) -> io::Result<()> {
    let file = targets::open(root.fd(), path, OFlags::WRONLY)?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// Masked and read-only paths; what the container does not have needs no protection.
pub(super) fn protect(root: &Root, init: &InitPlan) -> Result<(), Failed> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    for path in &init.readonly {
        let step = || format!("make {path} read-only");
        let Some(place) = there(root, path).step(step)? else {
            continue;
        };
        let tree = open_tree(place.as_fd(), "", clone | OpenTreeFlags::AT_RECURSIVE).step(step)?;
        sys::mount_setattr(tree.as_fd(), true, libc::MOUNT_ATTR_RDONLY, 0, 0).step(step)?;
        put(tree.as_fd(), place.as_fd()).step(step)?;
    }
    let mut empty: Option<OwnedFd> = None;
    for path in &init.masked {
        let step = || format!("mask {path}");
        let Some(place) = there(root, path).step(step)? else {
            continue;
        };
        let is_dir = rustix::fs::fstat(&place).step(step)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if is_dir {
            let tmpfs = match empty.take() {
                Some(first) => open_tree(first.as_fd(), "", clone).step(step)?,
                None => {
                    new_file_system("tmpfs", "tmpfs", &[], libc::MOUNT_ATTR_RDONLY).step(step)?
                }
            };
            put(tmpfs.as_fd(), place.as_fd()).step(step)?;
            empty = Some(tmpfs);
        } else {
            let null = targets::open(root.fd(), "dev/null", OFlags::PATH).step(step)?;
            put(
                open_tree(null.as_fd(), "", clone).step(step)?.as_fd(),
                place.as_fd(),
            )
            .step(step)?;
        }
    }
    Ok(())
}

fn there(root: &Root, path: &str) -> io::Result<Option<OwnedFd>> {
    match targets::open(root.fd(), path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
