//! The default bridge: which link it is and which addresses it has, as the flags and the host say.
use super::{PlaneOptions, addresses_of, find};
use crate::error::NetworkError;
use crate::host::Host;
use crate::netlink::Netlink;
use crate::network::{Bridge, Driver, GatewayMode, Network, Subnet};
use crate::pools::Pools;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const DEFAULT_NAME: &str = "docker0";
/// Where `docker0` belongs to someone else.
const SECOND_NAME: &str = "gantry0";

/// How the default bridge is made.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// `-b`: an existing link of the user's (its address is used and it is never removed). None: `docker0`, or
    /// `gantry0` where that name belongs to someone else.
    pub existing: Option<String>,
    /// A name to make instead of docker0 (tests).
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge; none: 172.17.0.1/16 or the next free of the pools.
    pub bip: Option<Ipv4Net>,
    /// `--bip6`
    pub bip6: Option<Ipv6Net>,
    /// `--ipv6`
    pub ipv6: bool,
    /// `--fixed-cidr`: where containers' addresses are chosen from.
    pub fixed: Option<Ipv4Net>,
    /// `--fixed-cidr-v6`
    pub fixed6: Option<Ipv6Net>,
    /// `--default-gateway`: a machine on the bridge that containers send to, instead of the bridge.
    pub default_gateway: Option<Ipv4Addr>,
    /// `--default-gateway-v6`
    pub default_gateway6: Option<Ipv6Addr>,
    /// `--icc`
    pub icc: bool,
    /// `--ip-masq`
    pub masquerade: bool,
    /// `--ip`: where ports are published that name no address.
    pub host_binding: Option<IpAddr>,
    /// 0: 1500.
    pub mtu: u32,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            existing: None,
            name: None,
            bip: None,
            bip6: None,
            ipv6: false,
            fixed: None,
            fixed6: None,
            default_gateway: None,
            default_gateway6: None,
            icc: true,
            masquerade: true,
            host_binding: None,
            mtu: 0,
        }
    }
}

/// What the default bridge has to get along with.
#[derive(Debug)]
pub struct Neighbours<'a> {
    /// What it was at the daemon's last start.
    pub before: Option<&'a Network>,
    pub pools: &'a Pools,
    /// Subnets of the other networks.
    pub others: &'a [IpNet],
}

/// The default bridge as a network.
pub fn default_bridge(
    config: &BridgeConfig,
    options: &PlaneOptions,
    id: &str,
    neighbours: &Neighbours<'_>,
) -> Result<Network, NetworkError> {
    let link = match &config.existing {
        Some(name) => name.clone(),
        None => own_name(config, &options.firewall.table)?,
    };
    let has = addresses_of(&link)?;
    let mut subnets = vec![subnet(&Told::v4(config), &has, neighbours)?];
    if config.ipv6 {
        subnets.push(subnet(&Told::v6(config), &has, neighbours)?);
    }
    Ok(Network {
        id: id.to_owned(),
        name: "bridge".to_owned(),
        driver: Driver::Bridge(Bridge {
            link,
            ours: config.existing.is_none(),
            icc: config.icc,
            masquerade: config.masquerade,
            host_binding: config.host_binding,
            inhibit_ipv4: false,
            source: Vec::new(),
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            trusted_links: Vec::new(),
        }),
        subnets,
        internal: false,
        mtu: config.mtu,
    })
}

/// The name of our bridge: that of the one which is there, or the first that is free.
fn own_name(config: &BridgeConfig, mark: &str) -> Result<String, NetworkError> {
    let netlink = Netlink::route().map_err(NetworkError::kernel("opening a netlink socket"))?;
    let names = match &config.name {
        Some(name) => vec![name.as_str()],
        None => vec![DEFAULT_NAME, SECOND_NAME],
    };
    let mut free = None;
    for name in &names {
        match find(&netlink, name)? {
            Some(link) if link.kind == "bridge" && link.alias == mark => {
                return Ok((*name).to_owned());
            }
            Some(_) => {}
            None => free = free.or(Some(*name)),
        }
    }
    free.map(str::to_owned).ok_or_else(|| {
        let names = names.join(" and ");
        let text = format!("{names} belong to someone else: name a bridge to use");
        NetworkError::Invalid(text)
    })
}

/// What the flags say of one family.
struct Told {
    v6: bool,
    /// `--bip`, `--fixed-cidr`: how they are called in errors.
    names: [&'static str; 2],
    bip: Option<IpNet>,
    fixed: Option<IpNet>,
    default_gateway: Option<IpAddr>,
    /// The link is the user's.
    users: bool,
}

impl Told {
    fn v4(config: &BridgeConfig) -> Self {
        Self {
            v6: false,
            names: ["bip", "fixed-cidr"],
            bip: config.bip.map(IpNet::V4),
            fixed: config.fixed.map(IpNet::V4),
            default_gateway: config.default_gateway.map(IpAddr::V4),
            users: config.existing.is_some(),
        }
    }

    fn v6(config: &BridgeConfig) -> Self {
        Self {
            v6: true,
            names: ["bip6", "fixed-cidr-v6"],
            bip: config.bip6.map(IpNet::V6),
            fixed: config.fixed6.map(IpNet::V6),
            default_gateway: config.default_gateway6.map(IpAddr::V6),
            users: config.existing.is_some(),
        }
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn subnet(told: &Told, has: &[IpNet], neighbours: &Neighbours<'_>) -> Result<Subnet, NetworkError> {
    let (net, gateway) = address(told, has, neighbours)?;
    let refused = |text: String| Err(NetworkError::Invalid(text));
    if let Some(other) = neighbours.others.iter().find(|other| overlap(other, &net)) {
        return refused(format!(
            "the default bridge cannot have {net}: a network has {other}; remove that network, or name another with --{}",
            told.names[0]
        ));
    }
    let inside =
        |range: &IpNet| net.contains(&range.network()) && range.prefix_len() >= net.prefix_len();
    let mut range = told.fixed.map(|fixed| fixed.trunc());
    if let Some(fixed) = range.filter(|range| !inside(range)) {
        let name = told.names[1];
        if !told.users || told.v6 {
            return refused(format!(
                "{name}={fixed} is outside of the default bridge's subnet {net}"
            ));
        }
        tracing::warn!(
            "{name}={fixed} is outside any subnet implied by addresses on the user-managed default bridge: it is not used"
        );
        range = None;
    }
    if let Some(way) = told.default_gateway.filter(|way| !net.contains(way)) {
        return refused(format!(
            "default gateway ip must be part of the network: {way} is outside of {net}"
        ));
    }
    Ok(Subnet {
        net,
        range,
        gateway: Some(gateway),
        default_gateway: told.default_gateway,
        reserved: Vec::new(),
    })
}

/// The subnet, and the bridge's address: those that are told, or that the link has, or that it had (somebody has deleted
/// the bridge), or the first of a free subnet.
fn address(
    told: &Told,
    has: &[IpNet],
    neighbours: &Neighbours<'_>,
) -> Result<(IpNet, IpAddr), NetworkError> {
    if let Some(bip) = told.bip {
        return Ok((bip.trunc(), bip.addr()));
    }
    let family = |net: &&IpNet| matches!(net, IpNet::V6(_)) == told.v6;
    let fixed = told.fixed.map(|fixed| fixed.trunc());
    // The address whose subnet the range lies in comes first, then one within the range, then any.
    let fits = |net: &&IpNet| match &fixed {
        None => 0,
        Some(range) if net.contains(&range.network()) => 0,
        Some(range) if range.contains(&net.addr()) => 1,
        Some(_) => 2,
    };
    if let Some(found) = has.iter().filter(family).min_by_key(fits) {
        // Of a link of our own another address is made where the range wants that.
        let rank = fits(&found);
        if rank == 0 || told.users {
            return Ok((found.trunc(), found.addr()));
        }
        if let Some(range) = fixed.filter(|_| rank == 1) {
            return Ok((range, found.addr()));
        }
    }
    if let Some(range) = fixed {
        return Ok((range, first_of(range)?));
    }
    let host = Host::look();
    let is_free = |net: &IpNet| {
        let mut used = host.near.iter().chain(neighbours.others);
        !used.any(|used| overlap(used, net))
    };
    let subnets = neighbours.before.iter().flat_map(|before| &before.subnets);
    for had in subnets.filter(|had| matches!(had.net, IpNet::V6(_)) == told.v6) {
        if let Some(gateway) = had.gateway.filter(|_| is_free(&had.net)) {
            return Ok((had.net, gateway));
        }
    }
    let net = neighbours.pools.choose(told.v6, neighbours.others, &host)?;
    Ok((net, first_of(net)?))
}

/// The first address that a machine may have.
fn first_of(net: IpNet) -> Result<IpAddr, NetworkError> {
    let first = match net {
        // The first of an IPv6 subnet is for all of its routers.
        IpNet::V6(net) => net.hosts().nth(1).map(IpAddr::V6),
        IpNet::V4(net) => net.hosts().next().map(IpAddr::V4),
    };
    first.ok_or_else(|| {
        NetworkError::Invalid(format!("there is no address in {net} for the bridge"))
    })
}

#[cfg(test)]
mod tests;
