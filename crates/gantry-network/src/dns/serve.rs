//! The loops that answer: two tasks a container, without a buffer while nobody asks.

use super::answer::{Decision, decide, server_failure};
use super::forward::{Door, Errand, ask, read_message, receive, write_message};
use super::{Directory, Sockets};
use hickory_proto::op::ResponseCode;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Queries of one container that may wait for an answer from outside. COMPAT: Docker's `maxConcurrent`.
const MOST_WAITING: usize = 1024;
/// So many more wait for their turn; a further one is refused at once.
const MOST_IN_LINE: usize = 1024;
/// So long one waits for its turn, then it is refused.
const TURN: Duration = Duration::from_secs(4);
/// The same for all containers together: each takes a descriptor of the daemon's.
const MOST_WAITING_IN_ALL: usize = 4096;
/// Connections of one container.
const MOST_CONNECTIONS: usize = 128;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// After a failure to accept (no descriptors left).
const REST: Duration = Duration::from_millis(100);

/// Answers in all containers.
pub struct Resolver {
    directory: Arc<dyn Directory>,
    door: Arc<Door>,
    waiting: Arc<Semaphore>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// A container that is served until this is dropped.
#[derive(Debug)]
pub struct Handle {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the two tasks of a container share.
struct Served {
    container: String,
    directory: Arc<dyn Directory>,
    door: Arc<Door>,
    netns: Arc<OwnedFd>,
    waiting: Semaphore,
    waiting_in_all: Arc<Semaphore>,
}

impl Resolver {
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self {
            directory,
            door: Arc::default(),
            waiting: Arc::new(Semaphore::new(MOST_WAITING_IN_ALL)),
        }
    }

    /// Answers at these sockets, for that container, on the runtime of the caller.
    pub fn serve(&self, container: &str, sockets: Sockets) -> io::Result<Handle> {
        let served = Arc::new(Served {
            container: container.to_owned(),
            directory: self.directory.clone(),
            door: self.door.clone(),
            netns: sockets.netns,
            waiting: Semaphore::new(MOST_WAITING),
            waiting_in_all: self.waiting.clone(),
        });
        let udp = UdpSocket::from_std(sockets.udp)?;
        let tcp = TcpListener::from_std(sockets.tcp)?;
        Ok(Handle {
            tasks: [
                tokio::spawn(serve_udp(served.clone(), Arc::new(udp))),
                tokio::spawn(serve_tcp(served, tcp)),
            ],
        })
    }
}

async fn serve_udp(served: Arc<Served>, socket: Arc<UdpSocket>) {
    let mut errands = JoinSet::new();
    loop {
        tokio::select! {
            ready = socket.readable() => {
                if let Err(error) = ready {
                    tracing::warn!(container = served.container, %error, "the name server's socket is gone");
                    return;
                }
            }
            Some(_) = errands.join_next() => continue,
        }
        let (query, from) = match receive(&socket) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::warn!(container = served.container, %error, "cannot receive a query");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        match decide(&*served.directory, &served.container, &query, false) {
            // A client that does not read loses its answer, and only that.
            Decision::Answer(answer) => drop(socket.try_send_to(&answer, from)),
            Decision::Forward(_) if errands.len() >= MOST_WAITING + MOST_IN_LINE => {
                if let Some(refusal) = server_failure(&query, ResponseCode::Refused) {
                    let _ = socket.try_send_to(&refusal, from);
                }
            }
            Decision::Forward(end) => {
                let (served, socket) = (served.clone(), socket.clone());
                errands.spawn(async move {
                    if let Some(answer) = served.forward(&query, end, false).await {
                        let _ = socket.try_send_to(&answer, from);
                    }
                });
            }
            Decision::Ignore => {}
        }
    }
}

async fn serve_tcp(served: Arc<Served>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(served.clone(), stream));
                }
                Err(error) => {
                    tracing::warn!(container = served.container, %error, "cannot accept a query");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers what is asked on one connection, in its order.
async fn converse(served: Arc<Served>, mut stream: TcpStream) {
    while let Ok(Ok(query)) = tokio::time::timeout(IDLE, read_message(&mut stream)).await {
        let answer = match decide(&*served.directory, &served.container, &query, true) {
            Decision::Answer(answer) => Some(answer),
            Decision::Forward(end) => served.forward(&query, end, true).await,
            Decision::Ignore => None,
        };
        let Some(answer) = answer else { return };
        let written = tokio::time::timeout(IDLE, write_message(&mut stream, &answer)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

impl Served {
    /// What the servers outside say, or that they say nothing.
    async fn forward(&self, query: &[u8], end: usize, by_tcp: bool) -> Option<Vec<u8>> {
        let turn = async {
            let own = self.waiting.acquire().await.ok()?;
            Some((own, self.waiting_in_all.acquire().await.ok()?))
        };
        let Ok(Some(_turn)) = tokio::time::timeout(TURN, turn).await else {
            return server_failure(query, ResponseCode::Refused);
        };
        let outside = self.directory.outside(&self.container);
        let errand = Errand {
            query: query.into(),
            end,
            by_tcp,
            netns: self.netns.clone(),
        };
        match ask(&errand, &outside.upstreams, &self.door).await {
            Some(answer) => Some(answer),
            None => server_failure(query, ResponseCode::ServFail),
        }
    }
}
