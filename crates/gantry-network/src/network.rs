//! What a network is for the kernel: enough to make it again after a crash or a boot.
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A network that containers have links on. `host` and `none` are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// For errors.
    pub name: String,
    pub driver: Driver,
    /// At most one of each family for a bridge.
    pub subnets: Vec<Subnet>,
    /// No way out and no default route.
    pub internal: bool,
    /// Bytes; 0: the kernel's default (a parent's for macvlan and ipvlan).
    pub mtu: u32,
}

/// How the links are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    Bridge(Bridge),
    /// Links with MACs of their own on a link of the host.
    Macvlan {
        parent: Parent,
        mode: MacvlanMode,
    },
    /// Links that share the MAC of a link of the host.
    Ipvlan {
        parent: Parent,
        mode: IpvlanMode,
        flag: IpvlanFlag,
    },
}

/// The host's link below macvlan and ipvlan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub link: String,
    /// The engine made it (a VLAN `eth0.50`, or a dummy where none was named) and removes it.
    pub ours: bool,
}

/// `linux/if_link.h`, `MACVLAN_MODE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    Private,
    Vepa,
    Bridge,
    Passthru,
}

/// `linux/if_link.h`, `IPVLAN_MODE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    L2,
    L3,
    L3s,
}

/// `linux/if_link.h`, `IPVLAN_F_*`: who of those on one link may talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IpvlanFlag {
    /// Neither flag: all of them.
    #[default]
    Bridge,
    Private,
    Vepa,
}

/// What `com.docker.network.bridge.*` and its neighbours say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge's name, `br-<12 of the id>` unless given.
    pub link: String,
    /// The engine made the link, so it may remove it. A link of the user's (`-b`) keeps its addresses.
    pub ours: bool,
    /// `enable_icc`
    pub icc: bool,
    /// `enable_ip_masquerade`
    pub masquerade: bool,
    /// `host_binding_ipv4`: where ports are published that name no address.
    pub host_binding: Option<IpAddr>,
    /// `inhibit_ipv4`: the bridge gets no IPv4 address.
    pub inhibit_ipv4: bool,
    /// `com.docker.network.host_ipv4` and `host_ipv6`: the source address of what goes out, instead of the link's own.
    pub source: Vec<IpAddr>,
    /// `gateway_mode_ipv4`
    pub gateway_mode_v4: GatewayMode,
    /// `gateway_mode_ipv6`
    pub gateway_mode_v6: GatewayMode,
    /// `trusted_host_interfaces`: links from which containers' addresses may be reached directly.
    pub trusted_links: Vec<String>,
}

/// Docker's `gateway_mode_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GatewayMode {
    /// Published ports are translated, what goes out is masqueraded.
    #[default]
    Nat,
    /// As `Nat`, and containers' unpublished ports are open to direct routing, too.
    NatUnprotected,
    /// No translation; only published ports are open to direct routing.
    Routed,
    /// The bridge has no address on the host (for internal networks).
    Isolated,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub net: IpNet,
    /// Where addresses are chosen from; none: all of `net`.
    pub range: Option<IpNet>,
    /// None: the network has no way out (internal with an isolated gateway, macvlan without one).
    pub gateway: Option<IpAddr>,
    /// `--default-gateway`: another machine on the bridge that containers send to, instead of the bridge itself.
    pub default_gateway: Option<IpAddr>,
    /// `--aux-address`: never given out.
    pub reserved: Vec<IpAddr>,
}
