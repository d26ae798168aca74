//! Containers' logs: drivers and their options ([`drivers`]), and reading what the shims have written, or are writing,
//! from the oldest file that is left to the newest.

mod attributes;
pub(crate) mod drivers;
mod entry;
mod follow;
mod options;
mod reader;
mod segment;

#[cfg(test)]
mod tests;

use crate::containers::Containers;
use crate::containers::attach::AttachOptions;
use crate::containers::phase::Phase;
use crate::containers::record::{Record, Status};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use entry::Wanted;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use gantry_runtime::shim_client::Position;
pub use options::{DRIVERS, validate};
use reader::Reader;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What is read.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// Go on with what the container writes, until it ends.
    pub follow: bool,
    /// Unix nanoseconds.
    pub since: Option<i64>,
    /// Unix nanoseconds.
    pub until: Option<i64>,
    /// The last so many lines; none: all.
    pub tail: Option<u64>,
    /// Each line begins with its time and a space.
    pub timestamps: bool,
    /// Each line begins with the log's attributes (`k=v,k=v `).
    pub details: bool,
}

/// One line or part of a line, or an error of the log itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 1: stdout, 2: stderr.
    pub stream: u8,
    pub bytes: Bytes,
}

/// A container's log.
pub struct LogStream {
    /// Whether the container has a terminal: then the bytes go out without frames.
    pub tty: bool,
    pub frames: BoxStream<'static, Frame>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream")
            .field("tty", &self.tty)
            .finish_non_exhaustive()
    }
}

impl Containers {
    /// Reads a container's log. With `follow` it goes on until the container ends; of one that does not run it is what is
    /// there.
    ///
    /// # Errors
    /// No such container, or its log cannot be read (`--log-driver none`).
    pub async fn logs(self: &Arc<Self>, name: &str, options: LogOptions) -> Result<LogStream> {
        let container = self.find(name)?;
        let record = container.snapshot();
        if matches!(record.state.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict(
                "can not get logs from container which is dead or marked for removal",
            ));
        }
        let Some(file) = drivers::readable(&self.context, &record) else {
            return Err(unreadable());
        };
        let alive = options.follow.then(|| container.phases());
        let wanted = Wanted {
            options: options.clone(),
            most_files: file.max_files,
            format: file.format,
        };
        let path = file.path.clone();
        let reader = crate::blocking(move || Reader::open(&path, wanted, options.tail))
            .await?
            .map_err(|e| Error::caused("cannot open the container's log", e))?;
        Ok(LogStream {
            tty: record.config.tty,
            frames: stream(reader, file.path, alive),
        })
    }
}

/// The log of a container up to a moment.
#[derive(Debug)]
pub(crate) struct History {
    tty: bool,
    file: drivers::Readable,
}

impl Containers {
    /// What [`AttachOptions::logs`] asks for.
    ///
    /// # Errors
    /// The log cannot be read (`--log-driver none`).
    pub(crate) fn history(&self, record: &Record) -> Result<History> {
        match drivers::readable(&self.context, record) {
            Some(file) => Ok(History {
                tty: record.config.tty,
                file,
            }),
            None => Err(unreadable()),
        }
    }
}

impl History {
    /// Reads to a place in the log; none: to the end that it has now.
    pub(crate) async fn until(
        self,
        position: Option<Position>,
        options: &AttachOptions,
    ) -> Result<LogStream> {
        let wanted = Wanted {
            options: LogOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..LogOptions::default()
            },
            most_files: self.file.max_files,
            format: self.file.format,
        };
        let path = self.file.path.clone();
        let reader = crate::blocking(move || Reader::open_until(&path, wanted, position))
            .await?
            .map_err(|e| Error::caused("cannot open the container's log", e))?;
        Ok(LogStream {
            tty: self.tty,
            frames: stream(reader, self.file.path, None),
        })
    }
}

fn unreadable() -> Error {
    Error::new(
        ErrorKind::NotImplemented,
        "configured logging driver does not support reading",
    )
}

/// A reader's frames, made by a task that ends with the stream.
fn stream(
    reader: Reader,
    path: PathBuf,
    alive: Option<watch::Receiver<Phase>>,
) -> BoxStream<'static, Frame> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(follow::run(reader, path, sender, alive));
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let batch: Vec<Frame> = receiver.recv().await?;
        Some((futures_util::stream::iter(batch), receiver))
    })
    .flatten()
    .boxed()
}
