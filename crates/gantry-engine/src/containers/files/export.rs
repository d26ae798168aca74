//! `export`: all files of a container but those of its mounts, as one archive.

use super::archive::{FileStream, OPTIONS};
use super::pieces::packed;
use crate::containers::Containers;
use crate::containers::record::Status;
use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::sync::Arc;

impl Containers {
    /// All files of a container as an archive.
    pub async fn export(self: &Arc<Self>, name: &str) -> Result<FileStream> {
        let container = self.find(name)?;
        let refuse = |why: &str| {
            let text = format!(
                "You cannot export container {} which is {why}",
                container.id
            );
            Err(Error::conflict(text))
        };
        match container.record().state.status {
            Status::Dead => return refuse("Dead"),
            Status::Removing => return refuse("being removed"),
            _ => {}
        }
        let look = self.look(&container).await?;
        let this = self.clone();
        let done = move || this.context.tell(&container.snapshot(), "export", &[]);
        let pieces = packed(
            look,
            OPTIONS,
            |look, packer| {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = rustix::fs::openat(look.view.bare(), ".", flags, Mode::empty());
                let dir = dir.map_err(|e| gantry_tar::Error::Archive(e.into()))?;
                packer.directory(dir, b"")
            },
            done,
        );
        Ok(pieces)
    }
}
