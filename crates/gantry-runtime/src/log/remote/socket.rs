//! Sockets to logs elsewhere.

use crate::log::settings::Address;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Connects, for the daemon: names in the file system are its own, and it may wait.
///
/// # Errors
/// When nobody listens there, or not within `patience`.
pub fn connect(address: &Address, patience: Duration) -> io::Result<OwnedFd> {
    Ok(match address {
        Address::Udp(to) => {
            let any: SocketAddr = match to {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.into()
        }
        Address::Tcp(to) => TcpStream::connect_timeout(to, patience)?.into(),
        Address::Stream(path) => UnixStream::connect(path)?.into(),
        Address::Datagram(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.into()
        }
    })
}

/// Begins to connect without waiting; true when the connection stands already. `directory` is the folder of a unix socket.
pub(super) fn begin(address: &Address, directory: Option<&OwnedFd>) -> io::Result<(OwnedFd, bool)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, path) = match address {
        Address::Udp(to) => {
            return Ok((connect(&Address::Udp(*to), Duration::ZERO)?, true)).and_then(
                |(socket, open)| {
                    rustix::io::ioctl_fionbio(&socket, true)?;
                    Ok((socket, open))
                },
            );
        }
        Address::Tcp(to) => {
            let family = match to {
                SocketAddr::V4(_) => AddressFamily::INET,
                SocketAddr::V6(_) => AddressFamily::INET6,
            };
            let socket =
                rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
            return match rustix::net::connect(&socket, to) {
                Ok(()) => Ok((socket, true)),
                Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, false)),
                Err(error) => Err(error.into()),
            };
        }
        Address::Stream(path) => (SocketType::STREAM, path),
        Address::Datagram(path) => (SocketType::DGRAM, path),
    };
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    let name = Path::new(path).file_name().unwrap_or_default();
    let Some(directory) = directory else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let address = SocketAddrUnix::new(name)?;
    // The name is looked up from the working directory: the shim has no paths of its own to spoil.
    let before = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(directory.as_fd())?;
    let connected = rustix::net::connect(&socket, &address);
    rustix::process::fchdir(before)?;
    connected?;
    Ok((socket, true))
}

/// What came of a connection that was begun; none: it is not decided.
pub(super) fn outcome(socket: &OwnedFd) -> Option<io::Result<()>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if !matches!(poll(&mut fds, Some(&now)), Ok(ready) if ready > 0) {
        return None;
    }
    Some(match rustix::net::sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) | Err(error) => Err(error.into()),
    })
}

/// 64 random hexadecimal digits.
pub(in crate::log) fn random_id() -> String {
    let mut bytes = [0_u8; 32];
    // A request of 32 bytes is answered whole (getrandom(2)).
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
