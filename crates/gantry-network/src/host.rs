//! What the host has of its own: networks that it is on, links, drivers of its kernel.

use crate::error::NetworkError;
use crate::link;
use crate::netlink::{Message, Netlink};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of a link of the host (`bridge`, `vlan`, ...; empty for hardware); none: there is no such link.
pub fn link_kind(name: &str) -> Result<Option<String>, NetworkError> {
    let what = format!("looking up link {name}");
    let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
    let found = link::by_name(&netlink, name).map_err(NetworkError::kernel(what))?;
    Ok(found.map(|link| link.kind))
}

/// Whether the kernel can make links of a kind (`macvlan`, `ipvlan`, `vlan`, `dummy`). Nothing is made: the kernel is
/// asked for one with an address that is none, which it looks at after it has found the driver.
pub fn has_driver(kind: &str) -> Result<bool, NetworkError> {
    let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
    let request = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .fixed(&[0; 16])
        .bytes(libc::IFLA_ADDRESS, &[0; 3])
        .nest(libc::IFLA_LINKINFO, |m| {
            m.string(libc::IFLA_INFO_KIND, kind)
        });
    match netlink.execute(&[request]) {
        Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Ok(false),
        Err(refusal) if !refusal.is(libc::EINVAL) => Err(NetworkError::kernel(format!(
            "asking for the kernel's {kind} driver"
        ))(refusal)),
        _ => Ok(true),
    }
}

/// What of the address space the host uses itself.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Networks that it is on, and its name servers.
    pub near: Vec<IpNet>,
    /// Networks that it reaches through others. A VPN may send everything that way, so they say less.
    pub far: Vec<IpNet>,
}

impl Host {
    /// Looks it up in the network namespace of the calling thread.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut host = Self::default();
        let v4 = read("/proc/thread-self/net/route");
        let v6 = read("/proc/thread-self/net/ipv6_route");
        let routes = v4.lines().filter_map(v4_route);
        for (net, direct) in routes.chain(v6.lines().filter_map(v6_route)) {
            // A default route, also one made of two halves, overlaps everything and says nothing.
            if net.prefix_len() > 1 {
                if direct {
                    &mut host.near
                } else {
                    &mut host.far
                }
                .push(net);
            }
        }
        host.near.extend(name_servers(&resolver_file()));
        // A link that is down has addresses and no routes.
        let addresses = Netlink::route().ok().and_then(|n| link::addresses(&n).ok());
        let nets = addresses.into_iter().flatten().map(|(_, net)| net.trunc());
        host.near.extend(nets);
        host
    }
}

/// The file with the host's name servers: systemd-resolved's own where it is in between.
fn resolver_file() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let text = read("/etc/resolv.conf");
    let stub = |text: &str| name_servers(text).eq([IpNet::from(IpAddr::from([127, 0, 0, 53]))]);
    match stub(&text) {
        true => read("/run/systemd/resolve/resolv.conf"),
        false => text,
    }
}

fn name_servers(text: &str) -> impl Iterator<Item = IpNet> {
    text.lines().filter_map(|line| {
        let server = line.trim().strip_prefix("nameserver")?;
        server.trim().parse::<IpAddr>().ok().map(IpNet::from)
    })
}

/// A line of `/proc/net/route`: the network, and whether the host is on it.
fn v4_route(line: &str) -> Option<(IpNet, bool)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let (network, gateway, mask) = (number(1)?, number(2)?, number(7)?);
    let address = Ipv4Addr::from(network.to_ne_bytes());
    let mask = Ipv4Addr::from(mask.to_ne_bytes());
    let net = Ipv4Net::with_netmask(address, mask).ok()?;
    Some((net.into(), gateway == 0))
}

/// A line of `/proc/net/ipv6_route`; those of the machine itself and of single links are left out.
fn v6_route(line: &str) -> Option<(IpNet, bool)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
    let prefix = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let (network, gateway) = (Ipv6Addr::from_bits(address(0)?), address(4)?);
    let local = network.is_unicast_link_local() || network.is_multicast();
    if local || fields.last() == Some(&"lo") {
        return None;
    }
    Some((Ipv6Net::new(network, prefix).ok()?.into(), gateway == 0))
}

#[cfg(test)]
mod tests;
