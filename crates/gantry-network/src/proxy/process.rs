//! The proxy's life: it takes what the daemon gives it, and ends when nothing is left to carry.
use super::wire::{self, Message};
use super::{Frontend, Protocol, REST, tcp, udp};
use rustix::net::sockopt;
use rustix::process::{Resource, geteuid, getrlimit, setrlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySets};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Without a port for so long it ends: the next container that needs it may come soon.
const IDLE: Duration = Duration::from_secs(5);

/// The proxy's whole life; the binary calls it when its `argv[0]` is `gantry-proxy`. Its standard input is the socket at
/// which the daemon finds it.
pub fn proxy_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let listener = std::io::stdin().as_fd().try_clone_to_owned()?;
    // Who connects is told of the process that has said this last: so far, of the daemon.
    rustix::net::listen(&listener, wire::BACKLOG)?;
    rustix::process::setsid()?;
    let _ = rustix::thread::set_name(c"gantry-proxy");
    give_rights_up()?;
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(listener))
}

/// Sockets come from the daemon, and to connect takes no right: what comes from outside is to find none here.
fn give_rights_up() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED,
    )?;
    let none = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    Ok(())
}

/// Serves daemons, one after the other, until there is nothing to carry: for [`IDLE`], or for nobody.
pub(super) async fn serve(listener: OwnedFd) -> io::Result<()> {
    let listener = asynchronous(listener, Interest::READABLE)?;
    let carried = Arc::new(Carried::default());
    let mut daemons = JoinSet::new();
    let mut busy = Instant::now();
    loop {
        tokio::select! {
            accepted = accept(&listener) => match accepted {
                Ok(daemon) => drop(daemons.spawn(obey(carried.clone(), daemon))),
                Err(error) => {
                    eprintln!("gantry-proxy: cannot accept: {error}");
                    tokio::time::sleep(REST).await;
                }
            },
            Some(_) = daemons.join_next() => {
                if daemons.is_empty() && carried.ports().is_empty() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(IDLE / 5) => {}
        }
        if !carried.ports().is_empty() {
            busy = Instant::now();
        } else if busy.elapsed() >= IDLE {
            return Ok(());
        }
    }
}

fn asynchronous(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

async fn accept(listener: &AsyncFd<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let daemon = listener
        .async_io(Interest::READABLE, |fd| {
            Ok(rustix::net::accept_with(fd, flags)?)
        })
        .await?;
    if sockopt::socket_peercred(&daemon)?.uid != geteuid() {
        return Err(io::Error::other("somebody else than the daemon has come"));
    }
    asynchronous(daemon, Interest::READABLE | Interest::WRITABLE)
}

/// What is carried.
#[derive(Default)]
struct Carried(Mutex<BTreeMap<Frontend, Port>>);

struct Port {
    backend: SocketAddr,
    /// For the next daemon.
    socket: Arc<dyn AsFd + Send + Sync>,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Carried {
    fn ports(&self) -> MutexGuard<'_, BTreeMap<Frontend, Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, frontend: Frontend, backend: SocketAddr, socket: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let (socket, task): (Arc<dyn AsFd + Send + Sync>, _) = match frontend.protocol {
            Protocol::Tcp => {
                let socket = Arc::new(TcpListener::from_std(socket.into())?);
                let task = tokio::spawn(tcp::carry(socket.clone(), backend));
                (socket, task)
            }
            Protocol::Udp => {
                let socket = Arc::new(UdpSocket::from_std(socket.into())?);
                let task = tokio::spawn(udp::carry(socket.clone(), backend));
                (socket, task)
            }
        };
        let port = Port {
            backend,
            socket,
            task,
        };
        self.ports().insert(frontend, port);
        Ok(())
    }

    /// What there is, with copies of the sockets.
    fn list(&self) -> io::Result<Vec<(Message, OwnedFd)>> {
        let ports = self.ports();
        let all = ports.iter().map(|(frontend, port)| {
            let message = Message::Serve {
                frontend: *frontend,
                backend: port.backend,
            };
            Ok((message, port.socket.as_fd().try_clone_to_owned()?))
        });
        all.collect()
    }
}

/// Does what one daemon says, as long as it lives.
async fn obey(carried: Arc<Carried>, daemon: AsyncFd<OwnedFd>) {
    loop {
        let message = daemon
            .async_io(Interest::READABLE, |fd| wire::receive(fd.as_fd()))
            .await;
        let done = match message {
            Ok(None) => return,
            Ok(Some((Message::Serve { frontend, backend }, Some(socket)))) => {
                carried.serve(frontend, backend, socket)
            }
            Ok(Some((Message::Close(frontend), _))) => {
                carried.ports().remove(&frontend);
                Ok(())
            }
            Ok(Some((Message::List, _))) => tell(&carried, &daemon).await,
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // Another proxy will be told all of it.
            eprintln!("gantry-proxy: {error}");
            carried.ports().clear();
            return;
        }
    }
}

async fn tell(carried: &Carried, daemon: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let say = async |message: &Message, socket: Option<&OwnedFd>| {
        let socket = socket.map(AsFd::as_fd);
        daemon
            .async_io(Interest::WRITABLE, |fd| {
                wire::send(fd.as_fd(), message, socket)
            })
            .await
    };
    for (message, socket) in &carried.list()? {
        say(message, Some(socket)).await?;
    }
    say(&Message::End, None).await
}
