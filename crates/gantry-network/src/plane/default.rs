//! The default bridge: which link it is and which addresses it has, as the flags and the host say.
use super::{PlaneOptions, addresses_of, find, subnets_of_host};
use crate::error::NetworkError;
use crate::netlink::Netlink;
use crate::network::{Bridge, Driver, GatewayMode, Network, Subnet};
use ipnet::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;

const DEFAULT_NAME: &str = "docker0";
/// Where `docker0` belongs to someone else.
const SECOND_NAME: &str = "gantry0";

/// How the default bridge is made.
#[derive(Debug, Clone, Default)]
pub struct BridgeConfig {
    /// `-b`: an existing link of the user's (its address is used and it is never removed). None: `docker0`, or
    /// `gantry0` where that name belongs to someone else.
    pub existing: Option<String>,
    /// A name to make instead of docker0 (tests).
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge; none: 172.17.0.1/16 or the next free of Docker's pools.
    pub bip: Option<Ipv4Net>,
    /// 0: 1500.
    pub mtu: u32,
}

/// The default bridge as a network. `before` is what it was at the daemon's last start.
pub fn default_bridge(
    config: &BridgeConfig,
    options: &PlaneOptions,
    id: &str,
    before: Option<&Network>,
) -> Result<Network, NetworkError> {
    let link = match &config.existing {
        Some(name) => name.clone(),
        None => own_name(config, &options.firewall.table)?,
    };
    let address = address(config, &link, before)?;
    Ok(Network {
        id: id.to_owned(),
        name: "bridge".to_owned(),
        driver: Driver::Bridge(Bridge {
            link,
            ours: config.existing.is_none(),
            icc: true,
            masquerade: true,
            host_binding: None,
            inhibit_ipv4: false,
            source: Vec::new(),
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            trusted_links: Vec::new(),
        }),
        subnets: vec![Subnet {
            net: IpNet::V4(address.trunc()),
            range: None,
            gateway: Some(address.addr().into()),
            default_gateway: None,
            reserved: Vec::new(),
        }],
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

/// The bridge's address: the one that is told, or that it has, or that it had (somebody has deleted the bridge), or the
/// first of a free subnet.
fn address(
    config: &BridgeConfig,
    link: &str,
    before: Option<&Network>,
) -> Result<Ipv4Net, NetworkError> {
    let v4 = |net: IpNet| match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    };
    if let Some(bip) = config.bip {
        return Ok(bip);
    }
    if let Some(has) = addresses_of(link)?.into_iter().find_map(v4) {
        return Ok(has);
    }
    let had = before.iter().flat_map(|network| &network.subnets);
    let had = had
        .filter_map(|subnet| v4(IpNet::new(subnet.gateway?, subnet.net.prefix_len()).ok()?))
        .next();
    let used = subnets_of_host()?;
    let is_free = |net: &Ipv4Net| {
        let net = IpNet::V4(net.trunc());
        !used
            .iter()
            .any(|used| used.contains(&net) || net.contains(used))
    };
    if let Some(had) = had.filter(is_free) {
        return Ok(had);
    }
    default_pools()
        .find(is_free)
        .and_then(|pool| Ipv4Net::new(pool.hosts().next()?, pool.prefix_len()).ok())
        .ok_or_else(|| {
            let text = "all predefined address pools have been fully subnetted";
            NetworkError::Invalid(text.into())
        })
}

/// Docker's pools for networks of local scope: 172.17-31.0.0/16, then 192.168.0.0/16 in pieces of /20.
fn default_pools() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..32).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large.chain(small)
}
