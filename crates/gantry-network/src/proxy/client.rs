//! The daemon's side of the proxy: what it is to carry, and a thread that tells it so, and starts it where it is not there.
use super::wire::{self, Message};
use super::{Frontend, Protocol};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{Shutdown, shutdown, sockopt};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An earlier daemon's proxy has so long to say what it carries.
const PATIENCE: Duration = Duration::from_secs(2);
/// It hears of a port that is to be closed well before that.
const CLOSING: Duration = Duration::from_millis(500);
/// Between two attempts to start it.
const PAUSE: Duration = Duration::from_secs(1);

/// How the proxy is started and found.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// The program to execute, with `argv[0] = "gantry-proxy"`.
    pub program: PathBuf,
    /// Where it listens, `<exec root>/proxy.sock`.
    pub socket: PathBuf,
    /// `--userland-proxy`; without it the proxy of an earlier daemon is only ended.
    pub is_on: bool,
}

/// A handle on the proxy. It goes on without it.
#[derive(Debug)]
pub(crate) struct Proxy(Arc<Shared>);

/// A port that an earlier daemon has had carried, with its socket.
pub(crate) type Kept = (Frontend, Arc<OwnedFd>);

#[derive(Debug)]
struct Shared {
    options: ProxyOptions,
    wanted: Mutex<Wanted>,
    /// An eventfd: something has changed.
    wake: OwnedFd,
    ends: AtomicBool,
}

#[derive(Debug, Default)]
struct Wanted {
    ports: BTreeMap<Frontend, Port>,
    /// Those of which the proxy does not know yet.
    changed: BTreeSet<Frontend>,
    /// UDP ports, and when they were given up.
    closing: HashMap<u16, Instant>,
}

#[derive(Debug, Clone)]
struct Port {
    backend: SocketAddr,
    socket: Arc<OwnedFd>,
}

/// The connection to the proxy, and what it carries.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    said: BTreeSet<Frontend>,
}

impl Proxy {
    /// Finds the proxy of an earlier daemon; what it carries is to be wanted again ([`Self::serve`]) or closed.
    pub(crate) fn open(options: &ProxyOptions) -> io::Result<(Self, Vec<Kept>)> {
        let mut wanted = Wanted::default();
        let mut kept = Vec::new();
        let mut line = None;
        if let Some((socket, ports)) = take_over(options) {
            for (frontend, backend, fd) in ports {
                let socket = Arc::new(fd);
                kept.push((frontend, socket.clone()));
                wanted.ports.insert(frontend, Port { backend, socket });
            }
            let said = wanted.ports.keys().copied().collect();
            line = Some(Line { socket, said });
        }
        let shared = Arc::new(Shared {
            options: options.clone(),
            wanted: Mutex::new(wanted),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ends: AtomicBool::new(false),
        });
        let proxy = Self(shared.clone());
        let thread = std::thread::Builder::new().name("proxy".into());
        thread.spawn(move || shared.tend(line))?;
        Ok((proxy, kept))
    }

    /// Has what comes to the socket carried. Returns at once: what comes before the proxy is there waits in the socket.
    pub(crate) fn serve(&self, frontend: Frontend, backend: SocketAddr, socket: Arc<OwnedFd>) {
        let mut wanted = self.0.wanted();
        // As an earlier daemon had it: what goes through is not to be disturbed.
        let is_so = |port: &Port| port.backend == backend;
        if wanted.ports.get(&frontend).is_some_and(is_so) {
            return;
        }
        wanted.ports.insert(frontend, Port { backend, socket });
        wanted.changed.insert(frontend);
        drop(wanted);
        self.0.wake();
    }

    /// Has the port closed, with what goes through it; fine where it is not carried. The port of a TCP socket is free when
    /// this returns, that of a UDP socket as soon as the proxy has heard of it: see [`Self::is_closing`].
    pub(crate) fn close(&self, frontend: Frontend) {
        let mut wanted = self.0.wanted();
        let Some(port) = wanted.ports.remove(&frontend) else {
            return;
        };
        match frontend.protocol {
            // It listens no more, whoever has it. Where it does not listen anyway there is nothing to do.
            Protocol::Tcp => drop(shutdown(&port.socket, Shutdown::Both)),
            Protocol::Udp => drop(
                wanted
                    .closing
                    .insert(frontend.address.port(), Instant::now()),
            ),
        }
        wanted.changed.insert(frontend);
        drop(wanted);
        self.0.wake();
    }

    /// Whether the proxy may not yet have closed a UDP socket at that port.
    pub(crate) fn is_closing(&self, port: u16) -> bool {
        let mut wanted = self.0.wanted();
        wanted.closing.retain(|_, since| since.elapsed() < CLOSING);
        wanted.closing.contains_key(&port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::Relaxed);
        self.0.wake();
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // It fails where it has been woken often enough.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// The thread's life.
    fn tend(&self, mut line: Option<Line>) {
        let mut child = None;
        let mut started = Instant::now();
        while !self.ends.load(Ordering::Relaxed) {
            let mut failed = false;
            if line.is_none() && !self.wanted().ports.is_empty() {
                started = Instant::now();
                match self.start(&mut child) {
                    Ok(socket) => {
                        let mut wanted = self.wanted();
                        wanted.changed = wanted.ports.keys().copied().collect();
                        let said = BTreeSet::new();
                        line = Some(Line { socket, said });
                    }
                    Err(error) => {
                        failed = true;
                        tracing::error!(%error, "cannot start the proxy for published ports");
                    }
                }
            }
            if let Some(connected) = &mut line
                && let Err(error) = self.say(connected)
            {
                tracing::warn!(%error, "the proxy for published ports has gone");
                line = None;
                continue;
            }
            if self.wait(line.as_ref(), failed) {
                continue;
            }
            // It ends by itself when it has nothing to carry; else it was killed, and has to come back.
            line = None;
            reap(&mut child);
            if started.elapsed() < PAUSE {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Waits for a change; false: the proxy has gone.
    fn wait(&self, line: Option<&Line>, failed: bool) -> bool {
        let mut events = vec![PollFd::new(&self.wake, PollFlags::IN)];
        if let Some(line) = line {
            events.push(PollFd::new(&line.socket, PollFlags::IN));
        }
        let pause = PAUSE.try_into().ok();
        let pause = pause.as_ref().filter(|_| failed);
        // Interrupted: looked at again.
        let _ = poll(&mut events, pause);
        let [woken, gone] = [0, 1].map(|i| events.get(i).is_some_and(|e| !e.revents().is_empty()));
        if woken {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        !gone
    }

    /// Says what has changed.
    fn say(&self, line: &mut Line) -> io::Result<()> {
        let mut wanted = self.wanted();
        let changed = std::mem::take(&mut wanted.changed);
        let changed: Vec<_> = changed
            .into_iter()
            .map(|frontend| (frontend, wanted.ports.get(&frontend).cloned()))
            .collect();
        // The proxy may be slow.
        drop(wanted);
        for (frontend, port) in changed {
            if line.said.remove(&frontend) {
                wire::send(line.socket.as_fd(), &Message::Close(frontend), None)?;
            }
            if let Some(Port { backend, socket }) = port {
                let message = Message::Serve { frontend, backend };
                wire::send(line.socket.as_fd(), &message, Some(socket.as_fd()))?;
                line.said.insert(frontend);
            }
        }
        Ok(())
    }

    fn start(&self, child: &mut Option<Child>) -> io::Result<OwnedFd> {
        reap(child);
        let listener = wire::listen(&self.options.socket)?;
        let mut command = Command::new(&self.options.program);
        command
            .arg0("gantry-proxy")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null());
        *child = Some(command.spawn()?);
        wire::connect(&self.options.socket)
    }
}

/// Waits for a proxy that has gone (or is no use any more), where it was this daemon's child.
fn reap(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

type TakenOver = (OwnedFd, Vec<(Frontend, SocketAddr, OwnedFd)>);

/// The connection to an earlier daemon's proxy and what that carries; None: there is none. One that says nothing is
/// killed, as it would keep the ports.
fn take_over(options: &ProxyOptions) -> Option<TakenOver> {
    let socket = wire::connect(&options.socket).ok()?;
    match ask(&socket) {
        Ok(ports) => Some((socket, ports)),
        Err(error) => {
            tracing::warn!(%error, "the proxy for published ports does not answer: another takes its place");
            if let Err(error) = kill(&socket) {
                tracing::warn!(%error, "the silent proxy cannot be ended");
            }
            None
        }
    }
}

/// Ends the process at the other end of the connection, and waits until its sockets are closed.
fn kill(socket: &OwnedFd) -> io::Result<()> {
    let peer = sockopt::socket_peercred(socket)?;
    let process = pidfd_open(peer.pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    let patience = PATIENCE.try_into().map_err(io::Error::other)?;
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))?;
    Ok(())
}

fn ask(socket: &OwnedFd) -> io::Result<Vec<(Frontend, SocketAddr, OwnedFd)>> {
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    wire::send(socket.as_fd(), &Message::List, None)?;
    let mut ports = Vec::new();
    loop {
        match wire::receive(socket.as_fd())? {
            Some((Message::Serve { frontend, backend }, Some(fd))) => {
                ports.push((frontend, backend, fd));
            }
            Some((Message::End, _)) => break,
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, None)?;
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, None)?;
    Ok(ports)
}
