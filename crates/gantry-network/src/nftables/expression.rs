//! The expressions that rules are made of.
//!
//! Values travel in sixteen registers of four bytes; a place here is the number of the first one.
use crate::netlink::Message;

const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
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
    /// 1 byte.
    Protocol,
    SourceAddress,
    DestinationAddress,
    /// 2 bytes.
    SourcePort,
    /// 2 bytes.
    DestinationPort,
    /// Whether the destination is the host itself (`RTN_LOCAL`); a number in the machine's order.
    DestinationKind,
    /// Bits (machine's order): established 2, related 4.
    ConnectionState,
    /// Bits (machine's order), `IPS_*`.
    ConnectionStatus,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop = 0,
    Accept = 1,
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Load {
        field: Field,
        to: u32,
    },
    /// Keeps the bits of `mask` (of as many bytes as it has).
    Mask {
        at: u32,
        mask: Vec<u8>,
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
    /// New source port, with the address as it is. Ends the chain.
    SourcePort {
        port: u32,
    },
    /// Sends as the host. Ends the chain.
    Masquerade,
    Finish(Verdict),
}

/// The number of a four-byte register.
fn register(place: u32) -> u32 {
    libc::NFT_REG32_00 as u32 + place
}

impl Expression {
    pub(super) fn encode(&self, message: Message) -> Message {
        let message = message.string(NAME, self.name());
        match self {
            Self::Load { field, to } => message.nest(DATA, |m| load(m, *field, register(*to))),
            Self::Mask { at, mask } => message.nest(DATA, |m| {
                m.big(1, register(*at))
                    .big(2, register(*at))
                    .big(3, mask.len() as u32)
                    .nest(4, |m| m.bytes(VALUE, mask))
                    .nest(5, |m| m.bytes(VALUE, &vec![0; mask.len()]))
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
            Self::Set { at, value } => message.nest(DATA, |m| {
                m.big(1, register(*at)).nest(2, |m| m.bytes(VALUE, value))
            }),
            Self::SourcePort { port } => message.nest(DATA, |m| {
                m.big(1, libc::NFT_NAT_SNAT as u32)
                    .big(2, libc::AF_INET as u32)
                    .big(5, register(*port))
            }),
            Self::Dnat { address, port } => message.nest(DATA, |m| {
                m.big(1, libc::NFT_NAT_DNAT as u32)
                    .big(2, libc::AF_INET as u32)
                    .big(3, register(*address))
                    .big(5, register(*port))
            }),
            Self::Masquerade => message,
            Self::Finish(verdict) => message.nest(DATA, |m| {
                m.big(1, REGISTER_VERDICT).nest(2, |m| {
                    m.nest(VERDICT, |m| m.big(VERDICT_CODE, *verdict as u32))
                })
            }),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Load { field, .. } => match field {
                Field::InputName | Field::OutputName | Field::Protocol => "meta",
                Field::SourceAddress
                | Field::DestinationAddress
                | Field::SourcePort
                | Field::DestinationPort => "payload",
                Field::DestinationKind => "fib",
                Field::ConnectionState | Field::ConnectionStatus => "ct",
            },
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::InSet { .. } | Self::Map { .. } => "lookup",
            Self::Dnat { .. } | Self::SourcePort { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Set { .. } | Self::Finish(_) => "immediate",
        }
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
        Field::Protocol => keyed(message, libc::NFT_META_L4PROTO),
        Field::ConnectionState => keyed(message, libc::NFT_CT_STATE),
        Field::ConnectionStatus => keyed(message, libc::NFT_CT_STATUS),
        Field::SourceAddress => payload(message, NETWORK_HEADER, 12, 4),
        Field::DestinationAddress => payload(message, NETWORK_HEADER, 16, 4),
        Field::SourcePort => payload(message, TRANSPORT_HEADER, 0, 2),
        Field::DestinationPort => payload(message, TRANSPORT_HEADER, 2, 2),
        Field::DestinationKind => message
            .big(1, to)
            .big(2, FIB_ADDRESS_TYPE)
            .big(3, FIB_DESTINATION),
    }
}
