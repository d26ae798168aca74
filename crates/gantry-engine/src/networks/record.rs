//! A network as it is kept.

use gantry_api::container::Map;
use gantry_api::network::{ConfigReference, Ipam, IpamConfig, Network as ShownNetwork};
use gantry_network::network::Network;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A network's record: what was asked for, and what it became for the kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// 64 hex digits.
    pub id: String,
    pub name: String,
    /// `bridge`, `host`, `null`, `macvlan` or `ipvlan`.
    pub driver: String,
    pub created: Timestamp,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    pub internal: bool,
    pub attachable: bool,
    /// A configuration for other networks, and none itself.
    pub config_only: bool,
    /// The name of such a network that this one was made from; empty without one.
    pub config_from: String,
    pub labels: Map,
    pub options: Map,
    /// As it was asked for.
    pub ipam: Ipam,
    /// Links and addresses; none for `host`, `none` and configurations.
    pub network: Option<Network>,
}

impl NetworkRecord {
    /// A record with nothing asked for.
    pub(crate) fn new(id: String, name: &str, driver: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            driver: driver.to_owned(),
            created: Timestamp::now(),
            enable_ipv4: true,
            enable_ipv6: false,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: String::new(),
            labels: Map::new(),
            options: Map::new(),
            ipam: Ipam {
                driver: "default".to_owned(),
                ..Ipam::default()
            },
            network: None,
        }
    }

    /// Whether it is one of the engine's own.
    pub fn is_predefined(&self) -> bool {
        super::is_predefined(&self.name)
    }

    /// The default bridge with `--bridge none`: containers that would be on it have no network.
    pub fn is_off(&self) -> bool {
        self.name == "bridge" && self.network.is_none()
    }

    /// How links in containers are called, before their number: `eth` unless the network says otherwise.
    pub fn link_prefix(&self) -> &str {
        let given = self
            .options
            .get("com.docker.network.container_iface_prefix");
        given
            .map(String::as_str)
            .filter(|prefix| !prefix.is_empty())
            .unwrap_or("eth")
    }

    /// The API's form, without containers.
    pub fn show(&self) -> ShownNetwork {
        ShownNetwork {
            name: self.name.clone(),
            id: self.id.clone(),
            created: self.created.to_string(),
            scope: "local".to_owned(),
            driver: self.driver.clone(),
            enable_ipv4: self.enable_ipv4,
            enable_ipv6: self.enable_ipv6,
            ipam: self.show_ipam(),
            internal: self.internal,
            attachable: self.attachable,
            ingress: false,
            config_from: ConfigReference {
                network: self.config_from.clone(),
            },
            config_only: self.config_only,
            options: self.options.clone(),
            labels: self.labels.clone(),
            ..ShownNetwork::default()
        }
    }

    /// Subnets of each family as they were asked for; where none was, as they were chosen.
    fn show_ipam(&self) -> Ipam {
        let mut shown = Vec::new();
        for v6 in [false, true] {
            let asked: Vec<_> = self.asked_subnets(v6).cloned().collect();
            if asked.is_empty() {
                shown.extend(self.chosen_subnets(v6));
            }
            shown.extend(asked);
        }
        Ipam {
            driver: self.ipam.driver.clone(),
            options: self.ipam.options.clone(),
            config: (!shown.is_empty()).then_some(shown),
        }
    }

    pub(super) fn asked_subnets(&self, v6: bool) -> impl Iterator<Item = &IpamConfig> {
        let all = self.ipam.config.iter().flatten();
        all.filter(move |config| !config.subnet.is_empty() && config.subnet.contains(':') == v6)
    }

    fn chosen_subnets(&self, v6: bool) -> impl Iterator<Item = IpamConfig> {
        let all = self.network.iter().flat_map(|network| &network.subnets);
        all.filter(move |subnet| matches!(subnet.net, IpNet::V6(_)) == v6)
            .map(|subnet| IpamConfig {
                subnet: subnet.net.to_string(),
                gateway: subnet
                    .gateway
                    .as_ref()
                    .map(IpAddr::to_string)
                    .unwrap_or_default(),
                ..IpamConfig::default()
            })
    }
}
