//! Links, firewall, addresses: the default bridge.
//!
//! Owns: links (netlink), the `gantry` nftables table, addresses (IPAM), published ports, network namespaces.
//! Never: knows images; starts a helper program.
//! Start here: [`bridge::Bridge`], [`sandbox::Sandbox`].

pub mod bridge;
pub mod sandbox;
