//! `--subnet`, `--ip-range`, `--gateway` and `--aux-address`: which belongs to which.

use std::net::IpAddr;

use gantry_api::container::Map;
use gantry_api::network::{Ipam, IpamConfig};

/// What the flags say.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) subnets: Vec<String>,
    pub(super) ranges: Vec<String>,
    pub(super) gateways: Vec<String>,
    /// Name to address.
    pub(super) others: Map,
}

/// A subnet, by its address and its prefix.
#[derive(Debug, Clone, Copy)]
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn read(text: &str) -> Result<Subnet, String> {
        let wrong = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let prefix = prefix.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix > most {
            return Err(wrong());
        }
        Ok(Subnet { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// Whether what `text` says (an address, or a subnet by its address) is in `subnet`.
fn is_in(subnet: &str, text: &str) -> Result<bool, String> {
    let subnet = Subnet::read(subnet).map_err(|why| format!("invalid subnet: {why}"))?;
    if text.contains('/') {
        return Ok(subnet.contains(Subnet::read(text)?.address));
    }
    Ok(text.parse().is_ok_and(|address| subnet.contains(address)))
}

/// The subnets with what belongs to them; the error is Docker's words.
///
/// COMPAT: of subnets nothing is checked but what the others are compared with: the daemon does.
pub(super) fn ipam(driver: String, options: Map, asked: Asked) -> Result<Ipam, String> {
    let most = asked.subnets.len();
    if asked.ranges.len() > most || asked.gateways.len() > most {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut all: Vec<IpamConfig> = Vec::new();
    for subnet in asked.subnets {
        for other in &all {
            if is_in(&subnet, &other.subnet)? || is_in(&other.subnet, &subnet)? {
                let text = "multiple overlapping subnet configuration is not supported";
                return Err(text.to_owned());
            }
        }
        all.push(IpamConfig {
            subnet,
            ..IpamConfig::default()
        });
    }
    for range in asked.ranges {
        Subnet::read(&range)?;
        for of in belonging(&mut all, "range", &range)? {
            let (subnet, there) = (&of.subnet, &of.ip_range);
            if !there.is_empty() {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {there}) on the same subnet ({subnet})"
                ));
            }
            of.ip_range.clone_from(&range);
        }
    }
    for gateway in asked.gateways {
        for of in belonging(&mut all, "gateway", &gateway)? {
            let (subnet, there) = (&of.subnet, &of.gateway);
            if !there.is_empty() {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {there}) for the same subnet ({subnet})"
                ));
            }
            of.gateway.clone_from(&gateway);
        }
    }
    for (name, address) in asked.others {
        for of in belonging(&mut all, "aux-address", &address)? {
            of.auxiliary_addresses.insert(name.clone(), address.clone());
        }
    }
    Ok(Ipam {
        driver,
        options: Some(options),
        config: Some(all),
    })
}

/// The subnets that have `text`; there must be one.
fn belonging<'a>(
    all: &'a mut [IpamConfig],
    what: &str,
    text: &str,
) -> Result<Vec<&'a mut IpamConfig>, String> {
    let mut found = Vec::new();
    for of in all {
        if is_in(&of.subnet, text)? {
            found.push(of);
        }
    }
    if found.is_empty() {
        return Err(format!("no matching subnet for {what} {text}"));
    }
    Ok(found)
}
