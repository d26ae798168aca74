//! Files that several layers have are stored once: by shared blocks where the file system has reflinks, by hard links where
//! that is asked for (`--dedupe`).
//!
//! `layers/f/<2 hex>/<62 hex>` are names of layers' files by a digest: of the content for reflinks; of content, owner, mode,
//! time and attributes for hard links. A file of a new layer takes the place of its own by such a one. Its own files get
//! such names when the layer has its own, so that no layer has two of its files made one.

use crate::{At, Result};
use gantry_oci::{Digest, Sha256};
use gantry_tar::Entry;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Smaller files share no block.
const SMALLEST: u64 = 4096;
/// A list of a layer's files, in its recipe's folder until the layer has a name.
const LIST: &str = "files";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Reflinks,
    Links,
}

/// The names of files that can be shared.
#[derive(Debug)]
pub(crate) struct Sharing {
    pool: PathBuf,
    by: By,
}

impl Sharing {
    /// What can be done in this data root; none where nothing was asked for and the file system has no reflinks.
    pub(super) fn open(root: &Path, dedupe: bool) -> Result<Option<Self>> {
        let pool = root.join("layers/f");
        let by = match (reflinks(&root.join("tmp")), dedupe) {
            (true, _) => By::Reflinks,
            (false, true) => By::Links,
            (false, false) => {
                // From a time when it was asked for: files stay one, their names are not needed.
                return match std::fs::remove_dir_all(&pool) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(error).at("cannot remove", &pool)
                    }
                    _ => Ok(None),
                };
            }
        };
        std::fs::create_dir_all(&pool).at("cannot make", &pool)?;
        Ok(Some(Self { pool, by }))
    }

    /// Whether files become hard links of others.
    pub(crate) fn links(&self) -> bool {
        self.by == By::Links
    }

    fn place(&self, key: &Digest) -> PathBuf {
        let (dir, name) = key.hex().split_at(2);
        self.pool.join(dir).join(name)
    }

    /// Forgets all names: after a power cut nobody knows which of them are of whole files.
    pub(super) fn forget(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.pool).at("cannot remove", &self.pool)?;
        std::fs::create_dir(&self.pool).at("cannot make", &self.pool)
    }

    /// Gives a named layer's files their names here.
    pub(super) fn adopt(&self, tree: &Path, recipe: &Path) -> Result<()> {
        let list = recipe.join(LIST);
        let adopted = self.adopt_all(tree, &list);
        std::fs::remove_file(&list).at("cannot remove", &list)?;
        // What has no name here is not shared, and that is all.
        if let Err(error) = adopted {
            tracing::warn!(%error, "files of a layer cannot be shared");
        }
        Ok(())
    }

    fn adopt_all(&self, tree: &Path, list: &Path) -> io::Result<()> {
        let mut list = BufReader::new(File::open(list)?);
        let mut length = [0; 4];
        while list.read_exact(&mut length).is_ok() {
            let mut line = vec![0; u32::from_le_bytes(length) as usize];
            list.read_exact(&mut line)?;
            let (hex, line) = line
                .split_at_checked(64)
                .ok_or(io::ErrorKind::InvalidData)?;
            let (inode, path) = line.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
            let path = tree.join(OsStr::from_bytes(path));
            // A later entry of the archive may have taken its name.
            let there = path.symlink_metadata().map(|meta| meta.ino());
            if there.ok() != Some(u64::from_le_bytes(*inode)) {
                continue;
            }
            let key = Digest::from_hex(&String::from_utf8_lossy(hex)).map_err(io::Error::other)?;
            let place = self.place(&key);
            let link = || std::fs::hard_link(&path, &place);
            match link() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Some(dir) = place.parent() {
                        std::fs::create_dir_all(dir)?;
                    }
                    link().or_else(taken)?;
                }
                other => other.or_else(taken)?,
            }
        }
        Ok(())
    }

    /// Takes names away that no layer's file has any more.
    pub(super) fn collect(&self) -> Result<()> {
        let read = |dir: &Path| std::fs::read_dir(dir).at("cannot read", dir);
        for dir in read(&self.pool)?.flatten() {
            for entry in read(&dir.path())?.flatten() {
                let alone = entry.metadata().is_ok_and(|meta| meta.nlink() == 1);
                if alone {
                    let path = entry.path();
                    std::fs::remove_file(&path).at("cannot remove", &path)?;
                }
            }
        }
        Ok(())
    }
}

/// The name is there already, the file has as many as it can have, or has gone.
fn taken(error: io::Error) -> io::Result<()> {
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST | Errno::MLINK | Errno::NOENT) => Ok(()),
        _ => Err(error),
    }
}

/// Whether the file system below a folder can share blocks.
fn reflinks(tmp: &Path) -> bool {
    let (from, to) = (tmp.join("reflink-from"), tmp.join("reflink-to"));
    let probe = || -> io::Result<()> {
        std::fs::write(&from, [1; SMALLEST as usize])?;
        rustix::fs::ioctl_ficlone(File::create(&to)?, File::open(&from)?)?;
        Ok(())
    };
    let can = probe().is_ok();
    for path in [from, to] {
        let _ = std::fs::remove_file(path);
    }
    can
}

/// Shares the files of one layer while it is unpacked.
pub(crate) struct Sharer<'a> {
    sharing: &'a Sharing,
    list: BufWriter<File>,
    /// A name beside the layer, for a link before it takes a file's place.
    beside: PathBuf,
}

/// Hashes a file's content on its way.
pub(crate) struct Hashed<'a, R> {
    from: &'a mut R,
    hash: Option<Sha256>,
}

impl<'a, R: Read> Hashed<'a, R> {
    /// `wanted`: whether there is need for it.
    pub(crate) fn new(from: &'a mut R, wanted: bool) -> Self {
        Self {
            from,
            hash: wanted.then(Sha256::default),
        }
    }

    /// The digest of what was read, where it was wanted.
    pub(crate) fn finish(self) -> Option<Digest> {
        self.hash.map(Sha256::finish)
    }
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..n]);
        }
        Ok(n)
    }
}

impl<'a> Sharer<'a> {
    /// `tree` and `recipe` are the layer's folders without their names.
    pub(crate) fn new(sharing: &'a Sharing, tree: &Path, recipe: &Path) -> io::Result<Self> {
        let mut beside = tree.as_os_str().to_owned();
        beside.push("-link");
        Ok(Self {
            sharing,
            list: BufWriter::new(File::create(recipe.join(LIST))?),
            beside: beside.into(),
        })
    }

    /// Whether a file is worth it. What has holes is not: its bytes in the archive are not all of it.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let smallest = if self.sharing.links() { 1 } else { SMALLEST };
        entry.segments.is_none() && entry.size >= smallest
    }

    /// Puts a known file in the place of this one, whose content has this digest, or notes it; true where that file has
    /// all that this one was to have, not only its content. `path` is below the layer's root.
    pub(crate) fn file(
        &mut self,
        entry: &Entry,
        content: &Digest,
        (file, dir, name): (&File, &OwnedFd, &OsStr),
        path: &[u8],
    ) -> io::Result<bool> {
        let key = match self.sharing.by {
            By::Reflinks => content.clone(),
            By::Links => key(entry, content),
        };
        let place = self.sharing.place(&key);
        let shared = match self.sharing.by {
            By::Reflinks => clone(&place, file, entry.size)?,
            By::Links => self.link(&place, dir, name, entry.size)?,
        };
        if shared {
            return Ok(self.sharing.links());
        }
        let inode = file.metadata()?.ino();
        let length = key.hex().len() + size_of::<u64>() + path.len();
        self.list.write_all(&(length as u32).to_le_bytes())?;
        self.list.write_all(key.hex().as_bytes())?;
        self.list.write_all(&inode.to_le_bytes())?;
        self.list.write_all(path)?;
        Ok(false)
    }

    fn link(&self, place: &Path, dir: &OwnedFd, name: &OsStr, size: u64) -> io::Result<bool> {
        if let Err(error) = std::fs::hard_link(place, &self.beside) {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::MLINK) => Ok(false),
                _ => Err(error),
            };
        }
        let known = statat(CWD, &self.beside, AtFlags::SYMLINK_NOFOLLOW)?;
        if known.st_size.unsigned_abs() != size {
            std::fs::remove_file(&self.beside)?;
            return Ok(false);
        }
        renameat(CWD, &self.beside, dir, name)?;
        Ok(true)
    }

    /// Ends the list.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.list.flush()
    }
}

/// Shares the blocks of a known file; false where there is none.
fn clone(place: &Path, file: &File, size: u64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let known = match openat(CWD, place, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => File::from(other?),
    };
    if known.metadata()?.len() != size {
        return Ok(false);
    }
    match rustix::fs::ioctl_ficlone(file, &known) {
        Ok(()) => Ok(true),
        // Not of these two files.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is the same in files that can be one.
fn key(entry: &Entry, content: &Digest) -> Digest {
    let mut xattrs = entry.xattrs.clone();
    xattrs.sort();
    let (seconds, nanos) = entry.time;
    let mut hash = Sha256::default();
    hash.update(content.as_str().as_bytes());
    let status = (entry.mode, entry.uid, entry.gid, seconds, nanos, xattrs);
    hash.update(format!("{status:?}").as_bytes());
    hash.finish()
}
