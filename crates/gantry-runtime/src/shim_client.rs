//! What the daemon asks of a shim, now or after a restart of the daemon.
//!
//! Files in the run directory: `shim.sock` (the shim listens), `shim.pid` and `init.pid` (`<pid> <start time
//! of /proc/<pid>/stat>`, so that a reused PID is told apart), `exit` (written by rename when the
//! container has ended; its presence is the truth about the exit).

use crate::spawn::Streams;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a shim may take to answer a command.
const ANSWER: Duration = Duration::from_secs(10);

/// The commands on `shim.sock`: a letter and its arguments, answered by one byte (0, or an errno).
pub(crate) mod command {
    use crate::spawn::Streams;

    /// Bytes of the longest command.
    pub(crate) const SIZE: usize = 5;

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Command {
        /// Afterwards the connection carries the streams. With `true` the answer is followed by a
        /// [`Position`](super::Position), and the streams begin with the lines that are not complete yet.
        Attach(Streams, bool),
        Resize {
            rows: u16,
            columns: u16,
        },
        /// Afterwards the shim writes the exit record on the connection, and closes it when it is done.
        Watch,
    }

    pub(crate) fn encode(command: Command) -> [u8; SIZE] {
        match command {
            Command::Attach(s, position) => [
                if position { b'p' } else { b'a' },
                u8::from(s.stdin) | u8::from(s.stdout) << 1 | u8::from(s.stderr) << 2,
                0,
                0,
                0,
            ],
            Command::Resize { rows, columns } => {
                let ([a, b], [c, d]) = (rows.to_le_bytes(), columns.to_le_bytes());
                [b'r', a, b, c, d]
            }
            Command::Watch => [b'w', 0, 0, 0, 0],
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Command> {
        match *bytes {
            [kind @ (b'a' | b'p'), bits, ..] => {
                let streams = Streams {
                    stdin: bits & 1 != 0,
                    stdout: bits & 2 != 0,
                    stderr: bits & 4 != 0,
                };
                Some(Command::Attach(streams, kind == b'p'))
            }
            [b'r', a, b, c, d] => Some(Command::Resize {
                rows: u16::from_le_bytes([a, b]),
                columns: u16::from_le_bytes([c, d]),
            }),
            [b'w', ..] => Some(Command::Watch),
            _ => None,
        }
    }
}

/// How a container ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ExitRecord {
    /// The exit code, or 128 + the signal.
    pub code: i32,
    pub oom_killed: bool,
    pub finished_at: SystemTime,
}

impl ExitRecord {
    /// An end at this moment.
    pub fn now(code: i32) -> Self {
        Self {
            code,
            oom_killed: false,
            finished_at: SystemTime::now(),
        }
    }

    /// Writes the record to a run directory in the place of a shim that did not: whole, by a rename.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, run_dir: &Path) -> io::Result<()> {
        let bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let new = run_dir.join("exit.new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(new, run_dir.join("exit"))
    }
}

/// A connection on which the shim tells the exit.
#[derive(Debug)]
pub struct Watch {
    pub socket: UnixStream,
}

impl Watch {
    /// Blocks until the container has ended and its shim is gone; `None` when the shim died without saying.
    pub fn wait(mut self) -> io::Result<Option<ExitRecord>> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes)?;
        Ok(Self::decode(&bytes))
    }

    /// The record in the bytes read so far; `None` when there is none.
    pub fn decode(bytes: &[u8]) -> Option<ExitRecord> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What stands of a container's processes after a restart of the daemon.
#[derive(Debug)]
pub enum Found {
    /// Shim and container live.
    Running {
        pid: u32,
        shim_pid: u32,
        watch: Watch,
    },
    /// The container has ended and the shim wrote how.
    Exited(ExitRecord),
    /// The shim is gone without a record: kill the PID, destroy the cgroup, then treat as code 137.
    Lost { pid: Option<u32> },
}

/// Field 22 of a `/proc/<pid>/stat`: the start time in clock ticks since boot (proc(5)).
pub(crate) fn start_time_in(stat: &str) -> Option<u64> {
    // The second field, the name, is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// The PID in a file of the run directory, if that process still lives.
fn living(run_dir: &Path, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(run_dir.join(name)).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let zombie = stat
        .rsplit_once(')')?
        .1
        .trim_start()
        .starts_with(['Z', 'X']);
    (!zombie && start_time_in(&stat)? == start.parse::<u64>().ok()?).then(|| pid.parse().ok())?
}

/// Looks into a run directory.
pub fn find(run_dir: &Path) -> io::Result<Found> {
    let exit =
        || -> Option<ExitRecord> { Watch::decode(&std::fs::read(run_dir.join("exit")).ok()?) };
    if let Some(exit) = exit() {
        return Ok(Found::Exited(exit));
    }
    let pid = living(run_dir, "init.pid");
    if let Some(shim_pid) = living(run_dir, "shim.pid") {
        match (watch(run_dir), pid) {
            (Ok(watch), Some(pid)) => {
                return Ok(Found::Running {
                    pid,
                    shim_pid,
                    watch,
                });
            }
            // It is about to end: the record comes over the connection.
            (Ok(watch), None) => {
                if let Some(exit) = watch.wait()? {
                    return Ok(Found::Exited(exit));
                }
            }
            (Err(_), _) => {}
        }
    }
    // A shim in the making has its socket before its PID file; it answers when its process runs.
    if !run_dir.join("shim.pid").exists()
        && let Ok(watch) = watch(run_dir)
        && let (Some(pid), Some(shim_pid)) =
            (living(run_dir, "init.pid"), living(run_dir, "shim.pid"))
    {
        return Ok(Found::Running {
            pid,
            shim_pid,
            watch,
        });
    }
    // The record may have been written between the first look and now.
    Ok(exit().map_or(Found::Lost { pid }, Found::Exited))
}

/// The shim's socket in an opened run directory: by the descriptor, as a socket's path may have 107 bytes only (unix(7)).
pub(crate) fn socket_in(dir: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}/shim.sock", dir.as_raw_fd()).into()
}

fn ask(run_dir: &Path, command: command::Command) -> io::Result<UnixStream> {
    let dir = File::open(run_dir)?;
    let mut socket = UnixStream::connect(socket_in(&dir))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.write_all(&command::encode(command))?;
    let mut answer = [0_u8; 1];
    socket.read_exact(&mut answer)?;
    if answer[0] != 0 {
        return Err(io::Error::from_raw_os_error(answer[0].into()));
    }
    socket.set_read_timeout(None)?;
    Ok(socket)
}

/// Watches a container's end.
pub fn watch(run_dir: &Path) -> io::Result<Watch> {
    Ok(Watch {
        socket: ask(run_dir, command::Command::Watch)?,
    })
}

/// Attaches to a running container: the socket then carries what [`Streams`] says.
pub fn attach(run_dir: &Path, streams: Streams) -> io::Result<UnixStream> {
    ask(run_dir, command::Command::Attach(streams, false))
}

/// A place in a container's log: all that is before it was written before a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Inode number of the log's file that was the current one.
    pub inode: u64,
    /// Bytes of it.
    pub offset: u64,
}

/// Attaches as [`attach`] does, and tells what the log's files have from before: the streams carry exactly the rest.
/// None: there are no files.
pub fn attach_at(run_dir: &Path, streams: Streams) -> io::Result<(UnixStream, Option<Position>)> {
    let mut socket = ask(run_dir, command::Command::Attach(streams, true))?;
    socket.set_read_timeout(Some(ANSWER))?;
    let mut answer = [0; 16];
    socket.read_exact(&mut answer)?;
    socket.set_read_timeout(None)?;
    let number = |half: &[u8]| {
        half.iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    let (inode, offset) = (number(&answer[..8]), number(&answer[8..]));
    Ok((socket, (inode != 0).then_some(Position { inode, offset })))
}

/// Sets the terminal's size.
pub fn resize(run_dir: &Path, rows: u16, columns: u16) -> io::Result<()> {
    ask(run_dir, command::Command::Resize { rows, columns }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_stands_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8888 1 1";
        assert_eq!(start_time_in(stat), Some(8888));
    }
}
