//! The firewall: one nftables table whose rules never change. Networks and published ports are elements of its sets
//! and maps, so that the thousandth costs what the first did; other tables are not touched.
//!
//! | chain | does |
//! |---|---|
//! | `guard` | drops what a container sends to 127.0.0.0/8 of the host |
//! | `published` | packets from elsewhere to a published port go to its container |
//! | `published_here` | the same for the host's own packets |
//! | `source` | containers leave with the host's address; so do their own and the host's loopback packets to published ports, which could not find back otherwise |
//! | `reach` | a bridge is entered by answers, from itself, and through published ports, not otherwise |
//!
//! A port that is published on 127.0.0.1 is not led on for packets that come in from a link, whatever destination
//! they claim.

mod rules;

use crate::bridge::PublishedPort;
use crate::error::NetworkError;
use crate::netlink::{Netlink, Refusal};
use crate::nftables::{self, Batch, Element};
use ipnet::Ipv4Net;
use rules::{BRIDGES, PATHS, PORTS, PORTS_OF_ADDRESS, SETS, SUBNETS, chains};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// The table, loaded.
#[derive(Debug)]
pub(crate) struct Firewall {
    netlink: Netlink,
    table: String,
    elements: Mutex<Elements>,
}

/// What is in the sets and maps: enough to load the table again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Elements {
    bridges: BTreeMap<String, Ipv4Net>,
    ports: BTreeSet<Element>,
    ports_of_address: BTreeSet<Element>,
}

impl Elements {
    pub(crate) fn add_bridge(&mut self, name: &str, subnet: Ipv4Net) {
        self.bridges.insert(name.to_owned(), subnet);
    }

    pub(crate) fn add_ports(&mut self, ports: &[PublishedPort], target: Ipv4Addr) {
        for port in ports {
            let (set, element) = published(port, target);
            self.ports_in(set).insert(element);
        }
    }

    fn ports_in(&mut self, set: &str) -> &mut BTreeSet<Element> {
        if set == PORTS {
            &mut self.ports
        } else {
            &mut self.ports_of_address
        }
    }
}

impl Firewall {
    /// Loads the table, in place of one of that name, in one transaction.
    pub(crate) fn up(table: &str, elements: Elements) -> Result<Self, NetworkError> {
        let netlink =
            Netlink::netfilter().map_err(NetworkError::kernel("opening a netfilter socket"))?;
        let firewall = Self {
            netlink,
            table: table.to_owned(),
            elements: Mutex::default(),
        };
        firewall
            .load(&elements)
            .map_err(NetworkError::kernel(firewall.what("loading")))?;
        *firewall.lock() = elements;
        Ok(firewall)
    }

    /// Opens the ports towards the container's address.
    pub(crate) fn publish(
        &self,
        ports: &[PublishedPort],
        target: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut elements = self.lock();
        elements.add_ports(ports, target);
        let mut batch = Batch::new(&self.table);
        for port in ports {
            let (set, element) = published(port, target);
            batch.add_elements(set, &[element]);
        }
        let done = match batch.commit(&self.netlink) {
            // Somebody flushed the rules.
            Err(refusal) if refusal.is(libc::ENOENT) => self.load(&elements),
            done => done,
        };
        if done.is_err() {
            for port in ports {
                let (set, element) = published(port, target);
                elements.ports_in(set).remove(&element);
            }
        }
        done.map_err(NetworkError::kernel(self.what("publishing ports in")))
    }

    /// Closes the ports; those that are closed already are no error.
    pub(crate) fn unpublish(
        &self,
        ports: &[PublishedPort],
        target: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        let mut elements = self.lock();
        for port in ports {
            let (set, element) = published(port, target);
            // Another endpoint may have the port by now.
            if !elements.ports_in(set).remove(&element) {
                continue;
            }
            let mut batch = Batch::new(&self.table);
            batch.delete_elements(set, &[Element::key(element.key)]);
            match batch.commit(&self.netlink) {
                Err(refusal) if !refusal.is(libc::ENOENT) => errors.push(NetworkError::kernel(
                    self.what("closing a port in"),
                )(refusal)),
                _ => {}
            }
        }
        NetworkError::all(errors)
    }

    /// Whether packets to and from the bridges die in the chain that `iptables -P FORWARD DROP` makes (as Docker and
    /// ufw do), whatever our own table says: in nftables the strictest table wins.
    pub(crate) fn is_overruled(&self) -> Result<bool, NetworkError> {
        nftables::drops_by_default(&self.netlink, "filter", "FORWARD")
            .map_err(NetworkError::kernel("reading the policy of chain FORWARD"))
    }

    /// Loads the table again if it is gone; whether it was.
    pub(crate) fn reconcile(&self) -> Result<bool, NetworkError> {
        let elements = self.lock();
        let check = || -> Result<bool, Refusal> {
            if nftables::has_table(&self.netlink, &self.table)? {
                return Ok(false);
            }
            self.load(&elements)?;
            Ok(true)
        };
        check().map_err(NetworkError::kernel(self.what("restoring")))
    }

    /// Deletes the table.
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        let mut batch = Batch::new(&self.table);
        batch.delete_table();
        match batch.commit(&self.netlink) {
            Err(refusal) if !refusal.is(libc::ENOENT) => {
                Err(NetworkError::kernel(self.what("deleting"))(refusal))
            }
            _ => Ok(()),
        }
    }

    fn load(&self, elements: &Elements) -> Result<(), Refusal> {
        let mut batch = Batch::new(&self.table);
        // Deleting needs something to delete.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for set in &SETS {
            batch.add_set(set);
        }
        for chain in chains() {
            batch.add_chain(&chain);
        }
        for (name, subnet) in &elements.bridges {
            let name = interface_name(name);
            batch.add_elements(BRIDGES, &[Element::key(name.to_vec())]);
            batch.add_elements(PATHS, &[Element::key([name, name].concat())]);
            batch.add_elements(SUBNETS, &range(*subnet));
        }
        let list = |set: &BTreeSet<Element>| set.iter().cloned().collect::<Vec<_>>();
        batch.add_elements(PORTS, &list(&elements.ports));
        batch.add_elements(PORTS_OF_ADDRESS, &list(&elements.ports_of_address));
        batch.commit(&self.netlink)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Elements> {
        self.elements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} nftables table {}", self.table)
    }
}

/// The map that a published port belongs in, and its element there.
fn published(port: &PublishedPort, target: Ipv4Addr) -> (&'static str, Element) {
    let protocol = match port.protocol.as_str() {
        "udp" => libc::IPPROTO_UDP,
        "sctp" => libc::IPPROTO_SCTP,
        _ => libc::IPPROTO_TCP,
    };
    let number = |port: u16| [port.to_be_bytes(), [0; 2]].concat();
    let mut key = vec![protocol as u8, 0, 0, 0];
    let set = if port.host_ip.is_unspecified() {
        PORTS
    } else {
        key.extend_from_slice(&port.host_ip.octets());
        PORTS_OF_ADDRESS
    };
    key.extend_from_slice(&number(port.host_port));
    let value = [target.octets().to_vec(), number(port.container_port)].concat();
    let element = Element {
        key,
        value,
        ends_interval: false,
    };
    (set, element)
}

/// A link's name as packets' meta data has it: 16 bytes, filled with zeros.
fn interface_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// The elements of an interval set that a subnet becomes.
fn range(subnet: Ipv4Net) -> Vec<Element> {
    let mut elements = vec![Element::key(subnet.network().octets().to_vec())];
    if let Some(after) = u32::from(subnet.broadcast()).checked_add(1) {
        elements.push(Element {
            ends_interval: true,
            ..Element::key(after.to_be_bytes().to_vec())
        });
    }
    elements
}
