//! The overlay driver (kernel: Documentation/filesystems/overlayfs.rst).

use crate::changes::changes;
use crate::compare::compare;
use crate::database::Database;
use crate::layers::Layers;
use crate::snapshots::{Base, Change, Driver, Stack};
use crate::{At, Result, StoreError, legacy_mount, upper};
use gantry_tar::pack;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// fsconfig(2) takes no longer texts.
const LONGEST_TEXT: usize = 255;
/// With these (some distributions' kernels have them on by default) a layer's files would not be all of its content.
const OFF: [&str; 3] = ["redirect_dir", "metacopy", "index"];
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

#[derive(Debug)]
pub(crate) struct Overlay {
    dir: PathBuf,
    database: Arc<Database>,
    layers: Arc<Layers>,
}

impl Overlay {
    pub(crate) fn open(dir: &Path, database: Arc<Database>, layers: Arc<Layers>) -> Result<Self> {
        let overlay = Self {
            dir: dir.to_owned(),
            database,
            layers,
        };
        let containers = dir.join("c");
        std::fs::create_dir_all(&containers).at("cannot make", &containers)?;
        overlay.make_init()?;
        Ok(overlay)
    }

    /// The lowest layer: what every container has to mount on. Being the lowest, whatever an image has wins.
    fn make_init(&self) -> Result<()> {
        let init = self.dir.join("init");
        let tmp = self.dir.join("init.new");
        if init.exists() {
            return Ok(());
        }
        let _ = std::fs::remove_dir_all(&tmp);
        for dir in ["dev/pts", "dev/shm", "proc", "sys", "etc"] {
            std::fs::create_dir_all(tmp.join(dir)).at("cannot make", &tmp)?;
            crate::set_mode(&tmp.join(dir), 0o755)?;
        }
        for dir in ["dev", "."] {
            crate::set_mode(&tmp.join(dir), 0o755)?;
        }
        for file in [
            ".dockerenv",
            "dev/console",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
        ] {
            std::fs::write(tmp.join(file), "").at("cannot make", &tmp)?;
            crate::set_mode(&tmp.join(file), 0o644)?;
        }
        std::os::unix::fs::symlink("/proc/mounts", tmp.join("etc/mtab")).at("cannot make", &tmp)?;
        std::fs::rename(&tmp, &init).at("cannot make", &init)
    }

    fn container(&self, id: &str) -> PathBuf {
        self.dir.join("c").join(id)
    }

    fn base(&self, id: &str) -> Result<Base> {
        let rows = self
            .database
            .pairs("SELECT id, base FROM snapshot WHERE id = ?", [id])?;
        let missing = || StoreError::NotFound(format!("container {id} has no writable layer"));
        let (_, text) = rows.into_iter().next().ok_or_else(missing)?;
        serde_json::from_str(&text)
            .map_err(|e| StoreError::Invalid(format!("the base of {id}: {e}")))
    }

    /// Lower directories, the uppermost first.
    fn lowers(&self, base: &Base) -> Vec<PathBuf> {
        let layers = match base {
            // Alone: overlay refuses a lower layer that is inside another one, and the folder may be `/`.
            Base::Directory(dir) => return vec![dir.clone()],
            Base::Layers(layers) => layers.iter().rev(),
        };
        let mut lowers: Vec<PathBuf> = layers.map(|l| self.layers.path(l)).collect();
        lowers.push(self.dir.join("init"));
        // The same layer twice in an image: overlay refuses it, and the lower one is hidden anyway.
        let mut seen = HashSet::new();
        lowers.retain(|lower| seen.insert(lower.clone()));
        lowers
    }
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
        let dir = self.container(id);
        // COMPAT: the container's root is 0755 root:root whatever its image says, as with Docker's overlay2.
        let make = |path: &Path| {
            std::fs::create_dir(path).at("cannot make", path)?;
            crate::set_mode(path, 0o755)
        };
        let made = make(&dir)
            .and_then(|()| make(&dir.join("upper")))
            .and_then(|()| make(&dir.join("work")));
        let recorded = made.and_then(|()| {
            // From here to the record no layer goes: the image may be removed in this very moment.
            let _held = self.layers.hold();
            if let Base::Layers(layers) = base {
                for diff_id in layers {
                    self.layers.find(diff_id)?.ok_or_else(|| {
                        StoreError::NotFound(format!("layer {diff_id} is not in the store"))
                    })?;
                }
            }
            let text =
                serde_json::to_string(base).map_err(|e| StoreError::Invalid(e.to_string()))?;
            self.database
                .execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?)", (id, text))
        });
        if recorded.is_err() {
            let _ = std::fs::remove_dir_all(&dir);
        }
        recorded
    }

    fn mount(&self, id: &str, volatile: bool) -> Result<OwnedFd> {
        let base = self.base(id)?;
        let dir = self.container(id);
        // What a crash of the machine left of a volatile mount: its flag would refuse this one.
        let _ = std::fs::remove_dir_all(dir.join("work/work/incompat"));
        let lowers = self.lowers(&base);
        let mut held = Vec::new();
        let mounted = || -> io::Result<OwnedFd> {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            let fd = context.as_fd();
            fsconfig_set_string(fd, "source", "overlay")?;
            for (at, lower) in lowers.iter().enumerate() {
                match fsconfig_set_string(fd, "lowerdir+", short(lower, &mut held)?) {
                    // The option is not known.
                    Err(Errno::INVAL) if at == 0 => {
                        return legacy_mount::overlay(&lowers, &dir, volatile);
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
            if volatile {
                fsconfig_set_flag(fd, "volatile")?;
            }
            fsconfig_create(fd)?;
            Ok(fsmount(
                fd,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )?)
        };
        let mut mounted = mounted;
        mounted().at("cannot mount the container's layers", &dir)
    }

    fn remove(&self, id: &str) -> Result<()> {
        let forget = || {
            self.database
                .execute("DELETE FROM snapshot WHERE id = ?", [id])
        };
        let forgotten = forget();
        match std::fs::remove_dir_all(self.container(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.at("cannot remove the writable layer", &self.container(id))?,
        }
        // On a full disk there is room for it only now.
        forgotten.or_else(|_| forget())
    }

    fn size(&self, id: &str) -> Result<u64> {
        let upper = self.container(id).join("upper");
        let size = upper::open(&upper).and_then(|dir| upper::size(&dir));
        size.at("cannot read", &upper)
    }

    fn changes(&self, id: &str) -> Result<Vec<Change>> {
        let upper = self.container(id).join("upper");
        let lowers = self.lowers(&self.base(id)?);
        changes(&upper, &lowers).at("cannot read", &upper)
    }

    fn pack(&self, id: &str, to: &mut dyn io::Write) -> Result<()> {
        let upper = self.container(id).join("upper");
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
                Stack::Layers(layers) => Ok(self.lowers(&Base::Layers(layers.clone()))),
                Stack::Container(id) => {
                    let mut stack = vec![self.container(id).join("upper")];
                    stack.extend(self.lowers(&self.base(id)?));
                    Ok(stack)
                }
            }
        };
        compare(&stack(one)?, &stack(other)?).at("cannot compare", &self.dir)
    }

    fn describe(&self, id: &str) -> Vec<(String, String)> {
        let dir = self.container(id);
        let text = |path: PathBuf| path.display().to_string();
        let lowers = self
            .base(id)
            .map(|base| self.lowers(&base))
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
        let dir = self.dir.join("c");
        let entries = std::fs::read_dir(&dir).at("cannot read", &dir)?;
        Ok(entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect())
    }
}

/// Whether a file of this mode and device is a whiteout.
pub(crate) fn is_whiteout(mode: u32, device: u64) -> bool {
    FileType::from_raw_mode(mode) == FileType::CharacterDevice && device == 0
}

pub(crate) fn is_opaque(dir: &Path) -> bool {
    let mut value = [0_u8; 4];
    matches!(rustix::fs::lgetxattr(dir, OPAQUE, &mut value[..]), Ok(1) if value[0] == b'y')
}

/// Marks a directory as hiding what is below.
pub(crate) fn make_opaque(dir: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(
        dir,
        OPAQUE,
        b"y",
        rustix::fs::XattrFlags::empty(),
    )?)
}

/// Makes a whiteout: a character device 0/0.
pub(crate) fn make_whiteout(dir: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    Ok(rustix::fs::mknodat(
        dir,
        name,
        FileType::CharacterDevice,
        Mode::empty(),
        rustix::fs::makedev(0, 0),
    )?)
}
