//! An archive on its way to a client: written on a thread that may block, sent in pieces, a few of which wait at most.

use bytes::Bytes;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Gathers what is written into pieces of one size; the last one, which may be shorter, comes by a flush.
#[derive(Debug)]
pub(crate) struct Pieces {
    size: usize,
    buffer: Vec<u8>,
    to: mpsc::Sender<io::Result<Bytes>>,
}

impl Pieces {
    /// `size`: bytes of a piece.
    pub(crate) fn new(size: usize, to: mpsc::Sender<io::Result<Bytes>>) -> Self {
        Self {
            size,
            buffer: Vec::with_capacity(size),
            to,
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == self.size {
            self.flush()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.size));
        let sent = self.to.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_bounded_and_whole() {
        const SIZE: usize = 64 << 10;
        let (sender, mut receiver) = mpsc::channel(2);
        let written = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces::new(SIZE, sender);
            pieces.write_all(&[7; 3 * SIZE + 5]).unwrap();
            pieces.flush().unwrap();
        });
        let mut sizes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            sizes.push(piece.unwrap().len());
        }
        written.await.unwrap();
        assert_eq!(sizes, [SIZE, SIZE, SIZE, 5]);
    }
}
