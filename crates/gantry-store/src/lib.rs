//! Blobs, references, layers, snapshots.
//!
//! Owns: all that is below the data root but the containers' own folders; the database file.
//! Never: opens a network socket.
//! Start here: [`Store::open`], then [`layers`], [`images`], [`snapshots`], [`archive`].
//!
//! ```text
//! lock                           held by the daemon (flock)
//! gantry.db                      SQLite: records, images, references, layers, snapshots
//! image/                         an OCI layout: oci-layout, index.json, blobs/sha256/<hex>
//! layers/f/..                    names of files by their digest, where layers share files
//! partial/<hex>                  blobs that have come in part
//! layers/l/<hex>/                an unpacked layer, named by its diff ID
//! layers/r/<hex>/                its recipe, by which its tar is written again
//! layers/<driver>/c/<id>/        a container's writable layer; of overlay2: upper, work
//! layers/<driver>/init/          the mount points that every container has, the lowest layer of all
//! tmp/                           what is being written; emptied by each start
//! ```
//!
//! Order of writes: content first, then the record that names it; what no record names is garbage that
//! [`Store::open`] collects.

pub mod archive;
pub mod blobs;
mod collect;
pub mod commit;
pub mod database;
pub mod images;
pub mod layers;
mod layout;
pub mod manifests;
mod references;
pub mod snapshots;
mod spool;
mod unpack;
mod upper;
pub mod usage;
mod whiteouts;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what}: {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("database")]
    Database(#[from] rusqlite::Error),
    #[error("{what} has digest {found}, {expected} was expected")]
    DigestMismatch {
        what: String,
        expected: gantry_oci::Digest,
        found: gantry_oci::Digest,
    },
    /// Foreign bytes are broken or hostile (tar, manifest, archive).
    #[error("{0}")]
    Invalid(String),
    /// What was being read broke off: the same may come whole another time.
    #[error("{0}")]
    Interrupted(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    /// The data root is used by another daemon.
    #[error("{0}")]
    Locked(String),
}

/// The store's result.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Adds the operation and its path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| StoreError::Io {
            what,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}

/// What may be chosen of a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keep the compressed blobs of layers, so that the folder `image` is a whole OCI layout.
    pub keep_blobs: bool,
    /// Make files that several layers have one, by hard links, where the file system has no reflinks.
    pub dedupe: bool,
    /// `overlay2`, `btrfs` or `vfs`; none: what works best, or what was used before.
    pub storage_driver: Option<String>,
    /// What tells one boot of the machine from another, instead of the kernel's own.
    pub boot_id: Option<String>,
    /// How far a layer may swell when it is decompressed.
    pub swelling: layers::Swelling,
}

/// The store below one data root. Share it by `Arc`; every method takes `&self` and may block.
#[derive(Debug)]
pub struct Store {
    pub database: Arc<database::Database>,
    pub blobs: Arc<blobs::Blobs>,
    pub layers: Arc<layers::Layers>,
    pub images: images::Images,
    pub manifests: manifests::Manifests,
    pub snapshots: Arc<dyn snapshots::Driver>,
    /// Holds the lock on the data root.
    _lock: File,
}

impl Store {
    /// Opens or makes the store; locks it (a second daemon gets [`StoreError::Locked`]) and removes what an
    /// interrupted write left behind.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, &Options::default())
    }

    /// Like [`Store::open`], with choices.
    pub fn open_with(root: &Path, options: &Options) -> Result<Self> {
        make_root(root)?;
        let lock = lock(root)?;
        let tmp = root.join("tmp");
        if tmp.exists() {
            std::fs::remove_dir_all(&tmp).at("cannot empty", &tmp)?;
        }
        let private = ["tmp", "image", "layers", "partial"];
        for private in &private.map(|name| root.join(name)) {
            make_private(private)?;
        }
        spread(&root.join("tmp"));
        let database = Arc::new(database::Database::open(&root.join("gantry.db"))?);
        let blobs = Arc::new(blobs::Blobs::open(root)?);
        let layers = Arc::new(layers::Layers::open(
            root,
            blobs.clone(),
            database.clone(),
            options,
        )?);
        collect::forget_lost_layers(&layers)?;
        let driver = options.storage_driver.as_deref();
        let snapshots = snapshots::open(root, database.clone(), layers.clone(), driver)?;
        if layers.sharing().is_some_and(layers::Sharing::links) && snapshots.name() != "overlay2" {
            return Err(StoreError::Conflict(format!(
                "files cannot be shared by hard links with the storage driver {}: only with overlay2",
                snapshots.name()
            )));
        }
        let images = images::Images::open(
            blobs.clone(),
            layers.clone(),
            snapshots.clone(),
            database.clone(),
        )?;
        let manifests = manifests::Manifests::new(blobs.clone(), database.clone());
        let store = Self {
            manifests,
            database,
            blobs,
            layers,
            images,
            snapshots,
            _lock: lock,
        };
        collect::collect(&store)?;
        Ok(store)
    }
}

/// Makes the data root. Others may pass through it to what is theirs, not look around.
fn make_root(root: &Path) -> Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(root).at("cannot make the data root", root)?;
    set_mode(root, 0o711)
}

/// Layers have setuid programs, and images what their owners put there: neither is for other users of the host
/// (CVE-2021-41091 was this in Docker). The mode is set at each start, whatever made the folder.
fn make_private(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).at("cannot make", dir)?;
    set_mode(dir, 0o700)
}

/// Has ext4 put each folder that is made in this one among inodes of its own (chattr(1), `T`), instead of beside its
/// siblings: after some coming and going of layers it would look there for a free inode among many that were just
/// freed, which took ten times as long as all else. Other file systems do not know it.
fn spread(dir: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if let Ok(dir) = File::open(dir)
        && let Ok(flags) = ioctl_getflags(&dir)
    {
        let _ = ioctl_setflags(&dir, flags | IFlags::TOPDIR);
    }
}

/// Sets a mode whatever the umask is.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).at("cannot protect", path)
}

fn lock(root: &Path) -> Result<File> {
    use rustix::fs::{FlockOperation, flock};
    use std::os::unix::fs::OpenOptionsExt;
    let path = root.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .at("cannot open", &path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(format!(
            "the data root {} is used by another daemon: stop that one, or give this one its own --data-root",
            root.display()
        ))),
        Err(error) => Err(error).at("cannot lock", &path),
    }
}

#[cfg(test)]
mod tests;
