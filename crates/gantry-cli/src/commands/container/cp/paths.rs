//! What the paths of `cp` mean: what is copied, to where, and by which name (moby's go-archive, copy.go).

use gantry_tar::{clean, join};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Links that lead to a destination, at most.
const MOST_LINKS: usize = 10;

/// One side of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) path: String,
    pub(super) exists: bool,
    pub(super) is_dir: bool,
    /// The name that the source is to have instead of its own.
    pub(super) rebase: Option<String>,
}

fn text(bytes: Vec<u8>) -> String {
    std::ffi::OsString::from_vec(bytes)
        .to_string_lossy()
        .into_owned()
}

pub(super) fn cleaned(path: &str) -> String {
    text(clean(path.as_bytes()))
}

pub(super) fn joined(first: &str, second: &str) -> String {
    text(join(first.as_bytes(), second.as_bytes()))
}

/// Go's `filepath.Base`.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (_, true) => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Go's `filepath.Dir`.
fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(at) => cleaned(&path[..=at]),
        None => ".".to_owned(),
    }
}

fn is_current(path: &str) -> bool {
    base(path) == "."
}

/// Whether a path can only be a directory's.
fn says_directory(path: &str) -> bool {
    path.ends_with('/') || is_current(path)
}

/// The end of a path that was given, on one that was worked out.
fn keep_end(mut path: String, given: &str) -> String {
    if !is_current(&path) && is_current(given) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push('.');
    }
    if !path.ends_with('/') && given.ends_with('/') {
        path.push('/');
    }
    path
}

/// Directory and last name.
pub(super) fn split(path: &str) -> (String, String) {
    let mut whole = cleaned(path);
    if is_current(path) {
        whole.push_str("/.");
    }
    (parent(&whole), base(&whole).to_owned())
}

/// `CONTAINER:PATH`, or a path of this machine.
pub(super) fn container_and_path(text: &str) -> (Option<&str>, &str) {
    if text.starts_with('/') {
        return (None, text);
    }
    match text.split_once(':') {
        Some((container, path)) if !container.starts_with('.') => {
            (Some(container).filter(|name| !name.is_empty()), path)
        }
        _ => (None, text),
    }
}

/// A path of this machine, absolute, with its end.
pub(super) fn absolute(path: &str) -> io::Result<String> {
    let whole = if path.starts_with('/') {
        cleaned(path)
    } else {
        joined(&std::env::current_dir()?.to_string_lossy(), path)
    };
    Ok(keep_end(whole, path))
}

/// The path of a followed link, and the name that its content is to have.
pub(super) fn rebased(path: &str, resolved: String) -> (String, Option<String>) {
    let mut resolved = resolved;
    if is_current(path) && !is_current(&resolved) {
        resolved.push_str("/.");
    }
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    }
    let rebase = (base(path) != base(&resolved)).then(|| base(path).to_owned());
    (resolved, rebase)
}

fn failed(operation: &str, path: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{operation} {path}: {}", gantry_tar::words(error)))
}

fn resolved(path: &str) -> Result<String, Failure> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty());
    let root = gantry_tar::Root::new(root.map_err(|error| failed("open", "/", &error.into()))?);
    let whole = absolute(path)?;
    let found = root.resolved(whole.as_bytes());
    let found = text(found.map_err(|_| Failure::new("EvalSymlinks: too many links"))?);
    let real = keep_end(found.clone(), path);
    match rustix::fs::lstat(real.as_str()) {
        Ok(_) => Ok(found),
        // As Go: without a path.
        Err(rustix::io::Errno::NOTDIR) => Err(Failure::new("not a directory")),
        Err(error) => Err(failed("lstat", &found, &error.into())),
    }
}

/// What is copied from this machine.
pub(super) fn source(path: &str, follow: bool) -> Result<Side, Failure> {
    let (path, rebase) = if follow {
        rebased(path, resolved(path)?)
    } else {
        let at = path.rfind('/').map_or(0, |slash| slash + 1);
        let dir = match &path[..at] {
            "" => ".",
            dir => dir,
        };
        let whole = format!("{}/{}", resolved(dir)?.trim_end_matches('/'), &path[at..]);
        let renamed = path.ends_with('/') && base(path) != base(&whole);
        let rebase = renamed.then(|| base(path).to_owned());
        (whole, rebase)
    };
    let stat = rustix::fs::lstat(path.as_str());
    let stat = stat.map_err(|error| failed("lstat", &path, &error.into()))?;
    Ok(Side {
        exists: true,
        is_dir: stat.st_mode & 0o170_000 == 0o040_000,
        path,
        rebase,
    })
}

/// Where on this machine something is copied to; links are followed, also one that leads to nothing yet.
pub(super) fn destination(given: &str) -> Result<Side, Failure> {
    let mut path = given.to_owned();
    for _ in 0..=MOST_LINKS {
        let meta = match Path::new(&path).symlink_metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split(&path);
                let dir = std::fs::metadata(&parent);
                if !dir
                    .map_err(|error| failed("stat", &parent, &error))?
                    .is_dir()
                {
                    return Err(Failure::new("not a directory"));
                }
                return Ok(Side {
                    path,
                    ..Side::default()
                });
            }
            Err(error) => return Err(failed("lstat", &path, &error)),
        };
        if !meta.is_symlink() {
            return Ok(Side {
                is_dir: meta.is_dir(),
                exists: true,
                path,
                rebase: None,
            });
        }
        let target = std::fs::read_link(&path).map_err(|e| failed("readlink", &path, &e))?;
        path = target_of(&path, &target.to_string_lossy());
    }
    Err(Failure::new(format!("too many symlinks in {given}")))
}

/// Where a link at `path` leads.
pub(super) fn target_of(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    joined(&split(path).0, target)
}

/// The directory to unpack in, and the name that the source gets there where it is not to keep its own.
pub(super) fn plan(from: &Side, to: &Side) -> Result<(String, Option<String>), Failure> {
    if to.exists && to.is_dir {
        return Ok((to.path.clone(), None));
    }
    if to.exists && from.is_dir {
        return Err(Failure::new("cannot copy directory"));
    }
    if !to.exists && !from.is_dir && says_directory(&to.path) {
        return Err(Failure::new("no such directory"));
    }
    let (dir, name) = split(&to.path);
    Ok((dir, Some(name)))
}

/// Refuses a path that cannot be written to.
pub(super) fn check_output(path: &str) -> Result<(), Failure> {
    let dir = parent(&cleaned(path));
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if dir != "." && std::fs::metadata(&dir).is_err_and(|error| gone(&error)) {
        return Err(Failure::new(format!(
            "invalid output path: directory {dir:?} does not exist"
        )));
    }
    match std::fs::metadata(path) {
        Err(error) if gone(&error) => Ok(()),
        Err(error) => Err(failed("stat", path, &error)),
        Ok(meta) => {
            use std::os::unix::fs::FileTypeExt;
            let kind = meta.file_type();
            if kind.is_block_device() || kind.is_char_device() {
                return Err(Failure::new(format!(
                    "invalid output path: {path:?} must be a directory or a regular file: got a device"
                )));
            }
            Ok(())
        }
    }
}

/// A path for the system.
pub(super) fn system(path: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths() {
        for (text, container, path) in [
            ("c:/a", Some("c"), "/a"),
            ("c:a:b", Some("c"), "a:b"),
            ("/a:b", None, "/a:b"),
            ("./a:b", None, "./a:b"),
            ("file", None, "file"),
            ("-", None, "-"),
            (":/a", None, "/a"),
        ] {
            assert_eq!(container_and_path(text), (container, path), "{text}");
        }
    }

    #[test]
    fn what_goes_where() {
        let side = |path: &str, exists, is_dir| Side {
            path: path.to_owned(),
            exists,
            is_dir,
            rebase: None,
        };
        let (file, dir) = (side("/s/f", true, false), side("/s/d", true, true));
        let planned = |from: &Side, to: Side| {
            let plan = plan(from, &to);
            plan.map_err(|failure| failure.text)
                .map(|(dir, name)| format!("{dir} {}", name.unwrap_or_default()))
        };
        let cases = [
            (planned(&file, side("/x", true, true)), Ok("/x ")),
            (planned(&dir, side("/x/", true, true)), Ok("/x/ ")),
            (planned(&file, side("/x", true, false)), Ok("/ x")),
            (
                planned(&dir, side("/x", true, false)),
                Err("cannot copy directory"),
            ),
            (planned(&dir, side("/t/x", false, false)), Ok("/t x")),
            (planned(&file, side("/t/x", false, false)), Ok("/t x")),
            (
                planned(&file, side("/t/x/", false, false)),
                Err("no such directory"),
            ),
            (
                planned(&file, side("/t/x/.", false, false)),
                Err("no such directory"),
            ),
        ];
        for (found, wanted) in cases {
            assert_eq!(found.as_deref().map_err(String::as_str), wanted,);
        }
    }

    #[test]
    fn ends_of_paths_are_kept() {
        assert_eq!(absolute("/a/b/.").unwrap(), "/a/b/.");
        assert_eq!(absolute("/a//b/").unwrap(), "/a/b/");
        assert_eq!(absolute("/a/../b").unwrap(), "/b");
        assert_eq!(split("/a/b/."), ("/a/b".to_owned(), ".".to_owned()));
        assert_eq!(split("/a"), ("/".to_owned(), "a".to_owned()));
        let followed = rebased("/a/link/.", "/t/target".to_owned());
        assert_eq!(followed, ("/t/target/.".to_owned(), None));
        let renamed = rebased("/a/link", "/t/target".to_owned());
        assert_eq!(renamed, ("/t/target".to_owned(), Some("link".to_owned())));
    }

    #[test]
    fn sources_and_destinations_of_this_machine() {
        let dir = std::env::temp_dir().join(format!("gantry-cp-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        std::os::unix::fs::symlink("later", dir.join("ahead")).unwrap();
        let at = |name: &str| format!("{}/{name}", dir.display());
        let plain = source(&at("link"), false).unwrap();
        assert!(!plain.is_dir && plain.rebase.is_none());
        let through = source(&at("link/"), false).unwrap();
        assert_eq!(
            (through.is_dir, through.rebase.as_deref()),
            (true, Some("link"))
        );
        let followed = source(&at("link"), true).unwrap();
        assert_eq!(
            (followed.is_dir, followed.rebase.as_deref()),
            (true, Some("link"))
        );
        assert!(
            source(&at("none"), false)
                .unwrap_err()
                .text
                .ends_with("none: no such file or directory")
        );
        let ahead = destination(&at("ahead")).unwrap();
        assert_eq!((ahead.path, ahead.exists), (at("later"), false));
        assert!(destination(&at("link")).unwrap().is_dir);
        assert!(
            check_output(&at("no/where"))
                .unwrap_err()
                .text
                .contains("does not exist")
        );
        assert!(
            check_output("/dev/null")
                .unwrap_err()
                .text
                .ends_with("got a device")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
