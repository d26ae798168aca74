//! The names that containers find each other by: what the name server at 127.0.0.11 answers from.
//!
//! The book is kept in memory and follows the endpoints: a container's names are in it before its program runs, and out
//! of it before its address is anybody else's. A query costs a few look-ups, however many containers there are.
//!
//! COMPAT: what is found, and in which order, is that of moby v28.5.2, `libnetwork/sandbox.go` (`ResolveName`) and
//! `libnetwork/network.go`; names of networks and links are compared without regard to case here, as all names in DNS are.

use crate::containers::etc::host_file::HostFile;
use gantry_network::dns::{Directory, Outside, Upstream};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What a container has on one network, for its own and others' names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Membership {
    pub(crate) network: String,
    pub(crate) network_name: String,
    pub(crate) internal: bool,
    /// There is a way out.
    pub(crate) gateway: bool,
    /// By which others find it, the first one also by its address. Empty on the default bridge.
    pub(crate) names: Vec<String>,
    /// Names that only this container has for others: what it calls them, and what they are.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// What a container's own settings say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    /// `--dns`: asked instead of the host's, from the container's own place.
    pub(crate) servers: Vec<SocketAddr>,
    /// `--dns-option`, where there is one: whether `ndots` is among them.
    pub(crate) ndots: Option<bool>,
}

#[derive(Debug, Default)]
struct Container {
    choices: Choices,
    /// In the order in which they are looked through.
    memberships: Vec<Membership>,
}

/// An address of a name.
#[derive(Debug)]
struct Owner {
    container: String,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

#[derive(Debug, Default)]
struct Book {
    containers: HashMap<String, Container>,
    /// By the network's ID and the name in small letters.
    owners: HashMap<(String, String), Vec<Owner>>,
    /// By the network's ID and the address: the name.
    addresses: HashMap<(String, IpAddr), String>,
}

/// All names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    book: RwLock<Book>,
    host: HostFile,
}

impl Names {
    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a container chooses for itself.
    pub(crate) fn choose(&self, container: &str, choices: Choices) {
        let mut book = self.write();
        book.containers
            .entry(container.to_owned())
            .or_default()
            .choices = choices;
    }

    /// Notes a container on a network, in the place of what was noted of it there.
    pub(crate) fn join(&self, container: &str, membership: Membership) {
        let mut book = self.write();
        book.leave(container, &membership.network);
        book.join(container, membership);
    }

    /// Forgets a container on one network.
    pub(crate) fn leave(&self, container: &str, network: &str) {
        self.write().leave(container, network);
    }

    /// Forgets a container.
    pub(crate) fn forget(&self, container: &str) {
        let mut book = self.write();
        let networks: Vec<String> = book
            .containers
            .get(container)
            .map(|c| c.memberships.iter().map(|m| m.network.clone()).collect())
            .unwrap_or_default();
        for network in networks {
            book.leave(container, &network);
        }
        book.containers.remove(container);
    }
}

impl Book {
    fn join(&mut self, container: &str, membership: Membership) {
        for name in &membership.names {
            let key = (membership.network.clone(), name.to_lowercase());
            let owners = self.owners.entry(key).or_default();
            if !owners.iter().any(|o| o.container == container) {
                owners.push(Owner {
                    container: container.to_owned(),
                    v4: membership.v4,
                    v6: membership.v6,
                });
            }
        }
        if let Some(name) = membership.names.first() {
            for address in membership.addresses() {
                let key = (membership.network.clone(), address);
                self.addresses.insert(key, name.clone());
            }
        }
        let memberships = &mut self
            .containers
            .entry(container.to_owned())
            .or_default()
            .memberships;
        memberships.push(membership);
        let order = |m: &Membership| (m.internal, !m.gateway, m.network_name.clone());
        memberships.sort_by_key(order);
    }

    fn leave(&mut self, container: &str, network: &str) {
        let Some(own) = self.containers.get_mut(container) else {
            return;
        };
        let Some(at) = own.memberships.iter().position(|m| m.network == network) else {
            return;
        };
        let membership = own.memberships.remove(at);
        for name in &membership.names {
            let key = (network.to_owned(), name.to_lowercase());
            if let Some(owners) = self.owners.get_mut(&key) {
                owners.retain(|owner| owner.container != container);
                if owners.is_empty() {
                    self.owners.remove(&key);
                }
            }
        }
        for address in membership.addresses() {
            self.addresses.remove(&(network.to_owned(), address));
        }
    }

    /// The addresses of a name on one network; None: there is no such name.
    fn on(&self, network: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let owners = self
            .owners
            .get(&(network.to_owned(), name.to_lowercase()))?;
        let address = |owner: &Owner| match v6 {
            true => owner.v6.map(IpAddr::from),
            false => owner.v4.map(IpAddr::from),
        };
        Some(owners.iter().filter_map(address).collect())
    }

    /// A name as a container sees it on its networks, or on the one of that name.
    fn seen(
        &self,
        memberships: &[Membership],
        name: &str,
        network: Option<&str>,
        v6: bool,
    ) -> Option<Vec<IpAddr>> {
        let here = || {
            memberships
                .iter()
                .filter(|m| network.is_none_or(|n| m.network_name.eq_ignore_ascii_case(n)))
        };
        let linked = |m: &Membership| {
            let mut links = m.links.iter();
            let (_, target) = links.find(|(alias, _)| alias.eq_ignore_ascii_case(name))?;
            self.on(&m.network, target, v6)
        };
        let has_link = |m: &Membership| m.links.iter().any(|(a, _)| a.eq_ignore_ascii_case(name));
        here().find_map(linked).or_else(|| {
            here()
                .filter(|m| !has_link(m))
                .find_map(|m| self.on(&m.network, name, v6))
        })
    }
}

impl Membership {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::from).into_iter();
        v4.chain(self.v6.map(IpAddr::from))
    }
}

impl Directory for Names {
    /// `a.b.c` is looked for as it is, as `a.b` on the network `c`, as `a` on the network `b.c`.
    fn addresses(&self, container: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let book = self.read();
        let memberships = &book.containers.get(container)?.memberships;
        let parts = name
            .rmatch_indices('.')
            .map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
        std::iter::once((name, None))
            .chain(parts)
            .find_map(|(name, network)| book.seen(memberships, name, network, v6))
    }

    fn name_of(&self, container: &str, address: IpAddr) -> Option<String> {
        let book = self.read();
        let memberships = &book.containers.get(container)?.memberships;
        memberships.iter().find_map(|m| {
            let name = book.addresses.get(&(m.network.clone(), address))?;
            Some(format!("{name}.{}", m.network_name))
        })
    }

    fn outside(&self, container: &str) -> Outside {
        let book = self.read();
        let Some(own) = book.containers.get(container) else {
            return Outside::default();
        };
        let host = self.host.read();
        let from_host = own.choices.servers.is_empty();
        let servers = match from_host {
            // Who has no way out does not get one through the host.
            true if own.memberships.iter().all(|m| m.internal || !m.gateway) => Vec::new(),
            true => host.servers.iter().map(|s| s.address(53)).collect(),
            false => own.choices.servers.clone(),
        };
        let upstream = |address| Upstream { address, from_host };
        Outside {
            upstreams: servers.into_iter().map(upstream).collect(),
            keeps_short_names: own.choices.ndots.unwrap_or(host.has_option("ndots")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(network: &str, names: &[&str], last: u8) -> Membership {
        Membership {
            network: format!("id-{network}"),
            network_name: network.into(),
            gateway: true,
            names: names.iter().map(|n| (*n).into()).collect(),
            v4: Some([10, 0, 0, last].into()),
            ..Membership::default()
        }
    }

    fn four(names: &Names, from: &str, name: &str) -> Option<Vec<u8>> {
        let found = names.addresses(from, name, false)?;
        let last = |a: &IpAddr| match a {
            IpAddr::V4(a) => a.octets()[3],
            IpAddr::V6(_) => panic!("{a}"),
        };
        Some(found.iter().map(last).collect())
    }

    #[test]
    fn names_on_the_networks_that_one_is_on() {
        let names = Names::default();
        names.join("1", member("front", &["web", "www", "0123456789ab"], 1));
        names.join("2", member("front", &["api"], 2));
        names.join("2", member("back.end", &["api", "www"], 12));
        names.join("3", member("back.end", &["db"], 13));
        assert_eq!(four(&names, "1", "API"), Some(vec![2]));
        assert_eq!(four(&names, "1", "db"), None);
        assert_eq!(four(&names, "1", "db.back.end"), None);
        assert_eq!(four(&names, "2", "db.back.end"), Some(vec![13]));
        assert_eq!(four(&names, "2", "api.Front"), Some(vec![2]));
        assert_eq!(four(&names, "3", "api"), Some(vec![12]));
        assert_eq!(four(&names, "1", "www"), Some(vec![1]));
        assert_eq!(four(&names, "2", "0123456789ab"), Some(vec![1]));
        // Nobody on no network.
        assert_eq!(four(&names, "4", "web"), None);
        assert_eq!(names.addresses("1", "api", true), Some(vec![]));
        let address = [10, 0, 0, 12].into();
        assert_eq!(names.name_of("3", address), Some("api.back.end".into()));
        assert_eq!(names.name_of("1", address), None);
        names.leave("2", "id-back.end");
        assert_eq!(four(&names, "3", "api"), None);
        assert_eq!(four(&names, "2", "db"), None);
        assert_eq!(names.name_of("3", address), None);
        names.forget("1");
        assert_eq!(four(&names, "2", "web"), None);
        names.forget("2");
        names.forget("3");
        let book = names.read();
        assert!(book.owners.is_empty() && book.addresses.is_empty() && book.containers.is_empty());
    }

    #[test]
    fn an_alias_of_several_has_several_addresses() {
        let names = Names::default();
        for i in 1..4 {
            names.join(&i.to_string(), member("n", &[&format!("c{i}"), "all"], i));
        }
        assert_eq!(four(&names, "1", "all"), Some(vec![1, 2, 3]));
        // The same again, under another name.
        names.join("2", member("n", &["new", "all"], 2));
        assert_eq!(four(&names, "1", "c2"), None);
        assert_eq!(four(&names, "1", "all"), Some(vec![1, 3, 2]));
        names.forget("2");
        assert_eq!(four(&names, "1", "all"), Some(vec![1, 3]));
    }

    #[test]
    fn links_are_the_linking_containers_own() {
        let names = Names::default();
        let mut web = member("n", &["web"], 1);
        web.links = vec![("store".into(), "db".into()), ("api".into(), "gone".into())];
        names.join("1", web);
        names.join("2", member("n", &["db"], 2));
        names.join("3", member("n", &["api"], 3));
        assert_eq!(four(&names, "1", "store"), Some(vec![2]));
        assert_eq!(four(&names, "1", "Store.n"), Some(vec![2]));
        assert_eq!(four(&names, "3", "store"), None);
        // A link hides the name, even where its target is gone.
        assert_eq!(four(&names, "1", "api"), None);
        assert_eq!(four(&names, "2", "api"), Some(vec![3]));
    }

    #[test]
    fn who_has_no_way_out_gets_none_through_the_host() {
        let names = Names::default();
        let inside = Membership {
            internal: true,
            ..member("n", &["a"], 1)
        };
        names.join("1", inside);
        assert_eq!(names.outside("1").upstreams, []);
        let servers = vec![SocketAddr::from(([192, 0, 2, 1], 53))];
        let choices = Choices {
            servers: servers.clone(),
            ndots: Some(true),
        };
        names.choose("1", choices);
        let outside = names.outside("1");
        assert!(!outside.upstreams[0].from_host && outside.upstreams[0].address == servers[0]);
        assert!(outside.keeps_short_names);
    }
}
