//! Published ports that come to a running container and go from it.
//!
//! The kernel comes first, then the record: a daemon that dies in between has the next one publish what the record says.

use super::super::record::Record;
use super::super::{Container, Containers};
use super::{live::fixed, ports};
use crate::error::{Error, Result};
use gantry_api::container::{PortBinding, PortMap};
use gantry_network::endpoint::{PortRequest, PublishedPort};
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
        let plane = &self.context.plane;
        let record = container.snapshot();
        let mut endpoints = record.endpoints.clone();
        let mut undo = PortChange::default();
        for endpoint in &mut endpoints {
            let (going, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut endpoint.ports)
                .into_iter()
                .partition(|port| change.going.contains(port));
            endpoint.ports = staying;
            if !going.is_empty() {
                plane
                    .unpublish(endpoint, &going)
                    .map_err(|e| Error::caused("cannot close published ports", e))?;
                undo.coming.extend(going.iter().map(fixed));
            }
        }
        let mut failed = None;
        if !change.coming.is_empty() {
            let published = match self.publisher(&record, &endpoints) {
                Some(at) => plane
                    .publish(&endpoints[at], &change.coming)
                    .map(|ports| (at, ports)),
                // Nothing leads there; the next start may see another network.
                None => Ok((0, Vec::new())),
            };
            match published {
                Ok((at, ports)) => {
                    undo.going.clone_from(&ports);
                    if let Some(endpoint) = endpoints.get_mut(at) {
                        endpoint.ports.extend(ports);
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        if let (Some(_), Some(at)) = (&failed, self.publisher(&record, &endpoints)) {
            // As it was.
            match plane.publish(&endpoints[at], &undo.coming) {
                Ok(ports) => endpoints[at].ports.extend(ports),
                Err(error) => {
                    tracing::error!(container = %container.id, %error, "cannot publish ports again")
                }
            }
        }
        self.take_up_endpoints(container, endpoints)?;
        match failed {
            Some(error) => Err(Error::caused("cannot publish the container's ports", error)),
            None => Ok(undo),
        }
    }
}
