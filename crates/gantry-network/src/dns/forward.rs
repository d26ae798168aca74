//! Asking the servers outside, with the client's own bytes: what it said of EDNS goes along, and the answer goes back as it
//! came. Only the number of the query is another, so that an answer cannot be guessed by who can see the container's.

use super::question::HEAD;
use super::{ADDRESS, Upstream};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::oneshot;

/// COMPAT: as many servers are asked as resolv.conf may have, each for so long (moby v28.5.2, libnetwork/resolver.go
/// `maxExtDNS`, `extIOTimeout`).
const MOST_UPSTREAMS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(4);
/// After so long without an answer the next server is asked, too. COMPAT: Docker waits the whole 4 s for the first;
/// clients give up after 5, so that of three servers with a dead first one hardly an answer would come.
const PATIENCE: Duration = Duration::from_millis(1500);

const SERVER_FAILURE: u8 = 2;
const REFUSED: u8 = 5;

/// A query on its way.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    pub(super) query: Arc<[u8]>,
    /// Where the bytes of the question end.
    pub(super) end: usize,
    pub(super) by_tcp: bool,
    /// The namespace of who asks.
    pub(super) netns: Arc<OwnedFd>,
}

/// Asks one server after the other; the first answer that is no failure. None: there was none.
pub(super) async fn ask(errand: &Errand, upstreams: &[Upstream], door: &Door) -> Option<Vec<u8>> {
    let usable = |u: &&Upstream| u.from_host || u.address.ip() != IpAddr::V4(ADDRESS);
    let mut waiting = upstreams
        .iter()
        .filter(usable)
        .take(MOST_UPSTREAMS)
        .peekable();
    let mut asked = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(upstream) => asked.push(exchange(errand, upstream, door)),
            None if asked.is_empty() => return None,
            None => {}
        }
        tokio::select! {
            answer = asked.next() => match answer {
                Some(Ok(answer)) if ![SERVER_FAILURE, REFUSED].contains(&(answer[3] & 15)) => {
                    return Some(answer);
                }
                _ => {}
            },
            () = tokio::time::sleep(PATIENCE), if waiting.peek().is_some() => {}
        }
    }
}

/// One server's answer, under the client's number.
async fn exchange(errand: &Errand, upstream: &Upstream, door: &Door) -> io::Result<Vec<u8>> {
    let mut query = errand.query.to_vec();
    query[..2].copy_from_slice(&rand::random::<[u8; 2]>());
    let work = async {
        match errand.by_tcp {
            true => exchange_by_tcp(&query, errand, upstream, door).await,
            false => exchange_by_udp(&query, errand, upstream, door).await,
        }
    };
    let mut answer = tokio::time::timeout(TIMEOUT, work).await??;
    answer[..2].copy_from_slice(&errand.query[..2]);
    Ok(answer)
}

async fn exchange_by_udp(
    query: &[u8],
    errand: &Errand,
    upstream: &Upstream,
    door: &Door,
) -> io::Result<Vec<u8>> {
    let to = upstream.address;
    let open = move || {
        let socket = std::net::UdpSocket::bind(any_address(to))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let socket = match upstream.from_host {
        true => open()?,
        false => door.open_in(errand.netns.clone(), open).await?,
    };
    let socket = UdpSocket::from_std(socket)?;
    // Only what comes from there is received from now on, and that nobody listens there is an error.
    socket.connect(to).await?;
    socket.send(query).await?;
    loop {
        socket.readable().await?;
        match receive(&socket) {
            Ok((answer, _)) if is_answer(&answer, query, errand.end) => return Ok(answer),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn exchange_by_tcp(
    query: &[u8],
    errand: &Errand,
    upstream: &Upstream,
    door: &Door,
) -> io::Result<Vec<u8>> {
    let to = upstream.address;
    let open = move || match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = match upstream.from_host {
        true => open()?,
        false => door.open_in(errand.netns.clone(), open).await?,
    };
    let mut stream = socket.connect(to).await?;
    write_message(&mut stream, query).await?;
    let answer = read_message(&mut stream).await?;
    match is_answer(&answer, query, errand.end) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn any_address(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Whether this is an answer to that query: its number and its question.
fn is_answer(answer: &[u8], query: &[u8], end: usize) -> bool {
    let Some(head) = answer.first_chunk::<HEAD>() else {
        return false;
    };
    if head[..2] != query[..2] || head[2] & 0x80 == 0 {
        return false;
    }
    // Some leave the question out when they refuse.
    if head[4..6] == [0, 0] {
        return head[3] & 15 != 0;
    }
    answer
        .get(HEAD..end)
        .is_some_and(|question| question.eq_ignore_ascii_case(&query[HEAD..end]))
}

/// Takes what has come, of any size, without keeping a buffer for it.
pub(super) fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; u16::MAX as usize];
    let (length, from) = socket.try_recv_from(&mut buffer)?;
    Ok((buffer[..length].to_vec(), from))
}

/// Reads a message with its length before it (RFC 1035, 4.2.2).
pub(super) async fn read_message(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message with its length, in one piece.
pub(super) async fn write_message(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let whole = [&length.to_be_bytes(), message].concat();
    stream.write_all(&whole).await
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that opens sockets in the namespaces of others; it is started when there is something to open.
#[derive(Debug, Default)]
pub(super) struct Door {
    thread: OnceLock<mpsc::Sender<(Arc<OwnedFd>, Work)>>,
}

impl Door {
    /// What `open` gives when it is called in that namespace. It must not wait.
    async fn open_in<T: Send + 'static>(
        &self,
        netns: Arc<OwnedFd>,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the thread that opens sockets is gone");
        let (done, opened) = oneshot::channel();
        let work = move || {
            // Nobody waits any more: fine.
            let _ = done.send(open());
        };
        self.thread
            .get_or_init(start)
            .send((netns, Box::new(work)))
            .map_err(|_| gone())?;
        opened.await.map_err(|_| gone())?
    }
}

/// Starts the thread; it ends with the sender. Work for a namespace that cannot be entered is dropped, which its
/// receiver is told.
fn start() -> mpsc::Sender<(Arc<OwnedFd>, Work)> {
    let (sender, receiver) = mpsc::channel::<(Arc<OwnedFd>, Work)>();
    let run = move || {
        for (netns, work) in receiver {
            let kind = Some(LinkNameSpaceType::Network);
            match move_into_link_name_space(netns.as_fd(), kind) {
                Ok(()) => work(),
                Err(error) => tracing::warn!(%error, "cannot enter a container's network"),
            }
        }
    };
    if let Err(error) = std::thread::Builder::new()
        .name("dns-door".into())
        .spawn(run)
    {
        tracing::error!(%error, "cannot start the thread that opens sockets");
    }
    sender
}
