//! The tables' fixed part: their sets, and the chains that look things up in them.
use super::CLOSED_GROUP;
use crate::nftables::{Base, Chain, Expiring, Expression, Family, Field, Hook, Set, Type, Verdict};
use std::time::Duration;

pub(super) const BRIDGES: &str = "bridges";
pub(super) const INTERNAL: &str = "internal";
pub(super) const PATHS: &str = "paths";
pub(super) const OPEN: &str = "open";
pub(super) const ROUTED: &str = "routed";
pub(super) const DIRECT: &str = "direct";
pub(super) const TRUSTED: &str = "trusted";
pub(super) const REACHABLE: &str = "reachable";
pub(super) const LINKS: &str = "links";
pub(super) const SUBNETS: &str = "subnets";
pub(super) const MASQUERADED: &str = "masqueraded";
pub(super) const SOURCES: &str = "sources";
pub(super) const PORTS: &str = "ports";
pub(super) const PORTS_OF_ADDRESS: &str = "ports_of_address";
pub(super) const ADMITTED: &str = "admitted";

/// The chain for the user's own rules.
pub(super) const USER: &str = "user";

/// The names that our chains have had so far, in any release.
pub(super) const FORMER: [&str; 12] = [
    "admit",
    "between",
    "guard",
    "into",
    "out_of",
    "passed",
    "published",
    "published_here",
    "reach",
    "refuse",
    "source",
    "to_host",
];

/// How long a client that the host's firewall has let in is not asked again. Every change of somebody's nftables rules
/// ends it at once.
const ADMISSION: Duration = Duration::from_secs(600);
const ADMISSIONS: u32 = 1 << 17;

/// The bit in packets' marks that says: our chain has passed it.
pub(super) const PASSED: u32 = 0x1000;

/// Priorities of the kernel's own chains of these names (`linux/netfilter_ipv4.h`).
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;
/// After `br_netfilter` (`NF_BR_PRI_BRNF`), which shows bridged packets to the tables of IPv4 and IPv6: these set the mark.
const AFTER_BR_NETFILTER: i32 = 1;
/// Before everybody's filter, which is to see the mark.
const BEFORE_FILTER: i32 = FILTER - 5;
/// After everybody's filter. The kernel's own steps at the end, after which a connection is known, have the two highest
/// numbers.
const LAST: i32 = i32::MAX - 10;

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const NEW: u32 = 8;
/// `IPS_DST_NAT`: somebody's rule, ours or another's, led the connection to where it goes.
const REDIRECTED: u32 = 1 << 5;

const ARP: u16 = 0x0806;
const ICMP_V6: u8 = libc::IPPROTO_ICMPV6 as u8;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

pub(super) fn sets(family: Family) -> Vec<Set> {
    let address = address_type(family);
    let set = |name, key: &[Type]| Set {
        name,
        key: key.to_vec(),
        values: Vec::new(),
        interval: false,
        expiring: None,
    };
    let link = Type::InterfaceName;
    let (protocol, port) = (Type::Protocol, Type::Port);
    let links = |family| {
        let address = address_type(family);
        set(links_set(family), &[address, address, protocol, port])
    };
    if family == Family::Bridge {
        return vec![links(Family::V4), links(Family::V6)];
    }
    let map = |name, key: &[Type], values: &[Type]| Set {
        values: values.to_vec(),
        ..set(name, key)
    };
    let ranges = |set| Set {
        interval: true,
        ..set
    };
    let target = [address, port];
    vec![
        set(BRIDGES, &[link]),
        set(INTERNAL, &[link]),
        // Input and output link between which packets may pass unasked.
        set(PATHS, &[link, link]),
        // Bridges that all may enter from outside.
        set(OPEN, &[link]),
        // Bridges whose published ports may be sent to directly, and ICMP.
        set(ROUTED, &[link]),
        // Bridges whose published ports may be sent to directly from outside.
        set(DIRECT, &[link]),
        // Input and output link between which published ports may be sent to directly.
        set(TRUSTED, &[link, link]),
        set(REACHABLE, &[protocol, address, port]),
        set(LINKS, &[address, address, protocol, port]),
        ranges(set(SUBNETS, &[address])),
        ranges(set(MASQUERADED, &[address])),
        ranges(map(SOURCES, &[address], &[address])),
        map(PORTS, &[protocol, port], &target),
        map(PORTS_OF_ADDRESS, &[protocol, address, port], &target),
        Set {
            expiring: Some(Expiring {
                after: ADMISSION,
                size: ADMISSIONS,
            }),
            ..set(ADMITTED, &[link, address, protocol, address, port])
        },
    ]
}

/// The set of links between containers: a table of the bridge family has one for each kind of address.
pub(super) fn links_set(family: Family) -> &'static str {
    match family {
        Family::V6 => "links_v6",
        _ => "links",
    }
}

fn address_type(family: Family) -> Type {
    match family {
        Family::V6 => Type::Ipv6Address,
        _ => Type::Ipv4Address,
    }
}

/// Registers that an address takes.
fn width(family: Family) -> u32 {
    match family {
        Family::V6 => 4,
        _ => 1,
    }
}

/// `respect`: see [`super::FirewallOptions`]; `carried`: there is a proxy for what is not led.
pub(super) fn chains(family: Family, respect: bool, carried: bool) -> Vec<Chain> {
    if family == Family::Bridge {
        return vec![base(
            "between",
            "filter",
            Hook::Forward,
            AFTER_BR_NETFILTER,
            between(),
        )];
    }
    let chain = |name, rules| Chain {
        name,
        base: None,
        rules,
    };
    let mut all = vec![
        chain(USER, Vec::new()),
        chain("passed", vec![passed()]),
        chain("into", into(family)),
        chain("out_of", out_of()),
        base("reach", "filter", Hook::Forward, BEFORE_FILTER, reach()),
        base("guard", "filter", Hook::Prerouting, RAW, guard(family)),
        base(
            "published",
            "nat",
            Hook::Prerouting,
            DESTINATION_NAT,
            lead_on(family, published_from_elsewhere(family, respect)),
        ),
        base(
            "published_here",
            "nat",
            Hook::Output,
            DESTINATION_NAT,
            lead_on(family, published_here(family)),
        ),
        base(
            "source",
            "nat",
            Hook::Postrouting,
            SOURCE_NAT,
            sources(family),
        ),
        base(
            "to_host",
            "filter",
            Hook::Input,
            BEFORE_FILTER,
            to_host(family, respect),
        ),
    ];
    if family == Family::V6 && !carried {
        let rules = refuse_loopback();
        all.push(base("refuse", "filter", Hook::Input, BEFORE_FILTER, rules));
    }
    if respect {
        all.push(base("admit", "filter", Hook::Input, LAST, admit(family)));
    }
    all
}

fn base(
    name: &'static str,
    kind: &'static str,
    hook: Hook,
    priority: i32,
    rules: Vec<Vec<Expression>>,
) -> Chain {
    Chain {
        name,
        base: Some(Base {
            kind,
            hook,
            priority,
        }),
        rules,
    }
}

fn rule<const N: usize>(parts: [Vec<Expression>; N]) -> Vec<Expression> {
    parts.concat()
}

fn finish(verdict: Verdict) -> Vec<Expression> {
    vec![Expression::Finish(verdict)]
}

fn pass() -> Vec<Expression> {
    finish(Verdict::Goto("passed"))
}

/// What comes from a container to 127.0.0.0/8 is no business of its. The kernel drops such itself for IPv6.
fn guard(family: Family) -> Vec<Vec<Expression>> {
    if family == Family::V6 {
        return Vec::new();
    }
    vec![rule([
        is_in(Field::InputName, BRIDGES, true),
        is_loopback(Field::DestinationAddress(family), family, true),
        finish(Verdict::Drop),
    ])]
}

/// Rules that look a packet to the host up among the published ports.
fn lead_on(family: Family, condition: Vec<Expression>) -> Vec<Vec<Expression>> {
    let to_host = vec![
        load(Field::DestinationKind, 0),
        equals(u32::from(libc::RTN_LOCAL).to_ne_bytes()),
    ];
    let dnat = |map| {
        let (address, port) = (8, 8 + width(family));
        let to = address;
        vec![
            Expression::Map { at: 0, map, to },
            Expression::Dnat { address, port },
        ]
    };
    vec![
        rule([
            to_host.clone(),
            condition.clone(),
            port_of_address(family),
            dnat(PORTS_OF_ADDRESS),
        ]),
        rule([to_host, condition, port_of_any(), dnat(PORTS)]),
    ]
}

fn port_of_address(family: Family) -> Vec<Expression> {
    vec![
        load(Field::Protocol, 0),
        load(Field::DestinationAddress(family), 1),
        load(Field::DestinationPort, 1 + width(family)),
    ]
}

fn port_of_any() -> Vec<Expression> {
    vec![load(Field::Protocol, 0), load(Field::DestinationPort, 1)]
}

fn published_from_elsewhere(family: Family, respect: bool) -> Vec<Expression> {
    let mut condition = is_loopback(Field::DestinationAddress(family), family, false);
    // These are the proxy's, as they are in Docker.
    if family == Family::V6 {
        condition.extend(source_is_link_local(false));
    }
    if respect {
        condition.extend(admission(family));
        condition.push(Expression::InSet {
            at: 0,
            set: ADMITTED,
            inside: true,
        });
    }
    condition
}

/// The kernel does not let packets from ::1 leave by a link, however they are translated later.
fn published_here(family: Family) -> Vec<Expression> {
    match family {
        Family::V6 => is_loopback(Field::DestinationAddress(family), family, false),
        _ => Vec::new(),
    }
}

/// Marks what containers send to the host itself: firewalld is to let it pass.
fn to_host(family: Family, respect: bool) -> Vec<Vec<Expression>> {
    let from_container = || is_in(Field::InputName, BRIDGES, true);
    let published = |key: Vec<Expression>, map| {
        rule([
            from_container(),
            key,
            vec![Expression::Map { at: 0, map, to: 8 }],
            finish(Verdict::Accept),
        ])
    };
    let mut rules = Vec::new();
    // There the host's rules are asked about published ports.
    if respect {
        rules.push(published(port_of_address(family), PORTS_OF_ADDRESS));
        rules.push(published(port_of_any(), PORTS));
    }
    rules.push(rule([from_container(), pass()]));
    rules
}

/// The key of who has been let in, and where.
fn admission(family: Family) -> Vec<Expression> {
    let width = width(family);
    vec![
        load(Field::InputName, 0),
        load(Field::SourceAddress(family), 4),
        load(Field::Protocol, 4 + width),
        load(Field::DestinationAddress(family), 5 + width),
        load(Field::DestinationPort, 5 + 2 * width),
    ]
}

/// A packet that comes here has passed the host's own firewall. It is dropped, so that the client sends it again, and
/// then it is translated.
fn admit(family: Family) -> Vec<Vec<Expression>> {
    // As in `published_from_elsewhere`: others are not translated the second time either.
    let from_afar = match family {
        Family::V6 => source_is_link_local(false),
        _ => Vec::new(),
    };
    let lookup = |key: Vec<Expression>, map| {
        let remembered = Expression::Remember {
            at: 0,
            set: ADMITTED,
        };
        rule([
            has_bits(Field::ConnectionState, NEW),
            is_loopback(Field::DestinationAddress(family), family, false),
            from_afar.clone(),
            key,
            vec![Expression::Map { at: 0, map, to: 8 }],
            admission(family),
            vec![remembered],
            finish(Verdict::Drop),
        ])
    };
    vec![
        lookup(port_of_address(family), PORTS_OF_ADDRESS),
        lookup(port_of_any(), PORTS),
    ]
}

/// Published ports at ::1 say at once that they cannot be reached, so that who means `localhost` tries 127.0.0.1.
fn refuse_loopback() -> Vec<Vec<Expression>> {
    let family = Family::V6;
    let published = |key: Vec<Expression>, map, end: Vec<Expression>| {
        rule([
            is_loopback(Field::DestinationAddress(family), family, true),
            key,
            vec![Expression::Map { at: 0, map, to: 8 }],
            end,
        ])
    };
    let reset = || {
        vec![
            load(Field::Protocol, 0),
            equals([libc::IPPROTO_TCP as u8]),
            Expression::Reset,
        ]
    };
    let unreachable = || vec![Expression::Unreachable];
    let of_address = || port_of_address(family);
    vec![
        published(port_of_any(), PORTS, reset()),
        published(port_of_any(), PORTS, unreachable()),
        published(of_address(), PORTS_OF_ADDRESS, reset()),
        published(of_address(), PORTS_OF_ADDRESS, unreachable()),
    ]
}

fn sources(family: Family) -> Vec<Vec<Expression>> {
    let source = Field::SourceAddress(family);
    let masquerade = || vec![Expression::Masquerade];
    let redirected_into_bridge = rule([
        is_in(Field::OutputName, BRIDGES, true),
        has_bits(Field::ConnectionStatus, REDIRECTED),
    ]);
    let mut rules = vec![
        rule([
            is_in(source, MASQUERADED, true),
            is_in(Field::OutputName, BRIDGES, false),
            masquerade(),
        ]),
        rule([
            is_in(Field::OutputName, BRIDGES, false),
            vec![
                load(source, 0),
                Expression::Map {
                    at: 0,
                    map: SOURCES,
                    to: 8,
                },
                Expression::Snat { address: 8 },
            ],
        ]),
        rule([
            redirected_into_bridge.clone(),
            is_in(source, SUBNETS, true),
            masquerade(),
        ]),
    ];
    if family == Family::V4 {
        rules.push(rule([
            redirected_into_bridge,
            is_loopback(source, family, true),
            masquerade(),
        ]));
    }
    rules
}

/// What our bridges have part in is judged, all else is not looked at.
fn reach() -> Vec<Vec<Expression>> {
    vec![
        finish(Verdict::Jump(USER)),
        rule([
            is_in(Field::OutputName, BRIDGES, true),
            finish(Verdict::Goto("into")),
        ]),
        rule([
            is_in(Field::InputName, BRIDGES, true),
            finish(Verdict::Goto("out_of")),
        ]),
    ]
}

/// A bridge is entered by answers, from itself, through published ports and links, and as its network says.
fn into(family: Family) -> Vec<Vec<Expression>> {
    let between = |set| {
        vec![
            load(Field::InputName, 0),
            load(Field::OutputName, 4),
            Expression::InSet {
                at: 0,
                set,
                inside: true,
            },
        ]
    };
    // With `br_netfilter` the neighbours of a bridge ask for each other here, too.
    let mut rules = match family {
        Family::V6 => neighbours().map(|asks| rule([asks, pass()])).to_vec(),
        _ => Vec::new(),
    };
    let icmp = match family {
        Family::V6 => libc::IPPROTO_ICMPV6,
        _ => libc::IPPROTO_ICMP,
    };
    // Not from other networks of containers.
    let from_elsewhere = || is_in(Field::InputName, BRIDGES, false);
    let reachable = || {
        let mut parts = port_of_address(family);
        parts.push(Expression::InSet {
            at: 0,
            set: REACHABLE,
            inside: true,
        });
        parts
    };
    rules.extend([
        rule([
            has_bits(Field::ConnectionState, ESTABLISHED_OR_RELATED),
            pass(),
        ]),
        rule([between(PATHS), pass()]),
        rule([is_linked(family, LINKS, false), pass()]),
        rule([
            is_in(Field::OutputName, INTERNAL, true),
            finish(Verdict::Drop),
        ]),
        rule([
            is_in(Field::InputName, INTERNAL, true),
            finish(Verdict::Drop),
        ]),
        rule([has_bits(Field::ConnectionStatus, REDIRECTED), pass()]),
        rule([
            is_in(Field::OutputName, OPEN, true),
            from_elsewhere(),
            pass(),
        ]),
        rule([between(TRUSTED), reachable(), pass()]),
        rule([
            is_in(Field::OutputName, ROUTED, true),
            vec![load(Field::Protocol, 0), equals([icmp as u8])],
            pass(),
        ]),
        rule([is_in(Field::OutputName, ROUTED, true), reachable(), pass()]),
        rule([
            is_in(Field::OutputName, DIRECT, true),
            from_elsewhere(),
            reachable(),
            pass(),
        ]),
        finish(Verdict::Drop),
    ]);
    rules
}

fn out_of() -> Vec<Vec<Expression>> {
    vec![
        rule([
            has_bits(Field::ConnectionState, ESTABLISHED_OR_RELATED),
            pass(),
        ]),
        rule([
            is_in(Field::InputName, INTERNAL, true),
            finish(Verdict::Drop),
        ]),
        pass(),
    ]
}

/// The end of our chains for what may pass: another's chain that drops by default can accept the mark.
fn passed() -> Vec<Expression> {
    vec![
        load(Field::Mark, 0),
        Expression::Bits {
            at: 0,
            mask: (!PASSED).to_ne_bytes().to_vec(),
            flip: PASSED.to_ne_bytes().to_vec(),
        },
        Expression::SetMark { from: 0 },
        Expression::Finish(Verdict::Accept),
    ]
}

/// What one port of a bridge sends to another does not pass the tables of IPv4 and IPv6, unless `br_netfilter` is loaded:
/// then what they have passed is marked, such as packets for a neighbour's published port, which become bridged ones. There
/// may be no connection tracking here: links are open in both directions, as with Docker.
fn between() -> Vec<Vec<Expression>> {
    let closed = |field, equal| {
        let value = CLOSED_GROUP.to_ne_bytes().to_vec();
        let at = 0;
        vec![load(field, 0), Expression::Compare { at, equal, value }]
    };
    let ether_type = |number: u16| vec![load(Field::EtherType, 0), equals(number.to_be_bytes())];
    let accept = || finish(Verdict::Accept);
    let mut rules = vec![
        rule([closed(Field::InputGroup, false), accept()]),
        rule([closed(Field::OutputGroup, false), accept()]),
        rule([ether_type(ARP), accept()]),
        rule([has_bits(Field::Mark, PASSED), accept()]),
    ];
    for (family, number) in [(Family::V4, libc::ETH_P_IP), (Family::V6, libc::ETH_P_IPV6)] {
        for backwards in [false, true] {
            rules.push(rule([
                ether_type(number as u16),
                is_linked(family, links_set(family), backwards),
                accept(),
            ]));
        }
    }
    let ip_v6 = ether_type(libc::ETH_P_IPV6 as u16);
    rules.extend(neighbours().map(|asks| rule([ip_v6.clone(), asks, accept()])));
    rules.push(finish(Verdict::Drop));
    rules
}

/// IPv6's questions and answers about neighbours' MACs.
fn neighbours() -> [Vec<Expression>; 2] {
    [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT].map(|kind| {
        vec![
            load(Field::Protocol, 0),
            equals([ICMP_V6]),
            load(Field::IcmpType, 0),
            equals([kind]),
        ]
    })
}

/// Whether a packet goes from a container to one that it is linked to (or back).
fn is_linked(family: Family, set: &'static str, backwards: bool) -> Vec<Expression> {
    let width = width(family);
    let (source, destination) = (
        Field::SourceAddress(family),
        Field::DestinationAddress(family),
    );
    let (from, to, port) = if backwards {
        (destination, source, Field::SourcePort)
    } else {
        (source, destination, Field::DestinationPort)
    };
    vec![
        load(from, 0),
        load(to, width),
        load(Field::Protocol, 2 * width),
        load(port, 2 * width + 1),
        Expression::InSet {
            at: 0,
            set,
            inside: true,
        },
    ]
}

fn load(field: Field, to: u32) -> Expression {
    Expression::Load { field, to }
}

fn equals<const N: usize>(value: [u8; N]) -> Expression {
    Expression::Compare {
        at: 0,
        equal: true,
        value: value.to_vec(),
    }
}

fn is_in(field: Field, set: &'static str, inside: bool) -> Vec<Expression> {
    vec![load(field, 0), Expression::InSet { at: 0, set, inside }]
}

/// Whether an address is (or is not) in 127.0.0.0/8, or ::1.
fn is_loopback(field: Field, family: Family, equal: bool) -> Vec<Expression> {
    if family == Family::V6 {
        let mut value = vec![0; 16];
        value[15] = 1;
        return vec![
            load(field, 0),
            Expression::Compare {
                at: 0,
                equal,
                value,
            },
        ];
    }
    masked(field, &[255, 0, 0, 0], &[127, 0, 0, 0], equal)
}

/// Whether a packet comes from (or not) fe80::/10.
fn source_is_link_local(equal: bool) -> Vec<Expression> {
    let prefix = |first: [u8; 2]| [&first[..], &[0; 14]].concat();
    let field = Field::SourceAddress(Family::V6);
    masked(field, &prefix([0xff, 0xc0]), &prefix([0xfe, 0x80]), equal)
}

fn masked(field: Field, mask: &[u8], value: &[u8], equal: bool) -> Vec<Expression> {
    vec![
        load(field, 0),
        Expression::Bits {
            at: 0,
            mask: mask.to_vec(),
            flip: vec![0; mask.len()],
        },
        Expression::Compare {
            at: 0,
            equal,
            value: value.to_vec(),
        },
    ]
}

/// Whether one of the bits is set.
fn has_bits(field: Field, bits: u32) -> Vec<Expression> {
    masked(field, &bits.to_ne_bytes(), &[0; 4], false)
}
