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

use crate::bridge::PublishedPort;
use crate::error::NetworkError;
use crate::netlink::{Netlink, Refusal};
use crate::nftables::{self, Batch, Chain, Element, Expression, Field, Hook, Set, Type, Verdict};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

const BRIDGES: &str = "bridges";
const PATHS: &str = "paths";
const SUBNETS: &str = "subnets";
const PORTS: &str = "ports";
const PORTS_OF_ADDRESS: &str = "ports_of_address";

const SETS: [Set; 5] = [
    Set {
        name: BRIDGES,
        key: &[Type::InterfaceName],
        values: &[],
        interval: false,
    },
    Set {
        // Input and output link between which packets may pass unasked.
        name: PATHS,
        key: &[Type::InterfaceName, Type::InterfaceName],
        values: &[],
        interval: false,
    },
    Set {
        name: SUBNETS,
        key: &[Type::Ipv4Address],
        values: &[],
        interval: true,
    },
    Set {
        name: PORTS,
        key: &[Type::Protocol, Type::Port],
        values: &[Type::Ipv4Address, Type::Port],
        interval: false,
    },
    Set {
        name: PORTS_OF_ADDRESS,
        key: &[Type::Protocol, Type::Ipv4Address, Type::Port],
        values: &[Type::Ipv4Address, Type::Port],
        interval: false,
    },
];

/// Priorities of the kernel's own chains of these names (`linux/netfilter_ipv4.h`).
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`: somebody's rule, ours or another's, led the connection to where it goes.
const REDIRECTED: u32 = 1 << 5;

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

fn chains() -> [Chain; 5] {
    let nat = |name, hook, priority, rules| Chain {
        name,
        kind: "nat",
        hook,
        priority,
        rules,
    };
    let filter = |name, hook, priority, rules| Chain {
        name,
        kind: "filter",
        hook,
        priority,
        rules,
    };
    [
        filter(
            "guard",
            Hook::Prerouting,
            RAW,
            vec![rule([
                name_is_in(Field::InputName, BRIDGES, true),
                is_loopback(Field::DestinationAddress, true),
                vec![Expression::Finish(Verdict::Drop)],
            ])],
        ),
        nat(
            "published",
            Hook::Prerouting,
            DESTINATION_NAT,
            lead_on(&is_loopback(Field::DestinationAddress, false)),
        ),
        nat(
            "published_here",
            Hook::Output,
            DESTINATION_NAT,
            lead_on(&[]),
        ),
        nat("source", Hook::Postrouting, SOURCE_NAT, masquerading()),
        filter("reach", Hook::Forward, FILTER, reaching()),
    ]
}

fn rule<const N: usize>(parts: [Vec<Expression>; N]) -> Vec<Expression> {
    parts.concat()
}

/// Rules that look a packet to the host up among the published ports.
fn lead_on(condition: &[Expression]) -> Vec<Vec<Expression>> {
    let load = |field, to| Expression::Load { field, to };
    let to_host = vec![
        load(Field::DestinationKind, 0),
        Expression::Compare {
            at: 0,
            equal: true,
            value: u32::from(libc::RTN_LOCAL).to_ne_bytes().to_vec(),
        },
    ];
    let dnat = |map| {
        let (address, port) = (4, 5);
        let to = address;
        vec![
            Expression::Map { at: 0, map, to },
            Expression::Dnat { address, port },
        ]
    };
    let of_address = vec![
        load(Field::Protocol, 0),
        load(Field::DestinationAddress, 1),
        load(Field::DestinationPort, 2),
    ];
    let of_any = vec![load(Field::Protocol, 0), load(Field::DestinationPort, 1)];
    let condition = condition.to_vec();
    vec![
        rule([
            to_host.clone(),
            condition.clone(),
            of_address,
            dnat(PORTS_OF_ADDRESS),
        ]),
        rule([to_host, condition, of_any, dnat(PORTS)]),
    ]
}

fn masquerading() -> Vec<Vec<Expression>> {
    let redirected_into_bridge = rule([
        name_is_in(Field::OutputName, BRIDGES, true),
        has_bits(Field::ConnectionStatus, REDIRECTED),
    ]);
    let masquerade = vec![Expression::Masquerade];
    vec![
        rule([
            source_is_in_subnets(),
            name_is_in(Field::OutputName, BRIDGES, false),
            masquerade.clone(),
        ]),
        rule([
            redirected_into_bridge.clone(),
            source_is_in_subnets(),
            masquerade.clone(),
        ]),
        rule([
            redirected_into_bridge,
            is_loopback(Field::SourceAddress, true),
            masquerade,
        ]),
    ]
}

fn reaching() -> Vec<Vec<Expression>> {
    let accept = || vec![Expression::Finish(Verdict::Accept)];
    let on_a_path = vec![
        Expression::Load {
            field: Field::InputName,
            to: 0,
        },
        Expression::Load {
            field: Field::OutputName,
            to: 4,
        },
        Expression::InSet {
            at: 0,
            set: PATHS,
            inside: true,
        },
    ];
    vec![
        rule([name_is_in(Field::OutputName, BRIDGES, false), accept()]),
        rule([
            has_bits(Field::ConnectionState, ESTABLISHED_OR_RELATED),
            accept(),
        ]),
        rule([on_a_path, accept()]),
        rule([has_bits(Field::ConnectionStatus, REDIRECTED), accept()]),
        vec![Expression::Finish(Verdict::Drop)],
    ]
}

fn name_is_in(field: Field, set: &'static str, inside: bool) -> Vec<Expression> {
    vec![
        Expression::Load { field, to: 0 },
        Expression::InSet { at: 0, set, inside },
    ]
}

fn source_is_in_subnets() -> Vec<Expression> {
    name_is_in(Field::SourceAddress, SUBNETS, true)
}

/// Whether an address is (or is not) in 127.0.0.0/8.
fn is_loopback(field: Field, equal: bool) -> Vec<Expression> {
    vec![
        Expression::Load { field, to: 0 },
        Expression::Mask {
            at: 0,
            mask: vec![255, 0, 0, 0],
        },
        Expression::Compare {
            at: 0,
            equal,
            value: vec![127, 0, 0, 0],
        },
    ]
}

/// Whether one of the bits is set.
fn has_bits(field: Field, bits: u32) -> Vec<Expression> {
    vec![
        Expression::Load { field, to: 0 },
        Expression::Mask {
            at: 0,
            mask: bits.to_ne_bytes().to_vec(),
        },
        Expression::Compare {
            at: 0,
            equal: false,
            value: vec![0; 4],
        },
    ]
}
