//! Networks as `inspect` and the lists show them.

use super::super::Containers;
use super::super::record::Record;
use crate::networks::NetworkRecord;
use gantry_api::container::{EndpointSettings, NetworkSettings, PortBinding, PortMap};
use gantry_network::endpoint::Endpoint;
use std::collections::BTreeMap;

impl Containers {
    pub(in crate::containers) fn network_settings(&self, record: &Record) -> NetworkSettings {
        let mut settings = NetworkSettings {
            networks: self.endpoints(record),
            ..NetworkSettings::default()
        };
        if record.state.pid != 0 && record.network_mode() != "host" {
            settings.sandbox_id.clone_from(&record.id);
            settings.sandbox_key = format!("/proc/{}/ns/net", record.state.pid);
        }
        if !record.endpoints.is_empty() {
            settings.ports = port_map(record);
        }
        // What Docker shows of the default bridge beside the networks, for old clients.
        let bridge = self.context.networks.bridge().ok();
        let on_bridge = bridge.and_then(|bridge| record.endpoint_on(&bridge.id).cloned());
        if let Some(endpoint) = on_bridge {
            let mut shown = EndpointSettings::default();
            fill(&mut shown, &endpoint);
            settings.endpoint_id = shown.endpoint_id;
            settings.gateway = shown.gateway;
            settings.ip_address = shown.ip_address;
            settings.ip_prefix_len = shown.ip_prefix_len;
            settings.ipv6_gateway = shown.ipv6_gateway;
            settings.global_ipv6_address = shown.global_ipv6_address;
            settings.global_ipv6_prefix_len = shown.global_ipv6_prefix_len;
            settings.mac_address = shown.mac_address;
        }
        settings
    }

    /// The networks of a container by name.
    pub(in crate::containers) fn endpoints(
        &self,
        record: &Record,
    ) -> BTreeMap<String, EndpointSettings> {
        let mut all = BTreeMap::new();
        for (name, asked) in &record.networks {
            let asked = asked.clone();
            match self.context.networks.find(name) {
                Ok(network) => {
                    let shown = shown(record, &network, asked);
                    all.insert(network.name.clone(), shown);
                }
                Err(_) => {
                    all.insert(name.clone(), asked);
                }
            }
        }
        all
    }
}

fn shown(record: &Record, network: &NetworkRecord, asked: EndpointSettings) -> EndpointSettings {
    let mut settings = asked;
    if record.state.started_at.is_some() {
        settings.network_id.clone_from(&network.id);
    }
    if super::validate::is_user_defined(&network.name) {
        settings.dns_names = Some(dns_names(record, &settings));
    }
    if let Some(endpoint) = record.endpoint_on(&network.id) {
        fill(&mut settings, endpoint);
    }
    settings
}

/// The names by which others on a user's network find the container: its own, its aliases, its short ID, its host name.
pub(in crate::containers) fn dns_names(
    record: &Record,
    settings: &EndpointSettings,
) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(settings.aliases.iter().flatten().cloned());
    names.push(record.short_id().to_owned());
    if !record.config.hostname.is_empty() {
        names.push(record.config.hostname.clone());
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    let text = |address: Option<String>| address.unwrap_or_default();
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.gateway = text(endpoint.gateway_v4.map(|g| g.to_string()));
    settings.ip_address = text(endpoint.v4.map(|net| net.addr().to_string()));
    settings.ip_prefix_len = endpoint.v4.map_or(0, |net| net.prefix_len());
    settings.ipv6_gateway = text(endpoint.gateway_v6.map(|g| g.to_string()));
    settings.global_ipv6_address = text(endpoint.v6.map(|net| net.addr().to_string()));
    settings.global_ipv6_prefix_len = endpoint.v6.map_or(0, |net| net.prefix_len());
    settings.mac_address.clone_from(&endpoint.mac);
}

/// Exposed and published ports.
fn port_map(record: &Record) -> PortMap {
    let mut ports: PortMap = record
        .config
        .exposed_ports
        .iter()
        .flatten()
        .map(|(port, _)| (port.clone(), None))
        .collect();
    for port in record.endpoints.iter().flat_map(|e| &e.ports) {
        let bindings = ports
            .entry(format!("{}/{}", port.container_port, port.protocol))
            .or_default();
        bindings.get_or_insert_default().push(PortBinding {
            host_ip: port.host_ip.to_string(),
            // None: it is reached at the container's own address (`gateway_mode_ipv4=routed`).
            host_port: match port.host_port {
                0 => String::new(),
                number => number.to_string(),
            },
        });
    }
    ports
}
