//! What the daemon asks of a shim, now or after a restart of the daemon.
//!
//! Files in the run directory: `shim.sock` (the shim listens), `shim.pid` and `init.pid` (`<pid> <start time
//! of /proc/<pid>/stat>`, so that a reused PID is told apart), `exit` (written by rename when the
//! container has ended; its presence is the truth about the exit).
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

/// How a container ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ExitRecord {
    /// The exit code, or 128 + the signal.
    pub code: i32,
    pub oom_killed: bool,
    pub finished_at: SystemTime,
}

/// A connection on which the shim tells the exit.
#[derive(Debug)]
pub struct Watch {
    pub socket: UnixStream,
}
impl Watch {
    /// Blocks until the container has ended; `None` when the shim died without saying (kill -9).
    pub fn wait(self) -> io::Result<Option<ExitRecord>> {
        todo!()
    }
    /// The record in the bytes read from the socket up to its end; `None` when there is none.
    pub fn decode(_bytes: &[u8]) -> Option<ExitRecord> {
        todo!()
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
    /// The shim is gone without a record: call [`crate::cgroup::Cgroup::destroy`], then treat as code 137.
    Lost { pid: Option<u32> },
}

/// Looks into a run directory.
pub fn find(_run_dir: &Path) -> io::Result<Found> {
    todo!()
}
/// Attaches to a running container: the socket then carries what [`crate::spawn::Streams`] says.
pub fn attach(_run_dir: &Path, _streams: crate::spawn::Streams) -> io::Result<UnixStream> {
    todo!()
}
/// Sets the terminal's size.
pub fn resize(_run_dir: &Path, _rows: u16, _columns: u16) -> io::Result<()> {
    todo!()
}
