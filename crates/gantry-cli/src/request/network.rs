//! `--network` and the flags that belong to it.

use std::collections::BTreeMap;

use gantry_api::container::{EndpointIpam, EndpointSettings, Map};

use super::options::CreateFlags;
use crate::flags::{Rule, csv};

/// One network to join.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachment {
    name: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ip: String,
    ip6: String,
    mac_address: String,
    link_local: Vec<String>,
    driver_opts: Map,
    gw_priority: i64,
}

/// `--network name` or `name=..,alias=..,ip=..`
#[derive(Debug)]
pub(crate) struct NetworkRule;

impl Rule for NetworkRule {
    const KIND: &'static str = "network";
    type Item = Attachment;
    fn read(text: &str) -> Result<Attachment, String> {
        let mut to = Attachment::default();
        if !is_long(text) {
            to.name = text.to_owned();
            return Ok(to);
        }
        for field in csv(text)? {
            // COMPAT: the long form knows no capitals, in values neither.
            let lower = field.to_lowercase();
            let Some((key, value)) = lower.split_once('=').filter(|(key, _)| !key.is_empty())
            else {
                return Err(format!("invalid field {field}"));
            };
            let value = value.trim().to_owned();
            match key.trim() {
                "name" => to.name = value,
                "alias" => to.aliases.push(value),
                "ip" => to.ip = value,
                "ip6" => to.ip6 = value,
                "mac-address" => to.mac_address = value,
                "link-local-ip" => to.link_local.push(value),
                "driver-opt" => {
                    let (key, value) = value
                        .split_once('=')
                        .filter(|(key, _)| !key.is_empty())
                        .ok_or("invalid key value pair format in driver options")?;
                    let option = (key.trim().to_owned(), value.trim().to_owned());
                    to.driver_opts.extend([option]);
                }
                "gw-priority" => to.gw_priority = priority(&value)?,
                other => return Err(format!("invalid field key {other}")),
            }
        }
        if to.name.is_empty() {
            return Err("network name/id is not specified".to_owned());
        }
        Ok(to)
    }
}

/// COMPAT: a letter, `=` and a letter anywhere make the long form, so `name=` alone is a name like any other.
fn is_long(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut three = text.as_bytes().windows(3);
    three.any(|at| is_word(&at[0]) && at[1] == b'=' && is_word(&at[2]))
}

fn priority(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("invalid gw-priority ({text}): {why}")
    })
}

/// Whether a network is one that was made by somebody, with names of its own.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

/// The network mode and the endpoints of a container.
pub(crate) fn read(
    flags: &CreateFlags,
) -> Result<(String, BTreeMap<String, EndpointSettings>), String> {
    let mut wanted = flags.network.items.clone();
    let unasked = wanted.is_empty();
    if unasked {
        wanted.push(Attachment {
            name: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let mode = wanted[0].name.clone();
    // COMPAT: one network of which nothing more is said is in the mode alone.
    let alone = wanted.len() == 1 && !unasked;
    let mixed = wanted.iter().any(|to| is_user_defined(&to.name))
        && wanted.iter().any(|to| !is_user_defined(&to.name));
    let mut endpoints = BTreeMap::new();
    for (index, mut to) in wanted.into_iter().enumerate() {
        if index == 0 {
            from_flags(&mut to, flags)?;
        }
        let settings = settings(&to)?;
        if alone && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(to.name.clone(), settings).is_some() {
            return Err(format!(
                "network \"{}\" is specified multiple times",
                to.name
            ));
        }
    }
    if mixed {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined \
                    network-modes"
                .to_owned(),
        );
    }
    Ok((mode, endpoints))
}

/// What of an option of its own (`--ip`) and of the network's (`ip=`) is said; not both.
fn either<T: Clone>(
    field: &mut T,
    flag: &T,
    empty: fn(&T) -> bool,
    both: &str,
) -> Result<(), String> {
    if empty(flag) {
        return Ok(());
    }
    if !empty(field) {
        return Err(format!("conflicting options: cannot specify both {both}"));
    }
    field.clone_from(flag);
    Ok(())
}

/// The flags of their own (`--ip`, `--network-alias`, ...) are for the first network.
fn from_flags(to: &mut Attachment, flags: &CreateFlags) -> Result<(), String> {
    let mac_address = match flags.lxc_conf.last() {
        Some(_) if !flags.mac_address.is_empty() => {
            return Err(
                "conflicting options: cannot specify both --mac-address and --lxc-conf \
                        lxc.network.hwaddr"
                    .to_owned(),
            );
        }
        Some(address) => address,
        None => &flags.mac_address,
    };
    either(
        &mut to.aliases,
        &flags.network_alias,
        Vec::is_empty,
        "--network-alias and per-network alias",
    )?;
    either(
        &mut to.ip,
        &flags.ip,
        String::is_empty,
        "--ip and per-network IPv4 address",
    )?;
    either(
        &mut to.ip6,
        &flags.ip6,
        String::is_empty,
        "--ip6 and per-network IPv6 address",
    )?;
    either(
        &mut to.mac_address,
        mac_address,
        String::is_empty,
        "--mac-address and per-network MAC address",
    )?;
    either(
        &mut to.link_local,
        &flags.link_local_ip,
        Vec::is_empty,
        "--link-local-ip and per-network link-local IP addresses",
    )?;
    // On the default bridge a link is the old kind, of the container and not of its endpoint.
    if is_user_defined(&to.name) {
        to.links.clone_from(&flags.link.items);
    }
    Ok(())
}

fn settings(to: &Attachment) -> Result<EndpointSettings, String> {
    if to.name.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !is_user_defined(&to.name) && !to.aliases.is_empty() {
        let text = "network-scoped aliases are only supported for user-defined networks";
        return Err(text.to_owned());
    }
    if !to.mac_address.is_empty() && !is_hardware_address(to.mac_address.trim()) {
        return Err(format!("{} is not a valid mac address", to.mac_address));
    }
    let list = |items: &Vec<String>| (!items.is_empty()).then(|| items.clone());
    let addressed = !to.ip.is_empty() || !to.ip6.is_empty() || !to.link_local.is_empty();
    Ok(EndpointSettings {
        ipam_config: addressed.then(|| EndpointIpam {
            ipv4_address: to.ip.clone(),
            ipv6_address: to.ip6.clone(),
            link_local_ips: list(&to.link_local),
        }),
        links: list(&to.links),
        aliases: list(&to.aliases),
        mac_address: to.mac_address.clone(),
        driver_opts: (!to.driver_opts.is_empty()).then(|| to.driver_opts.clone()),
        gw_priority: to.gw_priority,
        ..EndpointSettings::default()
    })
}

/// COMPAT: what Go reads as one: 6, 8 or 20 bytes, as `aa:bb`, `aa-bb` or `aabb.ccdd`.
fn is_hardware_address(text: &str) -> bool {
    let fits = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let hex = |part: &&str| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        matches!(parts.len() * digits / 2, 6 | 8 | 20) && parts.iter().all(hex)
    };
    fits(':', 2) || fits('-', 2) || fits('.', 4)
}
