//! Host ports: each published one is held by a socket of ours, so that no program can take it and a taken one is
//! noticed. The firewall leads packets away before they reach these sockets; what does reach them (while somebody
//! has flushed the rules) is dropped, so that a client's retry succeeds when the rules are back.
use crate::bridge::PublishedPort;
use crate::error::NetworkError;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// The kernel's default for `ip_local_port_range`.
const DEFAULT_RANGE: (u16, u16) = (32768, 60999);

/// The ports that are held.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By protocol and port, as there is rarely more than one address a port.
    sockets: HashMap<(String, u16), Vec<Holder>>,
    /// Where the search for an ephemeral port goes on.
    next: u16,
}

/// The host's address, and the socket that holds the port there. None: a protocol that this kernel has no sockets for.
type Holder = (Ipv4Addr, Option<OwnedFd>);

impl Ports {
    /// Takes every port; 0 becomes a free one. Either all are taken or none. `target` is the container's address.
    pub(crate) fn reserve(
        &self,
        wanted: &[PublishedPort],
        target: Ipv4Addr,
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<PublishedPort> = Vec::with_capacity(wanted.len());
        for port in wanted {
            let got = if port.host_port == 0 {
                held.take_any(port, target)
            } else {
                held.take(port, target).map(|()| port.clone())
            };
            match got {
                Ok(port) => taken.push(port),
                Err(error) => {
                    taken.iter().for_each(|port| held.free(port));
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Gives ports back; those that are not held stay as they are.
    pub(crate) fn release(&self, ports: &[PublishedPort]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        ports.iter().for_each(|port| held.free(port));
    }
}

impl Held {
    fn take(&mut self, port: &PublishedPort, target: Ipv4Addr) -> Result<(), NetworkError> {
        let key = (port.protocol.clone(), port.host_port);
        let any = Ipv4Addr::UNSPECIFIED;
        let clashes = |ip: Ipv4Addr| ip == port.host_ip || ip == any || port.host_ip == any;
        let others = self.sockets.entry(key).or_default();
        if others.iter().any(|(ip, _)| clashes(*ip)) {
            return Err(NetworkError::Port(format!(
                "Bind for {}:{} failed: port is already allocated",
                port.host_ip, port.host_port
            )));
        }
        match bind(port) {
            Ok(socket) => {
                others.push((port.host_ip, socket));
                Ok(())
            }
            Err(error) => Err(NetworkError::Port(format!(
                "failed to bind host port for {}:{}:{target}:{}/{}: {}",
                port.host_ip,
                port.host_port,
                port.container_port,
                port.protocol,
                in_words(&error)
            ))),
        }
    }

    /// The next free port of the kernel's ephemeral range.
    fn take_any(
        &mut self,
        port: &PublishedPort,
        target: Ipv4Addr,
    ) -> Result<PublishedPort, NetworkError> {
        let (low, high) = ephemeral_range();
        for _ in low..=high {
            if !(low..=high).contains(&self.next) {
                self.next = low;
            }
            let candidate = PublishedPort {
                host_port: self.next,
                ..port.clone()
            };
            self.next = self.next.wrapping_add(1);
            if self.take(&candidate, target).is_ok() {
                return Ok(candidate);
            }
        }
        Err(NetworkError::Port("all ports are allocated".into()))
    }

    fn free(&mut self, port: &PublishedPort) {
        let key = (port.protocol.clone(), port.host_port);
        if let Some(sockets) = self.sockets.get_mut(&key) {
            sockets.retain(|(ip, _)| *ip != port.host_ip);
            if sockets.is_empty() {
                self.sockets.remove(&key);
            }
        }
    }
}

fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let mut numbers = text.iter().flat_map(|t| t.split_whitespace());
    let mut next = || numbers.next()?.parse().ok();
    match (next(), next()) {
        (Some(low), Some(high)) if 0 < low && low <= high => (low, high),
        _ => DEFAULT_RANGE,
    }
}

/// A socket that holds the port. None: the kernel has no sockets for that protocol.
fn bind(port: &PublishedPort) -> io::Result<Option<OwnedFd>> {
    let (kind, protocol) = match port.protocol.as_str() {
        "tcp" => (SocketType::STREAM, ipproto::TCP),
        "udp" => (SocketType::DGRAM, ipproto::UDP),
        "sctp" => (SocketType::STREAM, ipproto::SCTP),
        other => return Err(io::Error::other(format!("unknown protocol {other}"))),
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = match rustix::net::socket_with(AddressFamily::INET, kind, flags, Some(protocol)) {
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    drop_all_input(&socket)?;
    // Connections of an earlier owner that linger in TIME_WAIT are no hindrance; a listener is.
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddrV4::new(port.host_ip, port.host_port))?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 1)?;
    }
    Ok(Some(socket))
}

/// A filter of one instruction: keep nothing.
fn drop_all_input(socket: &OwnedFd) -> io::Result<()> {
    let mut keep_nothing = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut keep_nothing,
    };
    // SAFETY: the program and its single instruction live until the call returns; the kernel copies both and reads
    // exactly `size_of::<sock_fprog>()` bytes and `len` instructions.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The error in Go's spelling, which clients know from Docker.
fn in_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "address already in use".into(),
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".into(),
        Some(libc::EACCES) => "permission denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    const TARGET: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

    fn port(protocol: &str, host_ip: &str, host_port: u16) -> PublishedPort {
        PublishedPort {
            container_port: 80,
            protocol: protocol.into(),
            host_ip: host_ip.parse().unwrap(),
            host_port,
        }
    }

    #[test]
    fn a_port_of_another_program_is_refused_in_dockers_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let ports = Ports::default();
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let error = ports
                .reserve(&[port("tcp", ip, number)], TARGET)
                .unwrap_err();
            let wanted = format!(
                "failed to bind host port for {ip}:{number}:172.17.0.2:80/tcp: address already in use"
            );
            assert_eq!(error.to_string(), wanted);
        }
        ports
            .reserve(&[port("udp", "127.0.0.1", number)], TARGET)
            .unwrap();
    }

    #[test]
    fn ephemeral_ports_are_held_until_released() {
        let ports = Ports::default();
        for protocol in ["tcp", "udp"] {
            let wanted = [
                port(protocol, "127.0.0.1", 0),
                port(protocol, "127.0.0.1", 0),
            ];
            let got = ports.reserve(&wanted, TARGET).unwrap();
            assert_ne!(got[0].host_port, got[1].host_port);
            let (low, high) = ephemeral_range();
            assert!((low..=high).contains(&got[0].host_port));
            let address = ("127.0.0.1", got[0].host_port);
            assert!(TcpListener::bind(address).is_err() || protocol == "udp");
            assert!(UdpSocket::bind(address).is_err() || protocol == "tcp");

            let again = ports.reserve(&[port(protocol, "0.0.0.0", got[0].host_port)], TARGET);
            let wanted = format!(
                "Bind for 0.0.0.0:{} failed: port is already allocated",
                got[0].host_port
            );
            assert_eq!(again.unwrap_err().to_string(), wanted);

            ports.release(&got);
            ports.reserve(&got, TARGET).unwrap();
            ports.release(&got);
            ports.release(&got);
        }
    }

    #[test]
    fn one_refused_port_frees_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        let ports = Ports::default();
        let free = ports
            .reserve(&[port("tcp", "127.0.0.1", 0)], TARGET)
            .unwrap();
        ports.release(&free);
        let wanted = [free[0].clone(), port("tcp", "127.0.0.1", taken)];
        assert!(ports.reserve(&wanted, TARGET).is_err());
        TcpListener::bind(("127.0.0.1", free[0].host_port)).unwrap();
    }
}
