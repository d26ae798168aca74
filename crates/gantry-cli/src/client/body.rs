//! Request bodies: none, bytes, or what a reader gives.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes of a reader that go into one piece of the body.
const PIECE: usize = 256 * 1024;

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Option<Bytes>),
    Pieces(mpsc::Receiver<std::io::Result<Bytes>>),
}

impl Payload {
    pub(crate) fn none() -> Payload {
        Payload::Bytes(None)
    }

    pub(crate) fn bytes(bytes: Vec<u8>) -> Payload {
        Payload::Bytes(Some(Bytes::from(bytes)))
    }

    /// Reads ahead on a blocking thread, two pieces at most.
    pub(crate) fn reader(mut reader: Box<dyn Read + Send>) -> Payload {
        let (sender, receiver) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = match reader.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => {
                        piece.truncate(count);
                        Ok(Bytes::from(piece))
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        Payload::Pieces(receiver)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Payload::Bytes(bytes) => {
                let rest = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(rest.map(|bytes| Ok(Frame::data(bytes))))
            }
            Payload::Pieces(receiver) => receiver
                .poll_recv(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Payload::Bytes(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Payload::Pieces(_) => SizeHint::default(),
        }
    }
}
