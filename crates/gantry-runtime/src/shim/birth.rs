//! The container's first process: cgroup, pipes, clone3, and the wait for its exec.

use super::write_file;
use crate::cgroup::{Cgroup, CgroupHandle};
use crate::init::{self, Birth};
use crate::log::Log;
use crate::plan::{Places, Plan, Reply, StdioPlan};
use crate::spawner::Host;
use crate::steps::Steps;
use crate::sys::{self, Forked, wire};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

/// A process that runs, as its shim holds it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pidfd: OwnedFd,
    pub(super) run_dir: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) watcher: OwnedFd,
    pub(super) outputs: Outputs,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdio: StdioPlan,
    pub(super) log: Log,
    pub(super) attached: Vec<(OwnedFd, crate::spawn::Streams)>,
    /// What ends with a container's first process; an exec owns nothing.
    pub(super) container: Option<Owned>,
}

/// What a container has in the kernel beside its processes.
#[derive(Debug)]
pub(super) struct Owned {
    /// Keeps the overlay's super block until the exit has been told: its unmounting may write much.
    pub(super) rootfs: OwnedFd,
    pub(super) cgroup: Cgroup,
    pub(super) handle: CgroupHandle,
    /// The first process's end is the end of all: it has a PID namespace of its own.
    pub(super) own_pids: bool,
}

/// Where the container's output comes from.
#[derive(Debug)]
pub(super) enum Outputs {
    Pipes {
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    Terminal(Option<OwnedFd>),
}

/// An error and its causes in one line.
pub(super) struct Chain<'a>(pub(super) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

pub(super) fn setup(step: &str, error: impl std::fmt::Display) -> Reply {
    Reply::Setup {
        step: step.to_owned(),
        message: error.to_string(),
    }
}

/// Makes the container's first process and waits until it has become the program; on failure nothing is left.
pub(super) fn bring_up(
    plan: Plan,
    fds: Vec<OwnedFd>,
    host: Host,
) -> Result<(Running, Reply), Reply> {
    let mut steps = Steps::new(plan.trace);
    let resources =
        serde_json::from_slice(&plan.resources).map_err(|e| setup("read the resources", e))?;
    let cgroup = Cgroup {
        path: plan.cgroup_path.clone(),
    };
    let handle = Cgroup::create(&cgroup.path, &resources).map_err(|e| {
        let _ = cgroup.destroy();
        setup("make the cgroup", Chain(&e))
    })?;
    steps.done("cgroup");
    let born = give_birth(&plan, &fds, &handle, &host, &mut steps);
    let (pid, pidfd, ends, master) = match born {
        Ok(born) => born,
        Err(reply) => {
            let _ = cgroup.destroy();
            return Err(reply);
        }
    };
    let started_at = SystemTime::now();
    let kill = pidfd.try_clone();
    let running = supervise(
        plan,
        fds,
        cgroup.clone(),
        handle,
        (pid, pidfd, ends, master),
    );
    let running = match running {
        Ok(running) => running,
        Err(reply) => {
            if let Ok(pidfd) = kill {
                end(pidfd.as_fd());
            }
            let _ = cgroup.destroy();
            return Err(reply);
        }
    };
    steps.done("supervision");
    Ok((
        running,
        Reply::Started {
            pid,
            shim_pid: own_pid(),
            started_at,
            timings: steps.taken,
        },
    ))
}

/// Kills the container's first process and waits for its end.
pub(super) fn end(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(pidfd),
        rustix::process::WaitIdOptions::EXITED,
    );
}

/// Takes what supervision needs.
fn supervise(
    plan: Plan,
    fds: Vec<OwnedFd>,
    cgroup: Cgroup,
    handle: CgroupHandle,
    born: Born,
) -> Result<Running, Reply> {
    let mut fds = Taking::from(fds);
    let log = Log::open(&plan.log, |index| {
        let fd = fds.take(index);
        fd.map_err(|_| io::Error::other("a descriptor is missing"))
    })
    .map_err(|e| setup("open the log", e))?;
    let owned = Owned {
        rootfs: fds.take(plan.rootfs)?,
        cgroup,
        handle,
        own_pids: plan.init.new_namespaces & libc::CLONE_NEWPID as u64 != 0,
    };
    let mut running = take_over(&plan.places, plan.stdio.clone(), fds, born)?;
    (running.log, running.container) = (log, Some(owned));
    Ok(running)
}

/// The descriptors that came with a request, each taken once.
#[derive(Debug)]
pub(super) struct Taking(Vec<Option<OwnedFd>>);

impl From<Vec<OwnedFd>> for Taking {
    fn from(fds: Vec<OwnedFd>) -> Self {
        Self(fds.into_iter().map(Some).collect())
    }
}

impl Taking {
    pub(super) fn take(&mut self, index: usize) -> Result<OwnedFd, Reply> {
        let fd = self.0.get_mut(index).and_then(Option::take);
        fd.ok_or_else(|| setup("take the request", "a descriptor is missing"))
    }
}

/// A process that was born, with the connections of its shim.
pub(super) fn take_over(
    places: &Places,
    stdio: StdioPlan,
    mut fds: Taking,
    (_, pidfd, ends, master): Born,
) -> Result<Running, Reply> {
    let (outputs, stdin) = match master {
        Some(master) => {
            let stdin = stdio
                .open_stdin
                .then(|| master.try_clone())
                .transpose()
                .map_err(|e| setup("take the terminal", e))?;
            (Outputs::Terminal(Some(master)), stdin)
        }
        None => (
            Outputs::Pipes {
                stdout: Some(ends.stdout),
                stderr: Some(ends.stderr),
            },
            ends.stdin,
        ),
    };
    let attached: Result<Vec<_>, Reply> = places
        .attached
        .iter()
        .map(|(fd, streams)| Ok((fds.take(*fd)?, *streams)))
        .collect();
    Ok(Running {
        run_dir: fds.take(places.run_dir)?,
        listener: fds.take(places.listener)?,
        watcher: fds.take(places.watcher)?,
        outputs,
        stdin,
        stdio,
        log: Log::default(),
        attached: attached?,
        container: None,
        pidfd,
    })
}

pub(super) fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// Writes a PID and its start time to a file of the run directory.
fn note(host: &Host, run_dir: BorrowedFd<'_>, name: &str, pid: u32) -> io::Result<()> {
    let text = format!("{pid} {}", start_time(host.proc.as_fd(), pid)?);
    write_file(run_dir, name, text.as_bytes())
}

/// Field 22 of `/proc/<pid>/stat`: clock ticks since boot (proc(5)).
fn start_time(proc: BorrowedFd<'_>, pid: u32) -> io::Result<u64> {
    use rustix::fs::{Mode, OFlags, openat};
    let file = openat(
        proc,
        format!("{pid}/stat"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = [0_u8; 1024];
    let n = rustix::io::read(&file, &mut bytes)?;
    crate::shim_client::start_time_in(&String::from_utf8_lossy(&bytes[..n]))
        .ok_or_else(|| io::Error::other("unexpected /proc/<pid>/stat"))
}

/// The shim's ends of the container's pipes.
#[derive(Debug)]
pub(super) struct Ends {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// PID, pidfd, pipes, and the terminal where there is one.
pub(super) type Born = (u32, OwnedFd, Ends, Option<OwnedFd>);

fn give_birth(
    plan: &Plan,
    fds: &[OwnedFd],
    handle: &CgroupHandle,
    host: &Host,
    steps: &mut Steps,
) -> Result<Born, Reply> {
    if let Some(index) = plan.init.join_pid {
        rustix::thread::move_into_link_name_space(
            fds[index].as_fd(),
            Some(rustix::thread::LinkNameSpaceType::ProcessID),
        )
        .map_err(|e| setup("join the PID namespace", io::Error::from(e)))?;
    }
    let womb = Womb {
        stdio: &plan.stdio,
        run_dir: fds[plan.places.run_dir].as_fd(),
        host,
    };
    womb.bear(
        plan.init.new_namespaces,
        handle.v2_dir(),
        steps,
        |stdio, sync| {
            init::run(Birth {
                plan,
                fds,
                cgroup: handle,
                proc: host.proc.as_fd(),
                stdio,
                sync,
            })
        },
    )
    .map_err(|unborn| match unborn {
        Unborn::Cloning(error) => setup("make the container's first process", error),
        Unborn::Told(reply) => reply,
    })
}

/// What it takes to make a process.
#[derive(Debug)]
pub(super) struct Womb<'a> {
    pub(super) stdio: &'a StdioPlan,
    pub(super) run_dir: BorrowedFd<'a>,
    pub(super) host: &'a Host,
}

/// Why there is no process.
#[derive(Debug)]
pub(super) enum Unborn {
    /// clone3 itself failed: nothing has been made.
    Cloning(io::Error),
    Told(Reply),
}

impl From<Reply> for Unborn {
    fn from(reply: Reply) -> Self {
        Self::Told(reply)
    }
}

impl Womb<'_> {
    /// Makes the process and waits until it has become its program. `child` is what it does until then; it is given
    /// stdin, stdout and stderr (none with a terminal) and its end of the sync socket.
    pub(super) fn bear(
        &self,
        namespaces: u64,
        cgroup: Option<BorrowedFd<'_>>,
        steps: &mut Steps,
        child: impl FnOnce(Option<[OwnedFd; 3]>, OwnedFd),
    ) -> Result<Born, Unborn> {
        let (ends, theirs) = self.pipes().map_err(|e| setup("make the pipes", e))?;
        let (sync, childs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| setup("make the sync socket", io::Error::from(e)))?;
        // SAFETY: the shim has one thread.
        let forked = unsafe { sys::clone3(namespaces, cgroup) };
        let (pid, pidfd) = match forked.map_err(Unborn::Cloning)? {
            Forked::Parent { pid, pidfd } => (pid as u32, pidfd),
            Forked::Child => {
                child((!self.stdio.tty).then_some(theirs), childs);
                // It ends in its program or in an exit.
                sys::exit(1)
            }
        };
        drop((theirs, childs));
        steps.done("clone3");
        // While the child is busy: a shim that dies early has its process found, too.
        let noted = note(self.host, self.run_dir, "init.pid", pid)
            .and_then(|()| note(self.host, self.run_dir, "shim.pid", own_pid()))
            .map_err(|e| setup("write the PID files", e));
        steps.done("PID files");
        match noted.and_then(|()| until_exec(sync.as_fd(), &mut steps.taken)) {
            Ok(master) => {
                steps.done("waited for init's exec");
                Ok((pid, pidfd, ends, master))
            }
            Err(reply) => {
                end(pidfd.as_fd());
                Err(reply.into())
            }
        }
    }

    fn pipes(&self) -> io::Result<(Ends, [OwnedFd; 3])> {
        let (stdin, ours) = if self.stdio.open_stdin && !self.stdio.tty {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(write))
        } else {
            (self.host.null.try_clone()?, None)
        };
        let (stdout_ours, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_ours, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let ends = Ends {
            stdin: ours,
            stdout: stdout_ours,
            stderr: stderr_ours,
        };
        Ok((ends, [stdin, stdout, stderr]))
    }
}

/// Waits until exec closes the sync socket; the terminal's master comes before.
fn until_exec(
    sync: BorrowedFd<'_>,
    timings: &mut Vec<(String, u64)>,
) -> Result<Option<OwnedFd>, Reply> {
    let mut bytes = vec![0_u8; 8192];
    let (mut master, mut about_to) = (None, false);
    loop {
        match wire::receive(sync, &mut bytes) {
            Ok((0, _)) if about_to => return Ok(master),
            Ok((0, _)) => {
                return Err(setup(
                    "",
                    "container init ended before it could execute the program: it was killed",
                ));
            }
            Ok((1, fds)) if bytes[0] == b't' => master = fds.into_iter().next(),
            Ok((n, _)) if bytes[0] == b'x' => {
                about_to = true;
                let steps: Vec<(String, u64)> =
                    postcard::from_bytes(&bytes[1..n]).unwrap_or_default();
                timings.extend(steps);
            }
            Ok((n, _)) => {
                return Err(postcard::from_bytes(&bytes[..n])
                    .unwrap_or_else(|e| setup("understand the first process", e)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(setup("wait for the first process", error)),
        }
    }
}
