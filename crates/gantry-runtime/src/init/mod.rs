//! The container's first process between its birth (clone3 in the shim) and exec: it gives itself the container's view
//! of the world, then becomes the program. Single-threaded, a copy of the shim's memory; whatever fails is told to
//! the shim over the sync socket, and the process ends.

mod exec;
mod join;
pub(crate) mod mounts;
pub(crate) mod targets;

use crate::cgroup::CgroupHandle;
use crate::plan::{Plan, ProcessPlan, Reply, StdioPlan};
use crate::steps::Steps;
use crate::sys::{self, wire};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(crate) use join::{Joining, run as join};
pub(crate) use mounts::{new_file_system, put};

/// What the shim gives to the first process.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) fds: &'a [OwnedFd],
    pub(crate) cgroup: &'a CgroupHandle,
    /// The host's `/proc`.
    pub(crate) proc: BorrowedFd<'a>,
    /// stdin, stdout, stderr; none with a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) sync: OwnedFd,
}

/// Why it cannot become the program.
#[derive(Debug)]
pub(crate) enum Failed {
    Setup { step: String, message: String },
    Exec { exit_code: i32, message: String },
}

pub(crate) fn failed(step: impl Into<String>, error: impl Display) -> Failed {
    Failed::Setup {
        step: step.into(),
        message: error.to_string(),
    }
}

/// Adds the step to an error.
pub(crate) trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failed> {
        self.map_err(|error| failed(step(), error.into()))
    }
}

/// Runs in the child of clone3 and never comes back.
pub(crate) fn run(birth: Birth<'_>) -> ! {
    let sync = match birth.sync.try_clone() {
        Ok(sync) => sync,
        Err(_) => sys::exit(1),
    };
    let Err(failure) = become_program(birth);
    tell(sync.as_fd(), failure)
}

/// Tells why there is no program, and ends.
fn tell(sync: BorrowedFd<'_>, failure: Failed) -> ! {
    let reply = match failure {
        Failed::Setup { step, message } => Reply::Setup { step, message },
        Failed::Exec { exit_code, message } => Reply::Exec { exit_code, message },
    };
    if let Ok(bytes) = postcard::to_stdvec(&reply) {
        let _ = wire::send(sync, &bytes, &[]);
    }
    sys::exit(1)
}

fn become_program(birth: Birth<'_>) -> Result<std::convert::Infallible, Failed> {
    let Birth {
        plan,
        fds,
        cgroup,
        proc,
        stdio,
        sync,
    } = birth;
    let init = &plan.init;
    let mut steps = Steps::new(plan.trace);
    // Until the exec nobody who shares a PID namespace may reach the host's files through this process.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    sys::reset_signals();
    // The spawner's own score protects it; the container never inherits that.
    set_oom_score(proc, init.process.oom_score_adj.unwrap_or(0))?;
    cgroup
        .join_self(cgroup.v2_dir().is_some())
        .step(|| "enter the cgroup".into())?;
    steps.done("init: cgroup");
    join_namespaces(init, fds)?;
    rustix::process::setsid().step(|| "make a session".into())?;
    if let Some(name) = init.hostname.as_deref().filter(|n| !n.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).step(|| "set the host name".into())?;
    }
    if let Some(name) = init.domainname.as_deref().filter(|n| !n.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).step(|| "set the domain name".into())?;
    }
    steps.done("init: namespaces and names");
    let root = mounts::Root::attach(fds[plan.rootfs].as_fd())?;
    mounts::populate(&root, plan, fds)?;
    steps.done("init: mounts and devices");
    let stdio = match stdio {
        Some(stdio) => stdio,
        None => {
            let stdio = terminal(root.fd(), &plan.stdio, &init.process, sync.as_fd())?;
            mounts::console(&root, &stdio[0])?;
            stdio
        }
    };
    for (name, value) in &init.sysctls {
        mounts::write_in(&root, &format!("proc/sys/{name}"), value)
            .step(|| format!("set sysctl {name}"))?;
    }
    steps.done("init: terminal and sysctls");
    mounts::protect(&root, init)?;
    steps.done("init: masked and read-only paths");
    root.pivot(init)?;
    drop(root);
    take_stdio(stdio, &plan.stdio, &init.process)?;
    steps.done("init: pivot and stdio");
    exec::exec(&init.process, sync, steps)
}

fn set_oom_score(proc: BorrowedFd<'_>, score: i32) -> Result<(), Failed> {
    let step = || "set the OOM score".to_owned();
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::empty();
    let file = rustix::fs::openat(proc, "self/oom_score_adj", flags, mode).step(step)?;
    rustix::io::write(&file, score.to_string().as_bytes()).step(step)?;
    Ok(())
}

fn join_namespaces(init: &crate::plan::InitPlan, fds: &[OwnedFd]) -> Result<(), Failed> {
    use rustix::thread::{
        LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe,
    };
    for index in &init.join {
        move_into_link_name_space(fds[*index].as_fd(), None::<LinkNameSpaceType>)
            .step(|| "join a namespace".into())?;
    }
    if init.new_cgroup_namespace {
        // After the cgroup has been entered: it is the namespace's root.
        // SAFETY: a cgroup namespace changes nothing that memory safety depends on.
        unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
            .step(|| "make a cgroup namespace".into())?;
    }
    Ok(())
}

/// A terminal out of the container's own devpts: the shim gets the master, the slave becomes stdio.
fn terminal(
    root: BorrowedFd<'_>,
    wanted: &StdioPlan,
    process: &ProcessPlan,
    sync: BorrowedFd<'_>,
) -> Result<[OwnedFd; 3], Failed> {
    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let step = || "make the terminal".to_owned();
    let master = targets::open(root, "dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).step(step)?;
    unlockpt(&master).step(step)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .step(step)?;
    if let Some((rows, columns)) = wanted.console_size {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).step(step)?;
    }
    rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(process.uid)), None).step(step)?;
    wire::send(sync, b"t", &[master.as_fd()]).step(step)?;
    let copy = || slave.try_clone().step(step);
    Ok([copy()?, copy()?, copy()?])
}

/// Puts the three on 0, 1, 2; everything else is closed at exec.
fn take_stdio(
    stdio: [OwnedFd; 3],
    wanted: &StdioPlan,
    process: &ProcessPlan,
) -> Result<(), Failed> {
    let step = || "set up stdio".to_owned();
    for (number, fd) in stdio.iter().enumerate() {
        // A pipe can then be opened again by its name (/dev/stdout) by the container's user.
        if !wanted.tty
            && rustix::fs::fstat(fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFIFO)
        {
            let _ = rustix::fs::fchown(
                fd,
                Some(rustix::fs::Uid::from_raw(process.uid)),
                Some(rustix::fs::Gid::from_raw(process.gid)),
            );
        }
        if fd.as_raw_fd() == number as i32 {
            return Err(failed(step(), "a descriptor is where stdio belongs"));
        }
        let done = match number {
            0 => rustix::stdio::dup2_stdin(fd),
            1 => rustix::stdio::dup2_stdout(fd),
            _ => rustix::stdio::dup2_stderr(fd),
        };
        done.step(step)?;
    }
    if wanted.tty {
        sys::set_controlling_terminal().step(step)?;
    }
    sys::close_on_exec_from(3).step(step)
}
