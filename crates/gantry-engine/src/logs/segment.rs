//! One file of a log, compressed or not.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What tells a log's files apart: device and inode.
pub(super) type Identity = (u64, u64);

/// An opened file of a log.
#[derive(Debug)]
pub(super) struct Segment {
    /// Of a compressed file that of the one it was made from, which an older one may have had before it: where several
    /// match, the newest is meant.
    pub(super) identity: Identity,
    /// The file's own.
    pub(super) physical: Identity,
    /// A compressed file as it is, and the folder for its plain form; that is made when it is read.
    compressed: Option<(File, PathBuf)>,
    plain: Option<File>,
}

impl Segment {
    /// Opens the file that is called `path`, or its compressed form.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        // A file may be compressed between the looks at its two names.
        for _ in 0..2 {
            if let Some(file) = open(path)? {
                let metadata = file.metadata()?;
                return Ok(Some(Self {
                    identity: (metadata.dev(), metadata.ino()),
                    physical: (metadata.dev(), metadata.ino()),
                    compressed: None,
                    plain: Some(file),
                }));
            }
            let mut name = path.as_os_str().to_owned();
            name.push(".gz");
            if let Some(file) = open(Path::new(&name))? {
                let metadata = file.metadata()?;
                let mut header = [0; 24];
                let original = match file.read_exact_at(&mut header, 0) {
                    Ok(()) => inode_in(&header),
                    Err(_) => None,
                };
                let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                return Ok(Some(Self {
                    identity: (metadata.dev(), original.unwrap_or(metadata.ino())),
                    physical: (metadata.dev(), metadata.ino()),
                    compressed: Some((file, folder)),
                    plain: None,
                }));
            }
        }
        Ok(None)
    }

    /// Whether this is the file that was opened as `other`, as it was or compressed since.
    ///
    /// Inode numbers are used again once nobody holds their file. `other` is open, so the number of its own file is not;
    /// that of one it was made from may be another's by now.
    pub(super) fn is(&self, other: &Segment) -> bool {
        self.physical == other.physical
            || (other.compressed.is_none() && self.identity == other.physical)
    }

    /// The file's plain form.
    pub(super) fn file(&mut self) -> io::Result<&File> {
        if self.plain.is_none() {
            let made = match &self.compressed {
                Some((file, folder)) => decompressed(file, folder)?,
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            self.plain = Some(made);
        }
        self.plain
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// When it was last written, Unix nanoseconds.
    pub(super) fn modified(&self) -> io::Result<i64> {
        let file = match (&self.compressed, &self.plain) {
            (Some((file, _)), _) | (None, Some(file)) => file,
            (None, None) => return Ok(i64::MAX),
        };
        let metadata = file.metadata()?;
        Ok(metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()))
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The inode number in a compressed file's header, see `gantry_runtime::log`: behind the ten bytes of each gzip file the
/// extra field's length (2), `GI`, 8 (2), and the number.
fn inode_in(header: &[u8; 24]) -> Option<u64> {
    let has_extra = header[..3] == [0x1f, 0x8b, 8] && header[3] & 4 != 0;
    let ours = header[10..16] == *b"\x0c\x00GI\x08\x00";
    let number = header[16..24].try_into().ok()?;
    (has_extra && ours).then(|| u64::from_le_bytes(number))
}

/// A nameless file with the plain form.
fn decompressed(file: &File, folder: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let plain = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o600))?;
    let mut plain = File::from(plain);
    let mut decoder = flate2::read::GzDecoder::new(file);
    let mut block = vec![0; 64 * 1024];
    loop {
        match decoder.read(&mut block) {
            Ok(0) => return Ok(plain),
            Ok(count) => plain.write_all(&block[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What can be read of a damaged file is better than nothing.
            Err(_) => return Ok(plain),
        }
    }
}
