//! Endpoints: a container's link on a network, from its making to its end.
use super::segment::{Segment, Taken, addresses};
use super::{Plane, bridge, find, mac, targets};
use crate::endpoint::{Endpoint, EndpointRequest, Families, PublishedPort};
use crate::error::NetworkError;
use crate::firewall::CLOSED_GROUP;
use crate::link::{self, Link, Mac, Stacked, VethPair};
use crate::netlink::Message;
use crate::network::{Driver, IpvlanMode, Network};
use crate::sandbox::Sandbox;
use ipnet::IpNet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// Names that may be taken by links that the kernel has not yet cleared away.
const GENERATIONS: u16 = 256;

/// What is made for one endpoint.
struct Attachment<'a> {
    segment: &'a Segment,
    sandbox: &'a Sandbox,
    request: &'a EndpointRequest,
    taken: &'a [Taken],
    mac: Mac,
}

impl Plane {
    /// Gives the sandbox a link on a network: addresses, default routes, up. Blocks about a millisecond. Either all of
    /// it is done or nothing stays.
    pub fn attach(
        &self,
        network: &str,
        sandbox: &Sandbox,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let segment = self.segment(network)?;
        let taken = segment.take(request)?;
        let attached = self.attach_at(&segment, sandbox, request, &taken);
        match &attached {
            Ok(endpoint) => segment.linked(&request.id, &endpoint.host_link),
            Err(_) => {
                segment.disown(&request.id);
                segment.free(&addresses(&taken));
            }
        }
        attached
    }

    fn attach_at(
        &self,
        segment: &Segment,
        sandbox: &Sandbox,
        request: &EndpointRequest,
        taken: &[Taken],
    ) -> Result<Endpoint, NetworkError> {
        let first = taken.first().map(|t| t.address.addr());
        let mac = match (&request.mac, first) {
            (Some(text), _) => mac::parse(text)?,
            (None, Some(address)) => mac::default(address),
            (None, None) => {
                let [a, b, c, d, ..] = bridge::random_bytes();
                [0x02, 0x42, a, b, c, d]
            }
        };
        let mut endpoint = new_endpoint(segment, request, taken, mac);
        endpoint.ports = self.reserve(segment, &request.ports, targets(&endpoint))?;
        let attachment = Attachment {
            segment,
            sandbox,
            request,
            taken,
            mac,
        };
        let done = match &segment.network.driver {
            Driver::Bridge(_) => self.attach_to_bridge(&attachment, &mut endpoint),
            Driver::Macvlan { .. } | Driver::Ipvlan { .. } => {
                self.attach_to_parent(&attachment, &mut endpoint)
            }
        };
        match done {
            Ok(()) => Ok(endpoint),
            Err(error) => {
                self.ports.release(&endpoint.ports);
                Err(error)
            }
        }
    }

    fn attach_to_bridge(
        &self,
        attachment: &Attachment<'_>,
        endpoint: &mut Endpoint,
    ) -> Result<(), NetworkError> {
        let port = self.plug(attachment)?;
        endpoint.host_link.clone_from(&port.name);
        let done = self.set_up(attachment, &port, endpoint);
        done.inspect_err(|_| {
            // The namespace may live on, so the link must not. What cannot be deleted goes with it.
            let _ = self.netlink.execute(&[link::delete(port.index)]);
        })
    }

    /// Makes the veth pair; the host's end.
    fn plug(&self, attachment: &Attachment<'_>) -> Result<Link, NetworkError> {
        let Attachment {
            segment,
            sandbox,
            request,
            taken,
            mac,
        } = attachment;
        let id: String = request.container.chars().take(8).collect();
        let host_mac = match taken.first() {
            Some(taken) => mac::of(taken.address.addr(), [0xfe, 0x42]),
            None => [0xfe, 0x42, mac[2], mac[3], mac[4], mac[5]],
        };
        for _ in 0..GENERATIONS {
            let name = format!("veth{id}{:02x}", self.next_generation());
            let pair = VethPair {
                host_name: &name,
                host_mac,
                master: Some(segment.link.index),
                mtu: bridge::mtu(&segment.network),
                group: group(&segment.network),
                peer_name: &request.link,
                peer_mac: *mac,
                peer_netns: sandbox.netns.as_fd(),
            };
            match self.netlink.execute(&[link::add_veth(&pair)]) {
                Err(refusal) if refusal.is(libc::EEXIST) => {
                    // Either side may be what exists.
                    if find(&sandbox.netlink, &request.link)?.is_some() {
                        let text = format!("the sandbox has an {} already", request.link);
                        return Err(NetworkError::Invalid(text));
                    }
                }
                done => {
                    done.map_err(NetworkError::kernel(format!("making link {name}")))?;
                    let port = self.find(&name)?.ok_or_else(|| {
                        NetworkError::Invalid(format!("link {name} vanished while it was set up"))
                    })?;
                    // A port of a bridge has no use for one, and each of the kernel's routes to them makes the next
                    // link dearer. Refused where the host has no IPv6.
                    let _ = self
                        .netlink
                        .execute(&[link::set_without_own_address(port.index)]);
                    return Ok(port);
                }
            }
        }
        let text = format!("all names of links for container {id} are in use");
        Err(NetworkError::Invalid(text))
    }

    /// Everything after the pair is there.
    fn set_up(
        &self,
        attachment: &Attachment<'_>,
        port: &Link,
        endpoint: &Endpoint,
    ) -> Result<(), NetworkError> {
        let segment = attachment.segment;
        let inner = attachment.set_up_inside()?;
        let mut host_side = vec![
            link::settle(port.index),
            link::settle(segment.link.index),
            link::set_forwarding_entry(port.index, attachment.mac),
        ];
        if !endpoint.ports.is_empty() {
            host_side.push(link::set_hairpin(port.index));
        }
        self.netlink
            .execute(&host_side)
            .map_err(NetworkError::kernel(format!(
                "setting up port {}",
                port.name
            )))?;
        attachment.announce(inner)?;
        self.allow_loopback(segment, &endpoint.ports)?;
        self.open_ports(segment, &endpoint.ports, targets(endpoint))
    }

    /// Ports that are to be reached at 127.0.0.1 need the bridge to pass such packets.
    pub(super) fn allow_loopback(
        &self,
        segment: &Segment,
        ports: &[PublishedPort],
    ) -> Result<(), NetworkError> {
        let needs = |ip: IpAddr| ip.is_ipv4() && (ip.is_unspecified() || ip.is_loopback());
        if !ports.iter().any(|port| needs(port.host_ip))
            || segment.routes_localnet.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let link = &segment.link;
        self.netlink
            .execute(&[link::set_route_localnet(link.index)])
            .map_err(NetworkError::kernel(format!(
                "setting route_localnet of {}",
                link.name
            )))?;
        tracing::info!(
            link = link.name,
            "route_localnet is set, for ports that are published on 127.0.0.1"
        );
        segment.routes_localnet.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a link on the parent, born in the sandbox.
    fn attach_to_parent(
        &self,
        attachment: &Attachment<'_>,
        endpoint: &mut Endpoint,
    ) -> Result<(), NetworkError> {
        let network = &attachment.segment.network;
        let stacked = Stacked {
            name: &attachment.request.link,
            parent: attachment.segment.link.index,
            netns: attachment.sandbox.netns.as_fd(),
            mtu: network.mtu,
        };
        let (kind, message) = match &network.driver {
            Driver::Ipvlan { mode, flag, .. } => ("ipvlan", stacked.ipvlan(*mode, *flag)),
            Driver::Macvlan { mode, .. } => ("macvlan", stacked.macvlan(*mode, attachment.mac)),
            Driver::Bridge(_) => return Ok(()),
        };
        self.netlink
            .execute(&[message])
            .map_err(NetworkError::kernel(format!(
                "making a {kind} link on {}",
                attachment.segment.link.name
            )))?;
        if matches!(network.driver, Driver::Ipvlan { .. }) {
            // It has the parent's.
            endpoint.mac.clear();
        }
        let done = attachment.set_up_inside();
        done.map(drop).inspect_err(|_| {
            let _ = attachment.sandbox.remove_link(&attachment.request.link);
        })
    }

    /// Leads the default routes of families to an endpoint of a sandbox.
    pub fn route(
        &self,
        sandbox: &Sandbox,
        endpoint: &Endpoint,
        families: Families,
    ) -> Result<(), NetworkError> {
        let Some(inner) = find(&sandbox.netlink, &endpoint.link)? else {
            return Err(NetworkError::Invalid(format!(
                "the sandbox has no {}",
                endpoint.link
            )));
        };
        let segment = self.segment(&endpoint.network)?;
        let taken = [
            (
                endpoint.v4.map(IpNet::V4),
                endpoint.gateway_v4.map(IpAddr::V4),
            ),
            (
                endpoint.v6.map(IpNet::V6),
                endpoint.gateway_v6.map(IpAddr::V6),
            ),
        ];
        let taken: Vec<Taken> = taken
            .into_iter()
            .filter_map(|(address, gateway)| {
                Some(Taken {
                    address: address?,
                    gateway,
                })
            })
            .collect();
        sandbox
            .netlink
            .execute(&default_routes(&segment, inner.index, &taken, families))
            .map_err(NetworkError::kernel(format!(
                "setting the default route by {}",
                endpoint.link
            )))
    }

    /// Frees the addresses and the published ports of an endpoint whose container has ended; a second call does nothing.
    /// The link is not deleted, as the namespace is ending and takes it along: it is only cut off, because the kernel
    /// ends the namespace some time after its last process.
    pub fn release(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        self.end(endpoint, |plane, segment| {
            let cut = match plane.find(&endpoint.host_link)? {
                Some(port) if port.master == segment.link.index => plane
                    .netlink
                    .execute(&[link::set_port_disabled(port.index)]),
                _ => return Ok(()),
            };
            match cut {
                // It went between the two requests.
                Err(refusal) if !refusal.is(libc::ENODEV) => {
                    let what = format!("cutting off {}", endpoint.host_link);
                    Err(NetworkError::kernel(what)(refusal))
                }
                _ => Ok(()),
            }
        })
    }

    /// Takes an endpoint away from a container that goes on; a second call does nothing.
    pub fn detach(&self, sandbox: &Sandbox, endpoint: &Endpoint) -> Result<(), NetworkError> {
        self.end(endpoint, |plane, segment| {
            let port = plane.find(&endpoint.host_link)?;
            match port.filter(|port| port.master == segment.link.index) {
                Some(port) => plane.delete(&port),
                None => sandbox.remove_link(&endpoint.link),
            }
        })
    }

    /// The end of an endpoint's rights; `unlink` sees to its link. The addresses are free when all else is done.
    fn end(
        &self,
        endpoint: &Endpoint,
        unlink: impl FnOnce(&Self, &Segment) -> Result<(), NetworkError>,
    ) -> Result<(), NetworkError> {
        let Ok(segment) = self.segment(&endpoint.network) else {
            return Ok(());
        };
        let Some(addresses) = segment.disown(&endpoint.id) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        if !endpoint.ports.is_empty() {
            let closed = self.close_ports(&segment, &endpoint.ports, targets(endpoint));
            errors.extend(closed.err());
        }
        errors.extend(unlink(self, &segment).err());
        // The kernel goes through all that it remembers for this, 10 ms and more: only where others were led here.
        if endpoint.ports.iter().any(|port| port.protocol != "tcp") {
            self.firewall.forget(targets(endpoint));
        }
        segment.free(&addresses);
        NetworkError::all(errors)
    }
}

impl Attachment<'_> {
    /// Gives the link in the sandbox its addresses and routes; its index.
    fn set_up_inside(&self) -> Result<u32, NetworkError> {
        let name = &self.request.link;
        let has_v6 = self.taken.iter().any(|t| t.address.addr().is_ipv6())
            || self.request.link_local.iter().any(IpAddr::is_ipv6);
        self.sandbox
            .configure(name, has_v6, &self.request.sysctls)?;
        let inner = find(&self.sandbox.netlink, name)?
            .ok_or_else(|| NetworkError::Invalid(format!("{name} vanished from the sandbox")))?;
        let index = inner.index;
        let mut messages: Vec<Message> = Vec::new();
        for taken in self.taken {
            messages.push(link::add_address(index, taken.address));
        }
        for address in &self.request.link_local {
            let prefix = if address.is_ipv4() { 16 } else { 64 };
            messages.push(link::add_address(
                index,
                IpNet::new_assert(*address, prefix),
            ));
        }
        messages.push(link::set_up(index));
        messages.extend(default_routes(
            self.segment,
            index,
            self.taken,
            self.request.default_routes,
        ));
        messages.push(link::settle(index));
        let what = || {
            let nets: Vec<String> = self.taken.iter().map(|t| t.address.to_string()).collect();
            format!("giving {} to {name}", nets.join(" and "))
        };
        self.sandbox
            .netlink
            .execute(&messages)
            .map_err(|refusal| NetworkError::kernel(what())(refusal))?;
        Ok(index)
    }

    /// Tells the neighbours of addresses that may have another MAC than they remember. (Of IPv6 the kernel does so when a
    /// link comes up, see [`Sandbox::configure`], but then nothing passes yet.)
    fn announce(&self, inner: u32) -> Result<(), NetworkError> {
        let may_be_misremembered = |taken: &Taken| {
            let address = taken.address.addr();
            let is_default = self.mac == mac::default(address);
            self.segment.may_be_misremembered(address, is_default)
        };
        // Each is noted, whatever the others are.
        let count = self
            .taken
            .iter()
            .filter(|t| may_be_misremembered(t))
            .count();
        if count == 0 {
            return Ok(());
        }
        self.sandbox
            .netlink
            .execute(&link::announce(inner, self.mac))
            .map_err(NetworkError::kernel("announcing the container's MAC"))
    }
}

/// The group of ports that the firewall keeps apart.
fn group(network: &Network) -> u32 {
    match &network.driver {
        Driver::Bridge(bridge) if !bridge.icc => CLOSED_GROUP,
        _ => 0,
    }
}

fn default_routes(
    segment: &Segment,
    index: u32,
    taken: &[Taken],
    families: Families,
) -> Vec<Message> {
    let network = &segment.network;
    if network.internal {
        return Vec::new();
    }
    let layer_3 = matches!(
        network.driver,
        Driver::Ipvlan {
            mode: IpvlanMode::L3 | IpvlanMode::L3s,
            ..
        }
    );
    let route = |taken: &Taken| {
        let address = taken.address.addr();
        let wanted = if address.is_ipv4() {
            families.v4
        } else {
            families.v6
        };
        match taken.gateway {
            _ if !wanted => None,
            _ if layer_3 => Some(link::set_default_link(index, address)),
            gateway => Some(link::set_default_route(index, gateway?)),
        }
    };
    taken.iter().filter_map(route).collect()
}

fn new_endpoint(
    segment: &Segment,
    request: &EndpointRequest,
    taken: &[Taken],
    mac: Mac,
) -> Endpoint {
    let mut endpoint = Endpoint {
        id: request.id.clone(),
        network: segment.network.id.clone(),
        host_link: String::new(),
        link: request.link.clone(),
        v4: None,
        v6: None,
        gateway_v4: None,
        gateway_v6: None,
        mac: mac::format(mac),
        ports: Vec::new(),
    };
    for taken in taken {
        match (taken.address, taken.gateway) {
            (IpNet::V4(net), gateway) => {
                endpoint.v4 = Some(net);
                endpoint.gateway_v4 = gateway.and_then(|g| match g {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                });
            }
            (IpNet::V6(net), gateway) => {
                endpoint.v6 = Some(net);
                endpoint.gateway_v6 = gateway.and_then(|g| match g {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                });
            }
        }
    }
    endpoint
}
