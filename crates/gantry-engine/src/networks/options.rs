//! What `--opt` says of a network, for each driver.

use crate::error::{Error, ErrorKind, Result};
use gantry_api::container::Map;
use gantry_api::go::number;
use gantry_network::network::{
    Bridge, Driver, GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode, Network, Parent,
};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const ENABLE_ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const GATEWAY_MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const LINK_PREFIX: &str = "com.docker.network.container_iface_prefix";
const ANNOUNCEMENTS: &str = "com.docker.network.advertise_addr_nmsgs";
const ANNOUNCEMENT_MS: &str = "com.docker.network.advertise_addr_ms";
/// The kernel's `IFNAMSIZ`, without its end.
const LONGEST_LINK_NAME: usize = 15;

/// What of the host and of other networks decides about a new one.
pub(super) struct Surroundings<'a> {
    /// The kind of a link of the host; none: there is none.
    pub(super) link_kind: &'a dyn Fn(&str) -> Result<Option<String>>,
    /// Whether the kernel makes links of a kind.
    pub(super) has_driver: &'a dyn Fn(&str) -> Result<bool>,
    pub(super) others: &'a [Network],
}

/// A driver with its options read.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) driver: Driver,
    pub(super) mtu: u32,
    /// Also where it was not asked for: nothing leads out of it.
    pub(super) internal: bool,
    /// IPv4, IPv6: no gateway is chosen.
    pub(super) without_gateway: [bool; 2],
}

/// Reads the options of a network of a driver that has links.
pub(super) fn configure(
    driver: &str,
    id: &str,
    options: &Map,
    internal: bool,
    around: &Surroundings<'_>,
) -> Result<Configured> {
    check_common(options)?;
    match driver {
        "bridge" => bridge(id, options, internal, around),
        "macvlan" => macvlan(id, options, internal, around),
        "ipvlan" => ipvlan(id, options, internal, around),
        other => Err(Error::not_found(format!("plugin {other:?} not found"))),
    }
}

/// Options that all drivers have.
fn check_common(options: &Map) -> Result<()> {
    for (name, unit, range) in [
        (ANNOUNCEMENTS, "an integer", 0..=3),
        (ANNOUNCEMENT_MS, "integer milliseconds", 100..=2000),
    ] {
        let Some(text) = options.get(name) else {
            continue;
        };
        let value = number::integer(text).map_err(|_| {
            Error::system(format!("value for option {name} {text:?} must be {unit}"))
        })?;
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            let words = format!("{name} must be in the range {low} to {high}");
            return Err(Error::system(words));
        }
    }
    if let Some(prefix) = options.get(LINK_PREFIX)
        && (prefix.len() > LONGEST_LINK_NAME - 3 || !is_link_name_part(prefix))
    {
        return Err(unreadable(
            LINK_PREFIX,
            prefix,
            "no name of a link begins with it",
        ));
    }
    Ok(())
}

fn is_link_name_part(text: &str) -> bool {
    !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn unreadable(name: &str, value: &str, why: &str) -> Error {
    Error::invalid(format!("failed to parse {name} value: {value} ({why})"))
}

/// Reads one option with Go's words for what is wrong.
fn read<T>(
    options: &Map,
    name: &str,
    parse: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> Result<Option<T>> {
    let Some(text) = options.get(name) else {
        return Ok(None);
    };
    parse(text)
        .map(Some)
        .map_err(|why| unreadable(name, text, &why))
}

fn address(text: &str) -> std::result::Result<IpAddr, String> {
    text.parse().map_err(|_| "nil ip".to_owned())
}

fn gateway_mode(text: &str) -> std::result::Result<GatewayMode, String> {
    match text {
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(format!("unknown gateway mode {text}")),
    }
}

fn mtu(options: &Map) -> Result<u32> {
    let given = read(options, MTU, number::atoi)?.unwrap_or(0);
    u32::try_from(given).map_err(|_| Error::invalid(format!("invalid MTU number: {given}")))
}

fn bridge(
    id: &str,
    options: &Map,
    internal: bool,
    around: &Surroundings<'_>,
) -> Result<Configured> {
    let flag = |name: &str, default: bool| {
        let given = read(options, name, number::parse_bool)?;
        Ok::<_, Error>(given.unwrap_or(default))
    };
    let mode = |name: &str| Ok::<_, Error>(read(options, name, gateway_mode)?.unwrap_or_default());
    let (v4, v6) = (mode(GATEWAY_MODE_V4)?, mode(GATEWAY_MODE_V6)?);
    let source = [
        read(options, HOST_IPV4, address)?,
        read(options, HOST_IPV6, address)?,
    ];
    let trusted = options.get(TRUSTED).map_or("", String::as_str).split(':');
    let mut bridge = Bridge {
        link: options.get(BRIDGE_NAME).cloned().unwrap_or_default(),
        ours: false,
        icc: flag(ENABLE_ICC, true)?,
        masquerade: flag(MASQUERADE, true)?,
        host_binding: read(options, HOST_BINDING, address)?,
        inhibit_ipv4: flag(INHIBIT_IPV4, false)?,
        source: source.into_iter().flatten().collect(),
        gateway_mode_v4: v4,
        gateway_mode_v6: v6,
        trusted_links: trusted
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
            .collect(),
    };
    let mtu = mtu(options)?;
    if flag(DEFAULT_BRIDGE, false)? {
        return Err(Error::new(
            ErrorKind::Forbidden,
            format!("{DEFAULT_BRIDGE} is for the engine's own bridge network"),
        ));
    }
    if bridge.link.is_empty() {
        bridge.link = format!("br-{}", &id[..12]);
    }
    if bridge.link.len() > LONGEST_LINK_NAME || !is_link_name_part(&bridge.link) {
        return Err(unreadable(
            BRIDGE_NAME,
            &bridge.link,
            "no link can have this name",
        ));
    }
    let isolated = [v4, v6].map(|mode| mode == GatewayMode::Isolated);
    if isolated.contains(&true) && !internal {
        return Err(Error::system(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    match (around.link_kind)(&bridge.link)?.as_deref() {
        None => bridge.ours = true,
        Some("bridge") => {}
        Some(_) => {
            let words = format!("existing interface {} is not a bridge", bridge.link);
            return Err(Error::system(words));
        }
    }
    let without_gateway = [
        isolated[0] || (bridge.inhibit_ipv4 && internal),
        isolated[1],
    ];
    Ok(Configured {
        driver: Driver::Bridge(bridge),
        mtu,
        internal,
        without_gateway,
    })
}

fn macvlan(
    id: &str,
    options: &Map,
    internal: bool,
    around: &Surroundings<'_>,
) -> Result<Configured> {
    let mode = match options.get("macvlan_mode").map_or("", String::as_str) {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        other => {
            return Err(Error::system(format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
    };
    let (parent, internal) = asked_parent("macvlan", id, options, internal)?;
    for other in around.others {
        let Driver::Macvlan {
            parent: used,
            mode: used_mode,
        } = &other.driver
        else {
            continue;
        };
        if used.link != parent {
            continue;
        }
        let (id, link) = (&other.id, &used.link);
        if mode == MacvlanMode::Passthru {
            return Err(Error::system(format!(
                "cannot use mode passthru, macvlan network {id} is already using parent interface {link}"
            )));
        }
        if *used_mode == MacvlanMode::Passthru {
            return Err(Error::system(format!(
                "macvlan network {id} is already using parent interface {link} in mode passthru"
            )));
        }
    }
    let parent = settle_parent("macvlan", parent, around)?;
    Ok(Configured {
        driver: Driver::Macvlan { parent, mode },
        mtu: mtu(options)?,
        internal,
        without_gateway: [internal; 2],
    })
}

fn ipvlan(
    id: &str,
    options: &Map,
    internal: bool,
    around: &Surroundings<'_>,
) -> Result<Configured> {
    let mode = match options.get("ipvlan_mode").map_or("", String::as_str) {
        "" | "l2" => IpvlanMode::L2,
        "l3" => IpvlanMode::L3,
        "l3s" => IpvlanMode::L3s,
        other => {
            return Err(Error::system(format!(
                "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
            )));
        }
    };
    let flag = match options.get("ipvlan_flag").map_or("", String::as_str) {
        "" | "bridge" => IpvlanFlag::Bridge,
        "private" => IpvlanFlag::Private,
        "vepa" => IpvlanFlag::Vepa,
        other => {
            return Err(Error::system(format!(
                "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
            )));
        }
    };
    let (parent, internal) = asked_parent("ipvlan", id, options, internal)?;
    for other in around.others {
        if let Driver::Ipvlan { parent: used, .. } = &other.driver
            && used.link == parent
        {
            return Err(Error::system(format!(
                "network {} is already using parent interface {parent}",
                dummy(&other.id)
            )));
        }
    }
    let parent = settle_parent("ipvlan", parent, around)?;
    let routed = mode != IpvlanMode::L2;
    Ok(Configured {
        driver: Driver::Ipvlan { parent, mode, flag },
        mtu: mtu(options)?,
        internal,
        without_gateway: [internal || routed; 2],
    })
}

/// The name of the link that stands in for a parent.
fn dummy(id: &str) -> String {
    format!("dm-{}", &id[..12])
}

/// The parent that is asked for, and whether the network is an internal one: it is without a parent.
fn asked_parent(driver: &str, id: &str, options: &Map, internal: bool) -> Result<(String, bool)> {
    match options.get("parent").map_or("", String::as_str) {
        "" => Ok((dummy(id), true)),
        "lo" => Err(Error::system(format!(
            "loopback interface is not a valid {driver} parent link"
        ))),
        link => Ok((link.to_owned(), internal)),
    }
}

/// Whether the parent is there or is to be made: a VLAN `eth0.50`, or the link that stands in for one.
fn settle_parent(driver: &str, link: String, around: &Surroundings<'_>) -> Result<Parent> {
    let needs = |kind: &str| match (around.has_driver)(kind)? {
        true => Ok(()),
        false => Err(Error::system(format!(
            "cannot make a network of driver {driver}: this machine's kernel has no {kind} driver; load its module, \
             or use a kernel that has it"
        ))),
    };
    needs(driver)?;
    let made = around.others.iter().any(|other| match &other.driver {
        Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => {
            parent.ours && parent.link == link
        }
        Driver::Bridge(_) => false,
    });
    let ours = if made {
        true
    } else if (around.link_kind)(&link)?.is_some() {
        false
    } else if link.starts_with("dm-") {
        needs("dummy")?;
        true
    } else {
        check_vlan(&link, around)?;
        needs("vlan")?;
        true
    };
    Ok(Parent { link, ours })
}

/// Docker's checks of `eth0.50`.
fn check_vlan(link: &str, around: &Surroundings<'_>) -> Result<()> {
    let parts: Vec<&str> = link.split('.').collect();
    let wrong = |text: String| Err(Error::system(text));
    let [parent, number] = parts.as_slice() else {
        return wrong(match parts.len() {
            1 => format!("invalid subinterface vlan name {link}, example formatting is eth0.10"),
            _ => format!(
                "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {link}"
            ),
        });
    };
    let Ok(id) = number::integer(number) else {
        return wrong(format!(
            "unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)"
        ));
    };
    if (around.link_kind)(parent)?.is_none() {
        return wrong(format!(
            "-o parent interface was not found on the host: {parent}"
        ));
    }
    if !(1..=4094).contains(&id) {
        return wrong(format!("vlan id must be between 1-4094, received: {id}"));
    }
    Ok(())
}
