//! Subnets: what a request for them must look like, and which a network gets.

use crate::error::{Error, ErrorKind, Result};
use gantry_api::network::{Ipam, IpamConfig};
use gantry_network::host::Host;
use gantry_network::network::Subnet;
use gantry_network::pools::Pools;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// Auxiliary addresses that say where containers send to, instead of the bridge.
pub(super) const DEFAULT_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

fn is_v6(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}

/// Docker's checks of a request, with all that is wrong with it (`ValidateIPAM`).
pub(super) fn validate(ipam: &Ipam, enable_ipv6: bool) -> Result<()> {
    let mut wrong = Vec::new();
    for config in ipam.config.iter().flatten() {
        let Ok(subnet) = config.subnet.parse::<IpNet>() else {
            let subnet = &config.subnet;
            wrong.push(format!(
                "invalid subnet {subnet}: invalid CIDR block notation"
            ));
            continue;
        };
        if !enable_ipv6 && is_v6(&subnet) {
            continue;
        }
        if subnet != subnet.trunc() {
            let right = subnet.trunc();
            wrong.push(format!("invalid subnet {subnet}: it should be {right}"));
        }
        wrong.extend(wrong_range(&config.ip_range, &subnet));
        if let Some(why) = wrong_address(&config.gateway, &subnet) {
            wrong.push(format!("invalid gateway {}: {why}", config.gateway));
        }
        for (name, address) in &config.auxiliary_addresses {
            if let Some(why) = wrong_address(address, &subnet) {
                wrong.push(format!("invalid auxiliary address {name}: {why}"));
            }
        }
    }
    let list = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("* {}", several.join("\n* ")),
    };
    Err(Error::invalid(format!("invalid network config:\n{list}")))
}

fn family(net: &IpNet) -> &'static str {
    if is_v6(net) { "IPv6" } else { "IPv4" }
}

fn wrong_range(text: &str, subnet: &IpNet) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let Ok(range) = text.parse::<IpNet>() else {
        return vec![format!(
            "invalid ip-range {text}: invalid CIDR block notation"
        )];
    };
    if is_v6(&range) != is_v6(subnet) {
        let family = family(subnet);
        return vec![format!(
            "invalid ip-range {text}: parent subnet is an {family} block"
        )];
    }
    let mut wrong = Vec::new();
    if range.prefix_len() < subnet.prefix_len() {
        wrong.push(format!(
            "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range != range.trunc() {
        wrong.push(format!(
            "invalid ip-range {range}: it should be {}",
            range.trunc()
        ));
    }
    if !overlap(&range, subnet) {
        wrong.push(format!(
            "invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    wrong
}

fn wrong_address(text: &str, subnet: &IpNet) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        return Some("invalid address".to_owned());
    };
    if address.is_ipv6() != is_v6(subnet) {
        return Some(format!("parent subnet is an {} block", family(subnet)));
    }
    let inside = subnet.contains(&address);
    (!inside).then(|| format!("parent subnet {subnet} doesn't contain this address"))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// What a network asks for of one family.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) v6: bool,
    /// Validated. None: one subnet of the default pools.
    pub(super) configs: Vec<&'a IpamConfig>,
    /// The driver needs no gateway, so none is chosen; one that is given is kept.
    pub(super) without_gateway: bool,
}

/// Chooses the subnets of one family, beside those of other networks.
pub(super) fn allocate(
    wanted: &Wanted<'_>,
    others: &[Subnet],
    pools: &Pools,
    host: &Host,
) -> Result<Vec<Subnet>> {
    if wanted.configs.is_empty() {
        let used: Vec<IpNet> = others.iter().map(|subnet| subnet.net).collect();
        let chosen = pools.choose(wanted.v6, &used, host);
        let net = chosen.map_err(|e| Error::invalid(e.to_string()))?;
        return Ok(vec![settle(net, &IpamConfig::default(), wanted)?]);
    }
    let mut chosen: Vec<Subnet> = Vec::new();
    for config in &wanted.configs {
        let wrong = |e: ipnet::AddrParseError| {
            Error::invalid(format!("Invalid subnet {} : {e}", config.subnet))
        };
        let net = config.subnet.parse::<IpNet>().map_err(wrong)?;
        let subnet = settle(net, config, wanted)?;
        // COMPAT: as in Docker, a network with a range of its own may lie in the subnet of another one.
        let clash = |other: &Subnet| match subnet.range {
            None => overlap(&other.net, &subnet.net),
            range => other.net == subnet.net && other.range == range,
        };
        if others.iter().chain(&chosen).any(clash) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "invalid pool request: Pool overlaps with other one on this address space",
            ));
        }
        chosen.push(subnet);
    }
    Ok(chosen)
}

/// A subnet with its gateway and the addresses that are never given out.
fn settle(net: IpNet, config: &IpamConfig, wanted: &Wanted<'_>) -> Result<Subnet> {
    let mut subnet = Subnet {
        net,
        range: config.ip_range.parse().ok(),
        gateway: None,
        default_gateway: None,
        reserved: Vec::new(),
    };
    let mut taken = BTreeSet::new();
    let given = config.gateway.parse::<IpAddr>().ok();
    if given.is_some() || !wanted.without_gateway {
        let free = given.or_else(|| usable(subnet.range.unwrap_or(net), &net));
        let failed = |why: &str| {
            let address = &config.gateway;
            Error::system(format!("failed to allocate gateway ({address}): {why}"))
        };
        let gateway = free.ok_or_else(|| failed("no available addresses on this pool"))?;
        if !is_usable(gateway, &net) {
            return Err(failed("Address already in use"));
        }
        taken.insert(gateway);
        subnet.gateway = Some(gateway);
    }
    for (name, text) in &config.auxiliary_addresses {
        let Ok(address) = text.parse::<IpAddr>() else {
            continue;
        };
        if !is_usable(address, &net) || !taken.insert(address) {
            return Err(Error::system(format!(
                "failed to allocate secondary ip address ({name}:{text}): Address already in use"
            )));
        }
        if DEFAULT_GATEWAYS[usize::from(wanted.v6)] == name {
            subnet.default_gateway = Some(address);
        } else {
            subnet.reserved.push(address);
        }
    }
    Ok(subnet)
}

/// Whether an address of a subnet may be somebody's: not the subnet's own, nor its broadcast address.
fn is_usable(address: IpAddr, net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) if net.prefix_len() >= 31 => true,
        IpNet::V4(net) => address != net.network() && address != net.broadcast(),
        IpNet::V6(net) => address != net.network(),
    }
}

/// The first usable address of a range.
fn usable(range: IpNet, net: &IpNet) -> Option<IpAddr> {
    let first = range.network();
    let next = || match first {
        IpAddr::V4(ip) => Some(IpAddr::V4(ip.to_bits().checked_add(1)?.into())),
        IpAddr::V6(ip) => Some(IpAddr::V6(ip.to_bits().checked_add(1)?.into())),
    };
    let mut candidates = [Some(first), next()].into_iter().flatten();
    candidates.find(|ip| range.contains(ip) && is_usable(*ip, net))
}

/// What a configuration that comes from the default IPAM driver must not name.
pub(super) fn check_driver(ipam: &Ipam) -> Result<()> {
    match ipam.driver.as_str() {
        "" | "default" => Ok(()),
        // Addresses that are nobody's business: no driver here can do without.
        "null" => {
            let given = ipam.config.iter().flatten().next().is_some();
            Err(Error::invalid(match given {
                true => "null ipam driver does not handle specific address pool requests",
                false => "ipv4 pool is empty",
            }))
        }
        other => Err(Error::not_found(format!("plugin {other:?} not found"))),
    }
}
