//! The settings about networks, as flags and daemon.json have them.

use super::settings::{many, one};
use anyhow::{Context, Result, bail};
use gantry_api::go::number;
use gantry_engine::networks::NetworkOptions;
use gantry_network::plane::{BridgeConfig, FirewallOptions, PlaneOptions};
use gantry_network::pools::Pool;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// Networks and the firewall.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NetworkFlags {
    /// Attach containers to this existing bridge; "none": no default network
    #[arg(short = 'b', long, value_name = "BRIDGE")]
    bridge: Option<String>,
    /// IPv4 address and prefix of the default bridge, such as 172.17.0.1/16
    #[arg(long, value_name = "CIDR")]
    bip: Option<String>,
    /// IPv6 address and prefix of the default bridge
    #[arg(long, value_name = "CIDR")]
    bip6: Option<String>,
    /// Name of the default bridge that is made (default: docker0, or gantry0 where that is someone else's)
    #[arg(long, value_name = "NAME")]
    default_bridge_name: Option<String>,
    /// IPv4 subnet that addresses of the default bridge network are chosen from
    #[arg(long, value_name = "CIDR")]
    fixed_cidr: Option<String>,
    /// IPv6 subnet that addresses of the default bridge network are chosen from
    #[arg(long, value_name = "CIDR")]
    fixed_cidr_v6: Option<String>,
    /// IPv4 gateway of the default bridge network, instead of the bridge
    #[arg(long, value_name = "ADDRESS")]
    default_gateway: Option<String>,
    /// IPv6 gateway of the default bridge network, instead of the bridge
    #[arg(long, value_name = "ADDRESS")]
    default_gateway_v6: Option<String>,
    #[command(flatten)]
    switches: Switches,
    /// Host address of published ports of the default bridge network that name none (default: 0.0.0.0)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// MTU of the default bridge network (1500 unless given)
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    mtu: Option<i64>,
    /// Where subnets of networks come from: base=NETWORK,size=BITS (repeatable)
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pools: Vec<String>,
    /// Options of new networks: DRIVER=OPTION=VALUE (repeatable)
    #[arg(long = "default-network-opt", value_name = "OPTION")]
    defaults: Vec<String>,
    /// Addresses that host-gateway stands for in --add-host (default: the default bridge's; repeatable)
    #[arg(
        long = "host-gateway-ip",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    host_gateways: Vec<String>,
    /// A process carries published ports where the kernel cannot lead packets to a container (default: true)
    #[arg(long, value_name = "FILE", hide = true)]
    userland_proxy_path: Option<String>,
    /// Of no effect: for swarm mode
    #[arg(long, value_name = "BYTES", hide = true)]
    network_control_plane_mtu: Option<i64>,
    /// Name of the daemon's nftables table (default: gantry)
    #[arg(long, value_name = "NAME")]
    nft_table: Option<String>,
}

/// Flags that are on or off.
#[derive(Debug, Clone, Default, clap::Args)]
struct Switches {
    /// IPv6 on the default bridge network
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    ipv6: Option<bool>,
    /// Containers of the default bridge network reach each other (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    icc: Option<bool>,
    /// Have the host forward packets (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    ip_forward: Option<bool>,
    /// Of no effect: the policy of the host's FORWARD chain is never set
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    ip_forward_no_drop: Option<bool>,
    /// What leaves the default bridge network gets the host's address (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    ip_masq: Option<bool>,
    /// Rules of the daemon's own in the host's IPv4 firewall; false: it is left alone (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    iptables: Option<bool>,
    /// The same for IPv6 (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    ip6tables: Option<bool>,
    /// A process carries published ports where the kernel cannot lead packets to a container (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    userland_proxy: Option<bool>,
    /// Published ports may be sent to at the container's own address
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    allow_direct_routing: Option<bool>,
    /// Published ports are open from outside only where the host's own firewall says so (ufw, firewalld)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = number::parse_bool)]
    respect_host_firewall: Option<bool>,
}

/// daemon.json's part.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct NetworkFile {
    bridge: Option<String>,
    bip: Option<String>,
    bip6: Option<String>,
    fixed_cidr: Option<String>,
    fixed_cidr_v6: Option<String>,
    default_gateway: Option<String>,
    default_gateway_v6: Option<String>,
    ipv6: Option<bool>,
    icc: Option<bool>,
    ip: Option<String>,
    mtu: Option<i64>,
    ip_forward: Option<bool>,
    ip_forward_no_drop: Option<bool>,
    ip_masq: Option<bool>,
    iptables: Option<bool>,
    ip6tables: Option<bool>,
    userland_proxy: Option<bool>,
    userland_proxy_path: Option<String>,
    allow_direct_routing: Option<bool>,
    default_address_pools: Vec<FilePool>,
    default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    host_gateway_ip: Option<String>,
    host_gateway_ips: Vec<String>,
    network_control_plane_mtu: Option<i64>,
    /// Beyond Docker.
    respect_host_firewall: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePool {
    base: String,
    size: u8,
}

/// What flags and file say together.
#[derive(Debug)]
pub(crate) struct Networks {
    pub(crate) options: NetworkOptions,
    /// `--host-gateway-ip`; none: the default bridge's addresses.
    pub(crate) host_gateways: Vec<IpAddr>,
    pub(crate) userland_proxy: bool,
}

/// A setting of one of the two places, read.
fn given<T: FromStr>(
    key: &str,
    flag: Option<String>,
    file: Option<String>,
    what: &str,
) -> Result<Option<T>> {
    let Some(text) = one(key, flag, file)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(_) => bail!("invalid {key} {text:?}: {what} is expected"),
    }
}

const CIDR4: &str = "an IPv4 address with a prefix length";
const CIDR6: &str = "an IPv6 address with a prefix length";
const IP4: &str = "an IPv4 address";
const IP6: &str = "an IPv6 address";

impl Networks {
    pub(crate) fn merge(flags: NetworkFlags, file: NetworkFile) -> Result<Self> {
        let NetworkFlags { switches, .. } = flags;
        let icc = one("icc", switches.icc, file.icc)?.unwrap_or(true);
        let ipv6 = one("ipv6", switches.ipv6, file.ipv6)? == Some(true);
        let v4 = one("iptables", switches.iptables, file.iptables)?.unwrap_or(true);
        let v6 = one("ip6tables", switches.ip6tables, file.ip6tables)?.unwrap_or(true);
        check_icc(icc, v4, v6 || !ipv6)?;
        let forwarding = one("ip-forward", switches.ip_forward, file.ip_forward)?.unwrap_or(true);
        let masquerade = one("ip-masq", switches.ip_masq, file.ip_masq)?.unwrap_or(true);
        let respect = one(
            "respect-host-firewall",
            switches.respect_host_firewall,
            file.respect_host_firewall,
        )?;
        let direct = one(
            "allow-direct-routing",
            switches.allow_direct_routing,
            file.allow_direct_routing,
        )?;
        // COMPAT: of no effect here, and said of both places as the others are.
        one(
            "ip-forward-no-drop",
            switches.ip_forward_no_drop,
            file.ip_forward_no_drop,
        )?;
        one(
            "userland-proxy-path",
            flags.userland_proxy_path,
            file.userland_proxy_path,
        )?;
        one(
            "network-control-plane-mtu",
            flags.network_control_plane_mtu,
            file.network_control_plane_mtu,
        )?;
        let userland_proxy = one(
            "userland-proxy",
            switches.userland_proxy,
            file.userland_proxy,
        )?;
        let mtu = one("mtu", flags.mtu, file.mtu)?.unwrap_or(0);
        let config = BridgeConfig {
            existing: one("bridge", flags.bridge, file.bridge)?.filter(|name| !name.is_empty()),
            name: flags.default_bridge_name,
            bip: given("bip", flags.bip, file.bip, CIDR4)?,
            bip6: given("bip6", flags.bip6, file.bip6, CIDR6)?,
            ipv6,
            fixed: given("fixed-cidr", flags.fixed_cidr, file.fixed_cidr, CIDR4)?,
            fixed6: given(
                "fixed-cidr-v6",
                flags.fixed_cidr_v6,
                file.fixed_cidr_v6,
                CIDR6,
            )?,
            default_gateway: given(
                "default-gateway",
                flags.default_gateway,
                file.default_gateway,
                IP4,
            )?,
            default_gateway6: given(
                "default-gateway-v6",
                flags.default_gateway_v6,
                file.default_gateway_v6,
                IP6,
            )?,
            icc,
            masquerade: masquerade && v4,
            host_binding: given("ip", flags.ip, file.ip, "an address")?
                .filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            mtu: u32::try_from(mtu).with_context(|| format!("invalid default MTU: {mtu}"))?,
        };
        let options = NetworkOptions {
            bridge: settled(config)?,
            plane: PlaneOptions {
                firewall: FirewallOptions {
                    table: flags.nft_table.unwrap_or_else(|| "gantry".into()),
                    v4,
                    v6,
                    respect_host_firewall: respect == Some(true),
                    allow_direct_routing: direct == Some(true),
                },
                forwarding,
                // Its place is the daemon's to say.
                proxy: None,
            },
            pools: pools(flags.pools, file.default_address_pools)?,
            defaults: defaults(&flags.defaults, file.default_network_opts)?,
        };
        let in_file = file
            .host_gateway_ips
            .into_iter()
            .chain(file.host_gateway_ip);
        let gateways = many("host-gateway-ips", flags.host_gateways, in_file.collect())?;
        Ok(Self {
            options,
            host_gateways: host_gateways(gateways)?,
            userland_proxy: userland_proxy.unwrap_or(true),
        })
    }
}

/// Containers that must not reach each other need the firewall.
fn check_icc(icc: bool, v4: bool, v6: bool) -> Result<()> {
    if !icc && !v4 {
        bail!(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true"
        );
    }
    if !icc && !v6 {
        bail!(
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or --ip6tables to true"
        );
    }
    Ok(())
}

/// The default bridge; none where it is switched off.
fn settled(config: BridgeConfig) -> Result<Option<BridgeConfig>> {
    let Some(existing) = &config.existing else {
        return Ok(Some(config));
    };
    if config.bip.is_some() {
        bail!("You specified -b & --bip, mutually exclusive options. Please specify only one");
    }
    if config.bip6.is_some() {
        bail!("You specified -b & --bip6, mutually exclusive options. Please specify only one");
    }
    Ok((existing != "none").then_some(config))
}

fn pools(flags: Vec<String>, file: Vec<FilePool>) -> Result<Vec<Pool>> {
    let file = file.into_iter().map(|pool| {
        let FilePool { base, size } = pool;
        format!("base={base},size={size}")
    });
    let all = many("default-address-pools", flags, file.collect())?;
    let all = all.iter().map(|text| text.parse::<Pool>());
    let all: Result<Vec<_>, _> = all.collect();
    all.map_err(|why| anyhow::anyhow!("default-address-pools: {why}"))
}

type Defaults = BTreeMap<String, BTreeMap<String, String>>;

fn defaults(flags: &[String], file: Defaults) -> Result<Defaults> {
    let mut given = Defaults::new();
    for text in flags {
        let words = text.split_once('=');
        let words = words.and_then(|(driver, rest)| Some((driver, rest.split_once('=')?)));
        let (driver, (key, value)) = words.with_context(|| {
            format!("--default-network-opt {text}: DRIVER=OPTION=VALUE is expected")
        })?;
        let options = given.entry(driver.to_owned()).or_default();
        options.insert(key.to_owned(), value.to_owned());
    }
    let some = |map: Defaults| (!map.is_empty()).then_some(map);
    Ok(one("default-network-opts", some(given), some(file))?.unwrap_or_default())
}

/// One of each family at most.
fn host_gateways(texts: Vec<String>) -> Result<Vec<IpAddr>> {
    let mut all: Vec<IpAddr> = Vec::new();
    for text in texts {
        let ip: IpAddr = text
            .parse()
            .with_context(|| format!("invalid host-gateway-ip {text:?}: an address is expected"))?;
        if all.iter().any(|other| other.is_ipv6() == ip.is_ipv6()) {
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            bail!("only one {family} host gateway IP address can be specified");
        }
        all.push(ip);
    }
    Ok(all)
}
