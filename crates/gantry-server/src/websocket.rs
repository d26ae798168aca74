//! A container's streams over a WebSocket (`attach/ws`): messages of raw bytes, without frames of ours.

use crate::call::Call;
use crate::error::{ApiError, Result};
use crate::hijack::{Hijack, Taken};
use crate::socket::Stream;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use gantry_engine::containers::attach::{AttachStream, DetachKeys};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message that a client may send.
const LARGEST: usize = 1 << 20;

/// The answer's headers, where the request is a WebSocket's.
pub(crate) fn handshake<S>(call: &Call<S>) -> Result<HeaderMap> {
    let is = |name: &str, word: &str| {
        let text = call.header(name).unwrap_or_default();
        text.split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let key = call.header("sec-websocket-key");
    let (true, true, true, Some(key)) = (
        is("upgrade", "websocket"),
        is("connection", "upgrade"),
        is("sec-websocket-version", "13"),
        key,
    ) else {
        return Err(ApiError::invalid("not websocket protocol"));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| ApiError::system(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(HeaderName::from_static("sec-websocket-accept"), accept);
    Ok(headers)
}

/// Hijacks the connection for a WebSocket; `left` is called where the client typed the detach keys.
pub(crate) fn hijack(
    headers: HeaderMap,
    attached: AttachStream,
    stdin: bool,
    left: impl FnOnce() + Send + 'static,
) -> Hijack {
    Hijack::with_headers(
        StatusCode::SWITCHING_PROTOCOLS,
        headers,
        async move |taken: Taken| {
            let config = WebSocketConfig::default()
                .max_message_size(Some(LARGEST))
                .max_frame_size(Some(LARGEST));
            let stream = Ahead {
                ahead: taken.ahead,
                stream: taken.stream,
            };
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
            match copy(socket, attached, stdin).await {
                Ok(true) => left(),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "a websocket ended"),
            }
        },
    )
}

type Error = tokio_tungstenite::tungstenite::Error;

/// Copies both ways until the container's output or the client ends. True where the client detached.
async fn copy(
    socket: WebSocketStream<Ahead>,
    attached: AttachStream,
    stdin: bool,
) -> std::result::Result<bool, Error> {
    let (mut to_client, mut from_client) = socket.split();
    let (mut from_engine, mut to_engine) = attached.socket.into_split();
    let mut keys: Option<DetachKeys> = attached.detach;
    let mut frames = (!attached.tty).then(Frames::default);
    let replay = attached.replay;
    let output = async {
        if let Some(mut replay) = replay {
            while let Some(frame) = replay.frames.next().await {
                to_client.send(Message::Binary(frame.bytes)).await?;
            }
        }
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = from_engine.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let piece = match &mut frames {
                None => Bytes::copy_from_slice(&buffer[..read]),
                Some(frames) => frames.payload(&buffer[..read]),
            };
            if !piece.is_empty() {
                to_client.send(Message::Binary(piece)).await?;
            }
        }
    };
    let input = async {
        while let Some(message) = from_client.next().await {
            let bytes = match message? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => break,
                _ => continue,
            };
            if !stdin {
                continue;
            }
            let mut kept = Vec::new();
            let detached = match &mut keys {
                None => {
                    kept.extend_from_slice(&bytes);
                    false
                }
                Some(keys) => keys.filter(&bytes, &mut kept),
            };
            // A container that does not read is no reason to end.
            let _ = to_engine.write_all(&kept).await;
            if detached {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let done = tokio::select! {
        done = output => done.map(|()| false),
        done = input => done,
    };
    let _ = to_client.send(Message::Close(None)).await;
    done
}

/// Takes the bytes of both streams out of Docker's frames: a kind, three zeros, the length, the bytes.
#[derive(Debug, Default)]
struct Frames {
    head: BytesMut,
    /// Bytes of the current frame that are still to come.
    left: usize,
}

impl Frames {
    fn payload(&mut self, mut bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(bytes.len());
        while !bytes.is_empty() {
            if self.left == 0 {
                let want = (8 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..want]);
                bytes.advance(want);
                if self.head.len() == 8 {
                    self.head.advance(4);
                    self.left = self.head.get_u32() as usize;
                    self.head.clear();
                }
            } else {
                let take = self.left.min(bytes.len());
                out.extend_from_slice(&bytes[..take]);
                bytes.advance(take);
                self.left -= take;
            }
        }
        out.freeze()
    }
}

/// A stream with bytes that were read from it before.
#[derive(Debug)]
struct Ahead {
    ahead: Bytes,
    stream: Stream,
}

impl AsyncRead for Ahead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let take = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(take));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let mut stream = Vec::new();
        for (kind, text) in [(1_u8, "out"), (2, "err"), (1, ""), (1, "more")] {
            stream.extend_from_slice(&[kind, 0, 0, 0]);
            stream.extend_from_slice(&(text.len() as u32).to_be_bytes());
            stream.extend_from_slice(text.as_bytes());
        }
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let pieces = stream.chunks(size).map(|piece| frames.payload(piece));
            let whole: Vec<u8> = pieces.flatten().collect();
            assert_eq!(whole, b"outerrmore", "pieces of {size}");
        }
    }
}
