//! A bridge network: the link, its address pool, NAT, endpoints.
use crate::addresses::Pool;
use crate::endpoint::{self, PortRequest};
use crate::firewall::{Firewall, Targets};
use crate::link::{self, Link, Mac, VethPair};
use crate::netlink::Netlink;
use crate::ports::{Placement, Ports};
use crate::sandbox::Sandbox;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::error::NetworkError;

mod up;

#[cfg(test)]
mod tests;

/// The interface in the container.
const CONTAINER_LINK: &str = "eth0";
/// Names that may be taken by links that the kernel has not yet cleared away.
const GENERATIONS: u16 = 256;

/// How the default bridge is made.
#[derive(Debug, Clone, Default)]
pub struct BridgeConfig {
    /// `-b`: an existing link of the user's (its address is used and it is never removed). None: `docker0`, or
    /// `gantry0` where that name belongs to someone else.
    pub existing: Option<String>,
    /// A name to make instead of docker0 (tests).
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge; none: 172.17.0.1/16 or the next free of Docker's pools.
    pub bip: Option<Ipv4Net>,
    /// 0: 1500.
    pub mtu: u32,
    /// Name of the nftables table (`gantry`; tests use their own). It also marks the bridge as this engine's (as the
    /// link's alias), so it must be another for another engine.
    pub table: String,
}

/// What one container has on the bridge; stored in the container's record, so that it can be
/// released or taken up again by a later daemon.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Endpoint {
    /// The host's side of the veth pair, `veth<8 of the id><2 of a generation>`.
    pub host_link: String,
    pub address: Ipv4Addr,
    pub prefix_len: u8,
    pub gateway: Ipv4Addr,
    /// `aa:bb:cc:dd:ee:ff`
    pub mac: String,
    pub ports: Vec<PublishedPort>,
}

/// A published port with its host side chosen.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PublishedPort {
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// `0.0.0.0`: all of the host's addresses.
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
}

impl PublishedPort {
    fn as_request(&self) -> PortRequest {
        PortRequest {
            container_port: self.container_port,
            protocol: self.protocol.clone(),
            host_ip: Some(self.host_ip.into()),
            host_ports: (self.host_port, self.host_port),
        }
    }

    fn to_any(&self) -> endpoint::PublishedPort {
        endpoint::PublishedPort {
            container_port: self.container_port,
            protocol: self.protocol.clone(),
            host_ip: self.host_ip.into(),
            host_port: self.host_port,
        }
    }

    fn all_to_any(ports: &[Self]) -> Vec<endpoint::PublishedPort> {
        ports.iter().map(Self::to_any).collect()
    }

    fn from_any(port: endpoint::PublishedPort) -> Option<Self> {
        let IpAddr::V4(host_ip) = port.host_ip else {
            return None;
        };
        Some(Self {
            container_port: port.container_port,
            protocol: port.protocol,
            host_ip,
            host_port: port.host_port,
        })
    }
}

fn targets(address: Ipv4Addr) -> Targets {
    Targets {
        v4: Some(address),
        v6: None,
    }
}

/// What a container asks for.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    pub address: Option<Ipv4Addr>,
    /// None: one made from the address, so that it is unique and the same whenever the address is.
    pub mac: Option<String>,
    /// Host port 0: an ephemeral one is chosen.
    pub ports: Vec<PublishedPort>,
}

/// The default bridge, up. Its methods are to be called in the network namespace in which it was brought up (the
/// host's): published ports are bound by the calling thread.
#[derive(Debug)]
pub struct Bridge {
    link: Link,
    /// We made the link, so we may remove it.
    ours: bool,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    mtu: u32,
    netlink: Netlink,
    firewall: Firewall,
    addresses: Mutex<Addresses>,
    ports: Ports,
    generation: AtomicU8,
    /// 127.0.0.0/8 may pass the bridge already.
    routes_localnet: AtomicBool,
}

/// The addresses that are handed out.
#[derive(Debug)]
struct Addresses {
    pool: Pool,
    /// The host link of the endpoint that has the address: who releases it twice must not take it from the next.
    owners: HashMap<Ipv4Addr, String>,
    /// Those that have had another MAC than the one made from the address: neighbours may remember it.
    with_other_mac: HashSet<Ipv4Addr>,
}

impl Bridge {
    /// Gives the sandbox an `eth0` on this bridge: address, default route, up. Blocks about a millisecond. Either
    /// all of it is done or nothing stays.
    pub fn attach(
        &self,
        container_id: &str,
        sandbox: &Sandbox,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let address = self.addresses().pool.take(request.address)?;
        let attached = self.attach_at(address, container_id, sandbox, request);
        let mut addresses = self.addresses();
        match &attached {
            Ok(endpoint) => {
                addresses.owners.insert(address, endpoint.host_link.clone());
            }
            Err(_) => addresses.pool.free(address),
        }
        attached
    }

    fn attach_at(
        &self,
        address: Ipv4Addr,
        container_id: &str,
        sandbox: &Sandbox,
        request: &EndpointRequest,
    ) -> Result<Endpoint, NetworkError> {
        let mac = match &request.mac {
            Some(text) => parse_mac(text)?,
            None => default_mac(address),
        };
        let wanted: Vec<_> = request
            .ports
            .iter()
            .map(PublishedPort::as_request)
            .collect();
        let placement = Placement {
            targets: targets(address),
            ..Placement::default()
        };
        let reserved = self.ports.reserve(&wanted, &placement)?;
        let ports: Vec<_> = reserved
            .iter()
            .cloned()
            .filter_map(PublishedPort::from_any)
            .collect();
        let plugged = self
            .plug(container_id, sandbox, address, mac)
            .and_then(|port| {
                let done = self.set_up(&port, sandbox, address, mac, &ports);
                done.map(|()| port.name.clone()).inspect_err(|_| {
                    // The namespace may live on, so the link must not. What cannot be deleted goes with it.
                    let _ = self.netlink.execute(&[link::delete(port.index)]);
                })
            });
        match plugged {
            Ok(host_link) => Ok(Endpoint {
                host_link,
                address,
                prefix_len: self.subnet.prefix_len(),
                gateway: self.gateway,
                mac: format_mac(mac),
                ports,
            }),
            Err(error) => {
                self.ports.release(&reserved);
                Err(error)
            }
        }
    }

    /// Makes the veth pair; the host's end.
    fn plug(
        &self,
        container_id: &str,
        sandbox: &Sandbox,
        address: Ipv4Addr,
        mac: Mac,
    ) -> Result<Link, NetworkError> {
        let id: String = container_id.chars().take(8).collect();
        for _ in 0..GENERATIONS {
            let generation = self.generation.fetch_add(1, Ordering::Relaxed);
            let name = format!("veth{id}{generation:02x}");
            let pair = VethPair {
                host_name: &name,
                host_mac: mac_of(address, [0xfe, 0x42]),
                master: Some(self.link.index),
                mtu: self.mtu,
                peer_name: CONTAINER_LINK,
                peer_mac: mac,
                peer_netns: sandbox.netns.as_fd(),
            };
            match self.netlink.execute(&[link::add_veth(&pair)]) {
                Err(refusal) if refusal.is(libc::EEXIST) => {
                    // Either side may be what exists.
                    if find(&sandbox.netlink, CONTAINER_LINK)?.is_some() {
                        let text = format!("the sandbox has an {CONTAINER_LINK} already");
                        return Err(NetworkError::Invalid(text));
                    }
                }
                done => {
                    done.map_err(NetworkError::kernel(format!("making link {name}")))?;
                    return find(&self.netlink, &name)?.ok_or_else(|| {
                        NetworkError::Invalid(format!("link {name} vanished while it was set up"))
                    });
                }
            }
        }
        let text = format!("all names of links for container {id} are in use");
        Err(NetworkError::Invalid(text))
    }

    /// Everything after the pair is there.
    fn set_up(
        &self,
        port: &Link,
        sandbox: &Sandbox,
        address: Ipv4Addr,
        mac: Mac,
        ports: &[PublishedPort],
    ) -> Result<(), NetworkError> {
        let inner = find(&sandbox.netlink, CONTAINER_LINK)?.ok_or_else(|| {
            NetworkError::Invalid(format!("{CONTAINER_LINK} vanished from the sandbox"))
        })?;
        let with_prefix = Ipv4Net::new_assert(address, self.subnet.prefix_len());
        sandbox
            .netlink
            .execute(&[
                link::add_address(inner.index, with_prefix),
                link::set_up(inner.index),
                link::add_default_route(inner.index, self.gateway),
                link::settle(inner.index),
            ])
            .map_err(NetworkError::kernel(format!(
                "giving {with_prefix} to {CONTAINER_LINK}"
            )))?;
        let mut host_side = vec![
            link::settle(port.index),
            link::settle(self.link.index),
            link::set_forwarding_entry(port.index, mac),
        ];
        if !ports.is_empty() {
            host_side.push(link::set_hairpin(port.index));
        }
        self.netlink
            .execute(&host_side)
            .map_err(NetworkError::kernel(format!(
                "setting up port {}",
                port.name
            )))?;
        if self.addresses().may_be_misremembered(address, mac) {
            sandbox
                .netlink
                .execute(&link::announce(inner.index, mac))
                .map_err(NetworkError::kernel("announcing the container's MAC"))?;
        }
        self.allow_loopback(ports)?;
        let ports = PublishedPort::all_to_any(ports);
        self.firewall
            .publish(&self.link.name, &ports, targets(address))
    }

    /// Ports that are to be reached at 127.0.0.1 need the bridge to pass such packets.
    fn allow_loopback(&self, ports: &[PublishedPort]) -> Result<(), NetworkError> {
        let needs = |ip: Ipv4Addr| ip.is_unspecified() || ip.is_loopback();
        if !ports.iter().any(|port| needs(port.host_ip))
            || self.routes_localnet.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        self.netlink
            .execute(&[link::set_route_localnet(self.link.index)])
            .map_err(NetworkError::kernel(format!(
                "setting route_localnet of {}",
                self.link.name
            )))?;
        self.routes_localnet.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Frees the address and the published ports; a second call does nothing. The link is not deleted, as the
    /// namespace is ending and takes it along: it is only cut off, because the kernel ends the namespace some time
    /// after its last process.
    pub fn release(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        if !self.addresses().disown(endpoint) {
            return Ok(());
        }
        let mut errors = Vec::new();
        let ports = PublishedPort::all_to_any(&endpoint.ports);
        let closed = self
            .firewall
            .unpublish(&self.link.name, &ports, targets(endpoint.address));
        errors.extend(closed.err());
        self.ports.release(&ports);
        match find(&self.netlink, &endpoint.host_link) {
            Ok(Some(port)) if port.master == self.link.index => {
                let cut = self.netlink.execute(&[link::set_port_disabled(port.index)]);
                match cut {
                    // It went between the two requests.
                    Err(refusal) if !refusal.is(libc::ENODEV) => {
                        errors.push(NetworkError::kernel(format!("cutting off {}", port.name))(
                            refusal,
                        ))
                    }
                    _ => {}
                }
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        self.addresses().pool.free(endpoint.address);
        NetworkError::all(errors)
    }

    /// Deletes links of endpoints that were released, together. For those whose namespace lingers: the kernel keeps one
    /// for a minute or two while a TCP connection of it waits for an answer that will not come.
    pub fn clear(&self, host_links: &[String]) -> Result<(), NetworkError> {
        let mut lingering = Vec::new();
        for name in host_links {
            let owned = self.addresses().owners.values().any(|owner| owner == name);
            if !owned
                && let Some(link) = find(&self.netlink, name)?
                && up::is_our_port(&link, &self.link)
            {
                lingering.push(link);
            }
        }
        up::remove_ports(&self.netlink, lingering.iter())
    }

    /// Loads the firewall table again if somebody has flushed it; whether that was so.
    pub fn reconcile(&self) -> Result<bool, NetworkError> {
        self.firewall.reconcile()
    }

    /// Whether another firewall of the host (Docker's own, ufw) drops what is forwarded unless it accepts it itself:
    /// then containers do not reach the outside until it is told to.
    pub fn is_overruled(&self) -> Result<bool, NetworkError> {
        self.firewall.is_overruled()
    }

    /// `docker0`
    pub fn name(&self) -> &str {
        &self.link.name
    }

    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Removes link and table (tests; the daemon leaves them up, as Docker does). A link of the user's stays.
    pub fn remove(self) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        errors.extend(self.firewall.remove().err());
        if self.ours {
            errors.extend(self.remove_links().err());
        }
        NetworkError::all(errors)
    }

    fn remove_links(&self) -> Result<(), NetworkError> {
        let ports = link::list(&self.netlink).map_err(NetworkError::kernel("listing links"))?;
        up::remove_ports(
            &self.netlink,
            ports.iter().filter(|l| up::is_our_port(l, &self.link)),
        )?;
        match self.netlink.execute(&[link::delete(self.link.index)]) {
            Err(refusal) if !refusal.is(libc::ENODEV) => {
                Err(NetworkError::kernel(format!("deleting {}", self.link.name))(refusal))
            }
            _ => Ok(()),
        }
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    /// Whether neighbours may know the address by another MAC than this.
    fn may_be_misremembered(&mut self, address: Ipv4Addr, mac: Mac) -> bool {
        if mac != default_mac(address) {
            self.with_other_mac.insert(address);
        }
        self.with_other_mac.contains(&address)
    }

    /// Ends the endpoint's right to its address; false: it has none.
    fn disown(&mut self, endpoint: &Endpoint) -> bool {
        let owns = self.owners.get(&endpoint.address) == Some(&endpoint.host_link);
        if owns {
            self.owners.remove(&endpoint.address);
        }
        owns
    }
}

fn find(netlink: &Netlink, name: &str) -> Result<Option<Link>, NetworkError> {
    link::by_name(netlink, name).map_err(NetworkError::kernel(format!("looking up link {name}")))
}

/// The MAC of who has this address, if nothing else is asked for. As it is the same for every owner of the address,
/// what neighbours remember stays right.
fn default_mac(address: Ipv4Addr) -> Mac {
    mac_of(address, [0x02, 0x42])
}

/// A locally administered MAC made of two bytes and an address.
fn mac_of(address: Ipv4Addr, prefix: [u8; 2]) -> Mac {
    let [a, b, c, d] = address.octets();
    [prefix[0], prefix[1], a, b, c, d]
}

fn format_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn parse_mac(text: &str) -> Result<Mac, NetworkError> {
    let byte = |part: &str| {
        let is_hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| is_hex)
    };
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    bytes
        .and_then(|bytes| Mac::try_from(bytes).ok())
        // An odd first byte is a group's address.
        .filter(|mac| mac[0] & 1 == 0)
        .ok_or_else(|| NetworkError::Invalid(format!("{text} is not a valid mac address")))
}
