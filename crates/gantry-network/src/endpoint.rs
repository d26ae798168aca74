//! What one container has on one network.
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Stored in the container's record, so that it can be released or taken up again by a later daemon.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Endpoint {
    /// Its own identity, 64 hex digits.
    pub id: String,
    /// The network's identity.
    pub network: String,
    /// The host's side of a veth pair, `veth<8 of the id><2 of a generation>`; empty for macvlan and ipvlan.
    pub host_link: String,
    /// The link in the container, `eth0`.
    pub link: String,
    pub v4: Option<Ipv4Net>,
    pub v6: Option<Ipv6Net>,
    pub gateway_v4: Option<Ipv4Addr>,
    pub gateway_v6: Option<Ipv6Addr>,
    /// `aa:bb:cc:dd:ee:ff`
    pub mac: String,
    pub ports: Vec<PublishedPort>,
}

/// A published port with its host side chosen.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PublishedPort {
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// `0.0.0.0` or `::`: all of the host's addresses of that family.
    pub host_ip: IpAddr,
    pub host_port: u16,
}

/// What a container asks for on a network.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// The identity that the endpoint gets, 64 hex digits.
    pub id: String,
    /// The container's identity; eight digits of it are in the host link's name.
    pub container: String,
    /// The link in the container.
    pub link: String,
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
    /// `--link-local-ip`: more addresses.
    pub link_local: Vec<IpAddr>,
    /// None: one made from the address, so that it is unique and the same whenever the address is.
    pub mac: Option<String>,
    /// Whether the container's default routes go here, by family (one of its networks has each).
    pub default_routes: Families,
    pub ports: Vec<PortRequest>,
    /// `com.docker.network.endpoint.sysctls`: names with `IFNAME` for the link's name, and values.
    pub sysctls: Vec<(String, String)>,
}

/// One or both of the families of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// None: the network's own choice (all addresses, unless `host_binding`).
    pub host_ip: Option<IpAddr>,
    /// First and last of the ports of which one is wanted; (0, 0): one of the kernel's ephemeral ports.
    pub host_ports: (u16, u16),
}
