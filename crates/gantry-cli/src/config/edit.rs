//! Changing the file: the one thing that changes, all else as it was.
//!
//! The file is read anew under a lock, so that two clients do not undo each other's change, and replaced whole: whatever
//! happens in between, there is the old file or the new one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::{Map, Value};

use crate::format::indented;

/// Links that are followed to the file itself.
const MOST_LINKS: usize = 40;

/// Changes the file's settings; they are written where `change` says so.
pub(super) fn change(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> bool,
) -> Result<(), String> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| wrong("cannot make the folder of", &error))?;
    // On a file system that knows no locks it goes without one.
    let lock = File::open(folder).map_err(|error| wrong("cannot lock", &error))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).ok();

    let target = target(path);
    let mut settings = match std::fs::read(&target) {
        // COMPAT: Docker warns of a file that it cannot read, and then writes a new one over it.
        Ok(text) if !text.trim_ascii().is_empty() => serde_json::from_slice(&text)
            .map_err(|error| wrong("mend or remove the configuration file", &error))?,
        Ok(_) => Map::new(),
        Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(wrong("cannot read", &error)),
    };
    if !change(&mut settings) {
        return Ok(());
    }
    let text = indented(&Value::Object(settings).to_string(), "\t");
    replace(&target, text.as_bytes()).map_err(|error| wrong("cannot write", &error))
}

/// The file behind symbolic links, even where it is not there yet.
fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => break,
        }
    }
    path
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let fresh = Path::new(&name);
    let written = write(path, fresh, text).and_then(|()| std::fs::rename(fresh, path));
    if written.is_err() {
        std::fs::remove_file(fresh).ok();
    }
    written
}

/// Writes a new file that is as the old one: its mode and its owner, where we may.
fn write(old: &Path, fresh: &Path, text: &[u8]) -> std::io::Result<()> {
    // A client of this number that was killed may have left one.
    std::fs::remove_file(fresh).ok();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    if let Ok(old) = std::fs::metadata(old) {
        fchown(&file, Some(old.uid()), Some(old.gid())).ok();
        let mode = std::fs::Permissions::from_mode(old.mode() & 0o777);
        file.set_permissions(mode)?;
    }
    file.write_all(text)?;
    file.sync_all()
}
