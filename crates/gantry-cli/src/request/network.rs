//! `--network` and the flags that belong to it.

use std::collections::BTreeMap;

use gantry_api::container::{EndpointIpam, EndpointSettings, Map};

use super::options::CreateFlags;
use crate::flags::Rule;

/// One network to join.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachment {
    name: String,
    aliases: Vec<String>,
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
        // COMPAT: `name=` alone is a name like any other.
        if text
            .split_once('=')
            .is_none_or(|(_, value)| value.is_empty())
        {
            to.name = text.to_owned();
            return Ok(to);
        }
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("invalid field {field}"));
            };
            let value = value.trim().to_owned();
            match key.trim().to_lowercase().as_str() {
                "name" => to.name = value,
                "alias" => to.aliases.push(value),
                "ip" => to.ip = value,
                "ip6" => to.ip6 = value,
                "mac-address" => to.mac_address = value,
                "link-local-ip" => to.link_local.push(value),
                "driver-opt" => {
                    let (name, value) = value.split_once('=').ok_or_else(|| {
                        format!("invalid key value pair format in driver options: {value}")
                    })?;
                    to.driver_opts.insert(name.to_owned(), value.to_owned());
                }
                "gw-priority" => {
                    to.gw_priority = value
                        .parse()
                        .map_err(|_| format!("invalid gw-priority ({value})"))?;
                }
                other => return Err(format!("invalid field key {other}")),
            }
        }
        if to.name.is_empty() {
            return Err("network name/id is not specified".to_owned());
        }
        Ok(to)
    }
}

/// Whether a network is one that was made by somebody, with names of its own.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none" | "nat")
        && !name.starts_with("container:")
}

/// The network mode and the endpoints of a container.
pub(crate) fn read(
    flags: &CreateFlags,
) -> Result<(String, BTreeMap<String, EndpointSettings>), String> {
    let mut wanted: Vec<Attachment> = flags
        .network
        .items
        .iter()
        .chain(&flags.net.items)
        .cloned()
        .collect();
    if wanted.is_empty() {
        wanted.push(Attachment {
            name: "default".to_owned(),
            ..Attachment::default()
        });
    }
    let links: Vec<String> = flags.link.items.clone();
    let mode = wanted[0].name.clone();
    for (index, to) in wanted.iter_mut().enumerate() {
        if index == 0 {
            from_flags(to, flags)?;
        }
        if !is_user_defined(&to.name) && !to.aliases.is_empty() {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".to_owned(),
            );
        }
    }
    let first_links = is_user_defined(&mode)
        .then_some(links)
        .filter(|links| !links.is_empty());
    let mut endpoints = BTreeMap::new();
    for (index, to) in wanted.into_iter().enumerate() {
        let links = if index == 0 {
            first_links.clone()
        } else {
            None
        };
        // COMPAT: a network that is part of the system has no endpoint of its own in the request.
        if to.name != "default" && !is_user_defined(&to.name) {
            continue;
        }
        let settings = settings(&to, links);
        if endpoints.insert(to.name.clone(), settings).is_some() {
            return Err(format!(
                "network \"{}\" is specified multiple times",
                to.name
            ));
        }
    }
    Ok((mode, endpoints))
}

/// The flags of their own (`--ip`, `--network-alias`, ...) are for the first network.
fn from_flags(to: &mut Attachment, flags: &CreateFlags) -> Result<(), String> {
    let twice = |name: &str| {
        Err(format!(
            "conflicting options: cannot specify both --{name} and per-network {name}"
        ))
    };
    let aliases = flags.network_alias.iter().chain(&flags.net_alias);
    if aliases.clone().count() > 0 {
        if !to.aliases.is_empty() {
            return Err(
                "conflicting options: cannot specify both --network-alias and per-network alias"
                    .to_owned(),
            );
        }
        to.aliases = aliases.cloned().collect();
    }
    for (name, flag, field) in [
        ("ip", &flags.ip, &mut to.ip),
        ("ip6", &flags.ip6, &mut to.ip6),
        ("mac-address", &flags.mac_address, &mut to.mac_address),
    ] {
        if flag.is_empty() {
            continue;
        }
        if !field.is_empty() {
            return twice(name);
        }
        field.clone_from(flag);
    }
    if !flags.link_local_ip.items.is_empty() {
        to.link_local.clone_from(&flags.link_local_ip.items);
    }
    Ok(())
}

fn settings(to: &Attachment, links: Option<Vec<String>>) -> EndpointSettings {
    let list = |items: &Vec<String>| (!items.is_empty()).then(|| items.clone());
    let addressed = !to.ip.is_empty() || !to.ip6.is_empty() || !to.link_local.is_empty();
    EndpointSettings {
        ipam_config: addressed.then(|| EndpointIpam {
            ipv4_address: to.ip.clone(),
            ipv6_address: to.ip6.clone(),
            link_local_ips: list(&to.link_local),
        }),
        links,
        aliases: list(&to.aliases),
        mac_address: to.mac_address.clone(),
        driver_opts: (!to.driver_opts.is_empty()).then(|| to.driver_opts.clone()),
        gw_priority: to.gw_priority,
        ..EndpointSettings::default()
    }
}
