//! A container's networks: which it has, how it is joined to them at its start and let go at its end.
//!
//! A running container's endpoints are in its record. They come and go by [`live`] while it runs; what it asks for on
//! each network ([`Record::networks`]) stays for the next start.

mod linked_ports;
mod live;
pub(super) mod live_ports;
pub(super) mod naming;
pub(super) mod ports;
mod request;
mod show;
pub(super) mod validate;

#[cfg(test)]
mod tests;

use super::Containers;
use super::record::Record;
use crate::error::{Error, Result};
use crate::networks::NetworkRecord;
use gantry_api::container::{EndpointSettings, NetworkingConfig};
use gantry_network::dns::Sockets;
use gantry_network::endpoint::{Endpoint, Families};
use gantry_network::plane::NetworkError;
use gantry_network::sandbox::Sandbox;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The file of the run directory in which a start notes its endpoints.
const ENDPOINTS_NOTE: &str = "endpoints";

/// A network that a container is to join, and what it asks for there.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) network: Arc<NetworkRecord>,
    pub(super) settings: EndpointSettings,
}

/// The network that was made for a start.
#[derive(Debug, Default)]
pub(super) struct Connected {
    pub(super) netns: Option<OwnedFd>,
    pub(super) endpoints: Vec<Endpoint>,
    /// The name server's sockets, where there is to be one.
    sockets: Option<Sockets>,
}

impl Record {
    /// Whether it has a network namespace with links of its own choice, not the host's, another container's, or none.
    pub(super) fn has_networks(&self) -> bool {
        let mode = self.network_mode();
        mode != "host"
            && mode != "none"
            && !mode.starts_with("container:")
            && !self.config.network_disabled
    }

    /// The endpoint on a network.
    pub(crate) fn endpoint_on(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.network == network)
    }
}

impl Containers {
    /// The networks of a new container by name: those that are asked for, and that of its network mode.
    pub(super) fn networks_of(
        &self,
        mode: &str,
        asked: NetworkingConfig,
    ) -> Result<BTreeMap<String, EndpointSettings>> {
        let name_of = |key: &str| match key {
            "" | "default" => "bridge".to_owned(),
            key => match self.context.networks.find(key) {
                Ok(network) => network.name.clone(),
                Err(_) => key.to_owned(),
            },
        };
        let mut all = BTreeMap::new();
        for (key, settings) in asked.endpoints_config {
            let name = name_of(&key);
            let network = self.context.networks.find(&name).ok();
            validate::at_create(&name, network.as_deref(), &settings)?;
            all.insert(name, settings);
        }
        if !mode.starts_with("container:") {
            all.entry(name_of(mode)).or_default();
        }
        Ok(all)
    }

    /// The networks that a container joins at its start, in the order of its links: the one of its network mode, then
    /// the others by name.
    pub(super) fn wanted(&self, record: &Record) -> Result<Vec<Wanted>> {
        let networks = &self.context.networks;
        let mode = networks.find(record.network_mode()).ok();
        let mut all = Vec::new();
        for (name, settings) in &record.networks {
            all.push(Wanted {
                network: networks.find(name)?,
                settings: settings.clone(),
            });
        }
        // As Docker: one that was taken off all its networks goes back to that of its mode.
        if all.is_empty() {
            all.push(Wanted {
                network: networks.find(record.network_mode())?,
                settings: EndpointSettings::default(),
            });
        }
        all.retain(|one| !one.network.is_off());
        let is_first = |one: &Wanted| mode.as_ref().is_some_and(|m| m.id == one.network.id);
        all.sort_by_key(|one| (!is_first(one), one.network.name.clone()));
        Ok(all)
    }

    /// Makes the container's network; what it took is released on failure.
    pub(super) fn join(&self, record: &Record) -> Result<Connected> {
        let mode = record.network_mode();
        if mode == "host" {
            return Ok(Connected::default());
        }
        if let Some(other) = mode.strip_prefix("container:") {
            return Ok(Connected {
                netns: Some(self.netns_of(other)?),
                ..Connected::default()
            });
        }
        let prepared = |named| {
            let taken = self.context.spare.take(named);
            taken.map_err(|e| Error::caused("cannot make a network namespace", e))
        };
        if !record.has_networks() {
            return Ok(Connected {
                netns: Some(prepared(false)?.0.netns),
                ..Connected::default()
            });
        }
        let wanted = self.wanted(record)?;
        for one in &wanted {
            validate::against(&one.network, &one.settings)?;
        }
        let named = wanted.iter().any(|one| !one.network.is_predefined());
        let (sandbox, sockets) = prepared(named)?;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let chosen = gateways(&wanted.iter().map(Candidate::from).collect::<Vec<_>>());
        for (at, one) in wanted.iter().enumerate() {
            let link = request::link_name(one, &endpoints);
            let done = request::endpoint(record, one, link).and_then(|mut request| {
                request.default_routes = chosen.families_of(at);
                if chosen.publishes(at) {
                    request.ports = ports::wanted(record)?;
                }
                self.plug(record, one, &sandbox, &request)
            });
            match done {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => {
                    self.leave(&record.id, &endpoints);
                    return Err(error);
                }
            }
        }
        Ok(Connected {
            netns: Some(sandbox.netns),
            endpoints,
            sockets,
        })
    }

    fn plug(
        &self,
        record: &Record,
        wanted: &Wanted,
        sandbox: &Sandbox,
        request: &gantry_network::endpoint::EndpointRequest,
    ) -> Result<Endpoint> {
        let network = &wanted.network;
        let plane = &self.context.plane;
        plane
            .attach(&network.id, sandbox, request)
            .map_err(|error| not_attached(record, &network.name, error))
    }

    fn netns_of(&self, other: &str) -> Result<OwnedFd> {
        let found = self.find(other).map_err(|e| {
            Error::system(format!(
                "joining network namespace of container: {}",
                e.message
            ))
        })?;
        let pid = found.record().state.pid;
        if pid == 0 {
            return Err(Error::conflict(format!(
                "cannot join network of a non running container: {}",
                found.id
            )));
        }
        open_netns(pid)
    }

    /// Gives back what [`Self::join`] took.
    pub(super) fn leave(&self, id: &str, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Err(error) = self.context.plane.release(endpoint) {
                tracing::warn!(container = id, %error, "cannot release the network endpoint");
            }
            if !endpoint.host_link.is_empty() {
                self.context.released.note(&endpoint.host_link);
            }
        }
    }

    /// Tells that a container has joined networks, or left them.
    pub(super) fn tell_networks(&self, action: &str, container: &str, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            if let Some(network) = self.context.networks.get(&endpoint.network) {
                self.context.tell_network(action, &network, container);
            }
        }
    }

    /// The endpoints on a network, with their containers' IDs and names.
    pub fn endpoints_on(&self, network: &str) -> Vec<(String, String, Endpoint)> {
        let mut found = Vec::new();
        for container in self.all() {
            let record = container.record();
            if let Some(endpoint) = record.endpoint_on(network) {
                found.push((record.id.clone(), record.name.clone(), endpoint.clone()));
            }
        }
        found
    }
}

fn open_netns(pid: u32) -> Result<OwnedFd> {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net"))
        .map_err(|e| Error::caused("cannot open the container's network namespace", e))?;
    Ok(file.into())
}

/// What decides where the default routes go.
#[derive(Debug)]
struct Candidate<'a> {
    name: &'a str,
    priority: i64,
    internal: bool,
    v4: bool,
    v6: bool,
}

impl<'a> From<&'a Wanted> for Candidate<'a> {
    fn from(wanted: &'a Wanted) -> Self {
        let network = &wanted.network;
        let has_gateway = |v6: bool| {
            let subnets = network.network.iter().flat_map(|n| &n.subnets);
            let mut of_family = subnets.filter(|s| s.net.addr().is_ipv6() == v6);
            of_family.any(|s| s.gateway.is_some() || s.default_gateway.is_some())
        };
        Self {
            name: &network.name,
            priority: wanted.settings.gw_priority,
            internal: network.internal,
            v4: has_gateway(false),
            v6: has_gateway(true),
        }
    }
}

/// The networks, by their place among a container's, that its default routes go by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gateways {
    v4: Option<usize>,
    v6: Option<usize>,
}

impl Gateways {
    fn families_of(self, at: usize) -> Families {
        Families {
            v4: self.v4 == Some(at),
            v6: self.v6 == Some(at),
        }
    }

    /// Ports are published where the answers go.
    fn publishes(self, at: usize) -> bool {
        self.v4.or(self.v6) == Some(at)
    }
}

/// The highest priority, then by name, as Docker does it; internal networks lead nowhere.
fn gateways(candidates: &[Candidate<'_>]) -> Gateways {
    let mut order: Vec<usize> = (0..candidates.len())
        .filter(|at| !candidates[*at].internal)
        .collect();
    order.sort_by(|a, b| {
        let (a, b) = (&candidates[*a], &candidates[*b]);
        b.priority.cmp(&a.priority).then(a.name.cmp(b.name))
    });
    Gateways {
        v4: order.iter().copied().find(|at| candidates[*at].v4),
        v6: order.iter().copied().find(|at| candidates[*at].v6),
    }
}

/// Notes the endpoints of a start: a daemon that dies between the start and its record has its successor find them
/// there.
pub(super) fn note(run_dir: &Path, endpoints: &[Endpoint]) -> Result<()> {
    if endpoints.is_empty() {
        return Ok(());
    }
    let json =
        serde_json::to_vec(endpoints).map_err(|e| Error::caused("cannot note the endpoints", e))?;
    let path = run_dir.join(ENDPOINTS_NOTE);
    std::fs::write(&path, json)
        .map_err(|e| Error::caused(&format!("cannot write {}", path.display()), e))
}

/// The endpoints of a start that was not recorded any more.
pub(super) fn noted(run_dir: &Path) -> Vec<Endpoint> {
    let json = std::fs::read(run_dir.join(ENDPOINTS_NOTE)).ok();
    json.and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

/// Docker's words for an endpoint that could not be made.
fn not_attached(record: &Record, network: &str, error: NetworkError) -> Error {
    let what = match error {
        NetworkError::Port(_) => format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({})",
            record.name, record.id
        ),
        NetworkError::AddressInUse | NetworkError::Exhausted { .. } => {
            "failed to set up container networking".to_owned()
        }
        _ => format!(
            "failed to set up container networking: failed to create endpoint {} on network {network}",
            record.name
        ),
    };
    Error::caused(&what, error)
}
