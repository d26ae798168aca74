//! Bringing the bridge up, for the first time or again.
use super::{
    Addresses, Bridge, BridgeConfig, Endpoint, NetworkError, PublishedPort, find, targets,
};
use crate::addresses::Pool;
use crate::firewall::{BridgeRules, Firewall, FirewallOptions};
use crate::link::{self, Link, Mac};
use crate::netlink::Netlink;
use crate::network::GatewayMode;
use crate::ports::Ports;
use ipnet::Ipv4Net;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8};

const DEFAULT_MTU: u32 = 1500;
const DEFAULT_NAME: &str = "docker0";
/// Where `docker0` belongs to someone else.
const SECOND_NAME: &str = "gantry0";
/// The network's name in the API.
const NETWORK: &str = "bridge";
pub(super) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// A link group that nobody uses, for deleting several links at once.
const DOOMED_GROUP: u32 = 0x6761_6e74;

impl Bridge {
    /// Makes or adopts the link, its address and the firewall table; idempotent. `in_use` are the endpoints of
    /// containers that run: their addresses are taken, their links kept, all other ports of the bridge that are
    /// ours (`veth` + hex names) are removed.
    pub fn up(config: BridgeConfig, in_use: &[Endpoint]) -> Result<Self, NetworkError> {
        let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
        let mtu = if config.mtu == 0 {
            DEFAULT_MTU
        } else {
            config.mtu
        };
        let ours = config.existing.is_none();
        let link = match &config.existing {
            Some(name) => users_bridge(&netlink, name)?,
            None => own_bridge(&netlink, &config)?,
        };
        if ours && link.mtu != mtu {
            netlink
                .execute(&[link::set_mtu(link.index, mtu)])
                .map_err(NetworkError::kernel(format!(
                    "setting the MTU of {}",
                    link.name
                )))?;
        }
        let address = settle_address(&netlink, &link, config.bip, in_use)?;
        netlink
            .execute(&[link::set_up(link.index)])
            .map_err(NetworkError::kernel(format!("bringing up {}", link.name)))?;
        enable_forwarding()?;
        reconcile_ports(&netlink, &link, in_use)?;

        let subnet = address.trunc();
        let gateway = address.addr();
        let firewall = Firewall::open(firewall_options(config.table), &[rules(&link, subnet)])?;
        let mut addresses = Addresses {
            pool: Pool::new(NETWORK, subnet, &[gateway]),
            owners: HashMap::new(),
            with_other_mac: HashSet::new(),
        };
        let ports = Ports::default();
        for endpoint in in_use {
            take_up(endpoint, &mut addresses, &ports);
            let published = PublishedPort::all_to_any(&endpoint.ports);
            firewall.publish(&link.name, &published, targets(endpoint.address))?;
        }
        let bridge = Self {
            firewall,
            link,
            ours,
            subnet,
            gateway,
            mtu,
            netlink,
            addresses: Mutex::new(addresses),
            ports,
            generation: AtomicU8::new(random_bytes()[0]),
            routes_localnet: AtomicBool::new(false),
        };
        for endpoint in in_use {
            bridge.allow_loopback(&endpoint.ports)?;
        }
        if bridge.is_overruled()? {
            tracing::warn!(
                bridge = bridge.link.name,
                "another firewall drops forwarded packets (iptables FORWARD): containers reach the outside, and \
                 published ports are reached from there, only if it accepts the bridge's packets"
            );
        }
        Ok(bridge)
    }
}

fn firewall_options(table: String) -> FirewallOptions {
    FirewallOptions {
        table,
        v4: true,
        v6: true,
        respect_host_firewall: false,
        allow_direct_routing: false,
    }
}

fn rules(link: &Link, subnet: Ipv4Net) -> BridgeRules {
    BridgeRules {
        link: link.name.clone(),
        subnets: vec![subnet.into()],
        internal: false,
        icc: true,
        masquerade: true,
        source: Vec::new(),
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        trusted_links: Vec::new(),
    }
}

/// Takes an endpoint's address and ports again. It runs, so it keeps what it has, whatever others have done
/// meanwhile.
fn take_up(endpoint: &Endpoint, addresses: &mut Addresses, ports: &Ports) {
    if let Err(error) = addresses.pool.take(Some(endpoint.address)) {
        tracing::warn!(link = endpoint.host_link, %error, "address of a running container");
    }
    let link = endpoint.host_link.clone();
    addresses.owners.insert(endpoint.address, link);
    for port in &endpoint.ports {
        if let Err(error) = ports.retake(&[port.to_any()], targets(endpoint.address)) {
            tracing::warn!(link = endpoint.host_link, %error, "published port of a running container");
        }
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

/// Finds our bridge, or makes it under the first name that is free.
fn own_bridge(netlink: &Netlink, config: &BridgeConfig) -> Result<Link, NetworkError> {
    let names = match &config.name {
        Some(name) => vec![name.as_str()],
        None => vec![DEFAULT_NAME, SECOND_NAME],
    };
    let mut free = None;
    for name in &names {
        match find(netlink, name)? {
            Some(link) if link.kind == "bridge" && link.alias == config.table => return Ok(link),
            Some(_) => {}
            None => free = free.or(Some(*name)),
        }
    }
    let name = free.ok_or_else(|| {
        let names = names.join(" and ");
        let text = format!("{names} belong to someone else: name a bridge to use");
        NetworkError::Invalid(text)
    })?;
    make_bridge(netlink, name, &config.table)
}

fn make_bridge(netlink: &Netlink, name: &str, mark: &str) -> Result<Link, NetworkError> {
    let [a, b, c, d, ..] = random_bytes();
    let mac: Mac = [0x02, 0x42, a, b, c, d];
    // One write: no death of the daemon leaves a bridge without its mark.
    netlink
        .execute(&[link::add_bridge(name, mac), link::set_alias(name, mark)])
        .map_err(NetworkError::kernel(format!("making bridge {name}")))?;
    users_bridge(netlink, name)
}

/// The bridge's address: `wanted`, or the one that it has, or the one that running containers send to (somebody has
/// deleted the bridge), or the first of a free subnet. Others are taken off a bridge that is told which one to have.
fn settle_address(
    netlink: &Netlink,
    bridge: &Link,
    wanted: Option<Ipv4Net>,
    in_use: &[Endpoint],
) -> Result<Ipv4Net, NetworkError> {
    let all = link::addresses(netlink).map_err(NetworkError::kernel("listing addresses"))?;
    let mine = || {
        all.iter()
            .filter(|(index, _)| *index == bridge.index)
            .map(|(_, a)| *a)
    };
    let remembered = || {
        let endpoint = in_use.first()?;
        Ipv4Net::new(endpoint.gateway, endpoint.prefix_len).ok()
    };
    let address = match wanted.or_else(|| mine().next()).or_else(remembered) {
        Some(address) => address,
        None => free_subnet(netlink, &all)?,
    };
    if wanted.is_none() && mine().next().is_some() {
        return Ok(address);
    }
    for other in mine().filter(|other| *other != address) {
        netlink
            .execute(&[link::delete_address(bridge.index, other)])
            .map_err(NetworkError::kernel(format!(
                "taking {other} off {}",
                bridge.name
            )))?;
    }
    netlink
        .execute(&[link::add_address(bridge.index, address)])
        .map_err(NetworkError::kernel(format!(
            "giving {address} to {}",
            bridge.name
        )))?;
    Ok(address)
}

/// The first of Docker's pools that no address and no route of the machine overlaps.
fn free_subnet(netlink: &Netlink, addresses: &[(u32, Ipv4Net)]) -> Result<Ipv4Net, NetworkError> {
    let routes = link::routes(netlink).map_err(NetworkError::kernel("listing routes"))?;
    let used: Vec<Ipv4Net> = addresses
        .iter()
        .chain(&routes)
        .map(|(_, net)| net.trunc())
        // A default route, also one made of two halves, overlaps everything and says nothing.
        .filter(|net| net.prefix_len() > 1)
        .collect();
    default_pools()
        .find(|pool| {
            !used
                .iter()
                .any(|net| net.contains(pool) || pool.contains(net))
        })
        .and_then(|pool| Ipv4Net::new(pool.hosts().next()?, pool.prefix_len()).ok())
        .ok_or_else(|| {
            let text = "all predefined address pools have been fully subnetted";
            NetworkError::Invalid(text.into())
        })
}

/// Docker's pools for networks of local scope: 172.17-31.0.0/16, then 192.168.0.0/16 in pieces of /20.
fn default_pools() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..32).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large.chain(small)
}

/// A host that forwards already is left as it is.
// COMPAT: Docker, when it switches forwarding on, also sets the policy of iptables' FORWARD chain to drop. Chains that
// are not ours are not touched, and our own guards the way into our bridges only.
fn enable_forwarding() -> Result<(), NetworkError> {
    let path = Path::new(FORWARDING);
    let current = std::fs::read_to_string(path)
        .map_err(NetworkError::kernel(format!("reading {FORWARDING}")))?;
    if current.trim() != "0" {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(NetworkError::kernel(format!("writing {FORWARDING}")))
}

/// A port of the bridge with a name as we give them.
pub(super) fn is_our_port(link: &Link, bridge: &Link) -> bool {
    let digits = link.name.strip_prefix("veth").unwrap_or_default();
    link.master == bridge.index
        && link.kind == "veth"
        && digits.len() == 10
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Keeps the links of running containers on the bridge, and removes the others of ours.
fn reconcile_ports(
    netlink: &Netlink,
    bridge: &Link,
    in_use: &[Endpoint],
) -> Result<(), NetworkError> {
    let kept: BTreeSet<&str> = in_use.iter().map(|e| e.host_link.as_str()).collect();
    let links = link::list(netlink).map_err(NetworkError::kernel("listing links"))?;
    for lost in &links {
        if kept.contains(lost.name.as_str()) && lost.master != bridge.index {
            let back = [
                link::set_master(lost.index, bridge.index),
                link::set_hairpin(lost.index),
            ];
            let done = netlink.execute(&back);
            // It may be ending at this moment.
            if let Err(refusal) = done {
                tracing::warn!(link = lost.name, error = %refusal.error, "cannot put it back on {}", bridge.name);
            }
        }
    }
    let stale = |l: &&Link| is_our_port(l, bridge) && !kept.contains(l.name.as_str());
    remove_ports(netlink, links.iter().filter(stale))
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
fn random_bytes() -> [u8; 8] {
    RandomState::new().hash_one(0u8).to_ne_bytes()
}
