//! A further process of a running container (`exec`): between its birth and its program it enters the container's cgroup
//! and namespaces. What it may do is as narrow as for the first process from its first system call inside.

use super::{Failed, Step, exec, failed, set_oom_score, take_stdio, tell, terminal};
use crate::cgroup::CgroupHandle;
use crate::plan::ExecPlan;
use crate::steps::Steps;
use crate::sys;
use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the shim gives to the process.
#[derive(Debug)]
pub(crate) struct Joining<'a> {
    pub(crate) plan: &'a ExecPlan,
    pub(crate) fds: &'a [OwnedFd],
    pub(crate) cgroup: &'a CgroupHandle,
    /// It was born in the v2 group.
    pub(crate) in_v2: bool,
    /// The host's `/proc`.
    pub(crate) proc: BorrowedFd<'a>,
    /// stdin, stdout, stderr; none with a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) sync: OwnedFd,
}

/// Runs in the child of clone3 and never comes back.
pub(crate) fn run(joining: Joining<'_>) -> ! {
    let sync = match joining.sync.try_clone() {
        Ok(sync) => sync,
        Err(_) => sys::exit(1),
    };
    let Err(failure) = become_program(joining);
    tell(sync.as_fd(), failure)
}

fn become_program(joining: Joining<'_>) -> Result<Infallible, Failed> {
    let Joining {
        plan,
        fds,
        cgroup,
        in_v2,
        proc,
        stdio,
        sync,
    } = joining;
    let process = &plan.process;
    // Nobody in the container may reach the host's files through this process (its memory and descriptors are ours
    // until the exec).
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    sys::reset_signals();
    set_oom_score(proc, process.oom_score_adj.unwrap_or(0))?;
    cgroup.join_self(in_v2).step(|| "enter the cgroup".into())?;
    sys::join_namespaces_of(fds[plan.target].as_fd())
        .step(|| "enter the container's namespaces".into())?;
    rustix::process::setsid().step(|| "make a session".into())?;
    let stdio = match stdio {
        Some(stdio) => stdio,
        None => {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, Mode::empty())
                .map_err(|e| failed("open the container's root", std::io::Error::from(e)))?;
            terminal(root.as_fd(), &plan.stdio, process, sync.as_fd())?
        }
    };
    take_stdio(stdio, &plan.stdio, process)?;
    exec::exec(process, sync, Steps::new(false))
}
