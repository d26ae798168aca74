//! Ways between linked containers, where the default bridge has none between containers (`icc=false`): a container reaches
//! what those that it is linked to expose. Whoever of the two starts last opens the way, whoever ends first closes it (before it
//! gives its endpoint back, so that of two that end together one sees the other).

use super::super::Containers;
use super::super::record::Record;
use crate::networks::NetworkRecord;
use gantry_network::endpoint::Endpoint;
use gantry_network::network::Driver;
use gantry_network::plane::LinkedPort;
use std::sync::Arc;

/// From whom, to whom, and where.
type Way = (Endpoint, Endpoint, Vec<LinkedPort>);

impl Containers {
    /// Opens the ways from a container, and to it.
    pub(in crate::containers) fn open_ways(&self, record: &Record) {
        for (from, to, ports) in self.ways(record) {
            if let Err(error) = self.context.plane.link(&from, &to, &ports) {
                tracing::error!(container = %record.id, %error, "a link's ports cannot be reached");
            }
        }
    }

    /// Closes them; before its addresses are somebody else's.
    pub(in crate::containers) fn close_ways(&self, record: &Record) {
        for (from, to, ports) in self.ways(record) {
            if let Err(error) = self.context.plane.unlink(&from, &to, &ports) {
                tracing::error!(container = %record.id, %error, "a link's ports cannot be closed");
            }
        }
    }

    /// The default bridge, where containers on it do not reach each other.
    pub(in crate::containers) fn bridge_without_ways(&self) -> Option<Arc<NetworkRecord>> {
        let bridge = self.context.networks.bridge().ok()?;
        let driver = &bridge.network.as_ref()?.driver;
        let needed = matches!(driver, Driver::Bridge(own) if !own.icc);
        needed.then(|| bridge.clone())
    }

    /// The ways between a container and those that run.
    fn ways(&self, record: &Record) -> Vec<Way> {
        let Some(bridge) = self.bridge_without_ways() else {
            return Vec::new();
        };
        let Some(own) = record.endpoint_on(&bridge.id) else {
            return Vec::new();
        };
        let mut ways = Vec::new();
        for other in self.all() {
            let other = other.record();
            let Some(its) = other.endpoint_on(&bridge.id) else {
                continue;
            };
            if record.links.iter().any(|link| link.container == other.id) {
                ways.push((own.clone(), its.clone(), exposed(&other)));
            }
            if other.links.iter().any(|link| link.container == record.id) {
                ways.push((its.clone(), own.clone(), exposed(record)));
            }
        }
        ways
    }
}

fn exposed(record: &Record) -> Vec<LinkedPort> {
    let ports = record.config.exposed_ports.iter().flatten();
    let parse = |text: &str| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        Some(LinkedPort {
            port: number.parse().ok()?,
            protocol: protocol.to_owned(),
        })
    };
    ports.filter_map(|(port, _)| parse(port)).collect()
}
