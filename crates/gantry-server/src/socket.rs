//! The accepted connection: a stream for HTTP, and a second look at it to learn that the client is gone.

use rustix::net::{RecvFlags, Shutdown};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// A connected socket, shared by whoever reads, writes and watches it.
#[derive(Debug, Clone)]
pub(crate) struct Socket(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self(Arc::new(Kind::Unix(stream)))
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self(Arc::new(Kind::Tcp(stream)))
    }
}

/// Does the same with either kind of stream.
macro_rules! each {
    ($socket:expr, $stream:ident => $done:expr) => {
        match &*$socket.0 {
            Kind::Unix($stream) => $done,
            Kind::Tcp($stream) => $done,
        }
    };
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}

impl Socket {
    /// Ends when the connection is closed in both directions. Reads nothing.
    pub(crate) async fn hung_up(&self) {
        if let Err(error) = self.wait_for_hang_up().await {
            tracing::debug!(%error, "cannot watch a connection");
            std::future::pending().await
        }
    }

    async fn wait_for_hang_up(&self) -> io::Result<()> {
        // A second descriptor with an interest of its own: no events but the hang-up, which epoll always tells.
        let twin: OwnedFd = self.as_fd().try_clone_to_owned()?;
        #[expect(unsafe_code, reason = "tokio's only way to watch for a hang-up alone")]
        // SAFETY: the descriptor is owned by the AsyncFd from here to its end, and nobody replaces it.
        let twin = unsafe { AsyncFd::register_with_interest(twin, Interest::PRIORITY) }?;
        loop {
            let mut guard = twin.ready(Interest::PRIORITY).await?;
            if guard.ready().is_read_closed() {
                return Ok(());
            }
            guard.clear_ready();
        }
    }

    /// Ends when the client does not wait for an answer any more: it closed the connection, or, where a close
    /// cannot be told from a half-close (TCP), stopped sending. Not for hijacked connections.
    pub(crate) async fn gone(&self) {
        match &*self.0 {
            Kind::Unix(_) => self.hung_up().await,
            Kind::Tcp(stream) => {
                tokio::select! {
                    () = self.hung_up() => {}
                    () = end_of_input(stream) => {}
                }
            }
        }
    }
}

/// Ends when there is nothing more to read and never will be; never, when the client has sent more.
async fn end_of_input(stream: &TcpStream) {
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        let peeked = stream.try_io(Interest::READABLE, || {
            let mut byte = [0_u8; 1];
            let (_, found) = rustix::net::recv(stream, &mut byte, RecvFlags::PEEK)?;
            Ok(found)
        });
        match peeked {
            Ok(0) => return,
            Ok(_) => std::future::pending().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let read = each!(self, stream => {
                ready!(stream.poll_read_ready(cx))?;
                stream.try_read(buf.initialize_unfilled())
            });
            match read {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let written = each!(self, stream => {
                ready!(stream.poll_write_ready(cx))?;
                stream.try_write_vectored(slices)
            });
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match rustix::net::shutdown(self.as_fd(), Shutdown::Write) {
            // The other side has closed already.
            Err(rustix::io::Errno::NOTCONN) => Ok(()),
            done => done.map_err(Into::into),
        })
    }
}

/// What HTTP runs on.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
