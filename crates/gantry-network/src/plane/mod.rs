//! All networks of the daemon in the kernel: their links, their addresses, their endpoints.

mod attach;
mod bridge;
mod default;
mod forwarding;
mod mac;
mod parent;
mod raise;
mod segment;

#[cfg(test)]
mod tests;

use crate::endpoint::{Endpoint, PortRequest, PublishedPort};
use crate::firewall::{Firewall, Targets, Watch};
use crate::link::{self, Link};
use crate::netlink::Netlink;
use crate::network::{Driver, GatewayMode, Network};
use crate::ports::{Placement, Ports};
use crate::proxy::ProxyOptions;
use ipnet::IpNet;
use segment::Segment;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use crate::error::NetworkError;
pub use crate::firewall::{FirewallOptions, LinkedPort};
pub use default::{BridgeConfig, Neighbours, default_bridge};

/// How the plane is opened.
#[derive(Debug, Clone, Default)]
pub struct PlaneOptions {
    /// The table's name in there also marks the links that are made (as their alias): it must be another for another
    /// engine.
    pub firewall: FirewallOptions,
    /// `--ip-forward`: the host is made to forward where a network needs it.
    pub forwarding: bool,
    /// Who carries what the firewall does not lead to containers; none: nobody.
    pub proxy: Option<ProxyOptions>,
}

impl PlaneOptions {
    fn carries(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.is_on)
    }
}

/// The networks that are up. Its methods are to be called in the network namespace in which it was opened (the
/// host's): published ports are bound by the calling thread.
#[derive(Debug)]
pub struct Plane {
    netlink: Netlink,
    firewall: Arc<Firewall>,
    watch: Option<Watch>,
    ports: Ports,
    /// By the network's identity.
    segments: RwLock<HashMap<String, Arc<Segment>>>,
    /// Tells names of links apart.
    generation: AtomicU8,
    mark: String,
    forwarding: bool,
}

/// A network that could not be brought up, by its identity.
pub type Fallen = (String, NetworkError);

impl Plane {
    /// Brings the networks up, each as it was; idempotent. `in_use` are the endpoints of containers that run: their
    /// addresses are taken, their links kept. All other links that are ours by mark or name are removed. What fails for
    /// one network does not touch the others.
    pub fn open(
        options: &PlaneOptions,
        networks: &[Network],
        in_use: &[Endpoint],
    ) -> Result<(Self, Vec<Fallen>), NetworkError> {
        raise::open(options, networks, in_use)
    }

    /// Makes a network.
    pub fn add(&self, network: &Network) -> Result<(), NetworkError> {
        let segment = self.raise(network)?;
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(network.id.clone(), Arc::new(segment));
        Ok(())
    }

    /// Removes a network that nobody has an address of; one that is not there is no error.
    pub fn remove(&self, id: &str) -> Result<(), NetworkError> {
        let Ok(segment) = self.segment(id) else {
            return Ok(());
        };
        segment.close()?;
        let done = self.lower(&segment);
        match done {
            Ok(()) => {
                self.segments
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(id);
            }
            // It can be tried again, and used until then.
            Err(_) => segment.open_again(),
        }
        done
    }

    /// Whether the network is up.
    pub fn is_up(&self, id: &str) -> bool {
        self.segment(id).is_ok()
    }

    /// Publishes more ports of an endpoint; what they became.
    pub fn publish(
        &self,
        endpoint: &Endpoint,
        wanted: &[PortRequest],
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let segment = self.segment(&endpoint.network)?;
        let targets = targets(endpoint);
        let ports = self.reserve(&segment, wanted, targets)?;
        let done = self.open_ports(&segment, &ports, targets).and_then(|()| {
            let Some(port) = self.find(&endpoint.host_link)? else {
                return Ok(());
            };
            self.netlink
                .execute(&[link::set_hairpin(port.index)])
                .map_err(NetworkError::kernel(format!("setting up {}", port.name)))
        });
        match done {
            Ok(()) => Ok(ports),
            Err(error) => {
                let _ = self.close_ports(&segment, &ports, targets);
                Err(error)
            }
        }
    }

    /// Closes some of an endpoint's ports; those that are closed already are no error.
    pub fn unpublish(
        &self,
        endpoint: &Endpoint,
        ports: &[PublishedPort],
    ) -> Result<(), NetworkError> {
        let segment = self.segment(&endpoint.network)?;
        self.close_ports(&segment, ports, targets(endpoint))
    }

    /// Lets one container reach ports of another on a network where containers do not reach each other.
    pub fn link(
        &self,
        from: &Endpoint,
        to: &Endpoint,
        ports: &[LinkedPort],
    ) -> Result<(), NetworkError> {
        self.firewall.link(targets(from), targets(to), ports)
    }

    /// Takes that back; fine where it was not so.
    pub fn unlink(
        &self,
        from: &Endpoint,
        to: &Endpoint,
        ports: &[LinkedPort],
    ) -> Result<(), NetworkError> {
        self.firewall.unlink(targets(from), targets(to), ports)
    }

    fn reserve(
        &self,
        segment: &Segment,
        wanted: &[PortRequest],
        targets: Targets,
    ) -> Result<Vec<PublishedPort>, NetworkError> {
        let Driver::Bridge(bridge) = &segment.network.driver else {
            return Ok(Vec::new());
        };
        // Nobody outside could come through.
        if segment.network.internal {
            return Ok(Vec::new());
        }
        let placement = Placement {
            targets,
            host_binding: bridge.host_binding,
            routed_v4: bridge.gateway_mode_v4 == GatewayMode::Routed,
            routed_v6: bridge.gateway_mode_v6 == GatewayMode::Routed,
        };
        self.ports.reserve(wanted, &placement)
    }

    fn open_ports(
        &self,
        segment: &Segment,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        self.firewall.publish(&segment.link.name, ports, targets)
    }

    fn close_ports(
        &self,
        segment: &Segment,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Result<(), NetworkError> {
        let closed = self.firewall.unpublish(&segment.link.name, ports, targets);
        self.ports.release(ports);
        closed
    }

    /// Deletes links of endpoints that were released, together. For those whose namespace lingers: the kernel keeps one
    /// for a minute or two while a TCP connection of it waits for an answer that will not come.
    pub fn clear(&self, host_links: &[String]) -> Result<(), NetworkError> {
        let mut lingering = Vec::new();
        for name in host_links {
            let Some(link) = self.find(name)? else {
                continue;
            };
            let bridge = self
                .segments()
                .into_iter()
                .find(|segment| segment.link.index == link.master);
            let Some(bridge) = bridge else {
                continue;
            };
            if !bridge.has(&link.name) && bridge::is_our_port(&link, &bridge.link) {
                lingering.push(link);
            }
        }
        bridge::remove_ports(&self.netlink, lingering.iter())
    }

    /// Removes all links and tables (tests; the daemon leaves them up, as Docker does). A link of the user's stays.
    pub fn tear_down(mut self) -> Result<(), NetworkError> {
        drop(self.watch.take());
        let mut errors = Vec::new();
        for segment in self.segments() {
            errors.extend(self.lower(&segment).err());
        }
        errors.extend(self.firewall.remove().err());
        NetworkError::all(errors)
    }

    fn segment(&self, id: &str) -> Result<Arc<Segment>, NetworkError> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let segment = segments.get(id).cloned();
        segment.ok_or_else(|| NetworkError::Invalid(format!("network {id} is not up")))
    }

    fn segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Option<Link>, NetworkError> {
        find(&self.netlink, name)
    }

    /// Deletes a link; one that has gone meanwhile is no error.
    fn delete(&self, link: &Link) -> Result<(), NetworkError> {
        match self.netlink.execute(&[link::delete(link.index)]) {
            Err(refusal) if !refusal.is(libc::ENODEV) => Err(NetworkError::kernel(format!(
                "deleting {}",
                link.name
            ))(refusal)),
            _ => Ok(()),
        }
    }

    fn next_generation(&self) -> u8 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }
}

fn find(netlink: &Netlink, name: &str) -> Result<Option<Link>, NetworkError> {
    if name.is_empty() {
        return Ok(None);
    }
    link::by_name(netlink, name).map_err(NetworkError::kernel(format!("looking up link {name}")))
}

fn targets(endpoint: &Endpoint) -> Targets {
    Targets {
        v4: endpoint.v4.map(|net| net.addr()),
        v6: endpoint.v6.map(|net| net.addr()),
    }
}

/// The addresses of a link of the host (a bridge of the user's, the default bridge of an earlier daemon), link-local
/// ones left out.
pub fn addresses_of(name: &str) -> Result<Vec<IpNet>, NetworkError> {
    let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
    let Some(link) = find(&netlink, name)? else {
        return Ok(Vec::new());
    };
    let all = link::addresses(&netlink).map_err(NetworkError::kernel("listing addresses"))?;
    let mine = all.into_iter().filter(|(index, _)| *index == link.index);
    Ok(mine
        .map(|(_, net)| net)
        .filter(|net| !bridge::is_link_local(*net))
        .collect())
}
