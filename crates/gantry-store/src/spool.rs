//! Nameless files for what is only on its way: gone with their last user, however that one ends.

use crate::{At, Result, Store};
use rustix::fs::{Mode, OFlags};
use std::fs::File;

impl Store {
    /// A new file for reading and writing, on the store's file system.
    pub fn spool(&self) -> Result<File> {
        let tmp = self.blobs.tmp();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(tmp, flags, Mode::from_raw_mode(0o600)) {
            return Ok(file.into());
        }
        // A file system that knows no files without names.
        let path = self.blobs.unfinished();
        let made = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = made.at("cannot write", &path)?;
        std::fs::remove_file(&path).at("cannot remove", &path)?;
        Ok(file)
    }
}
