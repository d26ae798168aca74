//! An archive on its way to a client: made on a thread, sent in pieces, a few of which wait at most.

use super::views::Look;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use gantry_tar::pack::{Options, Packer};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of a piece, and how many pieces wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Gathers what is written into pieces.
pub(super) struct Pieces {
    look: Arc<Look>,
    buffer: Vec<u8>,
    to: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.look.check()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let sent = self.to.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.look.check()
    }
}

/// Packs on a thread of the pool. An error in the middle ends the stream with it, which cuts the connection.
pub(super) fn packed(
    look: Arc<Look>,
    options: Options,
    work: impl FnOnce(&Look, &mut Packer<Pieces>) -> gantry_tar::Result<()> + Send + 'static,
    done: impl FnOnce() + Send + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (to, from) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces {
            look: look.clone(),
            buffer: Vec::with_capacity(PIECE),
            to: to.clone(),
        };
        let mut packer = Packer::new(pieces, options);
        match work(&look, &mut packer).and_then(|()| packer.finish()) {
            Ok(_) => done(),
            Err(error) => {
                tracing::debug!(%error, "an archive of a container's files ends early");
                let _ = to.blocking_send(Err(io::Error::other(error)));
            }
        }
    });
    stream::unfold(from, async |mut from| Some((from.recv().await?, from))).boxed()
}
