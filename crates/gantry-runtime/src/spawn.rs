//! The daemon's side: a prepared request becomes a running container.
use crate::compile::Compiled;
use crate::plan::Reply;
use crate::sys::wire;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

/// A handle on the spawner process. Cheap to share; the spawner is started again by itself when it has died.
#[derive(Debug)]
pub struct Spawner {
    options: SpawnerOptions,
    process: Mutex<Process>,
}

/// The running spawner.
#[derive(Debug)]
struct Process {
    socket: OwnedFd,
    child: Child,
}

/// How the spawner is started.
#[derive(Debug, Clone)]
pub struct SpawnerOptions {
    /// The program to execute as spawner: `/proc/self/exe` in the daemon. It is called with
    /// `argv[0] = "gantry-spawner"`.
    pub program: PathBuf,
    /// `gantryd`'s `--exec-root`.
    pub exec_root: PathBuf,
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
    pub log: crate::log::LogRequest,
    pub stdio: Stdio,
    pub attached: Vec<Attached>,
    /// Time the steps: see [`Started::timings`].
    pub trace: bool,
}

/// All that it takes to run one more process in a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// A pidfd of the container's first process, whose namespaces are entered.
    pub target: OwnedFd,
    /// That process's PID, in the daemon's PID namespace.
    pub target_pid: u32,
    /// The container's cgroup below each hierarchy's root.
    pub cgroup_path: &'a str,
    /// As in the OCI runtime spec. The working directory has to be there.
    pub process: &'a oci_spec::runtime::Process,
    pub seccomp: Option<&'a oci_spec::runtime::LinuxSeccomp>,
    /// Made by the caller: the files of the exec's own shim are in it (see [`crate::shim_client`]).
    pub run_dir: &'a Path,
    pub stdio: Stdio,
    /// Whether the clients get Docker's frames; they may ask for them with a terminal, too.
    pub framed: bool,
    pub attached: Vec<Attached>,
}

/// A process that runs: a container's first, or an exec's.
#[derive(Debug)]
pub struct Started {
    /// PID of the container's first process, in the daemon's PID namespace.
    pub pid: u32,
    pub shim_pid: u32,
    pub pidfd: OwnedFd,
    pub started_at: SystemTime,
    /// Delivers the exit: see [`crate::shim_client::Watch`].
    pub watch: crate::shim_client::Watch,
    /// With [`StartRequest::trace`]: each step of the shim and how long it took, in microseconds.
    pub timings: Vec<(String, u64)>,
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
    /// Starts the spawner process and waits until it is ready.
    pub fn launch(options: SpawnerOptions) -> io::Result<Self> {
        let process = Mutex::new(launch(&options.program)?);
        Ok(Self { options, process })
    }

    /// Starts a container; blocks (call it on a blocking thread) until its program is executed or has failed.
    pub fn start(&self, request: StartRequest<'_>) -> Result<Started, StartError> {
        let run_dir = request.run_dir;
        let cgroup = crate::compile::cgroup_path(request.id, request.spec);
        let started = crate::compile::compile(request)
            .and_then(|compiled| self.ask(compiled))
            .map_err(|error| match error {
                // The shim cannot clear up after itself any more.
                StartError::Lost(why) => match (crate::cgroup::Cgroup { path: cgroup }).destroy() {
                    Ok(()) => StartError::Lost(why),
                    Err(left) => StartError::Lost(format!("{why}; its cgroup is left: {left}")),
                },
                other => other,
            });
        if started.is_err() {
            for file in ["shim.sock", "init.pid", "shim.pid"] {
                // Not there is fine: how far the start came is not known here.
                let _ = std::fs::remove_file(run_dir.join(file));
            }
        }
        started
    }

    /// Runs one more process in a running container; blocks like [`Self::start`].
    pub fn exec(&self, request: ExecRequest<'_>) -> Result<Started, StartError> {
        self.ask(crate::compile::compile_exec(request)?)
    }

    /// Sends a request to the spawner and waits for the new shim's answer.
    fn ask(&self, compiled: Compiled) -> Result<Started, StartError> {
        let Compiled {
            request,
            fds,
            watch,
        } = compiled;
        let lost = |e: io::Error| StartError::Lost(e.to_string());
        let bytes = postcard::to_stdvec(&request).map_err(|e| StartError::Lost(e.to_string()))?;
        let memfd = memfd(&bytes).map_err(lost)?;
        let mut again = false;
        let (answer, pidfd) = loop {
            let (reply, theirs) = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
            .map_err(|e| lost(e.into()))?;
            let spawner = self.send(&memfd, &theirs, &fds).map_err(lost)?;
            drop(theirs);
            match answer(&reply) {
                Ok(answered) => break answered,
                // It died with the request in its hands: no shim has it, or that would have answered.
                Err(_) if !again && self.has_ended(spawner) => again = true,
                Err(error) => return Err(lost(error)),
            }
        };
        drop((fds, memfd));
        match answer {
            Reply::Started {
                pid,
                shim_pid,
                started_at,
                timings,
            } => {
                let pidfd = pidfd
                    .ok_or_else(|| StartError::Lost("no pidfd came with the answer".into()))?;
                let watch = crate::shim_client::Watch { socket: watch };
                Ok(Started {
                    pid,
                    shim_pid,
                    pidfd,
                    started_at,
                    watch,
                    timings,
                })
            }
            Reply::Exec { exit_code, message } => Err(StartError::Exec { exit_code, message }),
            Reply::Setup { step, message } => Err(StartError::Setup { step, message }),
        }
    }

    /// The spawner's PID.
    pub fn pid(&self) -> u32 {
        self.lock().child.id()
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether the spawner with this PID is gone. One that is about to be has closed its sockets a moment before.
    fn has_ended(&self, pid: u32) -> bool {
        for _ in 0..50 {
            let mut process = self.lock();
            if process.child.id() != pid || !matches!(process.child.try_wait(), Ok(None)) {
                return true;
            }
            drop(process);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        false
    }

    /// Sends a request, to a new spawner when the old one is gone; the PID of the one that has it.
    fn send(&self, memfd: &OwnedFd, reply: &OwnedFd, fds: &[OwnedFd]) -> io::Result<u32> {
        let mut process = self.lock();
        if send(&process.socket, memfd, reply, fds).is_ok() {
            return Ok(process.child.id());
        }
        // Dead, or in the middle of a request that cannot be finished. The shims do not depend on it.
        let _ = process.child.kill();
        let _ = process.child.wait();
        *process = launch(&self.options.program)?;
        send(&process.socket, memfd, reply, fds)?;
        Ok(process.child.id())
    }
}

/// Executes the spawner: the same way at first and after its death. It is a program of its own rather than a fork, so
/// that nothing of the daemon's memory comes along.
fn launch(program: &Path) -> io::Result<Process> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut command = Command::new(program);
    command
        .arg0("gantry-spawner")
        .env_clear()
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    let child = crate::sys::spawn_with(command, theirs.as_fd(), crate::spawner::REQUESTS)?;
    drop(theirs);
    let mut ready = [0_u8; 8];
    match wire::receive(ours.as_fd(), &mut ready) {
        Ok((n, _)) if n > 0 => Ok(Process {
            socket: ours,
            child,
        }),
        Ok(_) => Err(io::Error::other(
            "the spawner ended before it was ready: its reason is in the daemon's log",
        )),
        Err(error) => Err(error),
    }
}

fn memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("gantry-plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    Ok(file.into())
}

fn send(socket: &OwnedFd, memfd: &OwnedFd, reply: &OwnedFd, fds: &[OwnedFd]) -> io::Result<()> {
    let all: Vec<BorrowedFd<'_>> = [memfd, reply]
        .into_iter()
        .chain(fds)
        .map(AsFd::as_fd)
        .collect();
    let total = (all.len() as u32).to_le_bytes();
    for part in all.chunks(wire::FDS_PER_MESSAGE) {
        wire::send(socket.as_fd(), &total, part)?;
    }
    Ok(())
}

/// Waits for the shim's word; the end of the socket without one is its death.
fn answer(reply: &OwnedFd) -> io::Result<(Reply, Option<OwnedFd>)> {
    let mut bytes = vec![0_u8; 16384];
    loop {
        match wire::receive(reply.as_fd(), &mut bytes) {
            Ok((0, _)) => return Err(io::Error::other("no word came from it")),
            Ok((n, fds)) => {
                let reply = postcard::from_bytes(&bytes[..n]).map_err(io::Error::other)?;
                return Ok((reply, fds.into_iter().next()));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
