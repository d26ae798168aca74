//! What a container asks for, as the network plane is asked.

use super::super::record::Record;
use super::Wanted;
use crate::error::{Error, Result};
use gantry_api::container::EndpointSettings;
use gantry_network::endpoint::{Endpoint, EndpointRequest};
use std::net::IpAddr;

/// Names the link in the container: `eth0` and so on, the first number that is free.
const LINK_NAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// How the next link is called.
pub(super) fn link_name(wanted: &Wanted, there: &[Endpoint]) -> String {
    let options = wanted.settings.driver_opts.as_ref();
    if let Some(name) = options
        .and_then(|o| o.get(LINK_NAME))
        .filter(|n| !n.is_empty())
    {
        return name.clone();
    }
    let prefix = wanted.network.link_prefix();
    let taken = |name: &String| there.iter().any(|e| e.link == *name);
    let mut names = (0..).map(|n| format!("{prefix}{n}"));
    names
        .find(|name| !taken(name))
        .unwrap_or_else(|| format!("{prefix}0"))
}

/// The request without routes and ports.
pub(super) fn endpoint(record: &Record, wanted: &Wanted, link: String) -> Result<EndpointRequest> {
    let settings = &wanted.settings;
    let asked = settings.ipam_config.clone().unwrap_or_default();
    let (mut v4, mut v6) = (None, None);
    for text in [&asked.ipv4_address, &asked.ipv6_address] {
        match text.as_str() {
            "" => {}
            text => match address(text)? {
                IpAddr::V4(address) => v4 = Some(address),
                IpAddr::V6(address) => v6 = Some(address),
            },
        }
    }
    let link_local = asked.link_local_ips.iter().flatten();
    Ok(EndpointRequest {
        id: super::super::create::random_id(),
        container: record.id.clone(),
        link,
        v4,
        v6,
        link_local: link_local
            .map(|text| address(text))
            .collect::<Result<_>>()?,
        mac: mac(record, wanted),
        sysctls: sysctls(settings)?,
        ..EndpointRequest::default()
    })
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))
}

/// The MAC of the network, or the container's old one, which is of the network of its mode.
fn mac(record: &Record, wanted: &Wanted) -> Option<String> {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mode = record.network_mode();
    let is_first = wanted.network.name == mode || wanted.network.id.starts_with(mode);
    given(&wanted.settings.mac_address).or_else(|| {
        is_first
            .then(|| given(&record.config.mac_address))
            .flatten()
    })
}

/// `net.ipv4.conf.IFNAME.log_martians=1,...`
fn sysctls(settings: &EndpointSettings) -> Result<Vec<(String, String)>> {
    let options = settings.driver_opts.as_ref();
    let Some(text) = options.and_then(|o| o.get(SYSCTLS)) else {
        return Ok(Vec::new());
    };
    let pairs = text.split(',').map(|entry| {
        let pair = entry.split_once('=');
        let pair = pair.filter(|(name, _)| name.starts_with("net.") && name.contains(".IFNAME."));
        pair.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "unrecognised network interface sysctl '{entry}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V'"
                ))
            })
    });
    pairs.collect()
}
