//! What may be asked for on a network, and Docker's words where it may not
//! (moby's `daemon/container_operations.go`, `validateEndpointSettings`).

use crate::error::{Error, Result};
use crate::networks::NetworkRecord;
use gantry_api::container::{EndpointIpam, EndpointSettings};
use ipnet::IpNet;
use std::net::IpAddr;

/// Whether a network is one of a user's, by its name.
pub(in crate::containers) fn is_user_defined(name: &str) -> bool {
    !matches!(name, "" | "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// Checks what a new container asks for on a network, which need not be there yet.
pub(in crate::containers) fn at_create(
    name: &str,
    network: Option<&NetworkRecord>,
    settings: &EndpointSettings,
) -> Result<()> {
    let checked = check_mac(settings).and_then(|()| refuse(words(name, network, settings)));
    checked.map_err(|error| Error {
        message: format!("invalid config for network {name}: {}", error.message),
        ..error
    })
}

/// Checks what a container asks for on a network that is there.
pub(in crate::containers) fn against(
    network: &NetworkRecord,
    settings: &EndpointSettings,
) -> Result<()> {
    if network.config_only {
        return Err(Error::forbidden(
            "cannot create endpoint on configuration-only network",
        ));
    }
    check_mac(settings)?;
    refuse(words(&network.name, Some(network), settings))
}

fn check_mac(settings: &EndpointSettings) -> Result<()> {
    let text = &settings.mac_address;
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '-']).collect();
    if text.is_empty() || (parts.len() == 6 && parts.iter().all(|part| is_byte(part))) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid MAC address {text}")))
}

fn refuse(words: Vec<String>) -> Result<()> {
    let list = match words.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("* {}", several.join("\n* ")),
    };
    Err(Error::invalid(format!(
        "invalid endpoint settings:\n{list}"
    )))
}

fn words(name: &str, network: Option<&NetworkRecord>, settings: &EndpointSettings) -> Vec<String> {
    let mut words = Vec::new();
    let asked = settings.ipam_config.clone().unwrap_or_default();
    if !is_user_defined(name) {
        if !asked.ipv4_address.is_empty() || !asked.ipv6_address.is_empty() {
            words.push(
                "user specified IP address is supported on user defined networks only".to_owned(),
            );
        }
        if settings.aliases.as_ref().is_some_and(|a| !a.is_empty()) {
            words.push(
                "network-scoped alias is supported only for containers in user defined networks"
                    .to_owned(),
            );
        }
    }
    words.extend(addresses(&asked));
    if let Some(network) = network {
        for (text, v6) in [(&asked.ipv4_address, false), (&asked.ipv6_address, true)] {
            words.extend(not_in(network, text, v6));
        }
    }
    words
}

fn addresses(asked: &EndpointIpam) -> Vec<String> {
    let parsed = |text: &str| text.parse::<IpAddr>().ok();
    let mut words = Vec::new();
    let v4 = &asked.ipv4_address;
    let is_usable = |ip: &IpAddr| !ip.is_unspecified();
    if !v4.is_empty() && !parsed(v4).filter(is_usable).is_some_and(|ip| ip.is_ipv4()) {
        words.push(format!("invalid IPv4 address: {v4}"));
    }
    let v6 = &asked.ipv6_address;
    if !v6.is_empty() && !parsed(v6).filter(is_usable).is_some_and(|ip| ip.is_ipv6()) {
        words.push(format!("invalid IPv6 address: {v6}"));
    }
    for text in asked.link_local_ips.iter().flatten() {
        if !parsed(text).is_some_and(|ip| is_usable(&ip)) {
            words.push(format!("invalid link-local IP address: {text}"));
        }
    }
    words
}

/// Why an address is not to be had on a network: only subnets that the user chose have addresses to choose from.
fn not_in(network: &NetworkRecord, text: &str, v6: bool) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let address = text.parse::<IpAddr>().ok();
    let configs = network.ipam.config.iter().flatten();
    let subnets: Vec<IpNet> = configs.filter_map(|c| c.subnet.parse().ok()).collect();
    let mut of_family = subnets
        .iter()
        .filter(|s| s.addr().is_ipv6() == v6)
        .peekable();
    if of_family.peek().is_none() {
        return Some("user specified IP address is supported only when connecting to networks with user configured subnets".to_owned());
    }
    let inside = |subnet: &IpNet| address.is_some_and(|address| subnet.contains(&address));
    (!of_family.any(inside))
        .then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}
