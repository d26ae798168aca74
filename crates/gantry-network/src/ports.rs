//! Host ports: each published one is held by a socket of ours, so that no program can take it and a taken one is
//! noticed. The firewall leads packets away before they reach these sockets; what does reach them (while somebody
//! has flushed the rules) is dropped, so that a client's retry succeeds when the rules are back. Sockets of ports that the
//! kernel cannot lead to the container are given to the [`crate::proxy`].
use crate::endpoint::{Families, PortRequest, PublishedPort};
use crate::error::NetworkError;
use crate::firewall::Targets;
use crate::proxy::{Frontend, Kept, Protocol, Proxy, ProxyOptions};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The kernel's default for `ip_local_port_range`.
const DEFAULT_RANGE: (u16, u16) = (32768, 60999);

/// Connections that wait until the proxy accepts them.
const BACKLOG: i32 = 4096;

/// The ports that are held.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Mutex<Held>,
}

/// Where a container's ports can be published.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Placement {
    /// The container's addresses.
    pub(crate) targets: Targets,
    /// Where ports are published that name no address; none: at all addresses.
    pub(crate) host_binding: Option<IpAddr>,
    /// Ports are not translated (`gateway_mode_ipv4=routed`): the host has no port for them.
    pub(crate) routed_v4: bool,
    /// The same of IPv6.
    pub(crate) routed_v6: bool,
}

#[derive(Debug, Default)]
struct Held {
    /// By protocol and port, as there is rarely more than one address a port.
    sockets: HashMap<(String, u16), Vec<Holder>>,
    /// Where the search for an ephemeral port goes on.
    next: u16,
    /// None: what is not led to containers is not carried either.
    carrier: Option<Carrier>,
    /// Sockets that an earlier daemon's proxy has, as long as nobody has taken them again.
    kept: HashMap<Frontend, Arc<OwnedFd>>,
}

/// Who carries what the firewall does not lead.
#[derive(Debug)]
struct Carrier {
    proxy: Proxy,
    /// Whether anything new is to be carried (`--userland-proxy`).
    is_on: bool,
    /// The families that the firewall leads.
    led: Families,
}

/// The host's address, and the socket that holds the port there. None: a protocol that this kernel has no sockets for.
type Holder = (IpAddr, Option<Arc<OwnedFd>>);

/// What gets one host port together: clients need not know which of the addresses they use.
#[derive(Debug)]
struct Group<'a> {
    request: &'a PortRequest,
    addresses: Vec<IpAddr>,
}

impl Ports {
    /// Ports of which the proxy carries those that the firewall does not lead. What an earlier daemon had carried stays so
    /// until [`Self::settle`].
    pub(crate) fn open(options: &ProxyOptions, led: Families) -> io::Result<Self> {
        let (proxy, kept) = Proxy::open(options)?;
        let is_on = options.is_on;
        let held = Held {
            carrier: Some(Carrier { proxy, is_on, led }),
            kept: kept.into_iter().collect(),
            ..Held::default()
        };
        Ok(Self {
            held: Mutex::new(held),
        })
    }

    /// Gives up what an earlier daemon had and nobody has taken again.
    pub(crate) fn settle(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left: Vec<Kept> = held.kept.drain().collect();
        if let Some(carrier) = &held.carrier {
            left.iter()
                .for_each(|(frontend, _)| carrier.proxy.close(*frontend));
        }
    }

    /// Takes every port that the container has an address for. Either all are taken or none.
    pub(crate) fn reserve(
        &self,
        wanted: &[PortRequest],
        placement: &Placement,
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = groups(wanted, placement, held.carries());
        // Those that can have one port only go first.
        groups.sort_by_key(|group| {
            let (first, last) = group.request.host_ports;
            if first == 0 { u16::MAX } else { last - first }
        });
        let mut taken = Vec::with_capacity(wanted.len());
        for group in &groups {
            match held.take_group(group, placement) {
                Ok(ports) => taken.extend(ports),
                Err(error) => {
                    taken.iter().for_each(|port| held.free(port));
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Takes ports as they were chosen earlier. Either all are taken or none.
    pub(crate) fn retake(
        &self,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Result<(), NetworkError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, port) in ports.iter().enumerate() {
            if let Err(error) = held.take(port, targets) {
                ports[..index].iter().for_each(|port| held.free(port));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives ports back; those that are not held stay as they are.
    pub(crate) fn release(&self, ports: &[PublishedPort]) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        ports.iter().for_each(|port| held.free(port));
    }
}

fn groups<'a>(wanted: &'a [PortRequest], placement: &Placement, carries: bool) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for request in wanted {
        let addresses = addresses(request, placement, carries);
        let same = |group: &&mut Group<'_>| {
            let other = group.request;
            other.container_port == request.container_port
                && other.protocol == request.protocol
                && other.host_ports == request.host_ports
                && !addresses.iter().any(|a| group.addresses.contains(a))
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.addresses.extend(addresses),
            None => groups.push(Group { request, addresses }),
        }
    }
    groups
}

/// The addresses of the host that the port is to be published at.
fn addresses(request: &PortRequest, placement: &Placement, carries: bool) -> Vec<IpAddr> {
    let any = [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ];
    // IPv6 that is led to no address of the container's can be carried to its IPv4 one.
    let carried = carries
        && placement.targets.v4.is_some()
        && !placement.routed_v6
        && Protocol::named(&request.protocol).is_some();
    let binding = placement.host_binding.filter(|ip| *ip != any[0]);
    let mut addresses = match request.host_ip.or(binding) {
        Some(address) => vec![address],
        None if has_v6() => any.to_vec(),
        None => any[..1].to_vec(),
    };
    addresses.retain(|address| {
        placement.targets.of(*address).is_some() || (carried && address.is_ipv6())
    });
    if addresses.is_empty() && request.host_ip.is_some() {
        tracing::warn!(
            port = request.container_port,
            host_ip = ?request.host_ip,
            "port is not published: the container has no address of that family on its network"
        );
    }
    addresses
}

impl Placement {
    fn is_routed(&self, address: IpAddr) -> bool {
        if address.is_ipv4() {
            self.routed_v4
        } else {
            self.routed_v6
        }
    }
}

/// Whether the host has IPv6 at all.
fn has_v6() -> bool {
    static HAS_V6: OnceLock<bool> = OnceLock::new();
    *HAS_V6.get_or_init(|| std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok())
}

/// The port as the proxy knows it; None: nothing that it could carry.
fn frontend(port: &PublishedPort) -> Option<Frontend> {
    Some(Frontend {
        protocol: Protocol::named(&port.protocol)?,
        address: SocketAddr::new(port.host_ip, port.host_port),
    })
}

impl Carrier {
    /// Where what comes to the port is to be carried; None: the firewall leads all of it.
    fn backend(&self, port: &PublishedPort, targets: Targets) -> Option<SocketAddr> {
        let is_led = match port.host_ip {
            IpAddr::V4(_) => self.led.v4,
            // What comes from ::1 or a link-local address is not.
            IpAddr::V6(address) => {
                let whole = !address.is_unspecified()
                    && !address.is_loopback()
                    && !address.is_unicast_link_local();
                self.led.v6 && whole && targets.v6.is_some()
            }
        };
        let target = targets.of(port.host_ip).or(targets.v4.map(IpAddr::V4))?;
        (self.is_on && !is_led).then(|| SocketAddr::new(target, port.container_port))
    }

    /// See [`bind`]. An earlier owner's socket that the proxy is closing is waited for.
    fn bind(&self, port: &PublishedPort, open: bool) -> io::Result<Option<OwnedFd>> {
        loop {
            match bind(port, open) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && port.protocol == "udp"
                        && self.proxy.is_closing(port.host_port) =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                bound => return bound,
            }
        }
    }
}

impl Held {
    fn carries(&self) -> bool {
        self.carrier.as_ref().is_some_and(|carrier| carrier.is_on)
    }

    fn take_group(
        &mut self,
        group: &Group<'_>,
        placement: &Placement,
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let request = group.request;
        let at = |host_ip: IpAddr, host_port: u16| PublishedPort {
            container_port: request.container_port,
            protocol: request.protocol.clone(),
            host_ip,
            host_port,
        };
        let any_of = |address: IpAddr| match address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let (routed, translated): (Vec<IpAddr>, Vec<IpAddr>) = group
            .addresses
            .iter()
            .copied()
            .partition(|a| placement.is_routed(*a));
        let mut ports: Vec<_> = routed.into_iter().map(|a| at(any_of(a), 0)).collect();
        if translated.is_empty() {
            return Ok(ports);
        }
        let mut take = |held: &mut Self, number: u16| {
            let wanted: Vec<_> = translated.iter().map(|a| at(*a, number)).collect();
            for (index, port) in wanted.iter().enumerate() {
                if let Err(error) = held.take(port, placement.targets) {
                    wanted[..index].iter().for_each(|port| held.free(port));
                    return Err(error);
                }
            }
            ports.extend(wanted);
            Ok(())
        };
        match request.host_ports {
            (0, _) => self.take_ephemeral(&mut take)?,
            (first, last) if first == last => take(self, first)?,
            (first, last) => {
                let mut refusal = None;
                let found = (first..=last).any(|number| match take(self, number) {
                    Ok(()) => true,
                    Err(error) => {
                        refusal = Some(of_range(error, number, (first, last)));
                        false
                    }
                });
                if !found {
                    return Err(all_taken(refusal));
                }
            }
        }
        Ok(ports)
    }

    fn take(&mut self, port: &PublishedPort, targets: Targets) -> Result<(), NetworkError> {
        if port.host_port == 0 {
            return Ok(());
        }
        let key = (port.protocol.clone(), port.host_port);
        let clashes = |ip: IpAddr| {
            let same_family = ip.is_ipv4() == port.host_ip.is_ipv4();
            let anywhere = ip.is_unspecified() || port.host_ip.is_unspecified();
            same_family && (anywhere || ip == port.host_ip)
        };
        let mut others = self.sockets.get(&key).into_iter().flatten();
        if let Some((ip, _)) = others.find(|(ip, _)| clashes(*ip)) {
            return Err(NetworkError::Port(format!(
                "Bind for {ip}:{} failed: port is already allocated",
                port.host_port
            )));
        }
        match self.socket(port, targets) {
            Ok(socket) => {
                let others = self.sockets.entry(key).or_default();
                others.push((port.host_ip, socket));
                Ok(())
            }
            Err(error) => {
                let target = targets.of(port.host_ip).or(targets.v4.map(IpAddr::V4));
                let target = target.map(bracketed);
                Err(NetworkError::Port(format!(
                    "failed to bind host port for {}:{}:{}:{}/{}: {}",
                    bracketed(port.host_ip),
                    port.host_port,
                    target.unwrap_or_default(),
                    port.container_port,
                    port.protocol,
                    in_words(&error)
                )))
            }
        }
    }

    /// A socket that holds the port, and is carried where that is to be.
    fn socket(
        &mut self,
        port: &PublishedPort,
        targets: Targets,
    ) -> io::Result<Option<Arc<OwnedFd>>> {
        let (Some(frontend), Some(carrier)) = (frontend(port), &self.carrier) else {
            return Ok(bind(port, false)?.map(Arc::new));
        };
        let backend = carrier.backend(port, targets);
        let socket = match (self.kept.remove(&frontend), backend) {
            (Some(kept), Some(_)) => Some(kept),
            (kept, backend) => {
                if kept.is_some() {
                    // What an earlier daemon had carried is led from now on.
                    carrier.proxy.close(frontend);
                }
                drop(kept);
                carrier.bind(port, backend.is_some())?.map(Arc::new)
            }
        };
        if let (Some(socket), Some(backend)) = (&socket, backend) {
            carrier.proxy.serve(frontend, backend, socket.clone());
        }
        Ok(socket)
    }

    /// The next free port of the kernel's ephemeral range.
    fn take_ephemeral(
        &mut self,
        take: &mut impl FnMut(&mut Self, u16) -> Result<(), NetworkError>,
    ) -> Result<(), NetworkError> {
        let (low, high) = ephemeral_range();
        let reserved = reserved_ports();
        for _ in low..=high {
            if !(low..=high).contains(&self.next) {
                self.next = low;
            }
            let candidate = self.next;
            self.next = self.next.wrapping_add(1);
            if !reserved.iter().any(|range| range.contains(&candidate))
                && take(self, candidate).is_ok()
            {
                return Ok(());
            }
        }
        Err(all_taken(None))
    }

    fn free(&mut self, port: &PublishedPort) {
        let key = (port.protocol.clone(), port.host_port);
        if let Some(sockets) = self.sockets.get_mut(&key) {
            sockets.retain(|(ip, _)| *ip != port.host_ip);
            if sockets.is_empty() {
                self.sockets.remove(&key);
            }
            if let Some((carrier, frontend)) = self.carrier.as_ref().zip(frontend(port)) {
                carrier.proxy.close(frontend);
            }
        }
    }
}

/// An address as it stands before a port.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Docker's words for a port that is one of several.
fn of_range(error: NetworkError, number: u16, (first, last): (u16, u16)) -> NetworkError {
    match error {
        NetworkError::Port(text) => NetworkError::Port(
            text.replacen("host port for", &format!("host port {number} for"), 1)
                .replacen(&format!(":{number}:"), &format!(":{first}-{last}:"), 1),
        ),
        error => error,
    }
}

fn all_taken(last: Option<NetworkError>) -> NetworkError {
    match last {
        // A program has it, which says more.
        Some(NetworkError::Port(text)) if text.starts_with("failed to bind") => {
            NetworkError::Port(text)
        }
        _ => NetworkError::Port("all ports are allocated".into()),
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

/// What the kernel does not choose by itself: `8080,9148-9150`.
fn reserved_ports() -> Vec<std::ops::RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let text = text.unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

/// A socket that holds the port; nothing comes to it unless it is `open`. None: the kernel has no sockets for that
/// protocol.
fn bind(port: &PublishedPort, open: bool) -> io::Result<Option<OwnedFd>> {
    let (kind, protocol) = match port.protocol.as_str() {
        "tcp" => (SocketType::STREAM, ipproto::TCP),
        "udp" => (SocketType::DGRAM, ipproto::UDP),
        "sctp" => (SocketType::STREAM, ipproto::SCTP),
        other => return Err(io::Error::other(format!("unknown protocol {other}"))),
    };
    let flags = SocketFlags::CLOEXEC;
    let family = match port.host_ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = match rustix::net::socket_with(family, kind, flags, Some(protocol)) {
        Err(rustix::io::Errno::PROTONOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    if !open {
        drop_all_input(&socket)?;
    }
    if port.host_ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Connections of an earlier owner that linger in TIME_WAIT are no hindrance; a listener is.
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(port.host_ip, port.host_port))?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, if open { BACKLOG } else { 1 })?;
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

    const V4: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn placement() -> Placement {
        Placement {
            targets: Targets {
                v4: Some(V4),
                v6: None,
            },
            ..Placement::default()
        }
    }

    fn both() -> Placement {
        let (v4, v6) = (Some(V4), Some(V6));
        Placement {
            targets: Targets { v4, v6 },
            ..Placement::default()
        }
    }

    fn request(protocol: &str, host_ip: &str, host_ports: (u16, u16)) -> PortRequest {
        PortRequest {
            container_port: 80,
            protocol: protocol.into(),
            host_ip: host_ip.parse().ok(),
            host_ports,
        }
    }

    fn port(protocol: &str, host_ip: &str, number: u16) -> PortRequest {
        request(protocol, host_ip, (number, number))
    }

    fn shown(ports: &[PublishedPort]) -> Vec<String> {
        let show = |p: &PublishedPort| format!("{} {}", p.host_ip, p.host_port);
        ports.iter().map(show).collect()
    }

    /// A port that is free at this moment, for both families.
    fn free_port() -> u16 {
        let listener = TcpListener::bind("[::]:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn a_port_of_another_program_is_refused_in_dockers_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let ports = Ports::default();
        for ip in ["127.0.0.1", "0.0.0.0"] {
            let error = ports
                .reserve(&[port("tcp", ip, number)], &placement())
                .unwrap_err();
            let wanted = format!(
                "failed to bind host port for {ip}:{number}:172.17.0.2:80/tcp: address already in use"
            );
            assert_eq!(error.to_string(), wanted);
        }
        ports
            .reserve(&[port("udp", "127.0.0.1", number)], &placement())
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
            let got = ports.reserve(&wanted, &placement()).unwrap();
            assert_ne!(got[0].host_port, got[1].host_port);
            let (low, high) = ephemeral_range();
            assert!((low..=high).contains(&got[0].host_port));
            let address = ("127.0.0.1", got[0].host_port);
            assert!(TcpListener::bind(address).is_err() || protocol == "udp");
            assert!(UdpSocket::bind(address).is_err() || protocol == "tcp");

            let again = port(protocol, "0.0.0.0", got[0].host_port);
            let again = ports.reserve(&[again], &placement());
            // The one that has it is named.
            let wanted = format!(
                "Bind for 127.0.0.1:{} failed: port is already allocated",
                got[0].host_port
            );
            assert_eq!(again.unwrap_err().to_string(), wanted);

            ports.release(&got);
            ports.retake(&got, placement().targets).unwrap();
            assert!(ports.retake(&got, placement().targets).is_err());
            ports.release(&got);
            ports.release(&got);
        }
    }

    #[test]
    fn one_refused_port_frees_the_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        let ports = Ports::default();
        let free = free_port();
        let wanted = [
            port("tcp", "127.0.0.1", free),
            port("tcp", "127.0.0.1", taken),
        ];
        assert!(ports.reserve(&wanted, &placement()).is_err());
        TcpListener::bind(("127.0.0.1", free)).unwrap();
    }

    #[test]
    fn both_families_get_the_same_port() {
        let ports = Ports::default();
        let number = free_port();
        let got = ports.reserve(&[port("tcp", "", number)], &both()).unwrap();
        let wanted = [format!("0.0.0.0 {number}"), format!(":: {number}")];
        assert_eq!(shown(&got), wanted);
        assert!(TcpListener::bind(("::", number)).is_err());
        let error = ports
            .reserve(&[port("tcp", "::1", number)], &both())
            .unwrap_err();
        let wanted = format!("Bind for :::{number} failed: port is already allocated");
        assert_eq!(error.to_string(), wanted);

        let got = ports.reserve(&[port("udp", "", 0)], &both()).unwrap();
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].host_port, got[1].host_port);
        // An IPv6 program in the way of the second takes the first back, too.
        let taken = TcpListener::bind("[::1]:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = ports
            .reserve(&[port("tcp", "", number)], &both())
            .unwrap_err();
        let wanted = format!(
            "failed to bind host port for [::]:{number}:[fd00::2]:80/tcp: address already in use"
        );
        assert_eq!(error.to_string(), wanted);
        TcpListener::bind(("127.0.0.1", number)).unwrap();
    }

    #[test]
    fn a_family_without_an_address_gets_no_port() {
        let ports = Ports::default();
        let number = free_port();
        let got = ports
            .reserve(&[port("tcp", "", number)], &placement())
            .unwrap();
        assert_eq!(shown(&got), [format!("0.0.0.0 {number}")]);
        let got = ports.reserve(&[port("tcp", "::1", number)], &placement());
        assert_eq!(got.unwrap(), []);
    }

    #[test]
    fn a_networks_own_address_is_for_ports_that_name_none() {
        let ports = Ports::default();
        let bound = |ip: &str| Placement {
            host_binding: Some(ip.parse().unwrap()),
            ..both()
        };
        let wanted = [port("tcp", "", 0), port("udp", "127.0.0.2", 0)];
        let got = ports.reserve(&wanted, &bound("127.0.0.1")).unwrap();
        let addresses: Vec<_> = got.iter().map(|p| p.host_ip.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "127.0.0.2"]);
        let got = ports.reserve(&wanted[..1], &bound("0.0.0.0")).unwrap();
        assert_eq!(got.len(), 2);
        let got = ports.reserve(&wanted[..1], &bound("::")).unwrap();
        assert_eq!(got.len(), 1);
    }

    #[test]
    fn a_range_gives_its_first_free_port_and_exact_ports_go_first() {
        // Ten ports in a row that are free.
        let first = (20000..30000)
            .step_by(10)
            .find(|n| (*n..*n + 10).all(|n| TcpListener::bind(("0.0.0.0", n)).is_ok()))
            .unwrap();
        let ports = Ports::default();
        let range = request("tcp", "127.0.0.1", (first, first + 2));
        let wanted = [
            PortRequest {
                container_port: 81,
                ..range.clone()
            },
            range.clone(),
            port("tcp", "127.0.0.1", first),
        ];
        let got = ports.reserve(&wanted, &placement()).unwrap();
        let mut numbers: Vec<_> = got.iter().map(|p| p.host_port - first).collect();
        assert_eq!(numbers, [0, 1, 2]);
        numbers = got.iter().map(|p| p.container_port).collect();
        assert_eq!(numbers, [80, 81, 80]);
        let error = ports
            .reserve(std::slice::from_ref(&range), &placement())
            .unwrap_err();
        assert_eq!(error.to_string(), "all ports are allocated");
        ports.release(&got);
        let _program = TcpListener::bind(("127.0.0.1", first)).unwrap();
        let got = ports
            .reserve(std::slice::from_ref(&range), &placement())
            .unwrap();
        assert_eq!(got[0].host_port, first + 1);
        let _programs = [first + 2].map(|n| TcpListener::bind(("127.0.0.1", n)).unwrap());
        let error = ports.reserve(&[range], &placement()).unwrap_err();
        let (port, last) = (first + 2, first + 2);
        let wanted = format!(
            "failed to bind host port {port} for 127.0.0.1:{first}-{last}:172.17.0.2:80/tcp: address already in use"
        );
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn routed_networks_take_no_port_of_the_host() {
        let ports = Ports::default();
        let number = free_port();
        let routed = Placement {
            routed_v6: true,
            ..both()
        };
        let got = ports.reserve(&[port("tcp", "", number)], &routed).unwrap();
        assert_eq!(
            shown(&got),
            [":: 0".to_owned(), format!("0.0.0.0 {number}")]
        );
        TcpListener::bind(("::1", number)).unwrap();
    }
}
