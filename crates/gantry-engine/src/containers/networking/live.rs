//! Networks that come to a container and go from it, at once where it runs.
//!
//! The record says last what has come, and first what goes: a daemon that dies in between has the next one remove links
//! that no record names. A link without a side on the host (macvlan, ipvlan) is noted in the run directory meanwhile.

use super::super::record::Record;
use super::super::transition::Operation;
use super::super::{Container, Containers};
use super::{Candidate, Gateways, Wanted, gateways, open_netns, ports, request, validate};
use crate::error::{Error, Result};
use crate::networks::NetworkRecord;
use gantry_api::container::EndpointSettings;
use gantry_network::endpoint::{Endpoint, Families, PortRequest};
use gantry_network::sandbox::Sandbox;
use std::path::PathBuf;
use std::sync::Arc;

/// The file of the run directory that names a link which is coming or going.
const CHANGING_NOTE: &str = "changing-link";

impl Containers {
    /// Joins a container to one more network, now or at its next start.
    ///
    /// # Errors
    /// `InvalidParameter` where the network or the container's mode does not allow it, `Forbidden` where it is joined
    /// already.
    pub async fn connect(
        self: &Arc<Self>,
        name: &str,
        network: Arc<NetworkRecord>,
        settings: EndpointSettings,
    ) -> Result<()> {
        self.change_networks(name, move |this, container| {
            this.connect_in_turn(container, network, settings)
        })
        .await
    }

    async fn change_networks(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&Self, &Arc<Container>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let container = self.find(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            let asked = container
                .record()
                .state
                .ask(Operation::Update, &container.id, &name);
            asked?;
            let container = container.clone();
            crate::blocking(move || change(&this, &container)).await?
        })
        .await?
    }

    fn connect_in_turn(
        &self,
        container: &Arc<Container>,
        network: Arc<NetworkRecord>,
        settings: EndpointSettings,
    ) -> Result<()> {
        let before = container.snapshot();
        check_mode(&before, &network)?;
        let known = self.key_of(&before, &network);
        if known.is_some() && before.state.pid != 0 {
            return Err(Error::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                before.name, network.name
            )));
        }
        validate::against(&network, &settings)?;
        let mut after = before.clone();
        if let Some(known) = known {
            after.networks.remove(&known);
        }
        after
            .networks
            .insert(network.name.clone(), settings.clone());
        let wanted = Wanted { network, settings };
        let done = match before.state.pid != 0 && before.has_networks() {
            true => self.attach_live(container, &before, &wanted),
            false => Ok(()),
        };
        if let Err(error) = done.and_then(|()| self.save(&after)) {
            // All of it or nothing.
            if let Err(error) = self.detach_live(container, &before, &wanted.network) {
                tracing::warn!(container = %container.id, %error, "cannot undo a connection to a network");
            }
            return Err(error);
        }
        container.record().networks = after.networks;
        self.name_on(container, &wanted.network);
        self.context
            .tell_network("connect", &wanted.network, &container.id);
        Ok(())
    }

    /// Gives a running container a link on the network.
    fn attach_live(
        &self,
        container: &Arc<Container>,
        record: &Record,
        wanted: &Wanted,
    ) -> Result<()> {
        let sandbox = sandbox_of(container, record)?;
        let link = request::link_name(wanted, &record.endpoints);
        let request = request::endpoint(record, wanted, link)?;
        let note = Note::write(self, container, &request.link);
        let endpoint = self.plug(record, wanted, &sandbox, &request)?;
        let Some(mut noted) = container.while_alive() else {
            self.leave(&container.id, &[endpoint]);
            return Ok(());
        };
        noted.endpoints.push(endpoint);
        drop(noted);
        self.save_state(container)?;
        let priority = |network: &str| match network == wanted.network.id {
            true => wanted.settings.gw_priority,
            false => self.priority(record, network),
        };
        let settled = self.settle_gateways(container, &sandbox, &priority, Vec::new());
        drop(note);
        settled
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// `System` where it is not on that network.
    pub async fn disconnect(
        self: &Arc<Self>,
        name: &str,
        network: Arc<NetworkRecord>,
    ) -> Result<()> {
        self.change_networks(name, move |this, container| {
            this.disconnect_in_turn(container, &network)
        })
        .await
    }

    fn disconnect_in_turn(
        &self,
        container: &Arc<Container>,
        network: &Arc<NetworkRecord>,
    ) -> Result<()> {
        let before = container.snapshot();
        if before.network_mode() == "host" && network.driver == "host" {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        let Some(key) = self.key_of(&before, network) else {
            return Err(Error::system(format!(
                "container {} is not connected to network {}",
                before.id, network.name
            )));
        };
        let mut after = before.clone();
        after.networks.remove(&key);
        self.save(&after)?;
        container.record().networks = after.networks;
        if before.endpoint_on(&network.id).is_some() {
            self.detach_live(container, &before, network)?;
        }
        self.context
            .tell_network("disconnect", network, &container.id);
        Ok(())
    }

    fn detach_live(
        &self,
        container: &Arc<Container>,
        before: &Record,
        network: &NetworkRecord,
    ) -> Result<()> {
        let taken = {
            let mut record = container.record();
            let at = record
                .endpoints
                .iter()
                .position(|e| e.network == network.id);
            at.map(|at| record.endpoints.remove(at))
        };
        let Some(endpoint) = taken else {
            return Ok(());
        };
        let note = Note::write(self, container, &endpoint.link);
        let begun = self
            .save_state(container)
            .and_then(|()| sandbox_of(container, before));
        let sandbox = match begun {
            Ok(sandbox) => sandbox,
            Err(error) => {
                if let Some(mut record) = container.while_alive() {
                    record.endpoints.push(endpoint);
                    return Err(error);
                }
                self.leave(&container.id, &[endpoint]);
                return Ok(());
            }
        };
        self.unname_on(container, &endpoint);
        if let Err(error) = self.context.plane.detach(&sandbox, &endpoint) {
            // The next daemon tries again.
            note.keep();
            return Err(Error::caused(
                "cannot take the container off the network",
                error,
            ));
        }
        let again = endpoint.ports.iter().map(fixed).collect();
        let priority = |network: &str| self.priority(before, network);
        let settled = self.settle_gateways(container, &sandbox, &priority, again);
        drop(note);
        settled
    }

    /// Leads the default routes where they belong, and the published ports with them. `ports` are those that nobody has.
    fn settle_gateways(
        &self,
        container: &Arc<Container>,
        sandbox: &Sandbox,
        priority: &dyn Fn(&str) -> i64,
        mut ports: Vec<PortRequest>,
    ) -> Result<()> {
        let plane = &self.context.plane;
        let endpoints = container.snapshot().endpoints;
        let chosen = self.gateways_of(&endpoints, priority);
        for (at, endpoint) in endpoints.iter().enumerate() {
            let families = chosen.families_of(at);
            if families != Families::default() {
                plane
                    .route(sandbox, endpoint, families)
                    .map_err(|e| Error::caused("cannot set the container's default route", e))?;
            }
        }
        let publisher = chosen.v4.or(chosen.v6);
        let (endpoints, closed) =
            self.close_ports(container, endpoints, |at, _| Some(at) != publisher)?;
        ports.extend(closed.iter().map(fixed));
        let Some(publisher) = publisher else {
            return Ok(());
        };
        if ports.is_empty() && endpoints[publisher].ports.is_empty() {
            ports = ports::wanted(&container.record())?;
        }
        self.open_ports(container, endpoints, publisher, &ports)?;
        Ok(())
    }

    /// The endpoint, by its place, whose network the container's ports are published on.
    pub(super) fn publisher(&self, record: &Record, endpoints: &[Endpoint]) -> Option<usize> {
        let chosen = self.gateways_of(endpoints, &|network| self.priority(record, network));
        chosen.v4.or(chosen.v6)
    }

    fn gateways_of(&self, endpoints: &[Endpoint], priority: &dyn Fn(&str) -> i64) -> Gateways {
        let networks: Vec<Option<Arc<NetworkRecord>>> = endpoints
            .iter()
            .map(|e| self.context.networks.get(&e.network))
            .collect();
        let candidates: Vec<Candidate<'_>> = endpoints
            .iter()
            .zip(&networks)
            .map(|(endpoint, network)| Candidate {
                name: network.as_ref().map_or("", |n| n.name.as_str()),
                priority: priority(&endpoint.network),
                internal: network.as_ref().is_some_and(|n| n.internal),
                v4: endpoint.gateway_v4.is_some(),
                v6: endpoint.gateway_v6.is_some(),
            })
            .collect();
        gateways(&candidates)
    }

    /// The priority that a container's record gives to a network.
    fn priority(&self, record: &Record, network: &str) -> i64 {
        let name = self.context.networks.get(network);
        let settings = name.and_then(|network| {
            let key = self.key_of(record, &network)?;
            record.networks.get(&key).cloned()
        });
        settings.map_or(0, |settings| settings.gw_priority)
    }

    /// Under which key a container's record has a network.
    pub(super) fn key_of(&self, record: &Record, network: &NetworkRecord) -> Option<String> {
        let is_it = |key: &&String| {
            **key == network.name
                || self
                    .context
                    .networks
                    .find(key)
                    .is_ok_and(|found| found.id == network.id)
        };
        record.networks.keys().find(is_it).cloned()
    }

    /// Finishes what an earlier daemon had begun with the links of a container that runs.
    pub(in crate::containers) fn finish_links(&self, container: &Arc<Container>) {
        let note = self.context.run_dir(&container.id).join(CHANGING_NOTE);
        let Ok(link) = std::fs::read_to_string(&note) else {
            return;
        };
        let record = container.snapshot();
        let is_kept = record.endpoints.iter().any(|e| e.link == link);
        let done = sandbox_of(container, &record).and_then(|sandbox| {
            if !is_kept {
                sandbox
                    .remove_link(&link)
                    .map_err(|e| Error::caused("cannot remove a link of the container", e))?;
            }
            let priority = |network: &str| self.priority(&record, network);
            self.settle_gateways(container, &sandbox, &priority, Vec::new())
        });
        if let Err(error) = done {
            tracing::warn!(container = %container.id, %error, "cannot finish a change of networks");
        }
        let _ = std::fs::remove_file(note);
    }
}

/// A published port, wanted exactly as it is.
pub(super) fn fixed(port: &gantry_network::endpoint::PublishedPort) -> PortRequest {
    PortRequest {
        container_port: port.container_port,
        protocol: port.protocol.clone(),
        host_ip: Some(port.host_ip),
        host_ports: (port.host_port, port.host_port),
    }
}

/// The note of a link that is coming or going, gone with this.
struct Note(Option<PathBuf>);

impl Note {
    fn write(containers: &Containers, container: &Container, link: &str) -> Self {
        let path = containers
            .context
            .run_dir(&container.id)
            .join(CHANGING_NOTE);
        if let Err(error) = std::fs::write(&path, link) {
            tracing::warn!(container = %container.id, %error, "cannot note a change of networks");
        }
        Self(Some(path))
    }

    /// Leaves the note for the next daemon.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn sandbox_of(container: &Container, record: &Record) -> Result<Sandbox> {
    let netns = open_netns(record.state.pid)?;
    // While it has its process, no other has that process's number.
    if !container.has_process() {
        return Err(Error::conflict(format!(
            "container {} is not running",
            record.id
        )));
    }
    Sandbox::adopt(netns)
        .map_err(|e| Error::caused("cannot enter the container's network namespace", e))
}

/// Docker's words for networks and modes that do not go together.
fn check_mode(record: &Record, network: &NetworkRecord) -> Result<()> {
    let mode = record.network_mode();
    if mode != "host" && network.driver == "host" {
        return Err(Error::invalid(
            "cannot connect container to host network - container must be created in host network mode",
        ));
    }
    if mode == "host" && network.driver == "host" {
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network host",
            record.name
        )));
    }
    if mode == "host" || mode.starts_with("container:") {
        return Err(Error::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if mode == "none" || network.driver == "null" {
        return Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}
