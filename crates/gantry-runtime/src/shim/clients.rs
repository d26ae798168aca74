//! Attached clients: output out of bounded buffers, input from their sockets.

use crate::plan::StdioPlan;
use crate::spawn::Streams;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Bytes kept for a client that reads slower than the container writes; then the container waits.
const BUFFER: usize = 1 << 20;
/// A client that takes nothing for so long while its buffer is full, or after the container's end, is cut off.
const STUCK: Duration = Duration::from_secs(10);

/// One attached client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    pub(super) streams: Streams,
    out: VecDeque<u8>,
    progress: Instant,
    /// It may still send input.
    pub(super) sends: bool,
    pub(super) gone: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, streams: Streams) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket,
            streams,
            out: VecDeque::new(),
            progress: Instant::now(),
            sends: streams.stdin,
            gone: false,
        })
    }

    /// Queues output: with an 8-byte head (kind, 0, 0, 0, length in network order) where frames are wanted.
    pub(super) fn push(&mut self, kind: u8, bytes: &[u8], stdio: &StdioPlan) {
        let wanted = if kind == 2 {
            self.streams.stderr
        } else {
            self.streams.stdout
        };
        if self.gone || !wanted {
            return;
        }
        let had_room = !self.is_full();
        if stdio.framed {
            let mut head = [kind, 0, 0, 0, 0, 0, 0, 0];
            head[4..].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            self.out.extend(head);
        }
        self.out.extend(bytes);
        if had_room {
            self.progress = Instant::now();
        }
        self.flush();
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) {
        while !self.out.is_empty() {
            let (front, _) = self.out.as_slices();
            match rustix::net::send(&self.socket, front, rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.progress = Instant::now();
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    self.out.clear();
                }
            }
        }
        // A burst's memory is given back.
        if self.out.capacity() > 4096 {
            self.out = VecDeque::new();
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the container has to wait for it.
    pub(super) fn is_full(&self) -> bool {
        self.out.len() >= BUFFER
    }

    /// Gives it up when somebody waits for it, the container or its end, and it takes nothing.
    pub(super) fn cut_off_if_stuck(&mut self, ended: bool) {
        let waited_for = self.is_full() || (ended && self.has_output());
        if waited_for && self.progress.elapsed() >= STUCK {
            self.gone = true;
            self.out.clear();
        }
    }

    /// The container has ended: no more input, and the time in which it has to take the rest begins.
    pub(super) fn end(&mut self) {
        self.sends = false;
        self.progress = Instant::now();
    }

    /// Whether it waits for the socket to take more; then somebody has to look at the clock, too.
    pub(super) fn waits(&self) -> bool {
        !self.gone && self.has_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const PIPES: StdioPlan = StdioPlan {
        tty: false,
        open_stdin: false,
        stdin_once: false,
        framed: true,
        console_size: None,
    };

    /// A client with output that its socket does not take, for longer than anybody waits.
    fn stuck(bytes: usize) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let mut client = Client::new(ours.into(), streams).unwrap();
        while client.out.len() < bytes {
            client.push(1, &[b'x'; 4096], &PIPES);
        }
        client.progress = Instant::now().checked_sub(STUCK * 2).unwrap();
        (client, theirs)
    }

    #[test]
    fn a_client_is_cut_off_only_where_somebody_waits_for_it() {
        let (mut idle, _theirs) = stuck(BUFFER / 2);
        idle.cut_off_if_stuck(false);
        assert!(idle.waits());
        // The container's end gives it the whole time again.
        idle.end();
        idle.cut_off_if_stuck(true);
        assert!(idle.waits());
        idle.progress = Instant::now().checked_sub(STUCK).unwrap();
        idle.cut_off_if_stuck(true);
        assert!(idle.gone);

        let (mut full, _theirs) = stuck(BUFFER);
        full.cut_off_if_stuck(false);
        assert!(full.gone);
    }
}
