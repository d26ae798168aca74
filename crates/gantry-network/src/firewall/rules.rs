//! The table's fixed part: its sets, and the chains that look things up in them.
use crate::nftables::{Chain, Expression, Field, Hook, Set, Type, Verdict};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const PATHS: &str = "paths";
pub(super) const SUBNETS: &str = "subnets";
pub(super) const PORTS: &str = "ports";
pub(super) const PORTS_OF_ADDRESS: &str = "ports_of_address";

pub(super) const SETS: [Set; 5] = [
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

pub(super) fn chains() -> [Chain; 5] {
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
