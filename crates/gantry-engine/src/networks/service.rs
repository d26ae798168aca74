//! What is done with networks: list, inspect, remove, prune, connect, disconnect. `create` has a file of its own.

use super::{NetworkRecord, missing};
use crate::containers::Containers;
use crate::containers::filters::until_for_prune;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use gantry_api::filter::Filters;
use gantry_api::network::{
    ConnectNetwork, DisconnectNetwork, Network, NetworkContainer, NetworksPruned,
};
use gantry_network::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The network service.
#[derive(Debug)]
pub struct NetworkService {
    pub(super) context: Arc<Context>,
    containers: Arc<Containers>,
}

/// What is to be told of networks in a list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub filters: Filters,
    /// With the containers, as API versions before 1.28 had it.
    pub detailed: bool,
}

impl NetworkService {
    pub(crate) fn new(context: Arc<Context>, containers: Arc<Containers>) -> Self {
        Self {
            context,
            containers,
        }
    }

    /// The networks that the filters let through.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<Network>> {
        let filters = &options.filters;
        let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        filters.validate(&known).map_err(|e| Error::invalid(e.0))?;
        let dangling = dangling(filters)?;
        let types = types(filters)?;
        let mut list = Vec::new();
        let all = self.context.networks.all();
        for record in all.into_iter().filter(|record| !record.is_off()) {
            let own = record.is_predefined();
            let unused = || !own && self.containers_on(&record.id).is_empty();
            if is_let_through(filters, &record)
                && types.is_none_or(|(builtin, custom)| if own { builtin } else { custom })
                // COMPAT: Docker takes every network of a user for an unused one here.
                && dangling.is_none_or(|wanted| wanted == unused())
            {
                let mut shown = record.show();
                if options.detailed {
                    shown.containers = self.containers_on(&record.id);
                }
                list.push(shown);
            }
        }
        Ok(list)
    }

    /// One network with its containers. `scope`: only where the network is of that scope.
    pub fn inspect(&self, text: &str, scope: &str) -> Result<Network> {
        let networks = &self.context.networks;
        let record = networks.find(text).map_err(|error| match error.kind {
            // COMPAT: Docker has the words in this order here, and in the other one elsewhere.
            ErrorKind::InvalidParameter => Error {
                message: format!("{}: network {text} is ambiguous", between(&error.message)),
                ..error
            },
            _ => error,
        })?;
        if record.is_off() || !matches!(scope, "" | "local") {
            return Err(missing(text));
        }
        let mut shown = record.show();
        shown.containers = self.containers_on(&record.id);
        Ok(shown)
    }

    fn containers_on(&self, id: &str) -> BTreeMap<String, NetworkContainer> {
        containers_on(&self.containers, id)
    }

    /// Removes a network that nothing is on.
    pub async fn remove(&self, text: &str) -> Result<()> {
        let record = self.context.networks.find(text)?;
        self.remove_record(record).await
    }

    async fn remove_record(&self, record: Arc<NetworkRecord>) -> Result<()> {
        let (context, containers) = (self.context.clone(), self.containers.clone());
        let removed = move || {
            let changing = context.networks.changing();
            remove_in_turn(&context, &containers, &record)?;
            drop(changing);
            if !record.config_only {
                context.tell_of_network(&record, "destroy", &[]);
            }
            Ok(())
        };
        crate::to_the_end(crate::blocking(removed)).await??
    }

    /// Removes networks of users that nothing is on.
    pub async fn prune(&self, filters: &Filters) -> Result<NetworksPruned> {
        let known = filters.validate(&["label", "label!", "until"]);
        known.map_err(|e| Error::invalid(e.0))?;
        let until = until_for_prune(filters)?;
        let mut removed = Vec::new();
        let mut all = self.context.networks.all();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for record in all {
            let labels = &record.labels;
            if record.config_only
                || record.is_predefined()
                || until.is_some_and(|until| record.created > until)
                || !filters.matches_all_labels("label", labels)
                || (filters.contains("label!") && filters.matches_all_labels("label!", labels))
                || !self.containers_on(&record.id).is_empty()
            {
                continue;
            }
            let name = record.name.clone();
            match self.remove_record(record).await {
                Ok(()) => removed.push(name),
                // Somebody may use it by now.
                Err(error) => tracing::warn!(network = name, %error, "a network is not pruned"),
            }
        }
        let attributes = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        self.context
            .events
            .publish("network", "prune", "", attributes);
        Ok(NetworksPruned {
            networks_deleted: (!removed.is_empty()).then_some(removed),
        })
    }

    /// Puts a container on a network.
    pub async fn connect(&self, network: &str, request: ConnectNetwork) -> Result<()> {
        let container = &request.container;
        self.containers.find(container)?;
        let network = self.context.networks.find(network)?;
        let settings = request.endpoint_config.unwrap_or_default();
        self.containers.connect(container, network, settings).await
    }

    /// Takes a container off a network.
    pub async fn disconnect(&self, network: &str, request: DisconnectNetwork) -> Result<()> {
        let DisconnectNetwork { container, force } = &request;
        let found = self.containers.find(container);
        let network = match (&found, self.context.networks.find(network)) {
            (Ok(found), Err(_)) if *force => {
                let id = &found.id;
                return Err(Error::system(format!(
                    "container {id} is not connected to the network {network}"
                )));
            }
            (Err(_), Ok(_)) if *force => {
                return Err(Error::not_found(format!("endpoint {container} not found")));
            }
            (Err(_), _) if !*force => return found.map(|_| ()),
            (_, network) => network?,
        };
        self.containers.disconnect(container, network).await
    }
}

/// The containers that have an endpoint on a network, which is while they run.
fn containers_on(containers: &Containers, id: &str) -> BTreeMap<String, NetworkContainer> {
    let shown = |(id, name, endpoint): (String, String, Endpoint)| {
        let address = |net: Option<String>| net.unwrap_or_default();
        let shown = NetworkContainer {
            name,
            endpoint_id: endpoint.id,
            mac_address: endpoint.mac,
            ipv4_address: address(endpoint.v4.map(|net| net.to_string())),
            ipv6_address: address(endpoint.v6.map(|net| net.to_string())),
        };
        (id, shown)
    };
    let endpoints = containers.endpoints_on(id);
    endpoints.into_iter().map(shown).collect()
}

/// First the record goes, which is the truth, then the links: a daemon that dies in between leaves links that no record
/// names, and the next one removes those.
fn remove_in_turn(
    context: &Context,
    containers: &Containers,
    record: &NetworkRecord,
) -> Result<()> {
    let name = &record.name;
    let forbidden = |message: String| Error::new(ErrorKind::Forbidden, message);
    if context.networks.get(&record.id).is_none() {
        return Err(missing(name));
    }
    if record.is_predefined() {
        return Err(forbidden(format!(
            "{name} is a pre-defined network and cannot be removed"
        )));
    }
    let not_removed = |why: String| forbidden(format!("error while removing network: {why}"));
    if record.config_only
        && context
            .networks
            .all()
            .iter()
            .any(|n| &n.config_from == name)
    {
        return Err(not_removed(format!(
            "configuration network {name:?} is in use"
        )));
    }
    let users: Vec<String> = containers_on(containers, &record.id)
        .values()
        .map(|user| format!("name:{:?} id:{:?}", user.name, &user.endpoint_id[..12]))
        .collect();
    if !users.is_empty() {
        let users = users.join(", ");
        return Err(not_removed(format!(
            "network {name} has active endpoints ({users})"
        )));
    }
    context.networks.delete(&record.id)?;
    if record.network.is_some()
        && let Err(error) = super::unplug(context, &record.id)
    {
        context.networks.insert(record.clone())?;
        return Err(error);
    }
    Ok(())
}

/// Whether a network passes the filters that are about it alone.
fn is_let_through(filters: &Filters, record: &NetworkRecord) -> bool {
    filters.matches_exactly("driver", &record.driver)
        && matches_somewhere(filters, "name", &record.name)
        && matches_somewhere(filters, "id", &record.id)
        && filters.matches_all_labels("label", &record.labels)
        && filters.matches_exactly("scope", "local")
}

/// One of the values is the text, or a pattern that is found in it.
fn matches_somewhere(filters: &Filters, name: &str, text: &str) -> bool {
    !filters.contains(name)
        || filters.matches_exactly(name, text)
        || filters
            .get(name)
            .any(|pattern| regex::Regex::new(pattern).is_ok_and(|p| p.is_match(text)))
}

/// What is in the last parentheses of a text.
fn between(text: &str) -> &str {
    let inner = text.rsplit_once('(').map_or("", |(_, inner)| inner);
    inner.trim_end_matches(')')
}

fn dangling(filters: &Filters) -> Result<Option<bool>> {
    let values: Vec<&str> = filters.get("dangling").collect();
    match values.as_slice() {
        [] => Ok(None),
        ["0" | "false"] => Ok(Some(false)),
        ["1" | "true"] => Ok(Some(true)),
        [_] => Err(Error::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        )),
        _ => Err(Error::invalid(
            "got more than one value for filter key \"dangling\"",
        )),
    }
}

/// Whether the engine's own networks and whether those of users are asked for; none: nothing is said.
fn types(filters: &Filters) -> Result<Option<(bool, bool)>> {
    if !filters.contains("type") {
        return Ok(None);
    }
    let (mut builtin, mut custom) = (false, false);
    for value in filters.get("type") {
        match value {
            "builtin" => builtin = true,
            "custom" => custom = true,
            other => return Err(Error::system(format!("invalid filter: 'type'='{other}'"))),
        }
    }
    Ok(Some((builtin, custom)))
}

impl Context {
    /// Publishes an event about a network.
    pub(crate) fn tell_of_network(
        &self,
        record: &NetworkRecord,
        action: &str,
        extra: &[(&str, &str)],
    ) {
        let (name, driver) = (record.name.as_str(), record.driver.as_str());
        let attributes = [("name", name), ("type", driver)];
        let attributes = attributes.iter().chain(extra);
        let attributes = attributes
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.events
            .publish("network", action, &record.id, attributes);
    }
}
