//! Links, firewall, addresses: networks in the kernel.
//!
//! Owns: links (netlink), the `gantry` nftables table, addresses (IPAM), published ports, network namespaces, the name
//! server at 127.0.0.11 ([`dns`]), the proxy for ports that the kernel cannot lead on ([`proxy`]).
//! Never: knows images; starts a helper program (but those of other firewalls, where nothing else can change their rules:
//! `firewall-cmd`, `iptables-legacy`).
//! Start here: [`plane::Plane`], [`sandbox::Sandbox`].
//!
//! Nothing on the way of a container's start or end waits for the kernel: the veth pair is made in one request with
//! its peer born in the container's namespace, and no link is moved or deleted. When a container's namespace has
//! ended the kernel takes its links away in its own time; their names carry a generation and their ports are
//! disabled, so that name and address can be used again at once.

pub mod addresses;
mod conntrack;
pub mod dns;
pub mod endpoint;
mod error;
mod firewall;
pub mod host;
mod link;
mod netlink;
pub mod network;
mod nftables;
pub mod plane;
pub mod pools;
mod ports;
pub mod proxy;
pub mod sandbox;
#[cfg(test)]
mod test_host;
