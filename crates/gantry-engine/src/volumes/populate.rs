//! Copy-up: a volume that is mounted for the first time takes over what the image has at that place.

use crate::error::{Error, Result};
use gantry_tar::Root;
use gantry_tar::pack::{self, Packer};
use gantry_tar::unpack::{self, Links, Owner};
use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Copies what a container's root has at `destination` into an empty folder: with owners, modes, times, attributes and
/// links. Links on the way to it lead nowhere but inside the root; nothing there is fine.
pub(crate) fn copy_up(rootfs: BorrowedFd<'_>, destination: &str, folder: &Path) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::caused(
            &format!("cannot copy the image's {destination} into the volume"),
            e,
        )
    };
    let Some(source) = open_in(rootfs, destination).map_err(failed)? else {
        return Ok(());
    };
    let is_empty = |path: &Path| std::fs::read_dir(path).map(|mut all| all.next().is_none());
    if !is_empty(folder).map_err(failed)? {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let stat = rustix::fs::fstat(&source).map_err(|e| failed(e.into()))?;
    copy(source, target.try_clone().map_err(failed)?)?;
    rustix::fs::fchown(
        &target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
    .and_then(|()| rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777)))
    .map_err(|e| failed(e.into()))
}

/// A directory below the root; none where there is nothing, or something else.
fn open_in(root: BorrowedFd<'_>, path: &str) -> std::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let relative = match path.trim_start_matches('/') {
        "" => ".",
        other => other,
    };
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, relative, flags, Mode::empty(), inside) {
        Ok(dir) => Ok(Some(dir)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One tree into another, as an archive through a pipe: one thread packs, this one unpacks.
fn copy(source: OwnedFd, target: OwnedFd) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::system(format!(
            "cannot copy the image's files into the volume: {e}"
        ))
    };
    let (mut reader, writer) = std::io::pipe().map_err(|e| failed(&e))?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut packer = Packer::new(writer, pack::Options::default());
            packer.directory(source, b"")?;
            packer.finish().map(drop)
        });
        let options = unpack::Options {
            keep_kind: false,
            owner: Owner::Archive,
            links: Links::Nowhere,
            rename: None,
        };
        let root = Root::new(target);
        let unpacked = unpack::unpack(&mut reader, &root, b"/", &options);
        drop(reader);
        let packed = packing
            .join()
            .map_err(|_| failed(&"the thread that reads panicked"))?;
        unpacked.map_err(|e| failed(&e))?;
        packed.map_err(|e| failed(&e))
    })
}

/// A folder below a volume, for `volume-subpath`: never outside of it, whatever links are there.
pub(crate) fn below(volume: &Path, subpath: &str) -> Result<OwnedFd> {
    let missing = |e: rustix::io::Errno| {
        Error::invalid(format!(
            "cannot access path {}: {}",
            volume.join(subpath).display(),
            gantry_tar::words(&e.into())
        ))
    };
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(volume, dir, Mode::empty()).map_err(missing)?;
    rustix::fs::openat2(
        root.as_fd(),
        subpath.trim_start_matches('/'),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(missing)
}
