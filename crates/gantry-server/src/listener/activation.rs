//! Sockets that systemd opened for us (`sd_listen_fds(3)`): `LISTEN_PID` is our process, `LISTEN_FDS` the
//! number of descriptors, the first of which is 3.

use super::{Kind, ListenError, Listener};
use rustix::io::FdFlags;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpListener, UnixListener};

/// The first descriptor that is handed over.
const FIRST: i32 = 3;

/// Set when the descriptors have been taken: they can be owned once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the listeners that were handed over.
pub fn from_environment() -> Result<Vec<Listener>, ListenError> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|count| ours && (1..=64).contains(count));
    let Some(count) = count else {
        return Err(ListenError::NoActivation);
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(ListenError::NoActivation);
    }
    (FIRST..)
        .take(count as usize)
        .map(|number| {
            #[expect(unsafe_code, reason = "the protocol hands over descriptors as numbers")]
            // SAFETY: LISTEN_PID names this process, so that its parent has opened these descriptors for it;
            // nothing else in the program owns them, and TAKEN lets them be taken once.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            listener(fd)
        })
        .collect()
}

fn listener(fd: OwnedFd) -> Result<Listener, ListenError> {
    let wrong = |source: std::io::Error| ListenError::Tcp {
        address: "a socket of systemd".to_owned(),
        source,
    };
    let errno = |error: rustix::io::Errno| wrong(error.into());
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(errno)?;
    rustix::io::ioctl_fionbio(&fd, true).map_err(errno)?;
    let unix = rustix::net::sockopt::socket_domain(&fd).map_err(errno)?
        == rustix::net::AddressFamily::UNIX;
    let kind = if unix {
        Kind::Unix(UnixListener::from_std(fd.into()).map_err(wrong)?)
    } else {
        Kind::Tcp(TcpListener::from_std(fd.into()).map_err(wrong)?)
    };
    Ok(Listener {
        kind,
        tls: None,
        file: None,
    })
}
