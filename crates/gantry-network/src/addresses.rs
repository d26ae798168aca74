//! IPAM: which addresses of a subnet are given out.
use crate::error::NetworkError;
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The pool of one subnet. Addresses are handed out in turn: the next after the last, so that one that was given
/// back rests as long as possible.
#[derive(Debug)]
pub struct Pool {
    /// The network's name, for errors.
    network: String,
    subnet: Ipv4Net,
    taken: BTreeSet<u32>,
    /// The last that was handed out.
    last: u32,
}

impl Pool {
    /// A pool in which the network's own address, the broadcast address and `reserved` (the gateway) are taken.
    pub fn new(network: &str, subnet: Ipv4Net, reserved: &[Ipv4Addr]) -> Self {
        let subnet = subnet.trunc();
        let mut taken: BTreeSet<u32> = reserved.iter().map(|a| u32::from(*a)).collect();
        // A /31 and a /32 have neither a network nor a broadcast address.
        if subnet.prefix_len() < 31 {
            taken.extend([u32::from(subnet.network()), u32::from(subnet.broadcast())]);
        }
        Self {
            network: network.to_owned(),
            subnet,
            taken,
            last: u32::from(subnet.network()),
        }
    }

    /// The next free address, or `wanted` if it is free.
    pub fn take(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, NetworkError> {
        if let Some(address) = wanted {
            return self.take_this(address);
        }
        let (low, high) = (
            u32::from(self.subnet.network()),
            u32::from(self.subnet.broadcast()),
        );
        let free = self
            .first_free(self.last.saturating_add(1), high)
            .or_else(|| self.first_free(low, self.last))
            .ok_or_else(|| NetworkError::Exhausted(self.network.clone()))?;
        self.taken.insert(free);
        self.last = free;
        Ok(free.into())
    }

    fn take_this(&mut self, address: Ipv4Addr) -> Result<Ipv4Addr, NetworkError> {
        if !self.subnet.contains(&address) {
            return Err(NetworkError::Invalid(format!(
                "invalid address {address}: not part of subnet {}",
                self.subnet
            )));
        }
        if !self.taken.insert(address.into()) {
            return Err(NetworkError::AddressInUse);
        }
        Ok(address)
    }

    /// The lowest free address from `low` to `high`, both included: walks the taken ones until they leave a gap.
    fn first_free(&self, low: u32, high: u32) -> Option<u32> {
        let mut candidate = u64::from(low);
        for &taken in self.taken.range(low..=high.max(low)) {
            if u64::from(taken) != candidate {
                break;
            }
            candidate += 1;
        }
        u32::try_from(candidate).ok().filter(|c| *c <= high)
    }

    /// Gives an address back; one that is not taken stays free.
    pub fn free(&mut self, address: Ipv4Addr) {
        let own = [self.subnet.network(), self.subnet.broadcast()];
        if !own.contains(&address) {
            self.taken.remove(&address.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> Pool {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Pool::new("bridge", subnet, &[subnet.hosts().next().unwrap()])
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
    fn the_subnets_own_addresses_are_never_freed() {
        let mut pool = pool("10.0.0.0/30");
        pool.free("10.0.0.0".parse().unwrap());
        pool.free("10.0.0.3".parse().unwrap());
        assert_eq!(take(&mut pool), "10.0.0.2");
        assert!(pool.take(None).is_err());
    }
}
