//! The overlay driver (kernel: Documentation/filesystems/overlayfs.rst).

use super::bases::Bases;
use super::changes::changes;
use super::compare::{By, compare};
use super::{Base, Change, Driver, Stack, legacy_mount};
use crate::database::Database;
use crate::layers::Layers;
use crate::{At, Result, StoreError, upper, whiteouts};
use gantry_tar::pack;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// fsconfig(2) takes no longer texts.
const LONGEST_TEXT: usize = 255;
/// With these (some distributions' kernels have them on by default) a layer's files would not be all of its content.
const OFF: [&str; 3] = ["redirect_dir", "metacopy", "index"];

#[derive(Debug)]
pub(super) struct Overlay {
    bases: Bases,
    /// Marks are `user.` attributes: the daemon may not set others.
    userxattr: bool,
}

impl Overlay {
    pub(super) fn open(dir: &Path, database: Arc<Database>, layers: Arc<Layers>) -> Result<Self> {
        let bases = Bases::open(dir, database, layers)?;
        let opened = upper::open(dir).at("cannot open", dir)?;
        Ok(Self {
            bases,
            userxattr: whiteouts::must_be_users(&opened),
        })
    }

    /// Whether the kernel can do it below a folder: it is mounted and let go again.
    pub(super) fn probe(dir: &Path) -> io::Result<()> {
        for part in ["lower", "upper", "work"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        let userxattr = whiteouts::must_be_users(&upper::open(dir)?);
        mount(&[dir.join("lower")], dir, false, userxattr).map(drop)
    }
}

/// Mounts `dir/upper` over the lower layers, the uppermost first; a detached mount.
fn mount(lowers: &[PathBuf], dir: &Path, volatile: bool, userxattr: bool) -> io::Result<OwnedFd> {
    let mut held = Vec::new();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let fd = context.as_fd();
    fsconfig_set_string(fd, "source", "overlay")?;
    for (at, lower) in lowers.iter().enumerate() {
        match fsconfig_set_string(fd, "lowerdir+", short(lower, &mut held)?) {
            // The option is not known.
            Err(Errno::INVAL) if at == 0 => {
                return legacy_mount::overlay(lowers, dir, volatile, userxattr);
            }
            other => other?,
        }
    }
    fsconfig_set_string(fd, "upperdir", short(&dir.join("upper"), &mut held)?)?;
    fsconfig_set_string(fd, "workdir", short(&dir.join("work"), &mut held)?)?;
    for feature in OFF {
        // A kernel that does not know it does not do it.
        let _ = fsconfig_set_string(fd, feature, "off");
    }
    if userxattr {
        fsconfig_set_flag(fd, "userxattr")?;
    }
    if volatile {
        fsconfig_set_flag(fd, "volatile")?;
    }
    fsconfig_create(fd)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    Ok(fsmount(fd, flags, MountAttrFlags::empty())?)
}

/// A path that fsconfig takes: a long one by way of a descriptor.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= LONGEST_TEXT {
        return Ok(bytes.to_vec());
    }
    let fd = rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    Ok(name.into_bytes())
}

impl Driver for Overlay {
    fn name(&self) -> &'static str {
        "overlay2"
    }

    fn prepare(&self, id: &str, base: &Base) -> Result<()> {
        // COMPAT: the container's root is 0755 root:root whatever its image says, as with Docker's overlay2.
        self.bases.prepare(id, base, |dir| {
            for part in ["upper", "work"] {
                let part = dir.join(part);
                std::fs::create_dir(&part).at("cannot make", &part)?;
                crate::set_mode(&part, 0o755)?;
            }
            Ok(())
        })
    }

    fn mount(&self, id: &str, volatile: bool) -> Result<OwnedFd> {
        let base = self.bases.base(id)?;
        let dir = self.bases.container(id);
        // What a crash of the machine left of a volatile mount: its flag would refuse this one.
        let _ = std::fs::remove_dir_all(dir.join("work/work/incompat"));
        mount(&self.bases.lowers(&base), &dir, volatile, self.userxattr)
            .at("cannot mount the container's layers", &dir)
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.bases.remove(id, |dir| std::fs::remove_dir_all(dir))
    }

    fn size(&self, id: &str) -> Result<u64> {
        let upper = self.bases.container(id).join("upper");
        let size = upper::open(&upper).and_then(|dir| upper::size(&dir));
        size.at("cannot read", &upper)
    }

    fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let upper = self.bases.container(id).join("upper");
        let lowers = self.bases.lowers(&self.bases.base(id)?);
        changes(&upper, &lowers).at("cannot read", &upper)
    }

    fn pack(&self, id: &str, to: &mut dyn io::Write) -> Result<()> {
        let upper = self.bases.container(id).join("upper");
        let dir = upper::open(&upper).at("cannot read", &upper)?;
        let options = pack::Options {
            whiteouts: true,
            skipped: None,
        };
        let mut packer = pack::Packer::new(to, options);
        let packed = packer.directory(dir, b"").and_then(|()| packer.finish());
        packed.map(drop).map_err(|error| match error {
            gantry_tar::Error::Write(source) => StoreError::Io {
                what: "cannot write the layer",
                path: upper,
                source,
            },
            other => StoreError::Invalid(format!("cannot pack the layer of {id}: {other}")),
        })
    }

    fn compare(&self, one: &Stack, other: &Stack) -> Result<Vec<Change>> {
        let stack = |of: &Stack| -> Result<Vec<PathBuf>> {
            match of {
                Stack::Layers(layers) => Ok(self.bases.lowers(&Base::Layers(layers.clone()))),
                Stack::Container(id) => {
                    let mut stack = vec![self.bases.container(id).join("upper")];
                    stack.extend(self.bases.lowers(&self.bases.base(id)?));
                    Ok(stack)
                }
            }
        };
        compare(&stack(one)?, &stack(other)?, By::Content).at("cannot compare", &self.bases.dir)
    }

    fn describe(&self, id: &str) -> Vec<(String, String)> {
        let dir = self.bases.container(id);
        let text = |path: PathBuf| path.display().to_string();
        let lowers = self
            .bases
            .base(id)
            .map(|base| self.bases.lowers(&base))
            .unwrap_or_default();
        let lowers: Vec<String> = lowers.into_iter().map(text).collect();
        vec![
            ("LowerDir".into(), lowers.join(":")),
            ("MergedDir".into(), text(dir.join("merged"))),
            ("UpperDir".into(), text(dir.join("upper"))),
            ("WorkDir".into(), text(dir.join("work"))),
        ]
    }

    fn list(&self) -> Result<Vec<String>> {
        self.bases.list()
    }
}
