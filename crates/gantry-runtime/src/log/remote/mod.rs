//! A log elsewhere: messages wait in a bounded queue and are sent when the other side takes them.
//!
//! Nothing here waits but [`Remote::drain`] and [`connect`]: the shim's loop polls [`Remote::poll_fd`] until
//! [`Remote::deadline`] and calls [`Remote::flush`]. A connection that breaks is made anew, at once and then after pauses
//! that grow; a message of which a part was sent is sent again from its beginning.

mod fluentd;
mod gelf;
mod journald;
mod socket;
mod syslog;

pub use socket::connect;
pub(super) use socket::random_id;

use super::settings::{Address, Protocol, RemoteSettings};
use super::{Entry, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long an attempt to connect may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// At the end: how long the other side may take nothing before the rest is dropped.
const STUCK: Duration = Duration::from_secs(3);
/// At the end: how long is waited for a connection.
const UNCONNECTED: Duration = Duration::from_secs(1);
/// At the end: how long all of it may take.
const LAST_CHANCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Connection {
    /// Not before this time.
    None(Instant),
    Connecting(OwnedFd, Instant),
    Open(OwnedFd),
}

/// Where and how messages are sent.
#[derive(Debug)]
pub(super) struct Remote {
    settings: RemoteSettings,
    /// For a unix socket: the folder it is in. The shim's own file system is empty.
    directory: Option<OwnedFd>,
    connection: Connection,
    /// Attempts that have failed in a row.
    failures: u32,
    pause: Duration,
    queue: VecDeque<Vec<u8>>,
    /// Bytes in `queue`.
    waiting: u64,
    /// Bytes of the first message that have been sent (streams).
    sent: usize,
    /// Messages so far, from 1, and what tells them from those of another start.
    ordinal: u64,
    epoch: String,
    /// Messages that were given up.
    pub(super) dropped: u64,
}

impl Remote {
    pub(super) fn new(
        settings: RemoteSettings,
        socket: Option<OwnedFd>,
        directory: Option<OwnedFd>,
    ) -> Self {
        let connection = match socket {
            Some(socket) => {
                let _ = rustix::io::ioctl_fionbio(&socket, true);
                Connection::Open(socket)
            }
            None => Connection::None(Instant::now()),
        };
        Self {
            pause: settings.pause,
            settings,
            directory,
            connection,
            failures: 0,
            queue: VecDeque::new(),
            waiting: 0,
            sent: 0,
            ordinal: 0,
            epoch: random_id(),
            dropped: 0,
        }
    }

    /// Takes a line or part of one.
    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        self.ordinal += 1;
        if self.has_given_up() {
            self.dropped += 1;
            return;
        }
        let messages = match &self.settings.protocol {
            Protocol::Journald { fields } => {
                vec![journald::message(fields, entry, &self.epoch, self.ordinal)]
            }
            // COMPAT: these leave out empty lines, as Docker does.
            Protocol::Syslog(_) | Protocol::Gelf(_) if entry.text.is_empty() => return,
            Protocol::Syslog(settings) => vec![syslog::message(settings, entry)],
            Protocol::Gelf(settings) => {
                let datagrams = matches!(self.settings.address, Address::Udp(_));
                gelf::messages(settings, entry, datagrams)
            }
            Protocol::Fluentd {
                tag,
                record,
                sub_second,
            } => vec![fluentd::message(tag, record, *sub_second, entry)],
        };
        let size: u64 = messages.iter().map(|m| m.len() as u64).sum();
        let full = self.waiting + size > self.settings.buffer && !self.queue.is_empty();
        if full && !self.settings.blocking {
            self.dropped += 1;
            return;
        }
        self.waiting += size;
        self.queue.extend(messages);
    }

    /// Whether what comes before the next attempt to connect is dropped.
    fn has_given_up(&self) -> bool {
        let most = self.settings.attempts;
        most.is_some_and(|most| self.failures >= most)
            && matches!(self.connection, Connection::None(at) if at > Instant::now())
    }

    /// Whether output has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.settings.blocking && self.waiting >= self.settings.buffer && !self.queue.is_empty()
    }

    pub(super) fn poll_fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.connection {
            Connection::None(_) => None,
            Connection::Connecting(socket, _) => Some((socket.as_fd(), PollFlags::OUT)),
            Connection::Open(socket) if !self.queue.is_empty() => {
                Some((socket.as_fd(), PollFlags::OUT))
            }
            // A connection that the other side ended is found out before the next message.
            Connection::Open(socket) if self.is_stream() => Some((socket.as_fd(), PollFlags::IN)),
            Connection::Open(_) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.connection {
            Connection::None(at) => (!self.queue.is_empty()).then_some(*at),
            Connection::Connecting(_, until) => Some(*until),
            Connection::Open(_) => None,
        }
    }

    fn is_stream(&self) -> bool {
        matches!(self.settings.address, Address::Tcp(_) | Address::Stream(_))
    }

    /// Connects if need be, and sends what the other side takes.
    pub(super) fn flush(&mut self) {
        // What is open fails once and is made anew at once; after that there is a pause.
        for _ in 0..3 {
            if !self.connected() {
                return;
            }
            if self.send_all() {
                return;
            }
        }
    }

    /// Whether there is a connection now.
    fn connected(&mut self) -> bool {
        match std::mem::replace(&mut self.connection, Connection::None(Instant::now())) {
            Connection::Open(socket) => {
                self.connection = Connection::Open(socket);
                true
            }
            Connection::None(at) if self.queue.is_empty() || at > Instant::now() => {
                self.connection = Connection::None(at);
                false
            }
            Connection::None(_) => {
                match socket::begin(&self.settings.address, self.directory.as_ref()) {
                    Ok((socket, true)) => {
                        self.connection = Connection::Open(socket);
                        true
                    }
                    Ok((socket, false)) => {
                        self.connection =
                            Connection::Connecting(socket, Instant::now() + CONNECTING);
                        false
                    }
                    Err(_) => {
                        self.failed();
                        false
                    }
                }
            }
            Connection::Connecting(socket, until) => match socket::outcome(&socket) {
                Some(Ok(())) => {
                    self.connection = Connection::Open(socket);
                    true
                }
                None if Instant::now() < until => {
                    self.connection = Connection::Connecting(socket, until);
                    false
                }
                _ => {
                    self.failed();
                    false
                }
            },
        }
    }

    /// After an attempt to connect that came to nothing.
    fn failed(&mut self) {
        self.failures += 1;
        if self
            .settings
            .attempts
            .is_some_and(|most| self.failures >= most)
        {
            self.dropped += self.queue.len() as u64;
            self.queue.clear();
            (self.waiting, self.sent) = (0, 0);
        }
        self.connection = Connection::None(Instant::now() + self.pause);
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
    }

    /// Sends while the other side takes it; false when the connection was lost.
    fn send_all(&mut self) -> bool {
        if self.is_stream() && self.other_side_ended() {
            self.lost();
            return self.queue.is_empty();
        }
        while let (Connection::Open(socket), Some(message)) = (&self.connection, self.queue.front())
        {
            match rustix::net::send(socket, &message[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent += count;
                    if !self.is_stream() || self.sent >= self.queue[0].len() {
                        self.next();
                    }
                    self.failures = 0;
                    self.pause = self.settings.pause;
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                // An ICMP message about an earlier datagram; this one has not been sent.
                Err(Errno::CONNREFUSED) if matches!(self.settings.address, Address::Udp(_)) => {}
                Err(Errno::MSGSIZE | Errno::NOBUFS) if !self.is_stream() => {
                    let sent = matches!(self.settings.protocol, Protocol::Journald { .. })
                        && journald::send_in_file(socket.as_fd(), message).is_ok();
                    self.dropped += u64::from(!sent);
                    self.next();
                }
                Err(_) => {
                    self.lost();
                    return false;
                }
            }
        }
        if self.queue.capacity() > 64 && self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        true
    }

    /// On to the next message.
    fn next(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.waiting -= message.len() as u64;
        }
        self.sent = 0;
    }

    fn lost(&mut self) {
        self.sent = 0;
        self.connection = Connection::None(Instant::now());
    }

    /// Reads and drops what the other side says.
    fn other_side_ended(&self) -> bool {
        let Connection::Open(socket) = &self.connection else {
            return false;
        };
        let mut sink = [0_u8; 512];
        loop {
            match rustix::net::recv(socket, &mut sink, rustix::net::RecvFlags::DONTWAIT) {
                Ok((0, _)) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
    }

    /// At the end: sends what waits, within bounds.
    pub(super) fn drain(&mut self) {
        let begin = Instant::now();
        let (mut left, mut progress) = (self.waiting, begin);
        self.flush();
        while !self.queue.is_empty() && begin.elapsed() < LAST_CHANCE {
            if self.waiting != left {
                (left, progress) = (self.waiting, Instant::now());
            }
            let patience = match self.connection {
                Connection::Open(_) => STUCK,
                _ => UNCONNECTED,
            };
            let rest = patience.saturating_sub(progress.elapsed());
            if rest.is_zero() {
                break;
            }
            let until = self
                .deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            let wait = until
                .unwrap_or(rest)
                .min(rest)
                .max(Duration::from_millis(1));
            let wait = Timespec {
                tv_sec: wait.as_secs() as i64,
                tv_nsec: i64::from(wait.subsec_nanos()),
            };
            let mut fds: Vec<PollFd<'_>> = self
                .poll_fd()
                .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
                .into_iter()
                .collect();
            let _ = poll(&mut fds, Some(&wait));
            self.flush();
        }
        self.dropped += self.queue.len() as u64;
        self.queue.clear();
        self.waiting = 0;
    }
}
