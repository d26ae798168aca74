//! The sockets in a container's network namespace, and the rules that lead queries to them.

use super::ADDRESS;
use crate::error::NetworkError;
use crate::netlink::{Netlink, Refusal};
use crate::nftables::{self, Base, Batch, Chain, Expression, Family, Field, Hook};
use crate::sandbox::inside;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The table in the container's namespace.
const TABLE: &str = "gantry_dns";
const LEAD: &str = "lead";
const PORT: u16 = 53;
/// Priorities of the kernel's own chains of these names (`linux/netfilter_ipv4.h`).
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

/// The name server's sockets for one container, ready to be served.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) netns: Arc<OwnedFd>,
}

impl Sockets {
    /// Opens them, at the ports that the rules of an earlier daemon name, where there are such. The rules are put in the
    /// place of those. `lo` must be up.
    pub fn open(netns: OwnedFd) -> Result<Self, NetworkError> {
        let what = "opening the name server's sockets";
        let (udp, tcp) = inside(&netns, || {
            let netlink = Netlink::netfilter()?;
            let earlier = ports_in_use(&netlink)?;
            let (udp, tcp) = earlier
                .and_then(|ports| bind(ports).ok())
                .map_or_else(|| bind((0, 0)), Ok)?;
            let ports = (udp.local_addr()?.port(), tcp.local_addr()?.port());
            load(&netlink, ports, earlier.is_some())?;
            Ok((udp, tcp))
        })
        .map_err(NetworkError::kernel(what))?;
        Ok(Self {
            udp,
            tcp,
            netns: Arc::new(netns),
        })
    }
}

/// Binds both; port 0: any.
fn bind((udp, tcp): (u16, u16)) -> io::Result<(UdpSocket, TcpListener)> {
    let sockets = (
        UdpSocket::bind((ADDRESS, udp))?,
        TcpListener::bind((ADDRESS, tcp))?,
    );
    sockets.0.set_nonblocking(true)?;
    sockets.1.set_nonblocking(true)?;
    Ok(sockets)
}

/// The ports to which the table leads; None: there is no such table.
fn ports_in_use(netlink: &Netlink) -> Result<Option<(u16, u16)>, Refusal> {
    let comments = nftables::comments(netlink, TABLE, LEAD)?;
    Ok(comments.iter().find_map(|text| ports_of(text)))
}

/// The comment of a rule, from which the next daemon reads the ports.
fn comment((udp, tcp): (u16, u16)) -> String {
    format!("udp {udp} tcp {tcp}")
}

fn ports_of(comment: &str) -> Option<(u16, u16)> {
    let (udp, tcp) = comment.strip_prefix("udp ")?.split_once(" tcp ")?;
    Some((udp.parse().ok()?, tcp.parse().ok()?))
}

/// Loads the rules in one transaction, in the place of earlier ones if there are any. (Whoever has deleted something waits
/// for the kernel when he closes his socket, 15 ms on Linux 6.18.)
fn load(netlink: &Netlink, ports: (u16, u16), again: bool) -> Result<(), Refusal> {
    let protocols = [(libc::IPPROTO_UDP, ports.0), (libc::IPPROTO_TCP, ports.1)];
    let mut batch = Batch::new(TABLE);
    if again {
        batch.delete_table(Family::V4);
    }
    batch.add_table(Family::V4);
    let nat = |hook, priority| {
        Some(Base {
            kind: "nat",
            hook,
            priority,
        })
    };
    let lead = Chain {
        name: LEAD,
        base: nat(Hook::Output, DESTINATION_NAT),
        rules: Vec::new(),
    };
    batch.add_chain(Family::V4, &lead);
    for (protocol, port) in protocols {
        let rule = [
            is_address(Field::DestinationAddress(Family::V4)),
            is(Field::Protocol, &[protocol as u8]),
            is(Field::DestinationPort, &PORT.to_be_bytes()),
            vec![
                set(0, &ADDRESS.octets()),
                set(1, &port.to_be_bytes()),
                Expression::Dnat {
                    address: 0,
                    port: 1,
                },
            ],
        ];
        batch.add_rule(Family::V4, LEAD, &rule.concat(), &comment(ports));
    }
    // For what comes so late that the kernel has forgotten to whom it is an answer.
    let back = Chain {
        name: "back",
        base: nat(Hook::Postrouting, SOURCE_NAT),
        rules: protocols
            .into_iter()
            .map(|(protocol, port)| {
                let rule = [
                    is_address(Field::SourceAddress(Family::V4)),
                    is(Field::Protocol, &[protocol as u8]),
                    is(Field::SourcePort, &port.to_be_bytes()),
                    vec![
                        set(1, &PORT.to_be_bytes()),
                        Expression::SourcePort { port: 1 },
                    ],
                ];
                rule.concat()
            })
            .collect(),
    };
    batch.add_chain(Family::V4, &back);
    batch.add_rules(Family::V4, &back);
    batch.commit(netlink)
}

fn is_address(field: Field) -> Vec<Expression> {
    is(field, &ADDRESS.octets())
}

fn is(field: Field, value: &[u8]) -> Vec<Expression> {
    vec![
        Expression::Load { field, to: 0 },
        Expression::Compare {
            at: 0,
            equal: true,
            value: value.to_vec(),
        },
    ]
}

fn set(at: u32, value: &[u8]) -> Expression {
    Expression::Set {
        at,
        value: value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_comments_and_nothing_else_is() {
        assert_eq!(ports_of(&comment((40_000, 50_001))), Some((40_000, 50_001)));
        for text in ["", "udp", "udp x tcp 1", "udp 1", "udp 1 tcp 70000"] {
            assert_eq!(ports_of(text), None, "{text}");
        }
    }
}
