//! The shim's loop: output to log and clients, input to the container, commands, and the exit.

use super::birth::{Outputs, Owned, Running};
use super::clients::Client;
use super::write_file;
use crate::shim_client::{ExitRecord, command};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

/// Input that waits for a container that does not read it.
const STDIN_BUFFER: usize = 64 << 10;
/// How long output may still come from processes outside of the container's PID namespace after its end.
const DRAIN: Duration = Duration::from_secs(2);

/// The longest wait of one turn after the end.
const WAIT: Duration = Duration::from_millis(200);

/// The three ways in which a descriptor of the loop is looked at again after poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Exit,
    Output(u8),
    Listener,
    Stdin,
    Client(usize),
    Pending(usize),
    Log,
}

struct Loop {
    running: Running,
    clients: Vec<Client>,
    /// Connections whose command has not come yet.
    pending: Vec<OwnedFd>,
    watchers: Vec<OwnedFd>,
    input: VecDeque<u8>,
    close_stdin: bool,
    /// The container has ended and all its output is taken.
    ended: bool,
    chunk: Vec<u8>,
}

/// Supervises until the container has ended and all has been told.
pub(super) fn serve(mut running: Running) {
    let attached = std::mem::take(&mut running.attached);
    let clients = attached
        .into_iter()
        .filter_map(|(socket, streams)| Client::new(socket, streams).ok())
        .collect();
    for fd in [
        running.outputs.first(),
        running.outputs.second(),
        running.stdin.as_ref().map(AsFd::as_fd),
    ]
    .into_iter()
    .flatten()
    {
        let _ = rustix::io::ioctl_fionbio(fd, true);
    }
    let _ = rustix::io::ioctl_fionbio(&running.listener, true);
    let Ok(watcher) = running.watcher.try_clone() else {
        return;
    };
    let state = Loop {
        running,
        clients,
        pending: Vec::new(),
        watchers: vec![watcher],
        input: VecDeque::new(),
        close_stdin: false,
        ended: false,
        chunk: vec![0; 16 << 10],
    };
    state.run();
}

impl Outputs {
    fn first(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Outputs::Pipes { stdout, .. } => stdout.as_ref().map(AsFd::as_fd),
            Outputs::Terminal(master) => master.as_ref().map(AsFd::as_fd),
        }
    }

    fn second(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Outputs::Pipes { stderr, .. } => stderr.as_ref().map(AsFd::as_fd),
            Outputs::Terminal(_) => None,
        }
    }

    fn close(&mut self, kind: u8) {
        match self {
            Outputs::Pipes { stdout, .. } if kind == 1 => *stdout = None,
            Outputs::Pipes { stderr, .. } => *stderr = None,
            Outputs::Terminal(master) => *master = None,
        }
    }

    fn all_closed(&self) -> bool {
        self.first().is_none() && self.second().is_none()
    }
}

impl Loop {
    fn run(mut self) {
        while !self.turn(true, None) {}
        let exit = self.reap();
        // What was written before the end is still in the pipes.
        let until = Instant::now() + DRAIN;
        if let Some(container) = self.running.container.as_ref().filter(|c| !c.own_pids) {
            let _ = container.cgroup.kill_all();
        }
        // A slow client holds the output up; that time does not count (one that takes nothing is cut off).
        while !self.running.outputs.all_closed()
            && (Instant::now() < until || self.clients.iter().any(Client::is_full))
        {
            self.turn(false, Some(until.max(Instant::now() + WAIT)));
        }
        self.finish(exit);
    }

    fn roles(&self, running: bool) -> Vec<Role> {
        // What a container left in its pipes is taken even if the log is full.
        let full =
            self.clients.iter().any(Client::is_full) || (running && self.running.log.is_full());
        let mut roles = Vec::new();
        roles.extend(self.running.log.poll_fd().map(|_| Role::Log));
        if running {
            roles.extend([Role::Exit, Role::Listener]);
            if self.running.stdin.is_some() && !self.input.is_empty() {
                roles.push(Role::Stdin);
            }
            roles.extend((0..self.pending.len()).map(Role::Pending));
        }
        if !full {
            roles.extend(self.running.outputs.first().map(|_| Role::Output(1)));
            roles.extend(self.running.outputs.second().map(|_| Role::Output(2)));
        }
        roles.extend((0..self.clients.len()).map(Role::Client));
        roles
    }

    fn poll_fd(&self, role: Role) -> PollFd<'_> {
        let running = &self.running;
        let listener = running.listener.as_fd();
        let (fd, flags) = match role {
            Role::Exit => (running.pidfd.as_fd(), PollFlags::IN),
            Role::Listener => (listener, PollFlags::IN),
            Role::Output(1) => (running.outputs.first().unwrap_or(listener), PollFlags::IN),
            Role::Output(_) => (running.outputs.second().unwrap_or(listener), PollFlags::IN),
            Role::Stdin => (
                running.stdin.as_ref().map_or(listener, AsFd::as_fd),
                PollFlags::OUT,
            ),
            Role::Pending(at) => (self.pending[at].as_fd(), PollFlags::IN),
            Role::Log => running
                .log
                .poll_fd()
                .unwrap_or((listener, PollFlags::empty())),
            Role::Client(at) => {
                let client = &self.clients[at];
                let mut flags = PollFlags::empty();
                if client.sends && self.input.len() < STDIN_BUFFER {
                    flags |= PollFlags::IN;
                }
                flags.set(PollFlags::OUT, client.has_output());
                (client.socket.as_fd(), flags)
            }
        };
        PollFd::from_borrowed_fd(fd, flags)
    }

    /// Waits for the next things to happen and does them; true when the first process has ended.
    fn turn(&mut self, running: bool, until: Option<Instant>) -> bool {
        let roles = self.roles(running);
        let mut fds: Vec<PollFd<'_>> = roles.iter().map(|role| self.poll_fd(*role)).collect();
        let waits = self.clients.iter().any(Client::waits);
        let limit = until.map(|until| until.saturating_duration_since(Instant::now()));
        let limit = limit.or(waits.then_some(Duration::from_secs(1)));
        let log_at = self.running.log.deadline();
        let log_in = log_at.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = limit.into_iter().chain(log_in).min();
        let limit = limit.map(|d| Timespec {
            tv_sec: d.as_secs() as i64,
            tv_nsec: i64::from(d.subsec_nanos()),
        });
        if poll(&mut fds, limit.as_ref()).is_err() {
            return false;
        }
        let happened: Vec<(Role, PollFlags)> = roles
            .iter()
            .zip(&fds)
            .map(|(role, fd)| (*role, fd.revents()))
            .filter(|(_, e)| !e.is_empty())
            .collect();
        drop(fds);
        let mut ended = false;
        for (role, events) in happened {
            match role {
                Role::Exit => ended = true,
                Role::Output(kind) => self.output(kind),
                Role::Listener => self.accept(),
                Role::Stdin => self.feed(),
                Role::Pending(at) => self.command(at),
                Role::Client(at) => self.client(at, events),
                Role::Log => self.running.log.step(),
            }
        }
        if log_at.is_some_and(|at| at <= Instant::now()) {
            self.running.log.step();
        }
        if waits {
            for client in &mut self.clients {
                client.cut_off_if_stuck(self.ended);
            }
        }
        self.tidy();
        ended
    }

    /// Drops who is gone. Connections whose command was taken have been replaced by a closed one's absence.
    fn tidy(&mut self) {
        self.clients.retain(|client| !client.gone);
        self.feed_or_close();
    }

    fn output(&mut self, kind: u8) {
        let source = if kind == 1 {
            self.running.outputs.first()
        } else {
            self.running.outputs.second()
        };
        let Some(source) = source else { return };
        match rustix::io::read(source, &mut self.chunk) {
            Ok(0) => self.running.outputs.close(kind),
            Ok(n) => {
                let bytes = &self.chunk[..n];
                self.running.log.write(kind, bytes, SystemTime::now());
                for client in &mut self.clients {
                    client.push(kind, bytes, &self.running.stdio);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal whose other end is closed reads as EIO.
            Err(_) => self.running.outputs.close(kind),
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = rustix::net::accept_with(
            &self.running.listener,
            rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        ) {
            self.pending.push(socket);
        }
    }

    fn command(&mut self, at: usize) {
        if at >= self.pending.len() {
            return;
        }
        // Taking it out moves the last one here; that one is looked at in the next turn.
        let socket = self.pending.swap_remove(at);
        let mut bytes = [0_u8; command::SIZE];
        let Ok(n) = rustix::io::read(&socket, &mut bytes) else {
            return;
        };
        let answer = |result: io::Result<()>| {
            let code = [result
                .err()
                .map_or(0, |e| e.raw_os_error().unwrap_or(255).min(255) as u8)];
            let _ = rustix::net::send(&socket, &code, rustix::net::SendFlags::NOSIGNAL);
        };
        match command::decode(&bytes[..n]) {
            Some(command::Command::Attach(streams, position)) => {
                answer(Ok(()));
                let log = &self.running.log;
                if position {
                    let (inode, offset) = log.position();
                    let bytes = [inode.to_le_bytes(), offset.to_le_bytes()].concat();
                    let _ = rustix::net::send(&socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
                }
                if let Ok(mut client) = Client::new(socket, streams) {
                    for kind in [1, 2].into_iter().filter(|_| position) {
                        let begun = log.begun(kind);
                        if !begun.is_empty() {
                            client.push(kind, begun, &self.running.stdio);
                        }
                    }
                    self.clients.push(client);
                }
            }
            Some(command::Command::Resize { rows, columns }) => answer(self.resize(rows, columns)),
            Some(command::Command::Watch) => {
                answer(Ok(()));
                self.watchers.push(socket);
            }
            None => {}
        }
    }

    fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let Outputs::Terminal(Some(master)) = &self.running.outputs else {
            return Ok(());
        };
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(master, size)?)
    }

    fn client(&mut self, at: usize, events: PollFlags) {
        let client = &mut self.clients[at];
        if events.contains(PollFlags::OUT) {
            client.flush();
        }
        if events.intersects(PollFlags::IN) && client.sends && self.input.len() < STDIN_BUFFER {
            match rustix::io::read(&client.socket, &mut self.chunk) {
                Ok(0) => {
                    client.sends = false;
                    self.close_stdin |= self.running.stdio.stdin_once && !self.running.stdio.tty;
                }
                Ok(n) => self.input.extend(&self.chunk[..n]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => client.gone = true,
            }
        } else if events.intersects(PollFlags::HUP | PollFlags::ERR)
            && !events.contains(PollFlags::IN)
        {
            client.gone = true;
            if client.sends {
                self.close_stdin |= self.running.stdio.stdin_once && !self.running.stdio.tty;
            }
        }
    }

    fn feed_or_close(&mut self) {
        if !self.input.is_empty() {
            self.feed();
        }
        if self.close_stdin && self.input.is_empty() {
            self.running.stdin = None;
        }
    }

    /// Gives the container what it takes of the waiting input.
    fn feed(&mut self) {
        let Some(stdin) = &self.running.stdin else {
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            let (front, _) = self.input.as_slices();
            match rustix::io::write(stdin, front) {
                Ok(n) => drop(self.input.drain(..n)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The container closed its stdin.
                    self.input.clear();
                    self.running.stdin = None;
                    return;
                }
            }
        }
        if self.input.capacity() > 4096 {
            self.input = VecDeque::new();
        }
    }

    /// The first process's status.
    fn reap(&mut self) -> i32 {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        loop {
            match waitid(
                WaitId::PidFd(self.running.pidfd.as_fd()),
                WaitIdOptions::EXITED,
            ) {
                Ok(Some(status)) => {
                    let signalled = status.terminating_signal().map(|s| 128 + s);
                    return status.exit_status().or(signalled).unwrap_or(255);
                }
                Err(Errno::INTR) | Ok(None) => {}
                Err(_) => return 255,
            }
        }
    }

    /// Tells the exit, lets the clients have the rest, and leaves nothing behind.
    fn finish(mut self, code: i32) {
        self.running.log.end();
        let container = self.running.container.take();
        let oom_killed = container.as_ref().is_some_and(|c| c.handle.oom_kills() > 0);
        let record = ExitRecord {
            code,
            oom_killed,
            finished_at: SystemTime::now(),
        };
        let bytes = postcard::to_stdvec(&record).unwrap_or_default();
        let _ = write_file(self.running.run_dir.as_fd(), "exit", &bytes);
        // Those whose connection was accepted late, or not yet.
        self.accept();
        while !self.pending.is_empty() {
            self.command(0);
        }
        for watcher in &self.watchers {
            let _ = rustix::net::send(watcher, &bytes, rustix::net::SendFlags::NOSIGNAL);
        }
        for client in &mut self.clients {
            client.end();
        }
        self.ended = true;
        // Each one's stream ends with its own last byte, however slow the others are.
        loop {
            self.clients.retain(Client::waits);
            if self.clients.is_empty() {
                break;
            }
            self.turn(false, Some(Instant::now() + Duration::from_secs(1)));
        }
        std::mem::take(&mut self.running.log).close();
        if let Some(Owned {
            cgroup,
            handle,
            rootfs,
            ..
        }) = container
        {
            drop(handle);
            let _ = cgroup.destroy();
            drop(rootfs);
        }
        // The watchers' sockets close with this process: the daemon takes that as the end of the clean-up.
        drop(self.watchers);
    }
}
