//! `attach`: a client's end of a container's streams. Before the start the shim's end waits in the container;
//! later it comes from the shim itself. The daemon only passes bytes.

use super::transition::Operation;
use super::{Container, Containers, lock};
use crate::error::{Error, Result};
use crate::logs::LogStream;
use gantry_runtime::shim_client;
use gantry_runtime::spawn::{Attached, Streams};
use std::sync::Arc;

/// What a client wants.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Begin with what was written before, out of the log.
    pub logs: bool,
    /// Go on with what is written from now on.
    pub stream: bool,
    /// `ctrl-p,ctrl-q` unless given.
    pub detach_keys: Option<String>,
}

/// The engine's end: multiplexed frames (raw bytes with a terminal) come out, input goes in.
#[derive(Debug)]
pub struct AttachStream {
    pub tty: bool,
    /// With [`AttachOptions::logs`]: what was written before. Nothing is in both, and nothing is missing between.
    pub replay: Option<LogStream>,
    pub socket: tokio::net::UnixStream,
    /// Looks for the detach keys in what the client types; there is one with a terminal and stdin only.
    pub detach: Option<DetachKeys>,
}

impl Containers {
    /// Attaches to a container, running or not (then the streams begin with its next start).
    pub async fn attach(
        self: &Arc<Self>,
        name: &str,
        options: AttachOptions,
    ) -> Result<AttachStream> {
        let container = self.find(name)?;
        let keys = match options.detach_keys.as_deref() {
            None | Some("") => "ctrl-p,ctrl-q",
            Some(keys) => keys,
        };
        let keys = DetachKeys::parse(keys)?;
        let _gate = container.gate.lock().await;
        let record = container.snapshot();
        record.state.ask(Operation::Attach, &container.id, name)?;
        let history = match options.logs {
            true => Some(self.history(&record)?),
            false => None,
        };
        let streams = Streams {
            stdin: options.stdin && record.config.open_stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let gone = || std::os::unix::net::UnixStream::pair().map(|(ours, _)| ours);
        let (socket, position) = if !options.stream {
            (gone(), None)
        } else if record.state.status.is_alive() {
            let run_dir = self.context.run_dir(&container.id);
            let logs = options.logs;
            let attached = crate::blocking(move || {
                if logs {
                    shim_client::attach_at(&run_dir, streams).map(|(s, at)| (s, Some(at)))
                } else {
                    shim_client::attach(&run_dir, streams).map(|s| (s, None))
                }
            });
            match attached.await? {
                Ok((socket, position)) => (Ok(socket), position),
                // It has just ended: so does the stream.
                Err(error) if super::shim_is_gone(&error) => (gone(), None),
                Err(error) => (Err(error), None),
            }
        } else {
            (container.park(streams), None)
        };
        let socket = socket
            .and_then(|s| {
                s.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(s)
            })
            .map_err(|e| Error::caused("cannot attach to the container", e))?;
        let replay = match history {
            // There is a shim without a file: then there is no history.
            Some(_) if position == Some(None) => None,
            Some(history) => Some(history.until(position.flatten(), &options).await?),
            None => None,
        };
        self.context.tell(&record, "attach", &[]);
        let tty = record.config.tty;
        Ok(AttachStream {
            tty,
            replay,
            socket,
            detach: (tty && streams.stdin).then_some(keys),
        })
    }

    /// Says that a client left by its detach keys.
    pub fn detached(&self, name: &str) {
        if let Ok(container) = self.find(name) {
            self.context.tell(&container.snapshot(), "detach", &[]);
        }
    }
}

impl Container {
    /// Keeps the shim's end of a new stream for the next start.
    fn park(&self, streams: Streams) -> std::io::Result<std::os::unix::net::UnixStream> {
        let (ours, shims) = std::os::unix::net::UnixStream::pair()?;
        let mut live = lock(&self.live);
        // Clients that went away in the meantime.
        live.waiting.retain(|waiting| !hung_up(&waiting.socket));
        live.waiting.push(Attached {
            socket: shims,
            streams,
        });
        Ok(ours)
    }
}

fn hung_up(socket: &std::os::unix::net::UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::HUP)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) && fds[0].revents().contains(PollFlags::HUP)
}

/// A sequence of keys that ends the client's session and leaves the container running.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |key: &str| {
            Error::invalid(format!(
                "Invalid detach keys ({text}) provided: Unknown character: '{key}'"
            ))
        };
        let key = |key: &str| -> Result<u8> {
            match key.as_bytes() {
                [one] => Ok(*one),
                [b'c', b't', b'r', b'l', b'-', letter] => match letter {
                    b'a'..=b'z' => Ok(letter - b'a' + 1),
                    b'@' => Ok(0),
                    b'[' => Ok(27),
                    b'\\' => Ok(28),
                    b']' => Ok(29),
                    b'^' => Ok(30),
                    b'_' => Ok(31),
                    _ => Err(refuse(key)),
                },
                _ if key == "DEL" => Ok(127),
                _ => Err(refuse(key)),
            }
        };
        let keys = text.split(',').map(key).collect::<Result<Vec<u8>>>()?;
        Ok(Self { keys, matched: 0 })
    }

    /// The sequence.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.keys
    }

    /// Passes typed bytes on into `out`; true when the sequence is complete. Keys of a sequence that is not yet
    /// complete are held back.
    pub fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_others_pass() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        let mut out = Vec::new();
        assert!(!keys.filter(b"ab\x10", &mut out));
        assert_eq!(out, b"ab");
        assert!(!keys.filter(b"x", &mut out));
        assert_eq!(out, b"ab\x10x");
        assert!(!keys.filter(b"\x10", &mut out));
        assert!(keys.filter(b"\x11", &mut out));
        assert_eq!(out, b"ab\x10x");
        assert!(DetachKeys::parse("ctrl-ö").is_err());
    }

    #[test]
    fn the_first_key_twice() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        let mut out = Vec::new();
        assert!(!keys.filter(b"\x10\x10", &mut out));
        assert_eq!(out, b"\x10");
        assert!(keys.filter(b"\x11", &mut out));
    }
}
