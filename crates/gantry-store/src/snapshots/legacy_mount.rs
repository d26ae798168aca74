//! Overlay mounts where fsconfig(2) has no `lowerdir+` (before Linux 6.5): by mount(2), which takes all layers in one
//! page of text, in a mount namespace that lives as long as one thread, so that the host never sees the mount.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, mount, mount_change, open_tree,
};
use rustix::thread::UnshareFlags;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// mount(2) takes a page of options, and no machine's pages are smaller.
const SMALLEST_PAGE: usize = 4096;

/// Mounts `dir/upper` over the layers, the uppermost first; a detached mount.
pub(crate) fn overlay(
    lowers: &[PathBuf],
    dir: &Path,
    volatile: bool,
    userxattr: bool,
) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| in_namespace(lowers, dir, volatile, userxattr));
        let panicked = |_| io::Error::other("the thread that mounts panicked");
        thread.join().map_err(panicked)?
    })
}

fn in_namespace(
    lowers: &[PathBuf],
    dir: &Path,
    volatile: bool,
    userxattr: bool,
) -> io::Result<OwnedFd> {
    // SAFETY: the thread ends with the caller's function: nothing else runs with its mount namespace and folder.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    // Descriptors as names: short, and without the characters that would have to be escaped.
    let mut held: Vec<OwnedFd> = Vec::new();
    let mut name = |path: &Path| -> io::Result<String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        held.push(fd);
        Ok(name)
    };
    let layers = lowers
        .iter()
        .map(|lower| name(lower))
        .collect::<io::Result<Vec<_>>>()?;
    let (upper, work) = (name(&dir.join("upper"))?, name(&dir.join("work"))?);
    let volatile = if volatile { ",volatile" } else { "" };
    let userxattr = if userxattr { ",userxattr" } else { "" };
    let layers = layers.join(":");
    let options = format!("lowerdir={layers},upperdir={upper},workdir={work}{volatile}{userxattr}");
    if options.len() >= SMALLEST_PAGE {
        let text = "too many layers for this kernel: 6.5 or newer is needed";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let options = CString::new(options)?;
    mount(
        "overlay",
        dir,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, dir, flags)?)
}
