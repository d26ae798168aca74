//! A netlink socket used like a function call.
//!
//! The kernel handles a request inside the `send`, so its answers lie in the socket's queue when `send` returns:
//! every receive is non-blocking, and a missing answer is an error at once instead of a hang.

use super::message::{HEADER, Message, attributes, string};
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// Extended acknowledgement: the sender's header was left out, attributes follow (`linux/netlink.h`).
const CAPPED: u16 = 0x100;
const ACK_ATTRIBUTES: u16 = 0x200;
const ERROR_TEXT: u16 = 1;
const RECEIVE_BYTES: usize = 64 * 1024;
/// Times a dump is made again when the kernel says that it changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;

/// What the kernel said against a request.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The kernel's own explanation, where it gives one.
    pub(crate) text: Option<String>,
    pub(crate) error: io::Error,
}

impl Refusal {
    pub(crate) fn is(&self, errno: i32) -> bool {
        self.error.raw_os_error() == Some(errno)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { text: None, error }
    }
}

/// A socket bound to the network namespace of the thread that opened it, for any thread to use.
#[derive(Debug)]
pub(crate) struct Netlink {
    inner: Mutex<Inner>,
    /// The kernel's number for this socket, which stands in what it tells others of our changes.
    pub(crate) port: u32,
}

#[derive(Debug)]
struct Inner {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// The datagram that was received last; its room is used again, as getting it from the system takes longer than the
    /// rest of a request.
    received: Vec<u8>,
}

/// One received message.
#[derive(Debug)]
struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: &'a [u8],
}

/// What the kernel tells of changes that anybody makes, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Events {
    socket: Socket,
}

impl Events {
    /// Of nftables.
    pub(crate) fn nftables() -> io::Result<Self> {
        let mut socket = Socket::new(libc::NETLINK_NETFILTER as isize)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        socket.add_membership(libc::NFNLGRP_NFTABLES as u32)?;
        Ok(Self { socket })
    }

    /// Takes what has come so far: the numbers of the sockets that asked for changes. None: some of it was lost.
    pub(crate) fn authors(&self) -> io::Result<Option<Vec<u32>>> {
        let mut authors = Vec::new();
        let mut lost = false;
        let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            datagram.clear();
            match self.socket.recv(&mut datagram, 0) {
                Ok(_) => authors.extend(split(&datagram).map(|received| received.port)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok((!lost).then_some(authors))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the socket, which lives as long as what is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

impl Netlink {
    /// For links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(libc::NETLINK_ROUTE)
    }

    /// For nftables and connection tracking.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(libc::NETLINK_NETFILTER)
    }

    fn open(protocol: i32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol as isize)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_non_blocking(true)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let inner = Inner {
            socket,
            sequence: 0,
            buffer: Vec::new(),
            received: Vec::new(),
        };
        Ok(Self {
            inner: Mutex::new(inner),
            port,
        })
    }

    /// Sends the messages in one write and collects their acknowledgements; the first refusal is returned (the
    /// messages after it were tried, too, unless they are a transaction).
    pub(crate) fn execute(&self, messages: &[Message]) -> Result<(), Refusal> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.execute(messages)
    }

    /// Asks for one object. None: there is none (`ENODEV` or `ENOENT`).
    pub(crate) fn query(&self, message: &Message) -> Result<Option<Vec<u8>>, Refusal> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.query(message)
    }

    /// Asks for a list; the payloads of the answers.
    pub(crate) fn dump(&self, message: &Message) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(list) = inner.dump(message)? {
                return Ok(list);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN).into())
    }
}

impl Inner {
    fn execute(&mut self, messages: &[Message]) -> Result<(), Refusal> {
        let first = self.send(messages)?;
        let mut missing = messages.iter().filter(|m| m.wants_ack()).count();
        let mut refusal: Option<Refusal> = None;
        while missing > 0 {
            match self.receive() {
                Ok(()) => {}
                // A refused transaction answers with less than one message each.
                Err(_) if refusal.is_some() => break,
                Err(error) => return Err(error.into()),
            }
            for received in split(&self.received) {
                if received.kind != libc::NLMSG_ERROR as u16 {
                    continue;
                }
                let index = received.sequence.wrapping_sub(first) as usize;
                let Some(message) = messages.get(index) else {
                    continue; // an answer to an earlier request that was given up
                };
                missing -= usize::from(message.wants_ack()).min(missing);
                if let Some(error) = failure(&received) {
                    refusal.get_or_insert(Refusal {
                        text: explanation(&received),
                        error,
                    });
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn query(&mut self, message: &Message) -> Result<Option<Vec<u8>>, Refusal> {
        let first = self.send(std::slice::from_ref(message))?;
        loop {
            self.receive()?;
            for received in split(&self.received).filter(|r| r.sequence == first) {
                let Some(error) = failure(&received) else {
                    if received.kind == libc::NLMSG_ERROR as u16 {
                        continue;
                    }
                    return Ok(Some(received.payload.to_vec()));
                };
                return match error.raw_os_error() {
                    Some(libc::ENODEV | libc::ENOENT) => Ok(None),
                    _ => Err(Refusal {
                        text: explanation(&received),
                        error,
                    }),
                };
            }
        }
    }

    /// None: the list changed while it was made.
    fn dump(&mut self, message: &Message) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        let first = self.send(std::slice::from_ref(message))?;
        let mut list = Vec::new();
        let mut changed = false;
        loop {
            self.receive()?;
            for received in split(&self.received).filter(|r| r.sequence == first) {
                changed |= i32::from(received.flags) & libc::NLM_F_DUMP_INTR != 0;
                if let Some(error) = failure(&received) {
                    return Err(Refusal {
                        text: explanation(&received),
                        error,
                    });
                }
                if received.kind == libc::NLMSG_DONE as u16 {
                    return Ok((!changed).then_some(list));
                }
                list.push(received.payload.to_vec());
            }
        }
    }

    /// Sends all in one write; the sequence number of the first message.
    fn send(&mut self, messages: &[Message]) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        self.buffer.clear();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write_to(&mut self.buffer, self.sequence);
        }
        match self.socket.send(&self.buffer, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.make_room(self.buffer.len())?;
                self.socket.send(&self.buffer, 0)?;
            }
            sent => drop(sent?),
        }
        Ok(first)
    }

    /// Lets the kernel take messages of that size, whatever its usual limit.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let size = i32::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the kernel reads exactly the size of an int from the pointer during the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUFFORCE,
                (&raw const size).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.received.clear();
        self.received.reserve(RECEIVE_BYTES);
        loop {
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The messages of one datagram.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            payload,
        })
    })
}

/// The error in an `NLMSG_ERROR` or `NLMSG_DONE`; None for an acknowledgement and for every other message.
fn failure(received: &Received<'_>) -> Option<io::Error> {
    let carries = [libc::NLMSG_ERROR as u16, libc::NLMSG_DONE as u16];
    if !carries.contains(&received.kind) {
        return None;
    }
    let code = i32::from_ne_bytes(*received.payload.first_chunk()?);
    (code < 0).then(|| io::Error::from_raw_os_error(-code))
}

/// The text that the kernel adds to an error.
fn explanation(received: &Received<'_>) -> Option<String> {
    if received.flags & ACK_ATTRIBUTES == 0 {
        return None;
    }
    let echoed = u32::from_ne_bytes(*received.payload.get(4..)?.first_chunk()?) as usize;
    let offset = if received.flags & CAPPED != 0 {
        4 + HEADER
    } else {
        4 + echoed.next_multiple_of(4)
    };
    attributes(received.payload.get(offset..)?)
        .find(|(kind, _)| *kind == ERROR_TEXT)
        .map(|(_, text)| string(text))
}
