//! System calls that rustix does not offer, each with the reason why its use is sound.

pub(crate) mod wire;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// clone(2); the constant of libc is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// What a fork came back as.
#[derive(Debug)]
pub(crate) enum Forked {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// `clone3` (clone(2)) with a pidfd; the child shares nothing but what `flags` say and goes on from here.
///
/// # Safety
/// The process must be single-threaded: the child gets a copy of the caller's memory in which no other thread can
/// hold a lock.
pub(crate) unsafe fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is valid (clone(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args and pidfd live through the call; without CLONE_VM the child has memory of its own, and the caller
    // promises a single thread.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    // SAFETY: the kernel has just made this descriptor for us (CLONE_PIDFD).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent {
        pid: pid as i32,
        pidfd,
    })
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `mount_setattr(2)` on a mount held by a descriptor.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> io::Result<()> {
    let attr = MountAttr {
        set,
        clear,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal, attr a struct of the size given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Gives the calling thread its own of what the flags say (unshare(2)); not for descriptors.
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(rustix::thread::UnshareFlags::FILES));
    // SAFETY: the table of descriptors stays shared, which is what the function's safety is about.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags of descriptors change.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Closes every descriptor but stdio and this one, which moves to number 3. For a process that only executes or ends
/// from here on (`exit` runs no destructors): values that owned the others must never be dropped.
pub(crate) fn keep_only(fd: OwnedFd) -> io::Result<BorrowedFd<'static>> {
    let old = fd.into_raw_fd();
    // SAFETY: see above: nothing that owned the descriptors closed here is used or dropped afterwards.
    unsafe {
        if old == 3 {
            check(libc::c_long::from(libc::fcntl(
                3,
                libc::F_SETFD,
                libc::FD_CLOEXEC,
            )))?;
        } else {
            check(libc::c_long::from(libc::dup3(old, 3, libc::O_CLOEXEC)))?;
        }
        close_range(4, u32::MAX);
        Ok(BorrowedFd::borrow_raw(3))
    }
}

/// A session keyring of the container's own, so that it does not share the daemon's.
pub(crate) fn new_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring. A kernel without keys refuses, which is as good.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
}

/// Closes descriptors by number (close_range(2)).
///
/// # Safety
/// No value of the program may own a descriptor in the range.
pub(crate) unsafe fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: the caller's promise.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Sets a resource limit by its number.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the struct lives through the call; pid 0 is the caller; no old value is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::from_ref(&limit),
            std::ptr::null::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// Supplementary groups, group and user of the calling (single-threaded) process, by bare system calls.
pub(crate) fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the slice is passed with its length; the other two calls take numbers.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// `prctl(option, value)`
pub(crate) fn prctl(option: i32, value: u64) -> io::Result<()> {
    // SAFETY: used with options that take a plain number (PR_SET_NO_NEW_PRIVS, PR_SET_KEEPCAPS, PR_SET_DUMPABLE, ...).
    check(libc::c_long::from(unsafe {
        libc::prctl(option, value, 0, 0, 0)
    }))?;
    Ok(())
}

/// Default dispositions for every signal, an empty mask.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is a valid disposition for every signal that can have one, and an empty set a valid mask; the
    // numbers for which the kernel refuses are left as they are.
    unsafe {
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// What the daemon's terminal or a service manager may send is not for the spawner and the shims; children are reaped
/// where they are waited for.
pub(crate) fn ignore_signals() {
    // SAFETY: SIG_IGN is a valid disposition for these.
    unsafe {
        for number in [
            libc::SIGHUP,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGTERM,
            libc::SIGPIPE,
            libc::SIGTTIN,
            libc::SIGTTOU,
        ] {
            libc::signal(number, libc::SIG_IGN);
        }
        // The spawner does not wait for its shims.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
}

/// Children become zombies again, so that their status can be read.
pub(crate) fn keep_children() {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Enters all of a process's namespaces but the user's and the PID's (setns(2) with a pidfd); root and working
/// directory become those of its mount namespace.
pub(crate) fn join_namespaces_of(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    let all = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUTS;
    // SAFETY: the calling process has one thread; nothing that memory safety depends on changes.
    check(libc::c_long::from(unsafe {
        libc::setns(pidfd.as_raw_fd(), all)
    }))?;
    Ok(())
}

/// Has the children of the calling process be born in another's PID namespace.
pub(crate) fn join_pids_of(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: only children to come are changed.
    check(libc::c_long::from(unsafe {
        libc::setns(pidfd.as_raw_fd(), libc::CLONE_NEWPID)
    }))?;
    Ok(())
}

/// Makes the terminal on descriptor 0 the controlling one.
pub(crate) fn set_controlling_terminal() -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    check(libc::c_long::from(unsafe {
        libc::ioctl(0, libc::TIOCSCTTY as _, 0)
    }))?;
    Ok(())
}

/// `execve`; comes back only with the reason why it failed.
pub(crate) fn execve(
    path: &std::ffi::CStr,
    args: &[std::ffi::CString],
    env: &[std::ffi::CString],
) -> io::Error {
    let list = |words: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        words
            .iter()
            .map(|w| w.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (args, env) = (list(args), list(env));
    // SAFETY: all three are NUL-terminated and live through the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Fork of a single-threaded process.
///
/// # Safety
/// As for [`clone3`].
pub(crate) unsafe fn fork() -> io::Result<Option<i32>> {
    // SAFETY: no pointer is passed (a plain fork by clone(2)); the caller promises a single thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as i32))
}

/// Executes a command with a descriptor at a given number and no others but stdio.
pub(crate) fn spawn_with(
    mut command: std::process::Command,
    fd: BorrowedFd<'_>,
    number: i32,
) -> io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let source = fd.as_raw_fd();
    let place = move || -> io::Result<()> {
        // SAFETY: in the child, before exec: two system calls, no memory. A descriptor that is at its place already
        // loses close-on-exec by fcntl, as dup2 onto itself would leave the flag.
        unsafe {
            if source == number {
                check(libc::c_long::from(libc::fcntl(number, libc::F_SETFD, 0)))?;
            } else {
                check(libc::c_long::from(libc::dup2(source, number)))?;
            }
        }
        close_on_exec_from(number as u32 + 1)
    };
    // SAFETY: the closure is safe to run between fork and exec (see above).
    unsafe { command.pre_exec(place) };
    command.spawn()
}

/// All signals, blocked and taken one by one (sigwait(3)).
pub(crate) struct Signals(libc::sigset_t);

impl Signals {
    pub(crate) fn block_all() -> Self {
        // SAFETY: the set is initialised by sigfillset before it is used.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut set);
            for fault in [
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGABRT,
                libc::SIGTRAP,
                libc::SIGSYS,
            ] {
                libc::sigdelset(&mut set, fault);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
            Self(set)
        }
    }

    /// The next signal.
    pub(crate) fn next(&self) -> i32 {
        let mut number = 0;
        // SAFETY: both pointers are to live values.
        while unsafe { libc::sigwait(&self.0, &mut number) } != 0 {}
        number
    }
}

/// In the child of [`crate::pid1`]: a process group of its own, in the terminal's foreground where there is a terminal.
pub(crate) fn as_terminal_leader() -> io::Result<()> {
    // SAFETY: plain system calls on numbers; SIGTTOU is still blocked, so that tcsetpgrp does not stop us.
    unsafe {
        libc::setpgid(0, 0);
        libc::tcsetpgrp(0, libc::getpid());
    }
    reset_signals();
    Ok(())
}

/// Reaps every child that has ended; the status of `main` when it is among them, as an exit code.
pub(crate) fn reap_until(main: i32) -> Option<i32> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a live integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid <= 0 {
            return code;
        }
        if pid == main {
            code = Some(if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            });
        }
    }
}

/// Sends a signal by PID to a child that has not been reaped.
pub(crate) fn kill(pid: i32, number: i32) {
    // SAFETY: kill(2) takes numbers.
    unsafe { libc::kill(pid, number) };
}
