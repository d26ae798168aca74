//! What networks, published ports and links are in the tables: elements of their sets and maps.
use super::rules::{
    BRIDGES, DIRECT, INTERNAL, LINKS, MASQUERADED, OPEN, PATHS, PORTS, PORTS_OF_ADDRESS, REACHABLE,
    ROUTED, SOURCES, SUBNETS, TRUSTED, links_set,
};
use super::{BridgeRules, FirewallOptions, LinkedPort, Targets};
use crate::endpoint::PublishedPort;
use crate::network::GatewayMode;
use crate::nftables::{Element, Family};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A set of a table.
pub(super) type Slot = (Family, &'static str);

/// All elements, each with how often it is wanted: enough to load the tables again.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<Slot, BTreeMap<Element, u32>>);

impl Contents {
    /// Whether the element is new.
    pub(super) fn add(&mut self, slot: Slot, element: Element) -> bool {
        let wanted = self.0.entry(slot).or_default().entry(element).or_default();
        *wanted += 1;
        *wanted == 1
    }

    /// Whether the element is wanted no more.
    pub(super) fn remove(&mut self, slot: Slot, element: &Element) -> bool {
        let Some(elements) = self.0.get_mut(&slot) else {
            return false;
        };
        let Some(wanted) = elements.get_mut(element) else {
            return false;
        };
        *wanted -= 1;
        if *wanted > 0 {
            return false;
        }
        elements.remove(element);
        true
    }

    pub(super) fn of(&self, slot: Slot) -> impl Iterator<Item = &Element> {
        self.0.get(&slot).into_iter().flat_map(BTreeMap::keys)
    }
}

/// What a network is in the tables.
pub(super) fn of_bridge(rules: &BridgeRules, options: &FirewallOptions) -> Vec<(Slot, Element)> {
    let families = [Family::V4, Family::V6];
    let all = families.iter().map(|f| of_bridge_in(*f, rules, options));
    all.flatten().collect()
}

fn of_bridge_in(
    family: Family,
    rules: &BridgeRules,
    options: &FirewallOptions,
) -> Vec<(Slot, Element)> {
    let mut all = Vec::new();
    let mut put = |set, element| all.push(((family, set), element));
    let link = link_name(&rules.link);
    let named = || Element::key(link.to_vec());
    let mode = rules.mode(family);
    put(BRIDGES, named());
    if rules.icc {
        put(PATHS, Element::key([link, link].concat()));
    }
    if rules.internal || mode == GatewayMode::Isolated {
        put(INTERNAL, named());
    } else {
        match mode {
            GatewayMode::NatUnprotected => put(OPEN, named()),
            GatewayMode::Routed => put(ROUTED, named()),
            GatewayMode::Nat | GatewayMode::Isolated => {}
        }
        if options.allow_direct_routing {
            put(DIRECT, named());
        }
        for trusted in &rules.trusted_links {
            let pair = [link_name(trusted), link].concat();
            put(TRUSTED, Element::key(pair));
        }
    }
    let translated = rules.masquerade && !rules.internal && mode != GatewayMode::Routed;
    let source = rules.source.iter().find(|a| family_of(**a) == family);
    for subnet in rules
        .subnets
        .iter()
        .filter(|s| family_of(s.addr()) == family)
    {
        range(subnet, &[]).for_each(|e| put(SUBNETS, e));
        match source {
            _ if !translated => {}
            Some(source) => range(subnet, &octets(*source)).for_each(|e| put(SOURCES, e)),
            None => range(subnet, &[]).for_each(|e| put(MASQUERADED, e)),
        }
    }
    all
}

/// What a published port is in the tables; nothing where the container has no address of the port's family.
pub(super) fn of_port(
    port: &PublishedPort,
    targets: Targets,
    rules: &BridgeRules,
    options: &FirewallOptions,
) -> Vec<(Slot, Element)> {
    let family = family_of(port.host_ip);
    let Some(target) = targets.of(port.host_ip) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    let protocol = [protocol_number(&port.protocol), 0, 0, 0];
    let mode = rules.mode(family);
    if mode != GatewayMode::Routed && port.host_port != 0 {
        let (set, address) = if port.host_ip.is_unspecified() {
            (PORTS, Vec::new())
        } else {
            (PORTS_OF_ADDRESS, octets(port.host_ip))
        };
        let key = [&protocol[..], &address, &number(port.host_port)].concat();
        let value = [octets(target), number(port.container_port).to_vec()].concat();
        all.push(((family, set), Element::pair(key, value)));
    }
    let directly = mode == GatewayMode::Routed
        || options.allow_direct_routing
        || !rules.trusted_links.is_empty();
    if directly {
        let port = number(port.container_port);
        let key = [&protocol[..], &octets(target), &port].concat();
        all.push(((family, REACHABLE), Element::key(key)));
    }
    all
}

/// What a link between containers is in the tables.
pub(super) fn of_link(from: Targets, to: Targets, ports: &[LinkedPort]) -> Vec<(Slot, Element)> {
    let v4 = from.v4.map(IpAddr::V4).zip(to.v4.map(IpAddr::V4));
    let v6 = from.v6.map(IpAddr::V6).zip(to.v6.map(IpAddr::V6));
    let mut all = Vec::new();
    for (source, destination) in v4.into_iter().chain(v6) {
        let family = family_of(source);
        for port in ports {
            let key = [
                octets(source),
                octets(destination),
                vec![protocol_number(&port.protocol), 0, 0, 0],
                number(port.port).to_vec(),
            ];
            let element = Element::key(key.concat());
            all.push(((family, LINKS), element.clone()));
            all.push(((Family::Bridge, links_set(family)), element));
        }
    }
    all
}

pub(super) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

pub(crate) fn protocol_number(name: &str) -> u8 {
    let number = match name {
        "udp" => libc::IPPROTO_UDP,
        "sctp" => libc::IPPROTO_SCTP,
        _ => libc::IPPROTO_TCP,
    };
    number as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A port as a register has it.
fn number(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

/// A link's name as packets' meta data has it: 16 bytes, filled with zeros.
fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// The elements of an interval set (or map) that a subnet becomes.
fn range(subnet: &IpNet, value: &[u8]) -> impl Iterator<Item = Element> {
    let first = Element::pair(octets(subnet.network()), value.to_vec());
    let after = next(octets(subnet.broadcast())).map(|key| Element {
        ends_interval: true,
        ..Element::key(key)
    });
    std::iter::once(first).chain(after)
}

/// The address after this one.
fn next(mut address: Vec<u8>) -> Option<Vec<u8>> {
    for byte in address.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(address);
        }
    }
    None
}
