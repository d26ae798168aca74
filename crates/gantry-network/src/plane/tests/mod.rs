//! Each test has a machine of its own: a fresh network namespace that plays the host, and others for what is outside, see
//! [`crate::test_host`].
use super::default::{BridgeConfig, default_bridge};
use super::*;
use crate::endpoint::{EndpointRequest, Families};
use crate::pools::Pools;
use crate::sandbox::Sandbox;
use crate::test_host::{
    HOST_V4 as HOST, OUTSIDER_V4 as OUTSIDER, PATIENCE, REFUSAL_PATIENCE, ask, ask_from,
    eventually, inside, ip, nft, on_a_host, outsider, refused_from, serve,
};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

mod attaching;
mod firewalling;
mod networks;
mod rising;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

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

/// Makes the namespace send packets for 127.0.0.0/8 to `gateway`, as an attacker would.
fn send_loopback_to(sandbox: &Sandbox, gateway: Ipv4Addr) {
    inside(sandbox, || {
        ip("address del 127.0.0.1/8 dev lo");
        ip(&format!("route add 127.0.0.0/8 via {gateway}"));
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
    });
}

/// The links of the host that look like ours.
fn veths() -> Vec<String> {
    let links = link::list(&Netlink::route().unwrap()).unwrap();
    let ours = links.into_iter().filter(|l| l.name.starts_with("veth"));
    ours.map(|l| l.name).collect()
}
