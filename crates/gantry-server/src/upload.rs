//! A request's body for work on a thread that may block, and may give up before the body's end.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::io::{self, Read};
use std::pin::Pin;
use tokio::sync::mpsc;

/// Pieces that wait for the work.
const WAITING: usize = 4;

/// The body, to be read on a thread that may block.
pub(crate) struct Upload {
    from: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.piece.len());
        buffer[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// Brings the body to whoever reads it.
pub(crate) struct Feeder {
    body: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// None once the body has ended.
    to: Option<mpsc::Sender<io::Result<Bytes>>>,
}

pub(crate) fn start(
    body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> (Upload, Feeder) {
    let (to, from) = mpsc::channel(WAITING);
    let upload = Upload {
        from,
        piece: Bytes::new(),
    };
    let feeder = Feeder {
        body: Box::pin(body),
        to: Some(to),
    };
    (upload, feeder)
}

impl Feeder {
    async fn feed(&mut self) {
        // The end of the body is the end of the channel.
        while let Some(to) = self.to.take() {
            let Ok(place) = to.reserve().await else {
                return;
            };
            if let Some(piece) = self.body.next().await {
                place.send(piece);
                self.to = Some(to);
            }
        }
    }

    /// Feeds the work until it is done.
    pub(crate) async fn while_working<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = self.feed() => {}
        }
        work.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn body(pieces: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::iter(std::iter::repeat_n(Bytes::from_static(b"abcd"), pieces).map(Ok))
    }

    #[tokio::test]
    async fn all_is_brought() {
        let (mut upload, mut feeder) = start(body(1000));
        let work = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            upload.read_to_string(&mut text).map(|_| text.len())
        });
        assert_eq!(feeder.while_working(work).await.unwrap().unwrap(), 4000);
    }

    #[tokio::test]
    async fn work_that_gives_up_is_done_at_once() {
        let (mut upload, mut feeder) = start(body(1000).chain(stream::pending()));
        let work = tokio::task::spawn_blocking(move || upload.read(&mut [0; 6]));
        assert_eq!(feeder.while_working(work).await.unwrap().unwrap(), 4);
    }
}
