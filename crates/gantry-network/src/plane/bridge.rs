//! Bridges: made, adopted, given their addresses, removed.
use super::{Plane, find, forwarding};
use crate::error::NetworkError;
use crate::link::{self, Link, Mac};
use crate::netlink::Netlink;
use crate::network::{Bridge, GatewayMode, Network, Subnet};
use ipnet::{IpNet, Ipv6Net};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv6Addr;

const DEFAULT_MTU: u32 = 1500;
/// The bridge's own address on every network of IPv6, as Docker has it.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);
/// A link group that nobody uses, for deleting several links at once.
const DOOMED_GROUP: u32 = 0x6761_6e74;

pub(super) fn is_link_local(net: IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

impl Plane {
    /// Brings a network's bridge up: the link, its MTU, its addresses.
    pub(super) fn raise_bridge(
        &self,
        network: &Network,
        bridge: &Bridge,
    ) -> Result<Link, NetworkError> {
        if !bridge.ours {
            let link = users_bridge(&self.netlink, &bridge.link)?;
            // COMPAT: Docker takes an address off it. It keeps what it has, and gets what containers send to.
            self.add_addresses(&link, &host_addresses(network, bridge))?;
            self.bring_up(&link)?;
            return Ok(link);
        }
        let is_new = self.find(&bridge.link)?.is_none();
        let link = self.own_bridge(&bridge.link)?;
        let done = self.settle_bridge(&link, network, bridge);
        if done.is_err() && is_new {
            let _ = self.lower_bridge(&link, true);
        }
        done.map(|()| link)
    }

    /// Gives a bridge of ours its MTU and addresses, and brings it up.
    fn settle_bridge(
        &self,
        link: &Link,
        network: &Network,
        bridge: &Bridge,
    ) -> Result<(), NetworkError> {
        let mtu = mtu(network);
        if link.mtu != mtu {
            self.netlink
                .execute(&[link::set_mtu(link.index, mtu)])
                .map_err(NetworkError::kernel(format!(
                    "setting the MTU of {}",
                    link.name
                )))?;
        }
        let mut wanted = host_addresses(network, bridge);
        if has_v6(network) {
            wanted.push(IpNet::V6(LINK_LOCAL));
        }
        allow_ipv6(&link.name, network)?;
        forwarding::ignore_advertisements(&link.name)?;
        self.settle_addresses(link, &wanted)?;
        self.bring_up(link)
    }

    pub(super) fn bring_up(&self, link: &Link) -> Result<(), NetworkError> {
        self.netlink
            .execute(&[link::set_up(link.index)])
            .map_err(NetworkError::kernel(format!("bringing up {}", link.name)))
    }

    /// The bridge of that name that is ours by its mark, or a new one.
    fn own_bridge(&self, name: &str) -> Result<Link, NetworkError> {
        match self.find(name)? {
            Some(link) if link.kind == "bridge" && link.alias == self.mark => return Ok(link),
            Some(_) => {
                return Err(NetworkError::Invalid(format!(
                    "a link {name} is there already, and not of this engine: name another bridge or remove it"
                )));
            }
            None => {}
        }
        let [a, b, c, d, ..] = random_bytes();
        let mac: Mac = [0x02, 0x42, a, b, c, d];
        // One write: no death of the daemon leaves a bridge without its mark.
        self.netlink
            .execute(&[
                link::add_bridge(name, mac),
                link::set_alias(name, &self.mark),
            ])
            .map_err(NetworkError::kernel(format!("making bridge {name}")))?;
        users_bridge(&self.netlink, name)
    }

    /// Gives a bridge of ours its addresses, and takes all others off it.
    fn settle_addresses(&self, bridge: &Link, wanted: &[IpNet]) -> Result<(), NetworkError> {
        let has = self.addresses_on(bridge)?;
        let strange = |net: &&IpNet| !wanted.contains(net) && !is_link_local(**net);
        for other in has.iter().filter(strange) {
            self.netlink
                .execute(&[link::delete_address(bridge.index, *other)])
                .map_err(NetworkError::kernel(format!(
                    "taking {other} off {}",
                    bridge.name
                )))?;
        }
        self.add_addresses(bridge, wanted)
    }

    fn addresses_on(&self, link: &Link) -> Result<Vec<IpNet>, NetworkError> {
        let all =
            link::addresses(&self.netlink).map_err(NetworkError::kernel("listing addresses"))?;
        let mine = all.into_iter().filter(|(index, _)| *index == link.index);
        Ok(mine.map(|(_, net)| net).collect())
    }

    /// Adds addresses that a bridge does not have yet.
    fn add_addresses(&self, bridge: &Link, wanted: &[IpNet]) -> Result<(), NetworkError> {
        let has = self.addresses_on(bridge)?;
        for net in wanted.iter().filter(|net| !has.contains(net)) {
            self.netlink
                .execute(&[link::add_address(bridge.index, *net)])
                .map_err(NetworkError::kernel(format!(
                    "giving {net} to {}",
                    bridge.name
                )))?;
        }
        Ok(())
    }

    /// Removes what is left of a bridge network.
    pub(super) fn lower_bridge(&self, link: &Link, ours: bool) -> Result<(), NetworkError> {
        let links = link::list(&self.netlink).map_err(NetworkError::kernel("listing links"))?;
        remove_ports(&self.netlink, links.iter().filter(|l| is_our_port(l, link)))?;
        if !ours {
            return Ok(());
        }
        self.delete(link)
    }
}

/// Bytes.
pub(super) fn mtu(network: &Network) -> u32 {
    match network.mtu {
        0 => DEFAULT_MTU,
        mtu => mtu,
    }
}

fn users_bridge(netlink: &Netlink, name: &str) -> Result<Link, NetworkError> {
    let link = find(netlink, name)?
        .ok_or_else(|| NetworkError::Invalid(format!("bridge {name} does not exist")))?;
    if link.kind != "bridge" {
        let text = format!("{name} is not a bridge");
        return Err(NetworkError::Invalid(text));
    }
    Ok(link)
}

/// The addresses of the host on the bridge: the gateways, with their subnets' prefixes.
fn host_addresses(network: &Network, bridge: &Bridge) -> Vec<IpNet> {
    let wanted = |subnet: &&Subnet| match subnet.net {
        IpNet::V4(_) => !bridge.inhibit_ipv4 && bridge.gateway_mode_v4 != GatewayMode::Isolated,
        IpNet::V6(_) => bridge.gateway_mode_v6 != GatewayMode::Isolated,
    };
    let net = |subnet: &Subnet| Some(IpNet::new_assert(subnet.gateway?, subnet.net.prefix_len()));
    network
        .subnets
        .iter()
        .filter(wanted)
        .filter_map(net)
        .collect()
}

/// IPv6 on the bridge only where the network has it: what comes of itself (link-local addresses, multicast) is of no
/// use elsewhere. A kernel without IPv6 has no such file.
fn allow_ipv6(bridge: &str, network: &Network) -> Result<(), NetworkError> {
    let wanted = has_v6(network);
    let path = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
    let value = if wanted { "0" } else { "1" };
    match std::fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => Ok(()),
        _ => std::fs::write(&path, value)
            .map_err(NetworkError::kernel(format!("writing {value} to {path}"))),
    }
}

fn has_v6(network: &Network) -> bool {
    network
        .subnets
        .iter()
        .any(|s| matches!(s.net, IpNet::V6(_)))
}

/// A port of the bridge with a name as we give them.
pub(super) fn is_our_port(link: &Link, bridge: &Link) -> bool {
    link.master == bridge.index && is_our_name(link)
}

/// A veth with a name as we give them.
pub(super) fn is_our_name(link: &Link) -> bool {
    let digits = link.name.strip_prefix("veth").unwrap_or_default();
    link.kind == "veth" && digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Deletes links together. Those that the kernel is clearing away at this moment are no error.
pub(super) fn remove_ports<'a>(
    netlink: &Netlink,
    ports: impl Iterator<Item = &'a Link>,
) -> Result<(), NetworkError> {
    let mut marked = false;
    for port in ports {
        match netlink.execute(&[link::set_group(port.index, DOOMED_GROUP)]) {
            Err(refusal) if refusal.is(libc::ENODEV) => {}
            done => {
                let what = format!("marking {} for deletion", port.name);
                done.map_err(NetworkError::kernel(what))?;
                marked = true;
            }
        }
    }
    if !marked {
        return Ok(());
    }
    match netlink.execute(&[link::delete_group(DOOMED_GROUP)]) {
        Err(refusal) if !refusal.is(libc::ENODEV) => Err(NetworkError::kernel(
            "deleting links of containers that are gone",
        )(refusal)),
        _ => Ok(()),
    }
}

/// Random enough to tell names apart.
pub(super) fn random_bytes() -> [u8; 8] {
    RandomState::new().hash_one(0u8).to_ne_bytes()
}
