//! An archive of a container's files on its way to a client.

use super::views::Look;
use crate::pieces::Pieces;
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

/// Pieces of what is seen of a container's files, as long as they are its files.
pub(super) struct Seen {
    look: Arc<Look>,
    pieces: Pieces,
}

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look.check()?;
        let written = self.pieces.write(bytes)?;
        self.look.check()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.look.check()?;
        self.pieces.flush()?;
        self.look.check()
    }
}

/// Packs on a thread of the pool. An error in the middle ends the stream with it, which cuts the connection.
pub(super) fn packed(
    look: Arc<Look>,
    options: Options,
    work: impl FnOnce(&Look, &mut Packer<Seen>) -> gantry_tar::Result<()> + Send + 'static,
    done: impl FnOnce() + Send + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (to, from) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let seen = Seen {
            look: look.clone(),
            pieces: Pieces::new(PIECE, to.clone()),
        };
        let mut packer = Packer::new(seen, options);
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
