//! The daemon's side: a prepared request becomes a running container.
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A handle on the spawner process. Cheap to share (`&self` methods, internally locked only
/// for the send); started again by itself when the process has died.
#[derive(Debug)]
pub struct Spawner {}

/// How the spawner is started.
#[derive(Debug, Clone)]
pub struct SpawnerOptions {
    /// The program to execute as spawner: `/proc/self/exe` in the daemon. It is called with
    /// `argv[0] = "gantry-spawner"`.
    pub program: PathBuf,
    /// `gantryd`'s `--exec-root`.
    pub exec_root: PathBuf,
}

/// Where the shim writes the container's output (Docker's json-file format).
#[derive(Debug, Clone)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes after which the file is rotated; none: never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included (at least 1).
    pub max_files: u32,
    /// `attrs` of each line (labels, env, tag), sorted by key; empty: none.
    pub attrs: Vec<(String, String)>,
}

/// The container's stdin, stdout and stderr.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    pub tty: bool,
    pub open_stdin: bool,
    /// Close stdin when the first attached stdin client ends.
    pub stdin_once: bool,
    /// Rows, columns of the terminal at start.
    pub console_size: Option<(u16, u16)>,
}

/// A client that attached before the start: the shim's end of a stream socket pair.
#[derive(Debug)]
pub struct Attached {
    pub socket: UnixStream,
    pub streams: Streams,
}

/// Which streams a client wants. Output is Docker's multiplexed frames (8-byte heads) without a
/// terminal, raw bytes with one. Input is raw bytes; the socket's half-close is the end of stdin.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// All that it takes to start one container.
#[derive(Debug)]
pub struct StartRequest<'a> {
    pub id: &'a str,
    /// The OCI runtime spec; the seam between engine and runtime. `linux.cgroupsPath` is the
    /// cgroup below each hierarchy's root (`/gantry/<id>`).
    pub spec: &'a oci_spec::runtime::Spec,
    /// A detached mount (`fsmount` or `open_tree(OPEN_TREE_CLONE)`) that becomes `/`.
    pub rootfs: OwnedFd,
    /// A network namespace to join; none: as the spec says (new or the host's).
    pub netns: Option<OwnedFd>,
    /// `<exec-root>/c/<id>`, made by the caller: the shim's files are in it (see [`crate::shim_client`]).
    pub run_dir: &'a Path,
    pub log: Option<LogFile>,
    pub stdio: Stdio,
    pub attached: Vec<Attached>,
    /// `--init`: our own init program is PID 1 and reaps (bind of the daemon's binary at `/sbin/docker-init`).
    pub init: bool,
}

/// A container that runs.
#[derive(Debug)]
pub struct Started {
    /// PID of the container's first process, in the daemon's PID namespace.
    pub pid: u32,
    pub shim_pid: u32,
    pub pidfd: OwnedFd,
    pub started_at: SystemTime,
    /// Delivers the exit: see [`crate::shim_client::Watch`].
    pub watch: crate::shim_client::Watch,
}

/// Why a container did not start. Nothing of it is left in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be executed. `exit_code` is 127 (not found) or 126; `message` is runc's
    /// (`exec: "/nope": stat /nope: no such file or directory`), without the prefix that Docker puts before it.
    #[error("{message}")]
    Exec { exit_code: i32, message: String },
    /// A set-up step failed (mount, cgroup, namespace, sysctl, user, ...): what and why.
    #[error("{step}: {message}")]
    Setup { step: String, message: String },
    /// The spawner or the shim went away.
    #[error("the container's supervisor ended before the container started: {0}")]
    Lost(String),
}

impl Spawner {
    /// Starts the spawner process.
    pub fn launch(_options: SpawnerOptions) -> std::io::Result<Self> {
        todo!()
    }
    /// Starts a container; blocks (call it on a blocking thread) until its program is executed or has failed.
    pub fn start(&self, _request: StartRequest<'_>) -> Result<Started, StartError> {
        todo!()
    }
    /// The spawner's PID.
    pub fn pid(&self) -> u32 {
        todo!()
    }
}
