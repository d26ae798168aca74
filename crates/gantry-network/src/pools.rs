//! Default address pools: where the subnets of networks come from that name none.
//!
//! A pool is a range that is cut into subnets of one size. The first subnet is taken that overlaps no network of the
//! engine, no network that the host is on, and none of its name servers. When Docker's own pools are used up there are
//! spare ones; in those no route of the host is overlapped, wherever it leads.

use crate::error::NetworkError;
use crate::host::Host;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// A range that is cut into subnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub base: IpNet,
    /// Prefix length of the subnets.
    pub size: u8,
}

/// `--default-address-pool base=10.10.0.0/16,size=24`
impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut base, mut size) = (None, None);
        for field in text.to_lowercase().split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            };
            match key {
                "base" => {
                    let parsed = value.parse::<IpNet>();
                    base = Some(parsed.map_err(|e| format!("invalid base prefix {value:?}: {e}"))?);
                }
                "size" => {
                    let parsed = value.parse();
                    size = Some(parsed.map_err(|e| {
                        format!("invalid size value: {text:?} (must be integer): {e}")
                    })?);
                }
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        let (Some(base), Some(size)) = (base, size) else {
            return Err(format!(
                "invalid pool {text:?}: base=NETWORK,size=BITS is expected"
            ));
        };
        Self { base, size }.checked()
    }
}

impl Pool {
    /// Refuses sizes that make no subnets; the base without host bits.
    pub fn checked(self) -> Result<Self, String> {
        let Self { base, size } = self;
        if size == 0 || size > base.max_prefix_len() {
            return Err(format!(
                "invalid pool {base}: /{size} is no size of its subnets"
            ));
        }
        if base.prefix_len() > size {
            return Err(format!(
                "invalid pool {base}: it has a smaller prefix (/{}) than the target size of that pool (/{size})",
                base.prefix_len()
            ));
        }
        let base = base.trunc();
        Ok(Self { base, size })
    }

    const fn v4(a: u8, b: u8, prefix: u8, size: u8) -> Self {
        let base = Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix);
        let base = IpNet::V4(base);
        Self { base, size }
    }

    fn is_v6(&self) -> bool {
        matches!(self.base, IpNet::V6(_))
    }
}

/// Docker's, for networks of local scope.
const DEFAULT: [Pool; 7] = [
    Pool::v4(172, 17, 16, 16),
    Pool::v4(172, 18, 16, 16),
    Pool::v4(172, 19, 16, 16),
    Pool::v4(172, 20, 14, 16),
    Pool::v4(172, 24, 14, 16),
    Pool::v4(172, 28, 14, 16),
    Pool::v4(192, 168, 16, 20),
];

/// When those are used up: 31 networks are few.
// COMPAT: Docker has none, and says that its pools have been fully subnetted.
const SPARE: [Pool; 2] = [Pool::v4(172, 16, 16, 24), Pool::v4(10, 0, 8, 24)];

/// The pools of one daemon.
#[derive(Debug, Clone)]
pub struct Pools {
    v4: Vec<Pool>,
    v6: Vec<Pool>,
    spare: Vec<Pool>,
}

impl Pools {
    /// The pools that are given (`--default-address-pool`), else Docker's; for IPv6 without one, a range of unique local
    /// addresses made from the host's identity, so that no two hosts have the same.
    pub fn new(given: &[Pool], host: &str) -> Self {
        let family = |v6: bool| given.iter().filter(move |p| p.is_v6() == v6).copied();
        let (mut v4, mut v6): (Vec<_>, Vec<_>) = (family(false).collect(), family(true).collect());
        let mut spare = Vec::new();
        if given.is_empty() {
            v4.extend(DEFAULT);
            spare.extend(SPARE);
        }
        if v6.is_empty() {
            v6.push(unique_local(host));
        }
        v4.sort_by_key(|pool| span(pool.base));
        v6.sort_by_key(|pool| span(pool.base));
        Self { v4, v6, spare }
    }

    /// A subnet for a new network beside those `used`.
    pub fn choose(&self, v6: bool, used: &[IpNet], host: &Host) -> Result<IpNet, NetworkError> {
        let taken = |more: &[IpNet]| {
            let all = used.iter().chain(more);
            merged(
                all.filter(|net| matches!(net, IpNet::V6(_)) == v6)
                    .map(|net| span(*net)),
            )
        };
        let first =
            |pools: &[Pool], taken: &[Span]| pools.iter().find_map(|pool| free(pool, taken));
        let pools = if v6 { &self.v6 } else { &self.v4 };
        let chosen = first(pools, &taken(&host.near));
        let spare = || {
            let spare = if v6 { &[] } else { self.spare.as_slice() };
            first(spare, &taken(&[host.near.as_slice(), &host.far].concat()))
        };
        chosen.or_else(spare).ok_or_else(|| {
            NetworkError::Invalid(
                "all predefined address pools have been fully subnetted".to_owned(),
            )
        })
    }
}

/// `fd` and 40 bits of the host's identity: a /48, for 65,536 networks.
fn unique_local(host: &str) -> Pool {
    let digest = ring::digest::digest(&ring::digest::SHA256, host.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest.as_ref()[3..8]);
    let base = Ipv6Net::new_assert(Ipv6Addr::from(octets), 48);
    Pool {
        base: base.into(),
        size: 64,
    }
}

/// The first and the last address of a range, as numbers.
type Span = (u128, u128);

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn span(net: IpNet) -> Span {
    (number(net.network()), number(net.broadcast()))
}

/// In order, and without overlaps.
fn merged(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.collect();
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for (first, last) in spans {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The first subnet of a pool that is not taken. Takes as many steps as there are taken ranges in the pool.
fn free(pool: &Pool, taken: &[Span]) -> Option<IpNet> {
    let (mut first, end) = span(pool.base);
    let bits = pool.base.max_prefix_len() - pool.size;
    let rest = 1_u128.checked_shl(bits.into())? - 1;
    loop {
        let last = first.checked_add(rest).filter(|last| *last <= end)?;
        let next = taken.partition_point(|(_, taken)| *taken < first);
        match taken.get(next) {
            Some((start, taken)) if *start <= last => {
                // The next multiple of the size behind it.
                first = (taken | rest).checked_add(1)?;
            }
            _ => break,
        }
    }
    let ip = match pool.base {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
    };
    IpNet::new(ip, pool.size).ok()
}
