//! `cp`: what a path is, a path as an archive, an archive into a directory.
//!
//! COMPAT: of a running container the client sees what the container sees, its tmpfs mounts too, which Docker hides
//! behind empty ones of its own.

use super::pieces::packed;
use super::views::Look;
use crate::containers::record::{MountKind, Record};
use crate::containers::{Container, Containers};
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use gantry_api::files::{PathStat, go_mode};
use gantry_tar::unpack::{self, Links, Owner};
use gantry_tar::{Root, join, pack};
use jiff::Timestamp;
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// An archive, piece by piece.
pub type FileStream = BoxStream<'static, io::Result<Bytes>>;

/// How `PUT archive` unpacks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extract {
    /// `noOverwriteDirNonDir`
    pub keep_kind: bool,
    /// `copyUIDGID`: everything belongs to the container's user.
    pub chown: bool,
}

/// The root of a view.
fn root(look: &Look) -> Result<Root> {
    let tree = rustix::io::fcntl_dupfd_cloexec(look.view.tree(), 3);
    let tree = tree.map_err(|e| Error::caused("cannot look into the container", e.into_io()))?;
    Ok(Root::new(tree))
}

trait IntoIo {
    fn into_io(self) -> io::Error;
}

impl IntoIo for rustix::io::Errno {
    fn into_io(self) -> io::Error {
        self.into()
    }
}

/// `/a/b` of `a//b`, with a slash or `/.` at the end where there was one: those mean a directory (go-archive's
/// `PreserveTrailingDotOrSeparator`).
fn absolute(path: &str) -> Vec<u8> {
    let mut whole = join(b"/", path.as_bytes());
    let last = path.rsplit('/').next().unwrap_or_default();
    if last == "." && !whole.ends_with(b"/.") {
        if whole != b"/" {
            whole.push(b'/');
        }
        whole.push(b'.');
    }
    if path.ends_with('/') && !whole.ends_with(b"/") {
        whole.push(b'/');
    }
    whole
}

/// Go's `filepath.Base`.
fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/');
    let Some(end) = end else {
        return if path.is_empty() { b"." } else { b"/" };
    };
    let start = path[..=end].iter().rposition(|b| *b == b'/');
    &path[start.map_or(0, |at| at + 1)..=end]
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What a path is, as the header has it.
fn path_stat(root: &Root, path: &[u8]) -> gantry_tar::Result<(PathStat, Stat)> {
    let stat = root.lstat(path)?;
    let mut link_target = String::new();
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let shown = String::from_utf8_lossy(path);
        let too_many = format!("evalSymlinksInScope: too many links in {shown}");
        let target = root.resolved(path);
        let target = target.map_err(|_| gantry_tar::Error::Refused(too_many))?;
        link_target = String::from_utf8_lossy(&target).into_owned();
    }
    let nanos = i32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let mtime = Timestamp::new(stat.st_mtime, nanos).unwrap_or_default();
    let told = PathStat {
        name: String::from_utf8_lossy(base(path)).into_owned(),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: mtime.to_string(),
        link_target,
    };
    Ok((told, stat))
}

/// Docker's words: what is not there is the client's error, all else the engine's.
fn told(error: &gantry_tar::Error, path: &str, name: &str) -> Error {
    if error.is_not_found() {
        return Error::not_found(format!(
            "Could not find the file {path} in container {name}"
        ));
    }
    Error::system(error.to_string())
}

/// Whether a path is a mount's, or below it.
fn is_below(path: &[u8], destination: &str) -> bool {
    let rest = path.strip_prefix(destination.trim_end_matches('/').as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Refuses what is read-only. The kernel does so, too, but says less.
fn check_writable(record: &Record, path: &[u8], running: bool) -> Result<()> {
    let mounts = record
        .mounts
        .iter()
        .filter(|mount| is_below(path, &mount.destination));
    let innermost = mounts.max_by_key(|mount| mount.destination.len());
    match innermost {
        Some(mount) if mount.read_only => Err(Error::invalid("mounted volume is marked read-only")),
        Some(mount) if mount.kind != MountKind::Tmpfs || running => Ok(()),
        _ if record.host_config.readonly_rootfs => {
            Err(Error::invalid("container rootfs is marked read-only"))
        }
        _ => Ok(()),
    }
}

/// A client's archive, as long as the container's files are still those that were looked at.
struct Checked<R> {
    look: Arc<Look>,
    from: R,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.look.check()?;
        Ok(n)
    }
}

fn skipped(error: &gantry_tar::Error) {
    tracing::info!(%error, "a file is left out of an archive");
}

/// What is left out is told in the log; the rest of the archive is good.
pub(super) const OPTIONS: pack::Options = pack::Options {
    whiteouts: false,
    skipped: Some(skipped),
};

impl Containers {
    /// What a path of a container is. The last link is not followed.
    pub async fn path_stat(self: &Arc<Self>, name: &str, path: &str) -> Result<PathStat> {
        let look = self.look(&self.find(name)?).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        crate::blocking(move || {
            let stat = path_stat(&root(&look)?, path.as_bytes());
            Ok(stat.map_err(|error| told(&error, &path, &name))?.0)
        })
        .await?
    }

    /// A path of a container as an archive.
    pub async fn archive(
        self: &Arc<Self>,
        name: &str,
        path: &str,
    ) -> Result<(PathStat, FileStream)> {
        let container = self.find(name)?;
        let look = self.look(&container).await?;
        let (name, path, seen) = (name.to_owned(), path.to_owned(), look.clone());
        let (stat, source) = crate::blocking(move || {
            let root = root(&seen)?;
            let opened = opened(&root, &absolute(&path));
            opened.map_err(|error| told(&error, &path, &name))
        })
        .await??;
        self.context
            .tell(&container.snapshot(), "archive-path", &[]);
        let pieces = packed(look, OPTIONS, |_, packer| source.pack(packer), || {});
        Ok((stat, pieces))
    }

    /// Unpacks an archive (plain, gzip or zstd) into a directory of a container.
    pub async fn extract(
        self: &Arc<Self>,
        name: &str,
        path: &str,
        options: Extract,
        archive: Box<dyn Read + Send>,
    ) -> Result<()> {
        let container = self.find(name)?;
        let look = self.look(&container).await?;
        let (name, path, owner) = (name.to_owned(), path.to_owned(), container.clone());
        crate::blocking(move || extract(&owner, look, &name, &path, options, archive)).await??;
        self.context
            .tell(&container.snapshot(), "extract-to-dir", &[]);
        Ok(())
    }
}

/// What is to be packed.
enum Packed {
    Directory {
        dir: std::os::fd::OwnedFd,
        prefix: Vec<u8>,
    },
    Other {
        parent: std::os::fd::OwnedFd,
        name: Vec<u8>,
    },
}

impl Packed {
    fn pack<W: io::Write>(self, packer: &mut pack::Packer<W>) -> gantry_tar::Result<()> {
        match self {
            Packed::Directory { dir, prefix } => packer.directory(dir, &prefix),
            Packed::Other { parent, name } => packer.one(&parent, OsStr::from_bytes(&name), &name),
        }
    }
}

fn opened(root: &Root, path: &[u8]) -> gantry_tar::Result<(PathStat, Packed)> {
    let (told, stat) = path_stat(root, path)?;
    let at = |opened: io::Result<_>| {
        opened.map_err(|source| gantry_tar::Error::File {
            operation: "open",
            path: String::from_utf8_lossy(path).into_owned(),
            source,
        })
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    if is_dir(&stat) {
        let mut prefix = base(path).to_vec();
        if prefix != b"/" {
            prefix.push(b'/');
        }
        let dir = at(root.open(path, flags))?;
        return Ok((told, Packed::Directory { dir, prefix }));
    }
    let slash = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let parent = at(root.open(&path[..=slash], flags))?;
    let name = path[slash + 1..].to_vec();
    Ok((told, Packed::Other { parent, name }))
}

fn extract(
    container: &Container,
    look: Arc<Look>,
    name: &str,
    path: &str,
    options: Extract,
    archive: Box<dyn Read + Send>,
) -> Result<()> {
    let root = root(&look)?;
    let record = container.snapshot();
    let told = |error: gantry_tar::Error| told(&error, path, name);
    let dest = root
        .resolved(path.as_bytes())
        .map_err(|_| Error::system("EvalSymlinks: too many links"))?;
    let stat = root.lstat(&dest).map_err(|error| match &error {
        gantry_tar::Error::File { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
            Error::system("not a directory")
        }
        _ => told(error),
    })?;
    if !is_dir(&stat) {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    check_writable(&record, &dest, record.state.status.is_alive())?;
    let user = record.config.user.as_str();
    let owner = match options.chown && !user.is_empty() {
        true => owner(&look, user)?,
        false => Owner::Archive,
    };
    let options = unpack::Options {
        keep_kind: options.keep_kind,
        owner,
        links: Links::Inside,
        rename: None,
    };
    let decoded = gantry_store::layers::decoder(archive)
        .map_err(|e| Error::caused("cannot read the archive", e))?;
    let mut checked = Checked {
        look,
        from: decoded,
    };
    let dir = root.open(&dest, OFlags::RDONLY | OFlags::DIRECTORY);
    let dir = dir.map_err(|e| Error::caused(&format!("cannot open {path}"), e))?;
    unpack::unpack(&mut checked, &Root::new(dir), &dest, &options).map_err(told)
}

/// The container's user, by its own files.
fn owner(look: &Look, user: &str) -> Result<Owner> {
    let found = crate::containers::spec::resolve_user(look.view.tree(), user, &[])
        .map_err(|e| Error::invalid(e.message))?;
    Ok(Owner::Fixed(found.uid, found.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_what_their_ends_mean() {
        for (path, whole, last) in [
            ("a//b", "/a/b", "b"),
            ("/a/b/", "/a/b/", "b"),
            ("/a/.", "/a/.", "."),
            (".", "/.", "."),
            ("/", "/", "/"),
            ("/a/..", "/", "/"),
            ("../../x", "/x", "x"),
        ] {
            let found = absolute(path);
            assert_eq!(found, whole.as_bytes(), "{path}");
            assert_eq!(base(&found), last.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_is_below_a_mount() {
        assert!(is_below(b"/data", "/data") && is_below(b"/data/x", "/data/"));
        assert!(!is_below(b"/database", "/data") && !is_below(b"/", "/data"));
    }
}
