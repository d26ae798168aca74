//! Links, addresses and routes, by routing netlink (`linux/rtnetlink.h`, `linux/if_link.h`).
use crate::netlink::{Message, Netlink, Refusal, attributes, string, u32_of};
use crate::network::{IpvlanFlag, IpvlanMode, MacvlanMode};
use ipnet::IpNet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Not in `libc`: `linux/if_link.h`, `linux/veth.h`, `linux/ip.h`.
const VETH_INFO_PEER: u16 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: leave out what makes the most of an answer.
const WITHOUT_STATISTICS: u32 = 1 << 3;
/// `linux/if_link.h`
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const BRPORT_STATE: u16 = 1;
const BRPORT_MODE: u16 = 4;
const INET_CONF: u16 = 1;
const DEVCONF_ARP_NOTIFY: u16 = 22;
const DEVCONF_ROUTE_LOCALNET: u16 = 26;
/// `linux/if_link.h`: `IFLA_MACVLAN_MODE`, `IFLA_IPVLAN_MODE`, `IFLA_IPVLAN_FLAGS`, `IFLA_VLAN_ID`.
const MACVLAN_MODE: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const VLAN_ID: u16 = 1;
/// `linux/if_addr.h`: an address of IPv6 that is used at once, without asking whether another has it.
const WITHOUT_DETECTION: u8 = 0x02;
const LINK_IS_UP: u32 = libc::IFF_UP as u32;

pub(crate) type Mac = [u8; 6];

/// What is read of a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`, ...; empty for a device of hardware.
    pub(crate) kind: String,
    pub(crate) alias: String,
    /// Index of the bridge that it is a port of; 0: none.
    pub(crate) master: u32,
    pub(crate) mtu: u32,
}

/// A veth pair to be made.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) host_mac: Mac,
    /// Index of the bridge that the host's end becomes a port of.
    pub(crate) master: Option<u32>,
    pub(crate) mtu: u32,
    /// The group of the host's end; 0: none.
    pub(crate) group: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Mac,
    /// Where the peer is born.
    pub(crate) peer_netns: BorrowedFd<'a>,
}

/// `struct ifinfomsg`.
fn interface_info(family: i32, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut info = [0; 16];
    info[0] = family as u8;
    info[4..8].copy_from_slice(&index.to_ne_bytes());
    info[8..12].copy_from_slice(&flags.to_ne_bytes());
    info[12..16].copy_from_slice(&change.to_ne_bytes());
    info
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_of(payload.get(4..8)?),
        ..Link::default()
    };
    for (kind, value) in attributes(payload.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = string(value),
            libc::IFLA_IFALIAS => link.alias = string(value),
            libc::IFLA_MASTER => link.master = u32_of(value),
            libc::IFLA_MTU => link.mtu = u32_of(value),
            libc::IFLA_LINKINFO => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == libc::IFLA_INFO_KIND)
                    .map_or_else(String::new, |(_, value)| string(value));
            }
            _ => {}
        }
    }
    Some(link)
}

/// The link of that name; None: there is none.
pub(crate) fn by_name(netlink: &Netlink, name: &str) -> Result<Option<Link>, Refusal> {
    let get = Message::with_flags(libc::RTM_GETLINK, libc::NLM_F_REQUEST)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, 0, 0))
        .number(libc::IFLA_EXT_MASK, WITHOUT_STATISTICS)
        .string(libc::IFLA_IFNAME, name);
    Ok(netlink.query(&get)?.as_deref().and_then(parse_link))
}

/// All links of the namespace.
pub(crate) fn list(netlink: &Netlink) -> Result<Vec<Link>, Refusal> {
    let get = dump(libc::RTM_GETLINK)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, 0, 0))
        .number(libc::IFLA_EXT_MASK, WITHOUT_STATISTICS);
    let list = netlink.dump(&get)?;
    Ok(list.iter().filter_map(|p| parse_link(p)).collect())
}

fn dump(kind: u16) -> Message {
    Message::with_flags(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP)
}

/// Makes a bridge, down, with a MAC of its own (so that it does not follow its ports). It does not listen for who has joined
/// which multicast group: without somebody who asks them all, all get everything anyway, and the kernel would go
/// through all ports for each that comes or goes.
pub(crate) fn add_bridge(name: &str, mac: Mac) -> Message {
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, 0, 0))
        .string(libc::IFLA_IFNAME, name)
        .bytes(libc::IFLA_ADDRESS, &mac)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.string(libc::IFLA_INFO_KIND, "bridge")
                .nest(libc::IFLA_INFO_DATA, |m| {
                    m.bytes(IFLA_BR_MCAST_SNOOPING, &[0])
                })
        })
}

/// Makes both ends in one request: the host's end up and a port of the bridge, the peer born in its namespace
/// (down: a veth cannot be set up before it has a peer).
/// One queue each: a queue a processor costs time and memory and serves nothing here.
pub(crate) fn add_veth(pair: &VethPair<'_>) -> Message {
    let end = |m: Message, flags: u32, name: &str, mac: Mac| {
        m.fixed(&interface_info(libc::AF_UNSPEC, 0, flags, flags))
            .string(libc::IFLA_IFNAME, name)
            .bytes(libc::IFLA_ADDRESS, &mac)
            .number(libc::IFLA_MTU, pair.mtu)
            .number(libc::IFLA_NUM_TX_QUEUES, 1)
            .number(libc::IFLA_NUM_RX_QUEUES, 1)
    };
    let peer = |m: Message| {
        end(m, 0, pair.peer_name, pair.peer_mac)
            .number(libc::IFLA_NET_NS_FD, pair.peer_netns.as_raw_fd() as u32)
    };
    let new = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    let mut message = end(new, LINK_IS_UP, pair.host_name, pair.host_mac);
    if pair.group != 0 {
        message = message.number(libc::IFLA_GROUP, pair.group);
    }
    if let Some(master) = pair.master {
        message = message.number(libc::IFLA_MASTER, master);
    }
    message.nest(libc::IFLA_LINKINFO, |m| {
        m.string(libc::IFLA_INFO_KIND, "veth")
            .nest(libc::IFLA_INFO_DATA, |m| m.nest(VETH_INFO_PEER, peer))
    })
}

/// A link that makes no IPv6 address of its own (`fe80::`), and asks nobody whether that is in use.
pub(crate) fn set_without_own_address(index: u32) -> Message {
    set(interface_info(libc::AF_UNSPEC, index, 0, 0)).nest(libc::IFLA_AF_SPEC, |m| {
        m.nest(libc::AF_INET6 as u16, |m| {
            m.bytes(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
        })
    })
}

pub(crate) fn set_up(index: u32) -> Message {
    set(interface_info(
        libc::AF_UNSPEC,
        index,
        LINK_IS_UP,
        LINK_IS_UP,
    ))
}

pub(crate) fn set_mtu(index: u32, mtu: u32) -> Message {
    set(interface_info(libc::AF_UNSPEC, index, 0, 0)).number(libc::IFLA_MTU, mtu)
}

/// Names its link by name, so that it can be sent together with the request that makes the link.
pub(crate) fn set_alias(name: &str, alias: &str) -> Message {
    set(interface_info(libc::AF_UNSPEC, 0, 0, 0))
        .string(libc::IFLA_IFNAME, name)
        .string(libc::IFLA_IFALIAS, alias)
}

/// Makes a link a port of a bridge.
pub(crate) fn set_master(index: u32, master: u32) -> Message {
    set(interface_info(libc::AF_UNSPEC, index, 0, 0)).number(libc::IFLA_MASTER, master)
}

pub(crate) fn set_group(index: u32, group: u32) -> Message {
    set(interface_info(libc::AF_UNSPEC, index, 0, 0)).number(libc::IFLA_GROUP, group)
}

/// Lets packets from and to 127.0.0.0/8 pass this link.
pub(crate) fn set_route_localnet(index: u32) -> Message {
    set_ipv4_option(index, DEVCONF_ROUTE_LOCALNET)
}

/// Makes the namespace tell its neighbours (gratuitous ARP) which MAC its address has; the link must be up and pass
/// packets. The kernel does so when a MAC is set, also to what it was.
pub(crate) fn announce(index: u32, mac: Mac) -> [Message; 2] {
    let again = set(interface_info(libc::AF_UNSPEC, index, 0, 0)).bytes(libc::IFLA_ADDRESS, &mac);
    [set_ipv4_option(index, DEVCONF_ARP_NOTIFY), again]
}

/// The same as writing 1 to the file in `/proc/sys/net/ipv4/conf/<link>/`.
fn set_ipv4_option(index: u32, option: u16) -> Message {
    set(interface_info(libc::AF_UNSPEC, index, 0, 0)).nest(libc::IFLA_AF_SPEC, |m| {
        m.nest(libc::AF_INET as u16, |m| {
            m.nest(INET_CONF, |m| m.number(option, 1))
        })
    })
}

/// Makes a link that has just got its carrier pass packets at once. The kernel leaves that to a worker, and drops
/// what is sent until then; asking for the link makes it catch up (since Linux 6.8; before, the worker's moment
/// remains).
pub(crate) fn settle(index: u32) -> Message {
    Message::new(libc::RTM_GETLINK, 0)
        .fixed(&interface_info(libc::AF_UNSPEC, index, 0, 0))
        .number(libc::IFLA_EXT_MASK, WITHOUT_STATISTICS)
}

fn set(info: [u8; 16]) -> Message {
    Message::new(libc::RTM_SETLINK, 0).fixed(&info)
}

/// A port of a bridge that may send frames back where they came from.
pub(crate) fn set_hairpin(index: u32) -> Message {
    bridge_port(index).nest(libc::IFLA_PROTINFO, |m| m.bytes(BRPORT_MODE, &[1]))
}

/// A port of a bridge that passes nothing any more. Unlike taking it off the bridge or setting it down, this does
/// not wait for anything.
pub(crate) fn set_port_disabled(index: u32) -> Message {
    bridge_port(index).nest(libc::IFLA_PROTINFO, |m| m.bytes(BRPORT_STATE, &[0]))
}

fn bridge_port(index: u32) -> Message {
    set(interface_info(libc::AF_BRIDGE, index, 0, 0))
}

pub(crate) fn delete(index: u32) -> Message {
    Message::new(libc::RTM_DELLINK, 0).fixed(&interface_info(libc::AF_UNSPEC, index, 0, 0))
}

/// Deletes all links of a group at once: one wait in the kernel instead of one a link.
pub(crate) fn delete_group(group: u32) -> Message {
    Message::new(libc::RTM_DELLINK, 0)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, 0, 0))
        .number(libc::IFLA_GROUP, group)
}

/// The address: made where it is not there yet. Duplicates are not looked for: we know who has which.
pub(crate) fn add_address(index: u32, address: IpNet) -> Message {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    let message = address_message(libc::RTM_NEWADDR, flags, index, address);
    match address {
        IpNet::V4(net) => message.bytes(libc::IFA_BROADCAST, &net.broadcast().octets()),
        IpNet::V6(_) => message,
    }
}

pub(crate) fn delete_address(index: u32, address: IpNet) -> Message {
    address_message(libc::RTM_DELADDR, 0, index, address)
}

/// `struct ifaddrmsg` and the address.
fn address_message(kind: u16, flags: i32, index: u32, address: IpNet) -> Message {
    let mut info = [0; 8];
    info[0] = family(address.addr()) as u8;
    info[1] = address.prefix_len();
    if matches!(address, IpNet::V6(_)) {
        info[2] = WITHOUT_DETECTION;
    }
    info[4..8].copy_from_slice(&index.to_ne_bytes());
    let octets = octets(address.addr());
    Message::new(kind, flags)
        .fixed(&info)
        .bytes(libc::IFA_LOCAL, &octets)
        .bytes(libc::IFA_ADDRESS, &octets)
}

fn family(address: IpAddr) -> i32 {
    match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(*octets.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*octets.first_chunk::<16>()?)),
        _ => None,
    }
}

/// The addresses of the namespace, of both families, with the index of their link.
pub(crate) fn addresses(netlink: &Netlink) -> Result<Vec<(u32, IpNet)>, Refusal> {
    let list = netlink.dump(&dump(libc::RTM_GETADDR).fixed(&[0; 8]))?;
    Ok(list.iter().filter_map(|p| parse_address(p)).collect())
}

fn parse_address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let prefix = *payload.get(1)?;
    let index = u32_of(payload.get(4..8)?);
    // With a peer, LOCAL is our own; IPv6 without one has ADDRESS alone.
    let find = |wanted| attributes(payload.get(8..)?).find(|(kind, _)| *kind == wanted);
    let (_, octets) = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    Some((index, IpNet::new(address_of(octets)?, prefix).ok()?))
}

/// The default route goes through `gateway`, instead of where it went.
pub(crate) fn set_default_route(index: u32, gateway: IpAddr) -> Message {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    default_route(libc::RTM_NEWROUTE, flags, index, family(gateway))
        .bytes(libc::RTA_GATEWAY, &octets(gateway))
}

/// The default route is the link itself, without a gateway (ipvlan in its third mode).
pub(crate) fn set_default_link(index: u32, like: IpAddr) -> Message {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    default_route(libc::RTM_NEWROUTE, flags, index, family(like))
}

fn default_route(kind: u16, flags: i32, index: u32, family: i32) -> Message {
    let mut info = [0; 12];
    info[0] = family as u8;
    info[4] = libc::RT_TABLE_MAIN;
    info[5] = libc::RTPROT_BOOT;
    info[6] = libc::RT_SCOPE_UNIVERSE;
    info[7] = libc::RTN_UNICAST;
    Message::new(kind, flags)
        .fixed(&info)
        .number(libc::RTA_OIF, index)
}

/// A link on top of a link of the host, born in a namespace, down.
#[derive(Debug)]
pub(crate) struct Stacked<'a> {
    pub(crate) name: &'a str,
    /// Index of the link below, in the namespace of the socket.
    pub(crate) parent: u32,
    pub(crate) netns: BorrowedFd<'a>,
    /// 0: the parent's.
    pub(crate) mtu: u32,
}

impl Stacked<'_> {
    fn message(&self) -> Message {
        let new = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
            .fixed(&interface_info(libc::AF_UNSPEC, 0, 0, 0))
            .string(libc::IFLA_IFNAME, self.name)
            .number(libc::IFLA_LINK, self.parent)
            .number(libc::IFLA_NET_NS_FD, self.netns.as_raw_fd() as u32);
        match self.mtu {
            0 => new,
            mtu => new.number(libc::IFLA_MTU, mtu),
        }
    }

    pub(crate) fn macvlan(&self, mode: MacvlanMode, mac: Mac) -> Message {
        let mode: u32 = match mode {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
        };
        self.message()
            .bytes(libc::IFLA_ADDRESS, &mac)
            .nest(libc::IFLA_LINKINFO, |m| {
                m.string(libc::IFLA_INFO_KIND, "macvlan")
                    .nest(libc::IFLA_INFO_DATA, |m| m.number(MACVLAN_MODE, mode))
            })
    }

    pub(crate) fn ipvlan(&self, mode: IpvlanMode, flag: IpvlanFlag) -> Message {
        let mode: u16 = match mode {
            IpvlanMode::L2 => 0,
            IpvlanMode::L3 => 1,
            IpvlanMode::L3s => 2,
        };
        let flag: u16 = match flag {
            IpvlanFlag::Bridge => 0,
            IpvlanFlag::Private => 1,
            IpvlanFlag::Vepa => 2,
        };
        self.message().nest(libc::IFLA_LINKINFO, |m| {
            m.string(libc::IFLA_INFO_KIND, "ipvlan")
                .nest(libc::IFLA_INFO_DATA, |m| {
                    m.bytes(IPVLAN_MODE, &mode.to_ne_bytes())
                        .bytes(IPVLAN_FLAGS, &flag.to_ne_bytes())
                })
        })
    }
}

/// A link of no hardware, up.
pub(crate) fn add_dummy(name: &str) -> Message {
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, LINK_IS_UP, LINK_IS_UP))
        .string(libc::IFLA_IFNAME, name)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.string(libc::IFLA_INFO_KIND, "dummy")
        })
}

/// A VLAN of IEEE 802.1Q on a link, up.
pub(crate) fn add_vlan(name: &str, parent: u32, id: u16) -> Message {
    Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .fixed(&interface_info(libc::AF_UNSPEC, 0, LINK_IS_UP, LINK_IS_UP))
        .string(libc::IFLA_IFNAME, name)
        .number(libc::IFLA_LINK, parent)
        .nest(libc::IFLA_LINKINFO, |m| {
            m.string(libc::IFLA_INFO_KIND, "vlan")
                .nest(libc::IFLA_INFO_DATA, |m| {
                    m.bytes(VLAN_ID, &id.to_ne_bytes())
                })
        })
}

/// Tells a bridge behind which of its ports a MAC is, before its owner has sent anything: an entry left from an
/// earlier owner of the address would lead the first packets astray. It is static, as a port that has just been made
/// does not learn yet; it still moves where the MAC is seen, and goes with its port.
pub(crate) fn set_forwarding_entry(port: u32, mac: Mac) -> Message {
    // `struct ndmsg`.
    let mut info = [0; 12];
    info[0] = libc::AF_BRIDGE as u8;
    info[4..8].copy_from_slice(&port.to_ne_bytes());
    info[8..10].copy_from_slice(&libc::NUD_NOARP.to_ne_bytes());
    info[10] = libc::NTF_MASTER;
    Message::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        .fixed(&info)
        .bytes(libc::NDA_LLADDR, &mac)
}
