//! Forgetting connections that the kernel tracks (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Only the first packet of a connection is looked up among the published ports. A client that goes on sending UDP from
//! one port never begins a new one: it would be led to where the port was published before, or not at all, for as long as
//! it sends. So such entries are deleted when a port or an address changes hands: by a thread, as the kernel walks its
//! whole table for it, and for many changes at once. What it deletes by mistake comes back with the next packet.

use crate::netlink::{Message, Netlink, Refusal, attributes};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const GET: i32 = 1;
const DELETE: i32 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_OF_ORIGINAL: u16 = 1;
const FILTER_BY_PROTOCOL: u32 = 1 << 3;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const NESTED: u16 = 0x8000;

/// After the first change, those of this time are seen to together.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections that are no longer right. TCP begins anew by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// All UDP of a container.
    Address(IpAddr),
    /// What came to a port of the host (at one of its addresses, or unspecified: any of that family).
    Port {
        protocol: u8,
        host_ip: IpAddr,
        host_port: u16,
        /// Connections that lead here are right. None: none is.
        target: Option<(IpAddr, u16)>,
    },
}

impl Forgotten {
    fn is_v4(self) -> bool {
        match self {
            Self::Address(address) => address.is_ipv4(),
            Self::Port { host_ip, .. } => host_ip.is_ipv4(),
        }
    }

    fn protocol(self) -> u8 {
        match self {
            Self::Address(_) => libc::IPPROTO_UDP as u8,
            Self::Port { protocol, .. } => protocol,
        }
    }

    fn concerns(self, entry: &Entry) -> bool {
        match self {
            Self::Address(address) => {
                entry.original.source == address || entry.reply.source == address
            }
            Self::Port {
                protocol,
                host_ip,
                host_port,
                target,
            } => {
                let original = &entry.original;
                let leads_to = (entry.reply.source, entry.reply.source_port);
                original.protocol == protocol
                    && original.destination_port == host_port
                    && (original.destination == host_ip || host_ip.is_unspecified())
                    && target != Some(leads_to)
                    && is_of_this_machine(original.destination)
            }
        }
    }
}

/// Whether packets to the address end here. Others only pass this machine, and their port is not ours.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The thread that forgets, started with the first thing to forget. It ends with this.
#[derive(Debug, Default)]
pub(crate) struct Forgetter {
    queue: Mutex<Option<Sender<Forgotten>>>,
}

impl Forgetter {
    /// Returns at once. To be called in the network namespace in which connections are tracked.
    pub(crate) fn forget(&self, what: impl IntoIterator<Item = Forgotten>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for one in what {
            let sent = queue.as_ref().map(|queue| queue.send(one));
            if !matches!(sent, Some(Ok(()))) {
                match start() {
                    Ok(new) => {
                        let _ = new.send(one);
                        *queue = Some(new);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "starting a thread that forgets connections");
                        return;
                    }
                }
            }
        }
    }
}

fn start() -> std::io::Result<Sender<Forgotten>> {
    let (sender, receiver) = channel();
    let netlink = Netlink::netfilter()?;
    std::thread::Builder::new()
        .name("conntrack".into())
        .spawn(move || run(&netlink, &receiver))?;
    Ok(sender)
}

fn run(netlink: &Netlink, queue: &Receiver<Forgotten>) {
    while let Ok(first) = queue.recv() {
        let all: Vec<Forgotten> = std::iter::once(first).chain(queue.try_iter()).collect();
        let tables: BTreeSet<(bool, u8)> = all.iter().map(|f| (f.is_v4(), f.protocol())).collect();
        for (v4, protocol) in tables {
            if let Err(refusal) = forget(netlink, v4, protocol, &all) {
                tracing::warn!(error = %refusal.error, "forgetting connections of ports that changed hands");
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn forget(netlink: &Netlink, v4: bool, protocol: u8, all: &[Forgotten]) -> Result<(), Refusal> {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    // Kernels before 5.8 do not know the filter and list all.
    let get = Message::with_flags(subsystem(GET), flags)
        .fixed(&[family as u8, 0, 0, 0])
        .nest(ORIGINAL, |m| {
            m.nest(TUPLE_PROTOCOL, |m| m.bytes(PROTOCOL_NUMBER, &[protocol]))
        })
        .nest(FILTER, |m| m.number(FILTER_OF_ORIGINAL, FILTER_BY_PROTOCOL));
    for answer in netlink.dump(&get)? {
        let Some(entry) = entry(&answer) else {
            continue;
        };
        let wrong = |what: &Forgotten| {
            what.is_v4() == v4 && what.protocol() == protocol && what.concerns(&entry)
        };
        if entry.original.protocol == protocol && all.iter().any(wrong) {
            match netlink.execute(&[entry.deletion(family)]) {
                Err(refusal) if !refusal.is(libc::ENOENT) => return Err(refusal),
                _ => {}
            }
        }
    }
    Ok(())
}

fn subsystem(kind: i32) -> u16 {
    (libc::NFNL_SUBSYS_CTNETLINK << 8 | kind) as u16
}

/// A connection, as its first packet saw it and as its answers do.
#[derive(Debug)]
struct Entry {
    original: Tuple,
    reply: Tuple,
    /// What names it to the kernel: attributes as they came.
    names: Vec<(u16, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Entry {
    fn deletion(&self, family: i32) -> Message {
        let message = Message::new(subsystem(DELETE), 0).fixed(&[family as u8, 0, 0, 0]);
        self.names.iter().fold(message, |m, (kind, value)| {
            let nested = if *kind == ORIGINAL { NESTED } else { 0 };
            m.bytes(kind | nested, value)
        })
    }
}

fn entry(answer: &[u8]) -> Option<Entry> {
    let all = answer.get(4..)?;
    let find = |wanted| attributes(all).find(|(kind, _)| *kind == wanted);
    let names = [ORIGINAL, ID, ZONE].into_iter().filter_map(find);
    Some(Entry {
        original: tuple(find(ORIGINAL)?.1)?,
        reply: tuple(find(REPLY)?.1)?,
        names: names.map(|(kind, value)| (kind, value.to_vec())).collect(),
    })
}

fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let nested = |wanted| {
        let found = attributes(bytes).find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value)
    };
    let (ip, protocol) = (nested(TUPLE_IP)?, nested(TUPLE_PROTOCOL)?);
    let address = |kinds: [u16; 2]| {
        let (_, value) = attributes(ip).find(|(kind, _)| kinds.contains(kind))?;
        match value.len() {
            4 => Some(IpAddr::from(Ipv4Addr::from(
                <[u8; 4]>::try_from(value).ok()?,
            ))),
            _ => Some(IpAddr::from(Ipv6Addr::from(
                <[u8; 16]>::try_from(value).ok()?,
            ))),
        }
    };
    let part = |wanted| {
        let found = attributes(protocol).find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value)
    };
    let port = |wanted| {
        part(wanted)
            .and_then(|value| value.first_chunk())
            .map_or(0, |chunk| u16::from_be_bytes(*chunk))
    };
    Some(Tuple {
        source: address(SOURCES)?,
        destination: address(DESTINATIONS)?,
        protocol: *part(PROTOCOL_NUMBER)?.first()?,
        source_port: port(SOURCE_PORT),
        destination_port: port(DESTINATION_PORT),
    })
}
