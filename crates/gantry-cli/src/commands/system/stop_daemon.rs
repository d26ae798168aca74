//! `gantry system stop-daemon`
//!
//! The daemon is whoever listens on the socket: the kernel tells its process id. Containers go on.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::client::{Address, DEFAULT_SOCKET, wants_tls};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["system stop-daemon"],
    about: "Stop the daemon (containers go on running)",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct StopFlags {
        /// Seconds to wait for the daemon's end
        timeout: i64 = "timeout" short "t" default "30";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = StopFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let socket = match Address::find(cx, wants_tls(cx)).map_err(Failure::new)? {
        Address::Default => DEFAULT_SOCKET.to_owned(),
        Address::Unix(path) => path,
        Address::Tcp { .. } => {
            return Err(Failure::new(
                "only a daemon on a unix socket of this machine can be stopped",
            ));
        }
    };
    let connection = match UnixStream::connect(&socket) {
        Ok(connection) => connection,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(Failure::new(format!("permission denied: unix://{socket}")));
        }
        Err(_) => {
            cx.print(&format!("No daemon listens on unix://{socket}\n"))?;
            return Ok(0);
        }
    };
    let peer = rustix::net::sockopt::socket_peercred(&connection).map_err(std::io::Error::from)?;
    drop(connection);
    if peer.pid.is_init() {
        return Err(Failure::new(
            "the daemon's socket belongs to systemd: use systemctl stop gantry.socket gantry.service",
        ));
    }
    let wrong = |error: rustix::io::Errno| {
        Failure::new(format!(
            "cannot stop the daemon (process {}): {error}",
            peer.pid.as_raw_nonzero()
        ))
    };
    let process = pidfd_open(peer.pid, PidfdFlags::empty()).map_err(wrong)?;
    pidfd_send_signal(&process, Signal::TERM).map_err(wrong)?;
    let patience = Timespec {
        tv_sec: Duration::from_secs(flags.timeout.max(0).unsigned_abs()).as_secs() as i64,
        tv_nsec: 0,
    };
    let mut waiting = [PollFd::new(&process, PollFlags::IN)];
    let ended = poll(&mut waiting, Some(&patience)).map_err(wrong)?;
    if ended == 0 {
        return Err(Failure::new(format!(
            "the daemon (process {}) has not ended within {} seconds",
            peer.pid.as_raw_nonzero(),
            flags.timeout
        )));
    }
    Ok(0)
}
