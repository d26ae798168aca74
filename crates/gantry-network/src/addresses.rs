//! IPAM: which addresses of a subnet are given out.
use crate::error::NetworkError;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The pool of one subnet. Addresses are handed out in turn: the next after the last, so that one that was given
/// back rests as long as possible.
#[derive(Debug)]
pub struct Pool {
    /// The network's name, for errors.
    network: String,
    subnet: IpNet,
    /// First and last of those that are chosen from.
    range: (u128, u128),
    /// Addresses that are nobody's: the subnet's own, the gateway, auxiliary ones.
    reserved: BTreeSet<u128>,
    taken: BTreeSet<u128>,
    /// The last that was handed out.
    last: u128,
}

impl Pool {
    /// A pool of which `reserved` (the gateway), the subnet's own address and IPv4's broadcast address are never given
    /// out, and of which addresses are chosen within `range` (all of the subnet unless given).
    pub fn new(network: &str, subnet: IpNet, range: Option<IpNet>, reserved: &[IpAddr]) -> Self {
        let subnet = subnet.trunc();
        let mut reserved: BTreeSet<u128> = reserved.iter().map(|a| number(*a)).collect();
        match subnet {
            // A /31 and a /32 have neither a network nor a broadcast address.
            IpNet::V4(net) if net.prefix_len() < 31 => {
                reserved.extend([number(subnet.network()), number(subnet.broadcast())]);
            }
            // RFC 4291, 2.6.1: the address of any router.
            IpNet::V6(net) if net.prefix_len() < 127 => {
                reserved.insert(number(subnet.network()));
            }
            _ => {}
        }
        let within = range.unwrap_or(subnet).trunc();
        let range = (number(within.network()), number(within.broadcast()));
        Self {
            network: network.to_owned(),
            subnet,
            range,
            reserved,
            taken: BTreeSet::new(),
            last: range.1,
        }
    }

    /// The next free address, or `wanted` if it is free.
    pub fn take(&mut self, wanted: Option<IpAddr>) -> Result<IpAddr, NetworkError> {
        if let Some(address) = wanted {
            return self.take_this(address);
        }
        let (low, high) = self.range;
        let next = self
            .last
            .checked_add(1)
            .filter(|n| (low..=high).contains(n));
        let free = next
            .and_then(|next| self.first_free(next, high))
            .or_else(|| self.first_free(low, high))
            .ok_or_else(|| NetworkError::Exhausted {
                family: if self.is_v6() { 6 } else { 4 },
                network: self.network.clone(),
            })?;
        self.taken.insert(free);
        self.last = free;
        Ok(self.address(free))
    }

    fn take_this(&mut self, address: IpAddr) -> Result<IpAddr, NetworkError> {
        if !self.subnet.contains(&address) {
            return Err(NetworkError::Invalid(format!(
                "invalid address {address}: not part of subnet {}",
                self.subnet
            )));
        }
        let number = number(address);
        if self.reserved.contains(&number) || !self.taken.insert(number) {
            return Err(NetworkError::AddressInUse);
        }
        Ok(address)
    }

    /// The lowest free address from `low` to `high`, both included: walks those that are not free until they leave a
    /// gap.
    fn first_free(&self, low: u128, high: u128) -> Option<u128> {
        let mut candidate = low;
        loop {
            for &taken in self.taken.range(candidate..=high) {
                if taken != candidate {
                    break;
                }
                candidate = candidate.checked_add(1)?;
            }
            if candidate > high {
                return None;
            }
            if !self.reserved.contains(&candidate) {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1).filter(|next| *next <= high)?;
        }
    }

    /// Gives an address back; one that is not taken stays free.
    pub fn free(&mut self, address: IpAddr) {
        self.taken.remove(&number(address));
    }

    fn is_v6(&self) -> bool {
        matches!(self.subnet, IpNet::V6(_))
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_v6() {
            IpAddr::V6(number.into())
        } else {
            IpAddr::V4((number as u32).into())
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> Pool {
        let subnet: IpNet = subnet.parse().unwrap();
        Pool::new("bridge", subnet, None, &[subnet.hosts().next().unwrap()])
    }

    fn take(pool: &mut Pool) -> String {
        pool.take(None).unwrap().to_string()
    }

    #[test]
    fn addresses_go_round_and_come_back_last() {
        let mut pool = pool("10.0.0.0/29");
        assert_eq!(take(&mut pool), "10.0.0.2");
        assert_eq!(take(&mut pool), "10.0.0.3");
        pool.free("10.0.0.2".parse().unwrap());
        assert_eq!(take(&mut pool), "10.0.0.4");
        assert_eq!(take(&mut pool), "10.0.0.5");
        assert_eq!(take(&mut pool), "10.0.0.6");
        assert_eq!(take(&mut pool), "10.0.0.2");
        let error = pool.take(None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no available IPv4 addresses on this network's address pools: bridge"
        );
        pool.free("10.0.0.6".parse().unwrap());
        assert_eq!(take(&mut pool), "10.0.0.6");
    }

    #[test]
    fn a_wanted_address_is_given_once() {
        let mut pool = pool("10.0.0.0/24");
        let wanted = Some("10.0.0.2".parse().unwrap());
        assert_eq!(pool.take(wanted).unwrap().to_string(), "10.0.0.2");
        assert_eq!(
            pool.take(wanted).unwrap_err().to_string(),
            "Address already in use"
        );
        assert_eq!(take(&mut pool), "10.0.0.3");
        for foreign in ["10.0.1.2", "10.0.0.0", "10.0.0.255", "10.0.0.1"] {
            assert!(
                pool.take(Some(foreign.parse().unwrap())).is_err(),
                "{foreign}"
            );
        }
    }

    #[test]
    fn small_and_large_subnets_end_where_they_should() {
        let mut small = pool("10.0.0.0/30");
        assert_eq!(take(&mut small), "10.0.0.2");
        assert!(small.take(None).is_err());
        let mut last = pool("255.255.255.248/29");
        let all: Vec<_> = std::iter::from_fn(|| last.take(None).ok()).collect();
        assert_eq!(all.len(), 5);
        let mut large = pool("172.17.0.0/16");
        let count = std::iter::from_fn(|| large.take(None).ok()).count();
        assert_eq!(count, 65_536 - 3);
    }

    #[test]
    fn a_range_is_chosen_from_and_others_may_be_asked_for() {
        let parse = |text: &str| -> IpAddr { text.parse().unwrap() };
        let subnet = "10.0.0.0/24".parse().unwrap();
        let range = Some("10.0.0.16/30".parse().unwrap());
        let reserved = [parse("10.0.0.1"), parse("10.0.0.17")];
        let mut pool = Pool::new("n", subnet, range, &reserved);
        let all: Vec<_> = std::iter::from_fn(|| pool.take(None).ok()).collect();
        let all: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.16", "10.0.0.18", "10.0.0.19"]);
        assert!(pool.take(Some(parse("10.0.0.200"))).is_ok());
        assert!(pool.take(Some(parse("10.0.0.17"))).is_err());
        pool.free(parse("10.0.0.17"));
        assert!(pool.take(None).is_err());
        pool.free(parse("10.0.0.18"));
        assert_eq!(take(&mut pool), "10.0.0.18");
    }

    #[test]
    fn subnets_of_ipv6() {
        let mut pool = pool("fd00:1::/64");
        let first = "fd00:1::1".parse().unwrap();
        // `hosts` begins with the network's own address, which is any router's.
        assert_eq!(take(&mut pool), "fd00:1::1");
        assert!(pool.take(Some(first)).is_err());
        assert_eq!(take(&mut pool), "fd00:1::2");
        let last = "fd00:1::ffff:ffff:ffff:ffff".parse().unwrap();
        assert!(pool.take(Some(last)).is_ok());
        let mut all = Pool::new("n", "::/0".parse().unwrap(), None, &[]);
        assert_eq!(take(&mut all), "::1");
        let mut small = Pool::new("n", "fd00::/127".parse().unwrap(), None, &[]);
        assert_eq!(std::iter::from_fn(|| small.take(None).ok()).count(), 2);
        assert!(small.take(None).unwrap_err().to_string().contains("IPv6"));
    }

    #[test]
    fn the_subnets_own_addresses_are_never_freed() {
        let mut pool = pool("10.0.0.0/30");
        pool.free("10.0.0.0".parse().unwrap());
        pool.free("10.0.0.3".parse().unwrap());
        assert_eq!(take(&mut pool), "10.0.0.2");
        assert!(pool.take(None).is_err());
    }
}
