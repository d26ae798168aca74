//! A container's names and the files that speak of them: noted before its program runs, changed when its networks do.

use super::super::record::Record;
use super::super::{Container, Containers, etc};
use super::{Connected, open_netns, show};
use crate::error::{Error, Result};
use crate::networks::NetworkRecord;
use crate::networks::names::Membership;
use etc::resolv_conf::Place;
use etc::{EtcFiles, Surroundings};
use gantry_api::container::EndpointSettings;
use gantry_network::endpoint::Endpoint;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// All addresses of an endpoint.
pub(in crate::containers) fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let v4 = endpoint.v4.map(|net| IpAddr::V4(net.addr()));
    v4.into_iter()
        .chain(endpoint.v6.map(|net| IpAddr::V6(net.addr())))
}

impl Containers {
    /// Writes the files in `/etc`; who shares another's network shares its files and its host name, too.
    pub(in crate::containers) fn etc_files(&self, record: &mut Record) -> Result<EtcFiles> {
        if let Some(other) = record.network_mode().strip_prefix("container:") {
            let other = self.find(other)?.snapshot();
            record.config.hostname.clone_from(&other.config.hostname);
            record
                .config
                .domainname
                .clone_from(&other.config.domainname);
            return Ok(EtcFiles::below(&self.context.run_dir(&other.id)));
        }
        let around = self.surroundings(record)?;
        let dir = self.context.run_dir(&record.id);
        etc::write(&dir, record, &self.context.settings, &around)
    }

    /// What the files in `/etc` say of the container's networks.
    fn surroundings(&self, record: &Record) -> Result<Surroundings> {
        Ok(Surroundings {
            addresses: record.endpoints.iter().flat_map(addresses).collect(),
            links: self.link_lines(record)?,
            host_gateways: self.host_gateways(),
            place: Some(self.place(record)),
        })
    }

    /// What `host-gateway` stands for: what the daemon is told, or the addresses of the default bridge.
    fn host_gateways(&self) -> Vec<IpAddr> {
        let given = &self.context.settings.host_gateways;
        if !given.is_empty() {
            return given.clone();
        }
        let bridge = self.context.networks.bridge().ok();
        let network = bridge.and_then(|bridge| bridge.network.clone());
        let subnets = network.into_iter().flat_map(|network| network.subnets);
        subnets.filter_map(|subnet| subnet.gateway).collect()
    }

    fn place(&self, record: &Record) -> Place {
        if record.network_mode() == "host" {
            return Place::Host;
        }
        let mut endpoints = record.endpoints.iter();
        match self.has_users_network(record) {
            true => Place::User,
            false => Place::Bridge {
                v6: endpoints.any(|endpoint| endpoint.v6.is_some()),
            },
        }
    }

    /// Whether one of its networks is a user's: those have the name server.
    fn has_users_network(&self, record: &Record) -> bool {
        let networks = &self.context.networks;
        record
            .endpoints
            .iter()
            .filter_map(|endpoint| networks.get(&endpoint.network))
            .any(|network| !network.is_predefined())
    }

    /// Notes the names of a container that runs, and serves it, if one of its networks is a user's.
    pub(in crate::containers) fn begin_names(
        &self,
        record: &Record,
        netns: &OwnedFd,
    ) -> Result<()> {
        if !self.has_users_network(record) {
            return Ok(());
        }
        let netns = netns
            .try_clone()
            .map_err(|e| Error::caused("cannot hold the container's network namespace", e))?;
        self.note_names(record);
        let served = &self.context.served;
        served
            .begin(&record.id, netns)
            .inspect_err(|_| served.end(&record.id))
    }

    /// Notes the names of a container that is about to start; the network is given back on failure.
    pub(in crate::containers) fn named(
        &self,
        asked: &Record,
        mut connected: Connected,
    ) -> Result<Connected> {
        let record = Record {
            endpoints: connected.endpoints.clone(),
            ..asked.clone()
        };
        let begun = match connected.sockets.take() {
            Some(sockets) => {
                self.note_names(&record);
                self.context.served.begin_at(&record.id, sockets)
            }
            None => Ok(()),
        };
        match begun {
            Ok(()) => {
                self.open_ways(&record);
                Ok(connected)
            }
            Err(error) => {
                self.give_back(&record, &connected.endpoints);
                Err(error)
            }
        }
    }

    /// Gives back the names and the network of a start that failed.
    pub(in crate::containers) fn give_back(&self, record: &Record, endpoints: &[Endpoint]) {
        self.context.served.end(&record.id);
        self.close_ways(&Record {
            endpoints: endpoints.to_vec(),
            ..record.clone()
        });
        self.leave(&record.id, endpoints);
    }

    /// Notes the names of a container on all its networks.
    pub(in crate::containers) fn note_names(&self, record: &Record) {
        let names = &self.context.served.names;
        names.choose(&record.id, etc::choices(record, &self.context.settings));
        for endpoint in &record.endpoints {
            if let Some(network) = self.context.networks.get(&endpoint.network) {
                let settings = self.settings_on(record, &network);
                names.join(
                    &record.id,
                    membership(record, &network, &settings, endpoint),
                );
            }
        }
    }

    fn settings_on(&self, record: &Record, network: &NetworkRecord) -> EndpointSettings {
        let key = self.key_of(record, network);
        let settings = key.and_then(|key| record.networks.get(&key).cloned());
        settings.unwrap_or_default()
    }

    /// Takes up the names of a container that runs when the daemon starts.
    pub(in crate::containers) fn take_up_names(&self, record: &Record) {
        let begun = open_netns(record.state.pid).and_then(|netns| self.begin_names(record, &netns));
        if let Err(error) = begun {
            tracing::error!(container = %record.id, %error, "names are not served");
        }
        self.open_ways(record);
    }

    /// A container has come to a network; where it runs: names, hosts, and on its first network of a user's the name server.
    pub(super) fn name_on(&self, container: &Arc<Container>, network: &NetworkRecord) {
        let record = container.snapshot();
        let Some(endpoint) = record.endpoint_on(&network.id) else {
            return;
        };
        let dir = self.context.run_dir(&record.id);
        let own: Vec<IpAddr> = addresses(endpoint).collect();
        let done = open_netns(record.state.pid)
            .and_then(|netns| self.begin_names(&record, &netns))
            .and_then(|()| etc::add_addresses(&dir, &record, &own))
            .and_then(|()| self.renew_resolv_conf(&record));
        if let Err(error) = done {
            tracing::warn!(container = %record.id, %error, "cannot note the names of a new network");
        }
        if container.while_alive().is_none() {
            self.context.served.end(&record.id);
            return;
        }
        self.tell_linking(&record);
    }

    /// A running container has left a network.
    pub(super) fn unname_on(&self, container: &Arc<Container>, endpoint: &Endpoint) {
        let record = container.snapshot();
        let dir = self.context.run_dir(&record.id);
        let names = &self.context.served.names;
        names.leave(&record.id, &endpoint.network);
        let gone: Vec<IpAddr> = addresses(endpoint).collect();
        if let Err(error) = etc::remove_addresses(&dir, &record, &gone) {
            tracing::warn!(container = %record.id, %error, "cannot forget the names of a network");
        }
    }

    /// COMPAT: once a container has the name server it keeps it, also on no network of a user's any more.
    fn renew_resolv_conf(&self, record: &Record) -> Result<()> {
        let around = Surroundings {
            place: Some(self.place(record)),
            ..Surroundings::default()
        };
        let dir = self.context.run_dir(&record.id);
        match around.place {
            Some(Place::User) => {
                etc::renew_resolv_conf(&dir, record, &self.context.settings, &around)
            }
            _ => Ok(()),
        }
    }
}

/// What the book of names has of an endpoint.
fn membership(
    record: &Record,
    network: &NetworkRecord,
    settings: &EndpointSettings,
    endpoint: &Endpoint,
) -> Membership {
    let names = match network.is_predefined() {
        true => Vec::new(),
        false => show::dns_names(record, settings),
    };
    let links = settings.links.iter().flatten();
    let links = links.filter_map(|text| super::super::linked::parse(text).ok());
    Membership {
        network: network.id.clone(),
        network_name: network.name.clone(),
        internal: network.internal,
        gateway: endpoint.gateway_v4.is_some() || endpoint.gateway_v6.is_some(),
        names,
        links: links
            .map(|(name, alias)| (alias.to_owned(), name.to_owned()))
            .collect(),
        v4: endpoint.v4.map(|net| net.addr()),
        v6: endpoint.v6.map(|net| net.addr()),
    }
}
