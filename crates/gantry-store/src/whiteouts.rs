//! How a layer's folder says what it hides of the layers below: as overlay does (kernel:
//! Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"), whatever the snapshot driver.

use rustix::fs::{FileType, Mode, XattrFlags, makedev};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

const OPAQUE: &str = "trusted.overlay.opaque";
/// In a user namespace, where `trusted.` attributes cannot be set (overlay's option `userxattr`).
const USER_OPAQUE: &str = "user.overlay.opaque";

/// Whether a file of this mode and device is a whiteout.
pub(crate) fn is_whiteout(mode: u32, device: u64) -> bool {
    FileType::from_raw_mode(mode) == FileType::CharacterDevice && device == 0
}

/// Whether an attribute is overlay's own, which no image may set.
pub(crate) fn is_overlays(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

/// Whether a folder hides what is below; no link is followed.
pub(crate) fn is_opaque(dir: &Path) -> bool {
    [OPAQUE, USER_OPAQUE].iter().any(|name| {
        let mut value = [0_u8; 4];
        matches!(rustix::fs::lgetxattr(dir, *name, &mut value[..]), Ok(1) if value[0] == b'y')
    })
}

/// The same of an open folder.
pub(crate) fn is_opaque_fd(dir: &OwnedFd) -> bool {
    [OPAQUE, USER_OPAQUE].iter().any(|name| {
        let mut value = [0_u8; 4];
        matches!(rustix::fs::fgetxattr(dir, *name, &mut value[..]), Ok(1) if value[0] == b'y')
    })
}

/// Marks a directory as hiding what is below.
pub(crate) fn make_opaque(dir: &OwnedFd) -> io::Result<()> {
    let set = |name| rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty());
    match set(OPAQUE) {
        Err(Errno::PERM) => Ok(set(USER_OPAQUE)?),
        other => Ok(other?),
    }
}

/// Whether marks have to be `user.` ones below this folder.
pub(crate) fn must_be_users(dir: &OwnedFd) -> bool {
    let probe = "trusted.overlay.probe";
    let set = rustix::fs::fsetxattr(dir, probe, b"y", XattrFlags::empty());
    let _ = rustix::fs::fremovexattr(dir, probe);
    set == Err(Errno::PERM)
}

/// Makes a whiteout: a character device 0/0.
pub(crate) fn make_whiteout(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let device = makedev(0, 0);
    let kind = FileType::CharacterDevice;
    Ok(rustix::fs::mknodat(dir, name, kind, Mode::empty(), device)?)
}
