//! Reading a container's log: the json-file that its shim writes, and its rotated predecessors.

use crate::containers::Containers;
use crate::error::Result;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::sync::Arc;

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
    /// Reads a container's log.
    pub async fn logs(self: &Arc<Self>, _name: &str, _options: LogOptions) -> Result<LogStream> {
        todo!()
    }
}
