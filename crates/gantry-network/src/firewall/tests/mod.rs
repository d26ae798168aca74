//! Each test has a machine of its own: a fresh network namespace that plays the host, and others for containers and for
//! what is outside, see [`crate::test_host`].
use super::*;
use crate::link::{self, VethPair};
use crate::sandbox::Sandbox;
use crate::test_host::{
    self, HOST, OUTSIDER, PATIENCE, REFUSAL_PATIENCE, ask, ask_from, eventually, inside, ip, nft,
    outsider, refused_from, run, serve,
};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

mod costs;
mod others;
mod passing;
mod respecting;
mod restoring;
mod sctp;

const TABLE: &str = "gantry-test";

/// A host that forwards.
fn on_a_host(test: impl FnOnce() + Send) {
    test_host::on_a_host(|| {
        for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{name}"), "1").unwrap();
        }
        test();
    });
}

fn options() -> FirewallOptions {
    FirewallOptions {
        table: TABLE.into(),
        v4: true,
        v6: true,
        respect_host_firewall: false,
        allow_direct_routing: false,
    }
}

/// A bridge `br<number>` with 10.<number>.0.1/16 and fd00:<number>::1/64.
fn bridge(number: u8) -> BridgeRules {
    let link = format!("br{number}");
    ip(&format!("link add {link} type bridge"));
    ip(&format!("link set {link} up"));
    ip(&format!("address add 10.{number}.0.1/16 dev {link}"));
    ip(&format!("address add fd00:{number}::1/64 dev {link} nodad"));
    let route_localnet = format!("/proc/sys/net/ipv4/conf/{link}/route_localnet");
    std::fs::write(route_localnet, "1").unwrap();
    BridgeRules {
        link,
        subnets: vec![
            format!("10.{number}.0.0/16").parse().unwrap(),
            format!("fd00:{number}::/64").parse().unwrap(),
        ],
        internal: false,
        icc: true,
        masquerade: true,
        source: Vec::new(),
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        trusted_links: Vec::new(),
    }
}

struct Container {
    sandbox: Sandbox,
    link: String,
    targets: Targets,
}

impl Container {
    /// Its address of either family.
    fn address(&self, family: usize) -> IpAddr {
        match family {
            0 => self.targets.v4.unwrap().into(),
            _ => self.targets.v6.unwrap().into(),
        }
    }
}

/// A container of that number (2 and more) on a bridge.
fn container(rules: &BridgeRules, number: u8) -> Container {
    let network = rules.link.trim_start_matches("br");
    let sandbox = Sandbox::new().unwrap();
    let netlink = Netlink::route().unwrap();
    let host_name = format!("p{network}-{number}");
    let master = link::by_name(&netlink, &rules.link).unwrap().unwrap();
    let network_number: u8 = network.parse().unwrap();
    let pair = VethPair {
        host_name: &host_name,
        host_mac: [0xfe, 0, 0, 0, network_number, number],
        master: Some(master.index),
        group: if rules.icc { 0 } else { CLOSED_GROUP },
        mtu: 1500,
        peer_name: "eth0",
        peer_mac: [2, 0, 0, 0, network_number, number],
        peer_netns: sandbox.netns.as_fd(),
    };
    netlink.execute(&[link::add_veth(&pair)]).unwrap();
    let port = link::by_name(&netlink, &host_name).unwrap().unwrap();
    netlink
        .execute(&[link::settle(port.index), link::set_hairpin(port.index)])
        .unwrap();
    let (v4, v6) = (
        format!("10.{network}.0.{number}"),
        format!("fd00:{network}::{number}"),
    );
    inside(&sandbox, || {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0").unwrap();
        ip("link set eth0 up");
        ip(&format!("address add {v4}/16 dev eth0"));
        ip(&format!("address add {v6}/64 dev eth0 nodad"));
        ip(&format!("route add default via 10.{network}.0.1"));
        ip(&format!("route add default via fd00:{network}::1"));
    });
    Container {
        sandbox,
        link: rules.link.clone(),
        targets: Targets {
            v4: v4.parse().ok(),
            v6: v6.parse().ok(),
        },
    }
}

/// Makes the outsider send packets for containers' addresses to the host.
fn route_directly(outside: &Sandbox) {
    inside(outside, || {
        ip(&format!("route add 10.0.0.0/8 via {}", HOST[0]));
        ip(&format!("route add fd00::/16 via {}", HOST[1]));
    });
}

fn port(protocol: &str, host_ip: &str, host_port: u16) -> PublishedPort {
    PublishedPort {
        container_port: 80,
        protocol: protocol.into(),
        host_ip: host_ip.parse().unwrap(),
        host_port,
    }
}

/// A port at all addresses of both families.
fn everywhere(protocol: &str, number: u16) -> Vec<PublishedPort> {
    vec![
        port(protocol, "0.0.0.0", number),
        port(protocol, "::", number),
    ]
}

fn publish(firewall: &Firewall, container: &Container, ports: &[PublishedPort]) {
    firewall
        .publish(&container.link, ports, container.targets)
        .unwrap();
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
