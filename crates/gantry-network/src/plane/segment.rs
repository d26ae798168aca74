//! One network that is up, and who has which of its addresses.
use crate::addresses::Pool;
use crate::endpoint::{Endpoint, EndpointRequest};
use crate::error::NetworkError;
use crate::link::Link;
use crate::network::{Network, Subnet};
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) network: Network,
    /// The bridge, or the link below macvlan and ipvlan.
    pub(super) link: Link,
    held: Mutex<Held>,
    /// 127.0.0.0/8 may pass the bridge already.
    pub(super) routes_localnet: AtomicBool,
}

/// The addresses that are handed out.
#[derive(Debug, Default)]
struct Held {
    /// As the network's subnets.
    pools: Vec<Pool>,
    /// By the endpoint's identity: who releases it twice must not take an address from the next.
    owners: HashMap<String, Owner>,
    /// Those that have had another MAC than the one made from the address: neighbours may remember it.
    with_other_mac: HashSet<IpAddr>,
    /// The network is being removed: no address is given any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct Owner {
    addresses: Vec<IpAddr>,
    host_link: String,
}

/// An address that was taken, with its subnet.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) address: IpNet,
    pub(super) gateway: Option<IpAddr>,
}

impl Segment {
    pub(super) fn new(network: Network, link: Link) -> Self {
        let pool = |subnet: &Subnet| {
            let mut reserved = subnet.reserved.clone();
            reserved.extend(subnet.gateway);
            reserved.extend(subnet.default_gateway);
            Pool::new(&network.name, subnet.net, subnet.range, &reserved)
        };
        let held = Held {
            pools: network.subnets.iter().map(pool).collect(),
            ..Held::default()
        };
        Self {
            network,
            link,
            held: Mutex::new(held),
            routes_localnet: AtomicBool::new(false),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an address of each family that the network has.
    pub(super) fn take(&self, request: &EndpointRequest) -> Result<Vec<Taken>, NetworkError> {
        let mut held = self.held();
        if held.closed {
            let text = format!("network {} is being removed", self.network.name);
            return Err(NetworkError::Invalid(text));
        }
        if held.owners.contains_key(&request.id) {
            let text = format!("endpoint {} is there already", request.id);
            return Err(NetworkError::Invalid(text));
        }
        let mut all = Vec::new();
        for (v6, wanted) in [
            (false, request.v4.map(IpAddr::V4)),
            (true, request.v6.map(IpAddr::V6)),
        ] {
            match held.take(&self.network.subnets, v6, wanted) {
                Ok(taken) => all.extend(taken),
                Err(error) => {
                    held.free(&self.network.subnets, &addresses(&all));
                    return Err(error);
                }
            }
        }
        let owner = Owner {
            addresses: addresses(&all),
            host_link: String::new(),
        };
        held.owners.insert(request.id.clone(), owner);
        Ok(all)
    }

    /// Takes the addresses of an endpoint that runs.
    pub(super) fn take_up(&self, endpoint: &Endpoint) {
        let request = EndpointRequest {
            id: endpoint.id.clone(),
            v4: endpoint.v4.map(|net| net.addr()),
            v6: endpoint.v6.map(|net| net.addr()),
            ..EndpointRequest::default()
        };
        if let Err(error) = self.take(&request) {
            tracing::warn!(network = self.network.name, link = endpoint.host_link, %error, "address of a running container");
            let mut held = self.held();
            held.owners.insert(endpoint.id.clone(), Owner::default());
        }
        self.linked(&endpoint.id, &endpoint.host_link);
    }

    /// Notes the host's link of an endpoint.
    pub(super) fn linked(&self, endpoint: &str, host_link: &str) {
        if let Some(owner) = self.held().owners.get_mut(endpoint) {
            host_link.clone_into(&mut owner.host_link);
        }
    }

    /// Ends an endpoint's right to its addresses, which stay taken until [`Self::free`]; None: it has none.
    pub(super) fn disown(&self, endpoint: &str) -> Option<Vec<IpAddr>> {
        let owner = self.held().owners.remove(endpoint)?;
        Some(owner.addresses)
    }

    pub(super) fn free(&self, addresses: &[IpAddr]) {
        self.held().free(&self.network.subnets, addresses);
    }

    /// Whether an endpoint has this link of the host's.
    pub(super) fn has(&self, host_link: &str) -> bool {
        let held = self.held();
        held.owners
            .values()
            .any(|owner| owner.host_link == host_link)
    }

    /// Notes an address that has another MAC than the one made from it; whether neighbours may know the address by
    /// another MAC than it has now.
    pub(super) fn may_be_misremembered(&self, address: IpAddr, has_default_mac: bool) -> bool {
        let mut held = self.held();
        if !has_default_mac {
            held.with_other_mac.insert(address);
        }
        held.with_other_mac.contains(&address)
    }

    /// Gives out no address any more, unless somebody has one.
    pub(super) fn close(&self) -> Result<(), NetworkError> {
        let mut held = self.held();
        if !held.owners.is_empty() {
            let text = format!("network {} has active endpoints", self.network.name);
            return Err(NetworkError::Invalid(text));
        }
        held.closed = true;
        Ok(())
    }

    pub(super) fn open_again(&self) {
        self.held().closed = false;
    }
}

impl Held {
    /// An address of the first subnet of the family that has one, or the wanted one; None: the network has no such
    /// subnet.
    fn take(
        &mut self,
        subnets: &[Subnet],
        v6: bool,
        wanted: Option<IpAddr>,
    ) -> Result<Option<Taken>, NetworkError> {
        let of_family = |net: &IpNet| matches!(net, IpNet::V6(_)) == v6;
        let mut refused = None;
        for (subnet, pool) in subnets.iter().zip(&mut self.pools) {
            if !of_family(&subnet.net) {
                continue;
            }
            match pool.take(wanted) {
                Ok(address) => {
                    return Ok(Some(Taken {
                        address: IpNet::new_assert(address, subnet.net.prefix_len()),
                        gateway: subnet.default_gateway.or(subnet.gateway),
                    }));
                }
                Err(NetworkError::AddressInUse) => return Err(NetworkError::AddressInUse),
                // The next subnet may have it.
                Err(error) => refused = Some(error),
            }
        }
        match (refused, wanted) {
            (Some(error), _) => Err(error),
            (None, Some(address)) => Err(NetworkError::Invalid(format!(
                "invalid address {address}: the network has no subnet of its family"
            ))),
            (None, None) => Ok(None),
        }
    }

    fn free(&mut self, subnets: &[Subnet], addresses: &[IpAddr]) {
        for address in addresses {
            for (subnet, pool) in subnets.iter().zip(&mut self.pools) {
                if subnet.net.contains(address) {
                    pool.free(*address);
                }
            }
        }
    }
}

pub(super) fn addresses(taken: &[Taken]) -> Vec<IpAddr> {
    taken.iter().map(|taken| taken.address.addr()).collect()
}
