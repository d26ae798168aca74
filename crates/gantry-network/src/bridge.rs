//! A bridge network: the link, its address pool, NAT, endpoints.
use crate::sandbox::Sandbox;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// How the default bridge is made.
#[derive(Debug, Clone, Default)]
pub struct BridgeConfig {
    /// `-b`: an existing link of the user's (its address is used and it is never removed). None: `docker0`, or
    /// `gantry0` where that name belongs to someone else.
    pub existing: Option<String>,
    /// A name to make instead of docker0 (tests).
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge; none: 172.17.0.1/16 or the next free of Docker's pools.
    pub bip: Option<Ipv4Net>,
    /// 0: 1500.
    pub mtu: u32,
    /// Name of the nftables table (`gantry`; tests use their own).
    pub table: String,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{0}")]
    Invalid(String),
    #[error("{what}")]
    Kernel {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    Exhausted(String),
}

/// What one container has on the bridge; stored in the container's record, so that it can be
/// released or taken up again by a later daemon.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's side of the veth pair, `veth<8 of the id><2 of a generation>`.
    pub host_link: String,
    pub address: Ipv4Addr,
    pub prefix_len: u8,
    pub gateway: Ipv4Addr,
    /// `aa:bb:cc:dd:ee:ff`
    pub mac: String,
    pub ports: Vec<PublishedPort>,
}

/// A published port with its host side chosen.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PublishedPort {
    pub container_port: u16,
    /// `tcp` or `udp`
    pub protocol: String,
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
}

/// What a container asks for.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    pub address: Option<Ipv4Addr>,
    pub mac: Option<String>,
    /// Host port 0: an ephemeral one is chosen.
    pub ports: Vec<PublishedPort>,
}

/// The default bridge, up.
#[derive(Debug)]
pub struct Bridge {}

impl Bridge {
    /// Makes or adopts the link, its address and the firewall table; idempotent. `in_use` are the endpoints of
    /// containers that run: their addresses are taken, their links kept, all other ports of the bridge that are
    /// ours (`veth` + hex names) are removed.
    pub fn up(_config: BridgeConfig, _in_use: &[Endpoint]) -> Result<Self, NetworkError> {
        todo!()
    }
    /// Gives the sandbox an `eth0` on this bridge: address, default route, up. Blocks about a millisecond.
    pub fn attach(
        &self,
        _container_id: &str,
        _sandbox: &Sandbox,
        _request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        todo!()
    }
    /// Frees the address and the published ports. The link is not deleted when the namespace is ending anyway.
    pub fn release(&self, _endpoint: &Endpoint) -> Result<(), NetworkError> {
        todo!()
    }
    /// `docker0`
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn subnet(&self) -> Ipv4Net {
        todo!()
    }
    pub fn gateway(&self) -> Ipv4Addr {
        todo!()
    }
    pub fn mtu(&self) -> u32 {
        todo!()
    }
    /// Removes link and table (tests; the daemon leaves them up, as Docker does).
    pub fn remove(self) -> Result<(), NetworkError> {
        todo!()
    }
}
