//! The default bridge: the daemon's flags say at each start what it is, and its record shows it as Docker's does.

use super::{Networks, options};
use crate::error::{Error, Result};
use gantry_api::container::Map;
use gantry_api::network::IpamConfig;
use gantry_network::network::{Driver, Network, Subnet};
use gantry_network::plane::{BridgeConfig, Neighbours, PlaneOptions, default_bridge};
use ipnet::IpNet;
use std::net::IpAddr;

/// Where ports are published unless the daemon is told otherwise.
const EVERYWHERE: &str = "0.0.0.0";
const DEFAULT_MTU: u32 = 1500;

impl Networks {
    /// Writes down what the default bridge is this time; none: there is none. While containers run on it, it stays what
    /// it is, whatever the flags say.
    pub(crate) fn set_bridge(
        &self,
        config: Option<&BridgeConfig>,
        plane: &PlaneOptions,
        runs: bool,
    ) -> Result<()> {
        let mut record = (*self.bridge()?).clone();
        let others: Vec<IpNet> = self
            .all()
            .iter()
            .filter(|other| other.id != record.id)
            .filter_map(|other| other.network.clone())
            .flat_map(|network| network.subnets)
            .map(|subnet| subnet.net)
            .collect();
        let neighbours = Neighbours {
            before: record.network.as_ref(),
            pools: &self.pools,
            others: &others,
        };
        let made = config.map(|config| {
            default_bridge(config, plane, &record.id, &neighbours)
                .map_err(|e| Error::caused("cannot bring the default bridge up", e))
        });
        if runs && record.network.is_some() {
            if made.and_then(Result::ok) != record.network {
                tracing::warn!(
                    "containers run on the default bridge: what is new about it in the settings does not count before \
                     a start of the daemon without such"
                );
            }
            return Ok(());
        }
        let network = made.transpose()?;
        record.options = network.as_ref().map(shown_options).unwrap_or_default();
        record.enable_ipv6 = config.is_some_and(|config| config.ipv6);
        let subnets = network.iter().flat_map(|network| &network.subnets);
        let subnets: Vec<_> = subnets.map(shown_subnet).collect();
        record.ipam.config = (!subnets.is_empty()).then_some(subnets);
        record.network = network;
        self.insert(record)
    }
}

/// The options that Docker's default bridge shows.
fn shown_options(network: &Network) -> Map {
    let Driver::Bridge(bridge) = &network.driver else {
        return Map::new();
    };
    let mtu = match network.mtu {
        0 => DEFAULT_MTU,
        given => given,
    };
    let binding = bridge.host_binding.as_ref().map(IpAddr::to_string);
    [
        (options::DEFAULT_BRIDGE, "true".to_owned()),
        (options::ENABLE_ICC, bridge.icc.to_string()),
        (options::MASQUERADE, bridge.masquerade.to_string()),
        (
            options::HOST_BINDING,
            binding.unwrap_or_else(|| EVERYWHERE.to_owned()),
        ),
        (options::BRIDGE_NAME, bridge.link.clone()),
        (options::MTU, mtu.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn shown_subnet(subnet: &Subnet) -> IpamConfig {
    let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let mut shown = IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet
            .range
            .map(|range| range.to_string())
            .unwrap_or_default(),
        gateway: text(subnet.gateway),
        ..IpamConfig::default()
    };
    if let Some(way) = subnet.default_gateway {
        let name = super::ipam::DEFAULT_GATEWAYS[usize::from(way.is_ipv6())];
        shown
            .auxiliary_addresses
            .insert(name.to_owned(), way.to_string());
    }
    shown
}
