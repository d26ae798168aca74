//! The expressions that rules are made of.
//!
//! Values travel in sixteen registers of four bytes; a place here is the number of the first one.
use super::Family;
use crate::netlink::Message;

const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const TRANSPORT_HEADER: u32 = 2;
const NETWORK_HEADER: u32 = 1;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 1 << 1;
const REGISTER_VERDICT: u32 = 0;

/// What can be read of a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    /// 16 bytes.
    InputName,
    /// 16 bytes.
    OutputName,
    /// A number in the machine's order.
    InputGroup,
    /// A number in the machine's order.
    OutputGroup,
    /// 2 bytes.
    EtherType,
    /// 1 byte.
    Protocol,
    SourceAddress(Family),
    DestinationAddress(Family),
    /// 2 bytes.
    SourcePort,
    /// 2 bytes.
    DestinationPort,
    /// 1 byte.
    IcmpType,
    /// Whether the destination is the host itself (`RTN_LOCAL`); a number in the machine's order.
    DestinationKind,
    /// Bits (machine's order): established 2, related 4, new 8.
    ConnectionState,
    /// Bits (machine's order), `IPS_*`.
    ConnectionStatus,
    /// A number in the machine's order.
    Mark,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    /// Goes on in that chain, and then here.
    Jump(&'static str),
    /// Goes on in that chain, and not here.
    Goto(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Load {
        field: Field,
        to: u32,
    },
    /// Keeps the bits of `mask` (of as many bytes as it has), then turns those of `flip` over.
    Bits {
        at: u32,
        mask: Vec<u8>,
        flip: Vec<u8>,
    },
    /// Goes on if what lies at the register is equal (or not) to `value`.
    Compare {
        at: u32,
        equal: bool,
        value: Vec<u8>,
    },
    /// Goes on if the key is (or is not) in the set.
    InSet {
        at: u32,
        set: &'static str,
        inside: bool,
    },
    /// Goes on if the key is in the map, with its value at `to`.
    Map {
        at: u32,
        map: &'static str,
        to: u32,
    },
    /// Puts the key into an expiring set, or starts its time again. Goes on unless the set is full.
    Remember {
        at: u32,
        set: &'static str,
    },
    /// Puts a value into a register.
    Set {
        at: u32,
        value: Vec<u8>,
    },
    /// New destination: an address and a port. Ends the chain.
    Dnat {
        address: u32,
        port: u32,
    },
    /// New source: an address. Ends the chain.
    Snat {
        address: u32,
    },
    /// New source port, with the address as it is. Ends the chain.
    SourcePort {
        port: u32,
    },
    /// Sends as the host. Ends the chain.
    Masquerade,
    /// Writes the packet's mark.
    SetMark {
        from: u32,
    },
    /// Answers with a reset (TCP).
    Reset,
    /// Answers that nobody listens.
    Unreachable,
    Count,
    /// A match of the `iptables` programs, which list only rules that are made of such.
    Match {
        name: &'static str,
        revision: u32,
        data: Vec<u8>,
    },
    Finish(Verdict),
}

/// The number of a four-byte register.
fn register(place: u32) -> u32 {
    libc::NFT_REG32_00 as u32 + place
}

impl Expression {
    pub(super) fn encode(&self, message: Message, family: Family) -> Message {
        let message = message.string(NAME, self.name());
        let nat = |kind: i32, address: u32| {
            move |m: Message| {
                m.big(1, kind as u32)
                    .big(2, family as u32)
                    .big(3, register(address))
            }
        };
        match self {
            Self::Load { field, to } => message.nest(DATA, |m| load(m, *field, register(*to))),
            Self::Bits { at, mask, flip } => message.nest(DATA, |m| {
                m.big(1, register(*at))
                    .big(2, register(*at))
                    .big(3, mask.len() as u32)
                    .nest(4, |m| m.bytes(VALUE, mask))
                    .nest(5, |m| m.bytes(VALUE, flip))
            }),
            Self::Compare { at, equal, value } => {
                let operation = if *equal {
                    libc::NFT_CMP_EQ
                } else {
                    libc::NFT_CMP_NEQ
                };
                message.nest(DATA, |m| {
                    m.big(1, register(*at))
                        .big(2, operation as u32)
                        .nest(3, |m| m.bytes(VALUE, value))
                })
            }
            Self::InSet { at, set, inside } => message.nest(DATA, |m| {
                let invert = if *inside { 0 } else { libc::NFT_LOOKUP_F_INV };
                m.string(1, set).big(2, register(*at)).big(5, invert as u32)
            }),
            Self::Map { at, map, to } => message.nest(DATA, |m| {
                m.string(1, map).big(2, register(*at)).big(3, register(*to))
            }),
            Self::Remember { at, set } => message.nest(DATA, |m| {
                m.string(1, set)
                    .big(3, libc::NFT_DYNSET_OP_UPDATE as u32)
                    .big(4, register(*at))
            }),
            Self::Set { at, value } => message.nest(DATA, |m| {
                m.big(1, register(*at)).nest(2, |m| m.bytes(VALUE, value))
            }),
            Self::SourcePort { port } => message.nest(DATA, |m| {
                m.big(1, libc::NFT_NAT_SNAT as u32)
                    .big(2, family as u32)
                    .big(5, register(*port))
            }),
            Self::Dnat { address, port } => message.nest(DATA, |m| {
                nat(libc::NFT_NAT_DNAT, *address)(m).big(5, register(*port))
            }),
            Self::Snat { address } => message.nest(DATA, nat(libc::NFT_NAT_SNAT, *address)),
            Self::SetMark { from } => message.nest(DATA, |m| {
                m.big(2, libc::NFT_META_MARK as u32).big(3, register(*from))
            }),
            Self::Reset => message.nest(DATA, |m| m.big(1, libc::NFT_REJECT_TCP_RST as u32)),
            Self::Unreachable => message.nest(DATA, |m| {
                let code = match family {
                    Family::V6 => 4, // ICMPV6_PORT_UNREACH
                    _ => 3,          // ICMP_PORT_UNREACH
                };
                m.big(1, libc::NFT_REJECT_ICMP_UNREACH as u32)
                    .bytes(2, &[code])
            }),
            Self::Masquerade | Self::Count => message,
            Self::Match {
                name,
                revision,
                data,
            } => message.nest(DATA, |m| m.string(1, name).big(2, *revision).bytes(3, data)),
            Self::Finish(verdict) => message.nest(DATA, |m| {
                m.big(1, REGISTER_VERDICT)
                    .nest(2, |m| m.nest(VERDICT, |m| encode_verdict(m, *verdict)))
            }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Load { field, .. } => match field {
                Field::InputName
                | Field::OutputName
                | Field::InputGroup
                | Field::OutputGroup
                | Field::EtherType
                | Field::Protocol
                | Field::Mark => "meta",
                Field::SourceAddress(_)
                | Field::DestinationAddress(_)
                | Field::SourcePort
                | Field::DestinationPort
                | Field::IcmpType => "payload",
                Field::DestinationKind => "fib",
                Field::ConnectionState | Field::ConnectionStatus => "ct",
            },
            Self::Bits { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::InSet { .. } | Self::Map { .. } => "lookup",
            Self::Remember { .. } => "dynset",
            Self::Dnat { .. } | Self::Snat { .. } | Self::SourcePort { .. } => "nat",
            Self::Masquerade => "masq",
            Self::SetMark { .. } => "meta",
            Self::Reset | Self::Unreachable => "reject",
            Self::Count => "counter",
            Self::Match { .. } => "match",
            Self::Set { .. } | Self::Finish(_) => "immediate",
        }
    }
}

fn encode_verdict(message: Message, verdict: Verdict) -> Message {
    let code = |m: Message, code: i32| m.big(VERDICT_CODE, code as u32);
    match verdict {
        Verdict::Drop => code(message, libc::NF_DROP),
        Verdict::Accept => code(message, libc::NF_ACCEPT),
        Verdict::Jump(chain) => code(message, libc::NFT_JUMP).string(VERDICT_CHAIN, chain),
        Verdict::Goto(chain) => code(message, libc::NFT_GOTO).string(VERDICT_CHAIN, chain),
    }
}

fn load(message: Message, field: Field, to: u32) -> Message {
    let keyed = |m: Message, key: i32| m.big(1, to).big(2, key as u32);
    let payload = |m: Message, header: u32, offset: u32, length: u32| {
        m.big(1, to).big(2, header).big(3, offset).big(4, length)
    };
    match field {
        Field::InputName => keyed(message, libc::NFT_META_IIFNAME),
        Field::OutputName => keyed(message, libc::NFT_META_OIFNAME),
        Field::InputGroup => keyed(message, libc::NFT_META_IIFGROUP),
        Field::OutputGroup => keyed(message, libc::NFT_META_OIFGROUP),
        Field::EtherType => keyed(message, libc::NFT_META_PROTOCOL),
        Field::Protocol => keyed(message, libc::NFT_META_L4PROTO),
        Field::Mark => keyed(message, libc::NFT_META_MARK),
        Field::ConnectionState => keyed(message, libc::NFT_CT_STATE),
        Field::ConnectionStatus => keyed(message, libc::NFT_CT_STATUS),
        Field::SourceAddress(Family::V6) => payload(message, NETWORK_HEADER, 8, 16),
        Field::DestinationAddress(Family::V6) => payload(message, NETWORK_HEADER, 24, 16),
        Field::SourceAddress(_) => payload(message, NETWORK_HEADER, 12, 4),
        Field::DestinationAddress(_) => payload(message, NETWORK_HEADER, 16, 4),
        Field::SourcePort => payload(message, TRANSPORT_HEADER, 0, 2),
        Field::DestinationPort => payload(message, TRANSPORT_HEADER, 2, 2),
        Field::IcmpType => payload(message, TRANSPORT_HEADER, 0, 1),
        Field::DestinationKind => message
            .big(1, to)
            .big(2, FIB_ADDRESS_TYPE)
            .big(3, FIB_DESTINATION),
    }
}
