//! Connections, each a pair. Bytes go from one to the other by splice(2), without coming here.
use super::REST;
use rustix::fd::OwnedFd;
use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// So long a container may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// Of a pipe, bytes. Where there are too many pipes the kernel gives less.
const PIPE: usize = 256 * 1024;
/// Empty pipes that are kept for the next connection that has something to say.
const SPARE: usize = 16;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// What the bytes of one direction go through. A connection has one only while something is on its way.
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(spare) = PIPES.with_borrow_mut(Vec::pop) {
            return Ok(spare);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let _ = fcntl_setpipe_size(&into, PIPE);
        Ok(Self { out, into })
    }

    /// Keeps it for others; it has to be empty.
    fn give_back(self) {
        PIPES.with_borrow_mut(|pipes| {
            if pipes.len() < SPARE {
                pipes.push(self);
            }
        });
    }
}

/// Accepts until it is dropped; its connections end with it.
pub(super) async fn carry(listener: Arc<TcpListener>, backend: SocketAddr) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(carried.spawn(carry_one(client, backend))),
                // The daemon has closed it, and says so in a moment.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    eprintln!("gantry-proxy: cannot accept for {backend}: {error}");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

async fn carry_one(client: TcpStream, backend: SocketAddr) {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(backend)).await;
    let Ok(Ok(server)) = connected else {
        // To the client it is as if nobody listened.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
        return;
    };
    let done: io::Result<((), ())> = async {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::try_join!(pass(&client, &server), pass(&server, &client))
    }
    .await;
    // One side has broken off: so does the other.
    if done.is_err() {
        for side in [&client, &server] {
            let _ = set_socket_linger(side, Some(Duration::ZERO));
        }
    }
}

/// Passes on what one side says, to its end.
async fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        from.readable().await?;
        let pipe = Pipe::take()?;
        let read = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &pipe.into, None, PIPE, flags)?)
        });
        let mut left = match read {
            Ok(0) => {
                pipe.give_back();
                // It may have gone altogether, which the other direction finds out.
                let _ = shutdown(to, Shutdown::Write);
                return Ok(());
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.give_back();
                continue;
            }
            Err(error) => return Err(error),
        };
        while left > 0 {
            left -= to
                .async_io(Interest::WRITABLE, || {
                    Ok(splice(&pipe.out, None, to, None, left, flags)?)
                })
                .await?;
        }
        pipe.give_back();
    }
}
