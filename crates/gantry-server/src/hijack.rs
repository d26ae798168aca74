//! Connections that leave HTTP: raw bytes both ways between a client and a container.
//!
//! Each direction ends on its own: the client's half-close becomes the end of the container's stdin, the end
//! of the container's output becomes a half-close to the client. The session ends with the output.

use crate::socket::{Socket, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use gantry_engine::containers::attach::DetachKeys;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Bytes in flight in each direction.
const BUFFER: usize = 64 << 10;
/// How long a client has to take note of the end: what it still sends is read and dropped, since closing a
/// socket with unread bytes would cost it the last of the output.
const LINGER: Duration = Duration::from_secs(2);

/// A connection taken from HTTP.
pub(crate) struct Taken {
    pub(crate) stream: Stream,
    /// Bytes that came behind the request.
    pub(crate) ahead: Bytes,
    pub(crate) socket: Socket,
    pub(crate) stop: CancellationToken,
}

type Work = Box<dyn FnOnce(Taken) -> BoxFuture<'static, ()> + Send>;

/// An answer that takes the connection.
pub(crate) struct Hijack {
    status: StatusCode,
    pub(crate) headers: HeaderMap,
    work: Work,
}

impl Hijack {
    /// `101 UPGRADED` where the client asked for an upgrade, else 200 with the bare bytes behind the head.
    pub(crate) fn new<F, W>(upgrade: Option<&str>, content_type: &'static str, work: F) -> Self
    where
        F: FnOnce(Taken) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let status = match upgrade {
            Some(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
                StatusCode::SWITCHING_PROTOCOLS
            }
            None => StatusCode::OK,
        };
        Self::with_headers(status, headers, work)
    }

    /// A hijack with a head of its own.
    pub(crate) fn with_headers<F, W>(status: StatusCode, headers: HeaderMap, work: F) -> Self
    where
        F: FnOnce(Taken) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self {
            status,
            headers,
            work: Box::new(move |taken| Box::pin(work(taken))),
        }
    }

    /// Writes the head and does the work, until it ends or the server stops.
    pub(crate) async fn run(self, mut taken: Taken) {
        let head = self.head();
        if let Err(error) = taken.stream.write_all(head.as_bytes()).await {
            tracing::debug!(%error, "a client went away before its stream began");
            return;
        }
        let _ = taken.stream.flush().await;
        let stop = taken.stop.clone();
        tokio::select! {
            () = (self.work)(taken) => {}
            () = stop.cancelled() => {}
        }
    }

    fn head(&self) -> String {
        let reason = match self.status {
            StatusCode::SWITCHING_PROTOCOLS => "UPGRADED",
            other => other.canonical_reason().unwrap_or_default(),
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_u16());
        for (name, value) in &self.headers {
            // Writing to a String does not fail.
            let _ = write!(
                head,
                "{}: {}\r\n",
                canonical(name.as_str()),
                value.to_str().unwrap_or_default()
            );
        }
        head.push_str("\r\n");
        head
    }
}

/// `content-type` as `Content-Type`, for clients that look for it so.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let out = if upper { c.to_ascii_uppercase() } else { c };
            upper = c == '-';
            out
        })
        .collect()
}

/// What stands on the container's side of a session.
pub(crate) struct Session<E> {
    /// Both directions of the container's streams.
    pub(crate) engine: E,
    /// Output from before, sent first.
    pub(crate) replay: Option<BoxStream<'static, Bytes>>,
    /// Whether what the client sends is for the container.
    pub(crate) stdin: bool,
    /// Keys that end the session.
    pub(crate) detach: Option<DetachKeys>,
    /// What has to be over before the client sees the end of the output.
    pub(crate) before_end: Option<BoxFuture<'static, ()>>,
}

/// Copies both ways until the container's output ends, the client has closed its end (what it sent before
/// still arrives), or it detaches. True where it detached.
pub(crate) async fn copy<E>(taken: Taken, session: Session<E>) -> bool
where
    E: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Session {
        engine,
        replay,
        stdin,
        detach,
        before_end,
    } = session;
    let (mut from_client, mut to_client) = tokio::io::split(taken.stream);
    let (mut from_engine, mut to_engine) = tokio::io::split(engine);
    let output = async {
        if let Some(mut replay) = replay {
            while let Some(piece) = replay.next().await {
                to_client.write_all(&piece).await?;
            }
        }
        forward(&mut from_engine, &mut to_client).await?;
        if let Some(before_end) = before_end {
            before_end.await;
        }
        io::Result::Ok(())
    };
    let input = async {
        let ended = if stdin {
            send_stdin(taken.ahead, &mut from_client, &mut to_engine, detach).await
        } else {
            Ended::Closed
        };
        match ended {
            Ended::Detached => true,
            Ended::Closed => {
                taken.socket.hung_up().await;
                false
            }
        }
    };
    let detached = tokio::select! {
        biased;
        done = output => {
            if let Err(error) = done {
                tracing::debug!(%error, "a session ended");
            }
            false
        }
        detached = input => detached,
    };
    let _ = to_client.shutdown().await;
    let drained = async {
        let mut sink = vec![0; 4096];
        while matches!(from_client.read(&mut sink).await, Ok(read) if read > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
    detached
}

/// How the client's direction ended.
enum Ended {
    Closed,
    Detached,
}

async fn send_stdin<R, W>(
    ahead: Bytes,
    from: &mut R,
    to: &mut W,
    mut detach: Option<DetachKeys>,
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut piece: &[u8] = &ahead;
    let mut open = true;
    loop {
        if !piece.is_empty() && open {
            let result = match &mut detach {
                None => to.write_all(piece).await,
                Some(keys) => {
                    let mut kept = Vec::with_capacity(piece.len());
                    let detached = keys.filter(piece, &mut kept);
                    let result = to.write_all(&kept).await;
                    if detached {
                        return Ended::Detached;
                    }
                    result
                }
            };
            // The container reads no more; what comes is read all the same, so that the client does not block.
            open = result.is_ok();
        }
        match from.read(&mut buffer).await {
            Ok(0) => {
                let _ = to.shutdown().await;
                return Ended::Closed;
            }
            Ok(read) => piece = &buffer[..read],
            Err(error) => {
                tracing::debug!(%error, "a client's input ended");
                let _ = to.shutdown().await;
                return Ended::Closed;
            }
        }
    }
}

async fn forward<R, W>(from: &mut R, to: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            read => {
                to.write_all(&buffer[..read]).await?;
                to.flush().await?;
            }
        }
    }
}
