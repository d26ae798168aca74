//! Bringing networks up, for the first time or again, and taking them down.
use super::segment::Segment;
use super::{Fallen, Plane, PlaneOptions, bridge, forwarding, targets};
use crate::endpoint::{Endpoint, Families};
use crate::error::NetworkError;
use crate::firewall::{BridgeRules, Firewall, FirewallOptions};
use crate::link::{self, Link};
use crate::netlink::Netlink;
use crate::network::{Driver, Network};
use crate::ports::Ports;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, RwLock};

pub(super) fn open(
    options: &PlaneOptions,
    networks: &[Network],
    in_use: &[Endpoint],
) -> Result<(Plane, Vec<Fallen>), NetworkError> {
    let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
    let FirewallOptions { v4, v6, .. } = options.firewall;
    let ports = match &options.proxy {
        Some(proxy) => Ports::open(proxy, Families { v4, v6 })
            .map_err(NetworkError::kernel("watching over the proxy for ports"))?,
        None => Ports::default(),
    };
    let firewall = Firewall::new(options.firewall.clone(), options.carries())?;
    let mut plane = Plane {
        netlink,
        firewall: Arc::new(firewall),
        watch: None,
        ports,
        segments: RwLock::new(HashMap::new()),
        generation: AtomicU8::new(bridge::random_bytes()[0]),
        mark: options.firewall.table.clone(),
        forwarding: options.forwarding,
    };
    let mut fallen = Vec::new();
    for network in networks {
        if let Err(error) = plane.add(network) {
            fallen.push((network.id.clone(), error));
        }
    }
    plane.tidy(in_use)?;
    for endpoint in in_use {
        plane.take_up(endpoint);
    }
    plane.ports.settle();
    plane.firewall.load_all()?;
    plane.watch = Some(plane.firewall.watch()?);
    Ok((plane, fallen))
}

/// What the firewall has to know of a network; None: it has no bridge.
fn rules(network: &Network) -> Option<BridgeRules> {
    let Driver::Bridge(bridge) = &network.driver else {
        return None;
    };
    Some(BridgeRules {
        link: bridge.link.clone(),
        subnets: network.subnets.iter().map(|s| s.net).collect(),
        internal: network.internal,
        icc: bridge.icc,
        masquerade: bridge.masquerade,
        source: bridge.source.clone(),
        gateway_mode_v4: bridge.gateway_mode_v4,
        gateway_mode_v6: bridge.gateway_mode_v6,
        trusted_links: bridge.trusted_links.clone(),
    })
}

/// Says so where the kernel has no links of the driver's kind.
fn check_kind(kind: &str) -> Result<(), NetworkError> {
    if crate::host::has_driver(kind)? {
        return Ok(());
    }
    Err(NetworkError::Invalid(format!(
        "this kernel has no {kind} links: load the module {kind}"
    )))
}

impl Plane {
    /// Makes a network's links and rules; on failure nothing stays that was not there.
    pub(super) fn raise(&self, network: &Network) -> Result<Segment, NetworkError> {
        let link = match &network.driver {
            Driver::Bridge(bridge) => self.raise_bridge(network, bridge)?,
            Driver::Macvlan { parent, .. } => {
                check_kind("macvlan")?;
                self.raise_parent(parent)?
            }
            Driver::Ipvlan { parent, .. } => {
                check_kind("ipvlan")?;
                self.raise_parent(parent)?
            }
        };
        let segment = Segment::new(network.clone(), link);
        let done = self.raise_rules(network);
        if let Err(error) = done {
            let _ = self.lower(&segment);
            return Err(error);
        }
        Ok(segment)
    }

    fn raise_rules(&self, network: &Network) -> Result<(), NetworkError> {
        let Some(rules) = rules(network) else {
            return Ok(());
        };
        if self.forwarding && !network.internal {
            forwarding::forward(network)?;
        }
        self.firewall.add_bridge(&rules)
    }

    /// Takes a network's links and rules away.
    pub(super) fn lower(&self, segment: &Segment) -> Result<(), NetworkError> {
        match &segment.network.driver {
            Driver::Bridge(bridge) => {
                self.lower_bridge(&segment.link, bridge.ours)?;
                self.firewall.remove_bridge(&bridge.link)
            }
            Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => {
                // The last network on a VLAN takes it away.
                let mut others = self.segments().into_iter();
                if others.any(|other| {
                    other.network.id != segment.network.id && other.link.index == segment.link.index
                }) {
                    return Ok(());
                }
                self.lower_parent(parent, &segment.link)
            }
        }
    }

    /// Keeps the links of running containers on their bridges, and removes what is ours and nobody's.
    fn tidy(&self, in_use: &[Endpoint]) -> Result<(), NetworkError> {
        let links = link::list(&self.netlink).map_err(NetworkError::kernel("listing links"))?;
        let segments = self.segments();
        let kept: HashMap<&str, &Endpoint> = in_use
            .iter()
            .filter(|e| !e.host_link.is_empty())
            .map(|e| (e.host_link.as_str(), e))
            .collect();
        let up: HashSet<u32> = segments.iter().map(|s| s.link.index).collect();
        let ours: HashSet<u32> = links
            .iter()
            .filter(|link| link.alias == self.mark)
            .map(|link| link.index)
            .collect();
        let mut stale = Vec::new();
        for link in &links {
            match kept.get(link.name.as_str()) {
                Some(endpoint) => self.put_back(link, endpoint),
                None if bridge::is_our_name(link)
                    && (up.contains(&link.master) || ours.contains(&link.master)) =>
                {
                    stale.push(link);
                }
                None => {}
            }
        }
        // Links of networks that have no record any more.
        let removable = ["bridge", "vlan", "dummy"];
        stale.extend(links.iter().filter(|link| {
            ours.contains(&link.index)
                && !up.contains(&link.index)
                && removable.contains(&link.kind.as_str())
        }));
        bridge::remove_ports(&self.netlink, stale.into_iter())
    }

    /// Makes the link of a running container a port of its bridge again, where somebody has deleted that.
    fn put_back(&self, lost: &Link, endpoint: &Endpoint) {
        let Ok(segment) = self.segment(&endpoint.network) else {
            return;
        };
        if lost.master == segment.link.index {
            return;
        }
        let back = [
            link::set_master(lost.index, segment.link.index),
            link::set_hairpin(lost.index),
        ];
        // It may be ending at this moment.
        if let Err(refusal) = self.netlink.execute(&back) {
            tracing::warn!(link = lost.name, error = %refusal.error, "cannot put it back on {}", segment.link.name);
        }
    }

    /// Takes an endpoint's addresses and ports again. It runs, so it keeps what it has, whatever others have done
    /// meanwhile.
    fn take_up(&self, endpoint: &Endpoint) {
        let Ok(segment) = self.segment(&endpoint.network) else {
            tracing::warn!(
                network = endpoint.network,
                "a running container has an address of a network that is not up"
            );
            return;
        };
        segment.take_up(endpoint);
        let targets = targets(endpoint);
        for port in &endpoint.ports {
            if let Err(error) = self.ports.retake(std::slice::from_ref(port), targets) {
                tracing::warn!(link = endpoint.host_link, %error, "published port of a running container");
            }
        }
        let published = self
            .allow_loopback(&segment, &endpoint.ports)
            .and_then(|()| self.open_ports(&segment, &endpoint.ports, targets));
        if let Err(error) = published {
            tracing::warn!(link = endpoint.host_link, %error, "published ports of a running container");
        }
    }
}
