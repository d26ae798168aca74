//! Published ports that come to a running container and go from it.
//!
//! The record says last what has come, and first what goes, as somebody else may have that at once: a daemon that dies in
//! between has the next one publish what the record says.

use super::super::record::Record;
use super::super::{Container, Containers};
use super::{live::fixed, ports};
use crate::error::{Error, Result};
use gantry_api::container::{PortBinding, PortMap};
use gantry_network::endpoint::{Endpoint, PortRequest, PublishedPort};
use std::sync::Arc;

/// What is different.
#[derive(Debug, Default)]
pub(in crate::containers) struct PortChange {
    pub(super) going: Vec<PublishedPort>,
    pub(super) coming: Vec<PortRequest>,
}

impl PortChange {
    /// What the new record publishes differently. `asked` are the ports that were to go, by which those are told apart
    /// whose numbers were chosen.
    pub(in crate::containers) fn between(
        before: &Record,
        after: &Record,
        asked: &PortMap,
    ) -> Result<Self> {
        let (old, new) = (bindings(before), bindings(after));
        let mut change = Self::default();
        let mut live: Vec<PublishedPort> = before
            .endpoints
            .iter()
            .flat_map(|e| e.ports.clone())
            .collect();
        let kept: Vec<PortRequest> = new
            .iter()
            .map(|(port, binding)| ports::request(port, binding))
            .collect::<Result<_>>()?;
        let is_kept =
            |live: &PublishedPort| kept.iter().any(|kept| is_fixed(kept) && is_of(live, kept));
        live.retain(|live| !is_kept(live));
        let mut removed = without(&old, &new);
        // Those of a number of their own first: what is left is of those that were chosen.
        removed.sort_by_key(|(_, binding)| match binding.host_port.as_str() {
            "" | "0" => 2,
            range if range.contains('-') => 1,
            _ => 0,
        });
        for (port, binding) in removed {
            let numbers = asked.get(port).into_iter().flatten().flatten();
            let numbers: Vec<u16> = numbers.filter_map(|b| b.host_port.parse().ok()).collect();
            let wanted = ports::request(port, binding)?;
            let fits: Vec<&PublishedPort> =
                live.iter().filter(|live| is_of(live, &wanted)).collect();
            let number = fits
                .iter()
                .find(|live| numbers.contains(&live.host_port))
                .or(fits.first())
                .map(|live| live.host_port);
            let (going, staying) = live
                .into_iter()
                .partition(|live| is_of(live, &wanted) && Some(live.host_port) == number);
            change.going.extend::<Vec<_>>(going);
            live = staying;
        }
        for (port, binding) in without(&new, &old) {
            change.coming.push(ports::request(port, binding)?);
        }
        Ok(change)
    }

    pub(in crate::containers) fn is_empty(&self) -> bool {
        self.going.is_empty() && self.coming.is_empty()
    }
}

fn bindings(record: &Record) -> Vec<(&str, &PortBinding)> {
    let all = record.host_config.port_bindings.iter().flatten();
    all.flat_map(|(port, list)| list.iter().flatten().map(move |b| (port.as_str(), b)))
        .collect()
}

/// What of `some` is not in `others`, each as often as it is there more.
fn without<'a>(
    some: &[(&'a str, &'a PortBinding)],
    others: &[(&str, &PortBinding)],
) -> Vec<(&'a str, &'a PortBinding)> {
    let mut others = others.to_vec();
    let mut left = Vec::new();
    for one in some {
        match others.iter().position(|other| other == one) {
            Some(at) => {
                others.swap_remove(at);
            }
            None => left.push(*one),
        }
    }
    left
}

fn is_fixed(wanted: &PortRequest) -> bool {
    let (first, last) = wanted.host_ports;
    first != 0 && first == last
}

/// Whether a port that is published can be what was wanted so.
fn is_of(live: &PublishedPort, wanted: &PortRequest) -> bool {
    let (first, last) = wanted.host_ports;
    live.container_port == wanted.container_port
        && live.protocol == wanted.protocol
        && wanted.host_ip.is_none_or(|ip| ip == live.host_ip)
        && (first == 0 || (first..=last).contains(&live.host_port))
}

impl Containers {
    /// Closes and publishes ports of a running container; what undoes it.
    pub(in crate::containers) fn change_ports(
        &self,
        container: &Arc<Container>,
        change: &PortChange,
    ) -> Result<PortChange> {
        let record = container.snapshot();
        let publisher = self.publisher(&record, &record.endpoints);
        let (endpoints, closed) = self.close_ports(container, record.endpoints, |_, port| {
            change.going.contains(port)
        })?;
        let mut undo = PortChange {
            coming: closed.iter().map(fixed).collect(),
            going: Vec::new(),
        };
        // Where nothing leads to it, the next start may see another network.
        let Some(at) = publisher else {
            return Ok(undo);
        };
        match self.open_ports(container, endpoints.clone(), at, &change.coming) {
            Ok(ports) => {
                undo.going = ports;
                Ok(undo)
            }
            Err(error) => {
                // As it was.
                if let Err(error) = self.open_ports(container, endpoints, at, &undo.coming) {
                    tracing::error!(container = %container.id, %error, "cannot publish ports again");
                }
                Err(error)
            }
        }
    }

    /// Closes those ports of endpoints that are told to go, by their endpoint's place; what is left, and what has gone.
    pub(super) fn close_ports(
        &self,
        container: &Container,
        before: Vec<Endpoint>,
        goes: impl Fn(usize, &PublishedPort) -> bool,
    ) -> Result<(Vec<Endpoint>, Vec<PublishedPort>)> {
        let mut after = before.clone();
        let mut going = Vec::new();
        for (at, endpoint) in after.iter_mut().enumerate() {
            let all = std::mem::take(&mut endpoint.ports);
            let (of_it, staying): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|port| goes(at, port));
            endpoint.ports = staying;
            going.push(of_it);
        }
        if going.iter().all(Vec::is_empty) || !self.note_endpoints(container, after.clone())? {
            return Ok((after, Vec::new()));
        }
        for (endpoint, ports) in after.iter().zip(&going) {
            if !ports.is_empty()
                && let Err(error) = self.context.plane.unpublish(endpoint, ports)
            {
                self.note_endpoints(container, before)?;
                return Err(Error::caused("cannot close the container's ports", error));
            }
        }
        Ok((after, going.concat()))
    }

    /// Publishes more ports at one of the endpoints; what they became. All of them, recorded, or none.
    pub(super) fn open_ports(
        &self,
        container: &Container,
        mut endpoints: Vec<Endpoint>,
        at: usize,
        wanted: &[PortRequest],
    ) -> Result<Vec<PublishedPort>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let plane = &self.context.plane;
        let endpoint = endpoints[at].clone();
        let ports = match plane.publish(&endpoint, wanted) {
            // What has ended meanwhile gets them at its next start, also when its exit is not noted yet.
            Err(_) if !container.has_process() => return Ok(Vec::new()),
            published => {
                published.map_err(|e| Error::caused("cannot publish the container's ports", e))?
            }
        };
        endpoints[at].ports.extend(ports.clone());
        let noted = self.note_endpoints(container, endpoints);
        if !matches!(noted, Ok(true))
            && let Err(error) = plane.unpublish(&endpoint, &ports)
        {
            tracing::warn!(container = %container.id, %error, "cannot close ports again");
        }
        noted.map(|_| ports)
    }

    /// Notes what has become of the endpoints; false, and nothing is noted, where the container has ended meanwhile.
    fn note_endpoints(&self, container: &Container, endpoints: Vec<Endpoint>) -> Result<bool> {
        let Some(mut record) = container.while_alive() else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut record.endpoints, endpoints);
        drop(record);
        self.save_state(container).inspect_err(|_| {
            if let Some(mut record) = container.while_alive() {
                record.endpoints = before;
            }
        })?;
        Ok(true)
    }
}
