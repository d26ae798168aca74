//! Each test has a machine of its own: a fresh network namespace that plays the host, and others for what is outside.
//! They need root.
use super::default::{BridgeConfig, default_bridge};
use super::*;
use crate::endpoint::{EndpointRequest, Families};
use crate::link::VethPair;
use crate::pools::Pools;
use crate::sandbox::Sandbox;
use ipnet::Ipv4Net;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

mod attaching;
mod firewalling;
mod networks;
mod rising;

const PATIENCE: Duration = Duration::from_secs(5);
const REFUSAL_PATIENCE: Duration = Duration::from_millis(400);
/// The address of the host towards the outside, and of a machine there.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OUTSIDER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Runs `test` on a thread in a new network namespace with `lo` up: the host.
pub(super) fn on_a_host(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let host = scope.spawn(|| {
            // SAFETY: the thread changes nothing but its own network namespace.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs root");
            let netlink = Netlink::route().unwrap();
            netlink.execute(&[link::set_up(1)]).unwrap();
            test();
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs `work` on a thread inside the namespace.
fn inside<T: Send>(sandbox: &Sandbox, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let netns = sandbox.netns.as_fd();
            rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                .unwrap();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The default bridge alone, up.
struct Bridge {
    plane: Plane,
    network: Network,
}

const ID: &str = "0123456789abcdef";
const TABLE: &str = "gantry-test";

fn options(table: &str) -> PlaneOptions {
    PlaneOptions {
        firewall: FirewallOptions {
            table: table.into(),
            v4: true,
            v6: true,
            ..FirewallOptions::default()
        },
        forwarding: true,
        proxy: None,
    }
}

impl Bridge {
    fn up(config: &BridgeConfig, in_use: &[Endpoint]) -> Result<Self, NetworkError> {
        Self::up_again(config, TABLE, None, in_use)
    }

    fn up_again(
        config: &BridgeConfig,
        table: &str,
        before: Option<&Network>,
        in_use: &[Endpoint],
    ) -> Result<Self, NetworkError> {
        let options = options(table);
        let neighbours = Neighbours {
            before,
            pools: &Pools::new(&[], "host"),
            others: &[],
        };
        let network = default_bridge(config, &options, "net", &neighbours)?;
        let networks = std::slice::from_ref(&network);
        let (plane, mut fallen) = Plane::open(&options, networks, in_use)?;
        match fallen.pop() {
            Some((_, error)) => Err(error),
            None => Ok(Self { plane, network }),
        }
    }

    fn attach(
        &self,
        container: &str,
        sandbox: &Sandbox,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let request = EndpointRequest {
            id: format!("{:?}", bridge::random_bytes()),
            container: container.into(),
            link: "eth0".into(),
            default_routes: Families { v4: true, v6: true },
            ..request.clone()
        };
        self.plane.attach("net", sandbox, &request)
    }

    fn release(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        self.plane.release(endpoint)
    }

    fn segment(&self) -> Arc<Segment> {
        self.plane.segment("net").unwrap()
    }

    fn name(&self) -> String {
        self.segment().link.name.clone()
    }

    fn subnet(&self) -> IpNet {
        self.network.subnets[0].net
    }

    fn gateway(&self) -> Ipv4Addr {
        match self.network.subnets[0].gateway {
            Some(std::net::IpAddr::V4(gateway)) => gateway,
            other => panic!("{other:?}"),
        }
    }

    /// The address is free, and taken from now on.
    fn take(&self, address: Option<Ipv4Addr>) -> Result<(), NetworkError> {
        let request = EndpointRequest {
            id: format!("{:?}", bridge::random_bytes()),
            v4: address,
            ..EndpointRequest::default()
        };
        self.segment().take(&request).map(drop)
    }

    fn remove(self) -> Result<(), NetworkError> {
        self.plane.tear_down()
    }
}

fn bridge(config: BridgeConfig) -> Bridge {
    Bridge::up(&config, &[]).unwrap()
}

fn config() -> BridgeConfig {
    BridgeConfig::default()
}

fn address(endpoint: &Endpoint) -> Ipv4Addr {
    endpoint.v4.unwrap().addr()
}

fn attach(bridge: &Bridge) -> (Sandbox, Endpoint) {
    attach_with(bridge, &EndpointRequest::default())
}

fn attach_with(bridge: &Bridge, request: &EndpointRequest) -> (Sandbox, Endpoint) {
    let sandbox = Sandbox::new().unwrap();
    let endpoint = bridge.attach(ID, &sandbox, request).unwrap();
    (sandbox, endpoint)
}

fn publish(host_ip: Ipv4Addr, host_port: u16, protocol: &str) -> EndpointRequest {
    EndpointRequest {
        ports: vec![PortRequest {
            container_port: 80,
            protocol: protocol.into(),
            host_ip: Some(host_ip.into()),
            host_ports: (host_port, host_port),
        }],
        ..EndpointRequest::default()
    }
}

/// A machine outside, cabled to the host.
fn outsider() -> Sandbox {
    let outside = Sandbox::new().unwrap();
    let netlink = Netlink::route().unwrap();
    let pair = VethPair {
        host_name: "uplink",
        host_mac: [2, 0, 0, 0, 0, 1],
        master: None,
        mtu: 1500,
        group: 0,
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, 0, 2],
        peer_netns: outside.netns.as_fd(),
    };
    netlink.execute(&[link::add_veth(&pair)]).unwrap();
    let ends = [
        (&netlink, "uplink", HOST),
        (&outside.netlink, "eth0", OUTSIDER),
    ];
    for (netlink, name, address) in ends {
        let index = find(netlink, name).unwrap().unwrap().index;
        let address = IpNet::V4(Ipv4Net::new_assert(address, 24));
        let messages = [link::add_address(index, address), link::set_up(index)];
        netlink.execute(&messages).unwrap();
    }
    outside
}

/// A server that answers each TCP connection with the address of its peer.
fn serve(sandbox: &Sandbox, port: u16) {
    let listener = inside(sandbox, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

/// Connects from where the caller is; what the server says, which is who it takes us for.
fn ask(address: Ipv4Addr, port: u16, patience: Duration) -> std::io::Result<String> {
    let address = SocketAddr::V4(SocketAddrV4::new(address, port));
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_from(sandbox: &Sandbox, address: Ipv4Addr, port: u16) -> String {
    inside(sandbox, || ask(address, port, PATIENCE)).unwrap()
}

fn refused_from(sandbox: &Sandbox, address: Ipv4Addr, port: u16) {
    let answer = inside(sandbox, || ask(address, port, REFUSAL_PATIENCE));
    assert!(answer.is_err(), "{address}:{port} answered {answer:?}");
}

/// Sends an echo request from where the caller is, and waits for the reply.
fn ping(address: Ipv4Addr) -> bool {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    let socket =
        rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
    let timeout = sockopt::Timeout::Recv;
    sockopt::set_socket_timeout(&socket, timeout, Some(PATIENCE)).unwrap();
    // Type 8, code 0, checksum, identifier 1, sequence 1.
    let request = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    let to = SocketAddrV4::new(address, 0);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &to).unwrap();
    let mut packet = [0; 128];
    while let Ok((length, _)) = rustix::net::recv(&socket, &mut packet, RecvFlags::empty()) {
        let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
        if length >= 28 && source == address && packet[20] == 0 {
            return true;
        }
    }
    false
}

/// Runs the `ip` program where the caller is.
pub(super) fn ip(arguments: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("needs the ip program");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the namespace send packets for 127.0.0.0/8 to `gateway`, as an attacker would.
fn send_loopback_to(sandbox: &Sandbox, gateway: Ipv4Addr) {
    inside(sandbox, || {
        ip("address del 127.0.0.1/8 dev lo");
        ip(&format!("route add 127.0.0.0/8 via {gateway}"));
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
    });
}

/// Whether `done` becomes true within the patience.
fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while start.elapsed() < PATIENCE {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The links of the host that look like ours.
fn veths() -> Vec<String> {
    let links = link::list(&Netlink::route().unwrap()).unwrap();
    let ours = links.into_iter().filter(|l| l.name.starts_with("veth"));
    ours.map(|l| l.name).collect()
}

/// The `nft` program, where a test stands for somebody else.
fn nft(arguments: &[&str]) -> String {
    let output = std::process::Command::new("nft")
        .args(arguments)
        .output()
        .expect("needs the nft program");
    assert!(output.status.success(), "nft {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
