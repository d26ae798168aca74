//! The OCI image layout's `blobs/sha256`: manifests, configurations, layer blobs (image spec, image-layout.md).

use crate::{At, Result, StoreError};
use gantry_oci::Digest;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The index of a layout without images.
const EMPTY_INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

/// The blob store.
#[derive(Debug)]
pub struct Blobs {
    image: PathBuf,
    dir: PathBuf,
    tmp: PathBuf,
    next: AtomicU64,
}

impl Blobs {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let image = root.join("image");
        let dir = image.join("blobs/sha256");
        std::fs::create_dir_all(&dir).at("cannot make", &dir)?;
        for (name, text) in [
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", EMPTY_INDEX),
        ] {
            let path = image.join(name);
            if !path.exists() {
                std::fs::write(&path, text).at("cannot write", &path)?;
            }
        }
        Ok(Self {
            image,
            dir,
            tmp: root.join("tmp"),
            next: AtomicU64::new(0),
        })
    }

    /// Where the layout's index is.
    pub(crate) fn index(&self) -> PathBuf {
        self.image.join("index.json")
    }

    /// The layout names nothing: blobs are not kept (any more).
    pub(crate) fn empty_index(&self) -> Result<()> {
        let index = std::fs::read(self.index()).at("cannot read", &self.index())?;
        match index == EMPTY_INDEX.as_bytes() {
            true => Ok(()),
            false => self.write_index(EMPTY_INDEX.as_bytes()),
        }
    }

    /// Replaces the layout's index: the old one or the new one is there, also after a power cut.
    pub(crate) fn write_index(&self, bytes: &[u8]) -> Result<()> {
        let tmp = self.unfinished();
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&tmp)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            std::fs::rename(&tmp, self.index())
        };
        let written = write();
        if written.is_err() {
            let _ = std::fs::remove_file(&tmp);
        }
        written.at("cannot write", &self.index())
    }

    /// A new name in the folder of unfinished things. Not the same after each start: ext4 chooses by the name where the
    /// inodes of such a folder are.
    pub(crate) fn unfinished(&self) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = now.unwrap_or_default().subsec_nanos();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.tmp.join(format!("{number}-{nanos:x}"))
    }

    /// The folder of unfinished things.
    pub(crate) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Where a blob is.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Writes a small blob (manifest, configuration).
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.has(&digest) {
            return Ok(digest);
        }
        let tmp = self.unfinished();
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&tmp)?;
            file.write_all(bytes)?;
            // A record will name it: it must be there after a power cut, too.
            file.sync_data()
        };
        let written = write()
            .at("cannot write", &tmp)
            .and_then(|()| self.adopt(&tmp, &digest));
        if written.is_err() {
            let _ = std::fs::remove_file(&tmp);
        }
        written.map(|()| digest)
    }

    /// Names a finished, verified file by its digest.
    pub(crate) fn adopt(&self, tmp: &Path, digest: &Digest) -> Result<()> {
        std::fs::rename(tmp, self.path(digest)).at("cannot name the blob", tmp)
    }

    /// A whole blob.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        std::fs::read(self.path(digest)).at("cannot read the blob", &self.path(digest))
    }

    /// A blob as a file.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        match File::open(self.path(digest)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(
                StoreError::NotFound(format!("blob {digest} is not in the store")),
            ),
            other => other.at("cannot open the blob", &self.path(digest)),
        }
    }

    /// Whether it is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    pub(crate) fn remove(&self, digest: &Digest) -> Result<()> {
        match std::fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.at("cannot remove the blob", &self.path(digest)),
        }
    }

    /// Digests of all blobs.
    pub(crate) fn all(&self) -> Result<Vec<Digest>> {
        let entries = std::fs::read_dir(&self.dir).at("cannot read", &self.dir)?;
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        Ok(names
            .filter_map(|name| Digest::from_hex(&name).ok())
            .collect())
    }
}
