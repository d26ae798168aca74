//! The shim: one small process for each container, and one for each exec. It makes the process, owns its output,
//! terminal, log and exit status, and outlives spawner and daemon. One thread, one poll loop, little memory.

mod birth;
mod clients;
mod exec;
mod serve;

use crate::plan::{Reply, Request};
use crate::spawner::{Arrived, Host};
use crate::sys::{self, wire};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The shim's whole life, in the spawner's child.
pub(crate) fn main(arrived: Result<Arrived, (OwnedFd, String)>, host: Host) -> ! {
    sys::keep_children();
    let _ = rustix::process::setsid();
    // The daemon's log is not kept open by what outlives the daemon.
    let _ = rustix::stdio::dup2_stderr(&host.null);
    let _ = rustix::thread::set_name(c"gantry-shim");
    let arrived = match arrived {
        Ok(arrived) => arrived,
        Err((reply, why)) => {
            answer(
                reply.as_fd(),
                &Reply::Setup {
                    step: "read the request".into(),
                    message: why,
                },
                None,
            );
            sys::exit(1)
        }
    };
    let reply = arrived.reply;
    let brought_up = match arrived.request {
        Request::Start(plan) => birth::bring_up(*plan, arrived.fds, host),
        Request::Exec(plan) => exec::bring_up(*plan, arrived.fds, host),
    };
    match brought_up {
        Ok((running, started)) => {
            answer(reply.as_fd(), &started, Some(running.pidfd.as_fd()));
            drop(reply);
            serve::serve(running);
            sys::exit(0)
        }
        Err(why) => {
            answer(reply.as_fd(), &why, None);
            sys::exit(1)
        }
    }
}

fn answer(socket: BorrowedFd<'_>, reply: &Reply, pidfd: Option<BorrowedFd<'_>>) {
    let Ok(bytes) = postcard::to_stdvec(reply) else {
        return;
    };
    let fds: Vec<BorrowedFd<'_>> = pidfd.into_iter().collect();
    // A daemon that is gone has its successor find the container by its run directory.
    let _ = wire::send(socket, &bytes, &fds);
}

/// Writes a small file of the run directory whole: by another name, then renamed.
fn write_file(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat, renameat};
    let temporary = format!("{name}.new");
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(dir, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest)?;
        rest = &rest[n..];
    }
    renameat(dir, temporary.as_str(), dir, name)?;
    Ok(())
}
