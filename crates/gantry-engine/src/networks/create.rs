//! From a request to a network: Docker's checks in Docker's order, then the record, then the links.

use super::ipam::{self, Wanted};
use super::options::{self, Surroundings};
use super::{NetworkRecord, NetworkService};
use crate::error::{Error, ErrorKind, Result};
use gantry_api::go::number;
use gantry_api::network::{CreateNetwork, Ipam};
use gantry_network::host::{self, Host};
use gantry_network::network::{Driver, Network, Subnet};
use ipnet::IpNet;
use std::net::IpAddr;

#[cfg(test)]
mod tests;

const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

fn forbidden(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, message)
}

impl NetworkService {
    /// Makes a network; its ID.
    pub async fn create(&self, request: CreateNetwork) -> Result<String> {
        let context = self.context.clone();
        let made = move || {
            let changing = context.networks.changing();
            let record = prepare(&context.networks, request)?;
            let id = record.id.clone();
            context.networks.insert(record.clone())?;
            if let Some(network) = &record.network
                && let Err(error) = super::plug(&context, network)
            {
                context.networks.delete(&id)?;
                return Err(error);
            }
            drop(changing);
            context.tell_of_network(&record, "create", &[]);
            Ok(id)
        };
        crate::to_the_end(crate::blocking(made)).await??
    }
}

/// What a network of this request would be. The caller holds [`super::Networks::changing`].
pub(super) fn prepare(networks: &super::Networks, request: CreateNetwork) -> Result<NetworkRecord> {
    let scope = request.scope.clone();
    let ingress = request.ingress;
    let mut record = described(networks, request)?;
    if record.name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if networks.named(&record.name).is_some() {
        let name = &record.name;
        return Err(Error::conflict(format!(
            "network with name {name} already exists"
        )));
    }
    check_configuration(&record, &scope, ingress)?;
    if record.config_only {
        "null".clone_into(&mut record.driver);
        return Ok(record);
    }
    let driver = record.driver.clone();
    if !super::DRIVERS.contains(&driver.as_str()) {
        return Err(Error::not_found(format!("plugin {driver:?} not found")));
    }
    if ingress {
        return Err(forbidden(
            "Ingress network can only be global scope network",
        ));
    }
    if !record.config_from.is_empty() {
        take_configuration(networks, &mut record)?;
    }
    match scope.as_str() {
        "" | "local" => {}
        "swarm" => {
            return Err(forbidden(
                "cannot create a swarm scoped network when swarm is not active",
            ));
        }
        // COMPAT: Docker takes any text and shows it.
        other => {
            return Err(Error::invalid(format!(
                "invalid scope {other:?}: networks here are of scope \"local\""
            )));
        }
    }
    if matches!(driver.as_str(), "host" | "null") {
        return Err(forbidden(format!(
            "only one instance of {driver:?} network is allowed"
        )));
    }
    record.network = Some(planned(networks, &record)?);
    Ok(record)
}

/// The record of what is asked for, with the daemon's default options.
fn described(networks: &super::Networks, request: CreateNetwork) -> Result<NetworkRecord> {
    if super::is_predefined(&request.name) {
        let name = &request.name;
        return Err(forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    let driver = match request.driver.as_str() {
        "" => "bridge",
        given => given,
    };
    if driver == "overlay" {
        return Err(forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ));
    }
    let id = crate::containers::create::random_id();
    let mut record = NetworkRecord::new(id, &request.name, driver);
    record.options = request.options.unwrap_or_default();
    if request.config_from.is_none()
        && let Some(defaults) = networks.default_options.get(driver)
    {
        for (key, value) in defaults {
            let given = record.options.entry(key.clone());
            given.or_insert_with(|| value.clone());
        }
    }
    let mut enabled = |given: Option<bool>, key: &str, default: bool| match given {
        Some(given) => {
            record.options.remove(key);
            Ok(given)
        }
        None => match record.options.get(key) {
            Some(text) => number::parse_bool(text)
                .map_err(|_| Error::invalid(format!("driver-opt {key:?} is not a valid bool"))),
            None => Ok(default),
        },
    };
    let v4 = enabled(request.enable_ipv4, ENABLE_IPV4, true)?;
    let v6 = enabled(request.enable_ipv6, ENABLE_IPV6, false)?;
    (record.enable_ipv4, record.enable_ipv6) = (v4, v6);
    if let Some(ipam) = request.ipam {
        ipam::validate(&ipam, v6)?;
        let driver = match ipam.driver.as_str() {
            "" => "default".to_owned(),
            given => given.to_owned(),
        };
        record.ipam = Ipam { driver, ..ipam };
    }
    record.internal = request.internal;
    record.attachable = request.attachable;
    record.config_only = request.config_only;
    record.config_from = request
        .config_from
        .map(|from| from.network)
        .unwrap_or_default();
    record.labels = request.labels.unwrap_or_default();
    Ok(record)
}

/// What configurations, and networks made from one, must not say.
fn check_configuration(record: &NetworkRecord, scope: &str, ingress: bool) -> Result<()> {
    if record.config_only && (ingress || record.internal || record.attachable || !scope.is_empty())
    {
        return Err(forbidden(
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if record.config_from.is_empty() {
        return Ok(());
    }
    if record.config_only {
        return Err(forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let some = |list: Option<usize>| list.is_some_and(|len| len > 0);
    if record.ipam.driver != "default"
        || !record.enable_ipv4
        || record.enable_ipv6
        || !record.labels.is_empty()
        || some(record.ipam.options.as_ref().map(|o| o.len()))
        || some(record.ipam.config.as_ref().map(|c| c.len()))
    {
        return Err(forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    if !record.options.is_empty() {
        return Err(forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        ));
    }
    Ok(())
}

fn take_configuration(networks: &super::Networks, record: &mut NetworkRecord) -> Result<()> {
    let found = networks
        .named(&record.config_from)
        .filter(|n| n.config_only);
    let from = found.ok_or_else(|| {
        let name = &record.config_from;
        Error::not_found(format!("configuration network {name:?} does not exist"))
    })?;
    record.enable_ipv4 = from.enable_ipv4;
    record.enable_ipv6 = from.enable_ipv6;
    record.labels.clone_from(&from.labels);
    record.options.clone_from(&from.options);
    record.ipam = from.ipam.clone();
    Ok(())
}

/// What the network is for the kernel.
fn planned(networks: &super::Networks, record: &NetworkRecord) -> Result<Network> {
    let others: Vec<Network> = networks
        .all()
        .iter()
        .filter_map(|other| other.network.clone())
        .collect();
    let around = Surroundings {
        link_kind: &|name| {
            host::link_kind(name).map_err(|e| Error::caused("cannot look at the host", e))
        },
        has_driver: &|kind| {
            host::has_driver(kind).map_err(|e| Error::caused("cannot look at the host", e))
        },
        others: &others,
    };
    let configured = options::configure(
        &record.driver,
        &record.id,
        &record.options,
        record.internal,
        &around,
    )?;
    ipam::check_driver(&record.ipam)?;
    let taken: Vec<Subnet> = others
        .iter()
        .flat_map(|other| other.subnets.clone())
        .collect();
    let look = Host::look();
    let mut subnets = Vec::new();
    for (v6, on) in [(false, record.enable_ipv4), (true, record.enable_ipv6)] {
        if !on {
            continue;
        }
        let wanted = Wanted {
            v6,
            configs: record.asked_subnets(v6).collect(),
            without_gateway: configured.without_gateway[usize::from(v6)],
        };
        subnets.extend(ipam::allocate(&wanted, &taken, &networks.pools, &look)?);
    }
    let network = Network {
        id: record.id.clone(),
        name: record.name.clone(),
        driver: configured.driver,
        subnets,
        internal: configured.internal,
        mtu: configured.mtu,
    };
    check_subnets(&network)?;
    if let Driver::Bridge(bridge) = &network.driver {
        check_bridge(&network, &bridge.link, &others)?;
    }
    Ok(network)
}

/// What no driver can work with.
fn check_subnets(network: &Network) -> Result<()> {
    for subnet in &network.subnets {
        if subnet.net.prefix_len() == 0 {
            let family = if subnet.net.addr().is_ipv6() { 6 } else { 4 };
            return Err(Error::invalid(format!("ipv{family} pool is empty")));
        }
        if let IpNet::V6(net) = subnet.net {
            if net.addr().is_multicast() {
                return Err(Error::invalid(format!(
                    "multicast subnet '{net}' is not allowed"
                )));
            }
            if net.addr().to_ipv4_mapped().is_some() {
                return Err(Error::invalid(format!(
                    "'{net}' is not a valid IPv6 subnet"
                )));
            }
            let link_local = ipnet::Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 64);
            if net != link_local && (net.contains(&link_local) || link_local.contains(&net)) {
                return Err(Error::invalid(format!(
                    "'{net}' clashes with the Link-Local prefix 'fe80::/64'"
                )));
            }
        }
        let inside = |ip: &IpAddr| subnet.net.contains(ip);
        if !subnet.default_gateway.iter().all(inside) {
            return Err(Error::invalid(
                "default gateway ip must be part of the network",
            ));
        }
    }
    Ok(())
}

/// A bridge has one subnet of each family, and its name and addresses are no other bridge's.
fn check_bridge(network: &Network, link: &str, others: &[Network]) -> Result<()> {
    if network.subnets.is_empty() {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    let of = |v6: bool| {
        let subnets = network.subnets.iter();
        subnets.filter(move |s| matches!(s.net, IpNet::V6(_)) == v6)
    };
    if of(false).count() > 1 || of(true).count() > 1 {
        return Err(forbidden("bridge driver doesn't support multiple subnets"));
    }
    if network.internal && network.subnets.iter().any(|s| s.default_gateway.is_some()) {
        return Err(Error::invalid(
            "no gateway can be set on an internal bridge network",
        ));
    }
    for other in others {
        let Driver::Bridge(bridge) = &other.driver else {
            continue;
        };
        let overlaps = |subnet: &&Subnet| {
            let net = &subnet.net;
            let mut theirs = other.subnets.iter().map(|s| &s.net);
            theirs.any(|t| t.contains(&net.network()) || net.contains(&t.network()))
        };
        let why = if bridge.link == link {
            "networks have same bridge name"
        } else if of(false).any(|s| overlaps(&s)) {
            "networks have overlapping IPv4"
        } else if of(true).any(|s| overlaps(&s)) {
            "networks have overlapping IPv6"
        } else {
            continue;
        };
        return Err(forbidden(format!(
            "cannot create network {} ({link}): conflicts with network {} ({}): {why}",
            network.id, other.id, bridge.link
        )));
    }
    Ok(())
}
