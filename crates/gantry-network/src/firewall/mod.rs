//! The firewall: nftables tables whose rules never change, one for each family. Networks and published ports are
//! elements of their sets and maps, so that the thousandth costs what the first did.
//!
//! | chain | does |
//! |---|---|
//! | `user` | is empty: rules of the machine's owner, which see forwarded packets first |
//! | `reach` | judges what enters or leaves our bridges (`into`, `out_of`), and marks what may (`passed`) |
//! | `guard` | drops what a container sends to 127.0.0.0/8 of the host |
//! | `published` | packets from elsewhere to a published port go to its container |
//! | `published_here` | the same for the host's own packets |
//! | `source` | containers leave with the host's address; so do their own and the host's loopback packets to published ports, which could not find back otherwise |
//! | `to_host` | marks what containers send to the host (`passed`) |
//! | `refuse` | (IPv6, without a proxy) published ports at ::1 are refused |
//! | `admit` | (with `respect-host-firewall`) notes whom the host's own firewall has let in |
//! | `between` | (bridge) with `icc=false`: nothing but links between containers |
//!
//! A port that is published on 127.0.0.1 is not led on for packets that come in from a link, whatever destination
//! they claim.

mod contents;
mod legacy;
mod load;
mod others;
mod rules;
mod watch;
mod zone;

pub(crate) use watch::Watch;

#[cfg(test)]
mod tests;

use crate::conntrack::{Forgetter, Forgotten};
use crate::endpoint::PublishedPort;
use crate::error::NetworkError;
use crate::netlink::{Netlink, Refusal};
use crate::network::GatewayMode;
use crate::nftables::{Batch, Element, Family};
use contents::{Contents, Slot};
use ipnet::IpNet;
use load::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The group (`IFLA_GROUP`) of ports of a bridge without communication between containers.
pub(crate) const CLOSED_GROUP: u32 = 0x6761_6e75;

/// What the daemon's flags say of the firewall.
#[derive(Debug, Clone, Default)]
pub struct FirewallOptions {
    /// Name of the tables (`gantry`; tests use their own).
    pub table: String,
    /// `--iptables`: without it there is no table, and nothing is done.
    pub v4: bool,
    /// `--ip6tables`
    pub v6: bool,
    /// `respect-host-firewall`: published ports are open from outside where the host's own rules for input say so.
    pub respect_host_firewall: bool,
    /// `--allow-direct-routing`: published ports may be sent to at the container's address.
    pub allow_direct_routing: bool,
}

/// What a network wants of the firewall.
#[derive(Debug, Clone)]
pub(crate) struct BridgeRules {
    /// The bridge's name. Where `icc` is false its ports must be in the group [`CLOSED_GROUP`].
    pub(crate) link: String,
    pub(crate) subnets: Vec<IpNet>,
    /// No way out, and none in.
    pub(crate) internal: bool,
    /// Containers reach each other.
    pub(crate) icc: bool,
    /// What leaves gets the host's address.
    pub(crate) masquerade: bool,
    /// That address, one a family; else it is the outgoing link's.
    pub(crate) source: Vec<IpAddr>,
    pub(crate) gateway_mode_v4: GatewayMode,
    pub(crate) gateway_mode_v6: GatewayMode,
    /// Links from which published ports may be reached at the container's address.
    pub(crate) trusted_links: Vec<String>,
}

impl BridgeRules {
    fn mode(&self, family: Family) -> GatewayMode {
        match family {
            Family::V6 => self.gateway_mode_v6,
            _ => self.gateway_mode_v4,
        }
    }
}

/// A container's addresses on a network.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Targets {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Targets {
    /// The address that packets to this address of the host can be led to.
    pub(crate) fn of(self, host: IpAddr) -> Option<IpAddr> {
        match host {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// A port that a linked container exposes.
#[derive(Debug, Clone)]
pub struct LinkedPort {
    pub port: u16,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
}

/// The tables, loaded.
#[derive(Debug)]
pub(crate) struct Firewall {
    netlink: Netlink,
    options: FirewallOptions,
    /// A proxy carries what is not led.
    carried: bool,
    state: Mutex<State>,
    forgetter: Forgetter,
}

#[derive(Debug, Default)]
struct State {
    bridges: BTreeMap<String, BridgeRules>,
    contents: Contents,
    /// Those that have a table.
    families: BTreeSet<Family>,
    seen: Seen,
    is_loaded: bool,
    /// Firewalld lets nobody change its table.
    locked_out: bool,
    /// The kernel has no tables of the family `bridge`.
    without_bridge_family: bool,
    /// What has been warned of: once is enough.
    warned_of: BTreeSet<String>,
}

impl Firewall {
    /// A firewall without tables: what is added before [`Self::load_all`] is loaded by that.
    pub(crate) fn new(options: FirewallOptions, carried: bool) -> Result<Self, NetworkError> {
        let netlink =
            Netlink::netfilter().map_err(NetworkError::kernel("opening a netfilter socket"))?;
        Ok(Self {
            netlink,
            options,
            carried,
            state: Mutex::default(),
            forgetter: Forgetter::default(),
        })
    }

    /// Loads the tables with these networks.
    #[cfg(test)]
    pub(crate) fn open(
        options: FirewallOptions,
        bridges: &[BridgeRules],
    ) -> Result<Self, NetworkError> {
        let firewall = Self::new(options, false)?;
        for rules in bridges {
            firewall.add_bridge(rules)?;
        }
        firewall.load_all()?;
        Ok(firewall)
    }

    /// Loads the tables with all that was added, in one transaction: the tables of an earlier daemon become these without
    /// a moment in between.
    pub(crate) fn load_all(&self) -> Result<(), NetworkError> {
        let mut state = self.lock();
        self.load(&mut state)
            .and_then(|()| self.open_others(&mut state))
            .map_err(NetworkError::kernel(self.what("loading")))?;
        state.is_loaded = true;
        drop(state);
        self.open_legacy();
        self.try_to_enter_zone();
        Ok(())
    }

    /// Adds a network, or gives one other rules.
    pub(crate) fn add_bridge(&self, rules: &BridgeRules) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let mut changes = state.remove_bridge(&rules.link, &self.options);
        changes.extend(state.add_bridge(rules, &self.options));
        let done = self.make(&mut state, &changes);
        if done.is_err() {
            state.remove_bridge(&rules.link, &self.options);
        }
        drop(state);
        done.map_err(NetworkError::kernel(self.what("adding a bridge to")))?;
        self.open_legacy();
        self.try_to_enter_zone();
        Ok(())
    }

    /// Takes a network out; its published ports must have gone before.
    pub(crate) fn remove_bridge(&self, link: &str) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let changes = state.remove_bridge(link, &self.options);
        let done = self.make(&mut state, &changes);
        drop(state);
        self.leave_zone(link);
        done.map_err(NetworkError::kernel(self.what("removing a bridge from")))
    }

    /// Opens the ports towards the container's addresses on the network.
    pub(crate) fn publish(
        &self,
        link: &str,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Result<(), NetworkError> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        let is_led = |port: &PublishedPort| match port.host_ip {
            IpAddr::V4(_) => self.options.v4,
            IpAddr::V6(_) => self.options.v6,
        };
        if !self.carried && !ports.iter().all(is_led) && state.warned_of.insert("ports".into()) {
            tracing::warn!(
                "ports are published, but the engine is to leave the firewall alone and has no userland proxy: rules of \
                 your own must lead to containers"
            );
        }
        let elements = self.of_ports(&state, link, ports, targets);
        let changes = state.add(elements.clone());
        let done = self.make(&mut state, &changes);
        if done.is_err() {
            state.remove(elements);
        }
        drop(state);
        done.map_err(NetworkError::kernel(self.what("publishing ports in")))?;
        self.forget_ports(ports, |port| {
            Some((targets.of(port.host_ip)?, port.container_port))
        });
        Ok(())
    }

    /// Closes the ports; those that are closed already are no error.
    pub(crate) fn unpublish(
        &self,
        link: &str,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let elements = self.of_ports(&state, link, ports, targets);
        let changes = state.remove(elements);
        let done = self.make(&mut state, &changes);
        drop(state);
        self.forget_ports(ports, |_| None);
        done.map_err(NetworkError::kernel(self.what("closing ports in")))
    }

    /// Ends what is left of a container's connections whose address goes.
    pub(crate) fn forget(&self, targets: Targets) {
        if self.is_on() {
            let v4 = targets.v4.map(IpAddr::V4);
            let gone = v4.into_iter().chain(targets.v6.map(IpAddr::V6));
            self.forgetter.forget(gone.map(Forgotten::Address));
        }
    }

    /// Connections to the ports that do not lead where they should begin again. A TCP connection stays, as it does when a
    /// program closes the socket at which it listened.
    fn forget_ports(
        &self,
        ports: &[PublishedPort],
        target: impl Fn(&PublishedPort) -> Option<(IpAddr, u16)>,
    ) {
        if !self.is_on() {
            return;
        }
        let lasting = ports
            .iter()
            .filter(|port| port.protocol != "tcp" && port.host_port != 0);
        self.forgetter.forget(lasting.map(|port| Forgotten::Port {
            protocol: contents::protocol_number(&port.protocol),
            host_ip: port.host_ip,
            host_port: port.host_port,
            target: target(port),
        }));
    }

    /// Lets one container reach these ports of another on a network with `icc=false`.
    pub(crate) fn link(
        &self,
        from: Targets,
        to: Targets,
        ports: &[LinkedPort],
    ) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let changes = state.add(contents::of_link(from, to, ports));
        self.make(&mut state, &changes)
            .map_err(NetworkError::kernel(self.what("linking containers in")))
    }

    /// Takes a link back.
    pub(crate) fn unlink(
        &self,
        from: Targets,
        to: Targets,
        ports: &[LinkedPort],
    ) -> Result<(), NetworkError> {
        let mut state = self.lock();
        let changes = state.remove(contents::of_link(from, to, ports));
        self.make(&mut state, &changes)
            .map_err(NetworkError::kernel(self.what("unlinking containers in")))
    }

    /// Loads the tables again where anything of ours is not as it was, and puts our rules back into others' chains;
    /// whether that was so.
    pub(crate) fn reconcile(&self) -> Result<bool, NetworkError> {
        let mut state = self.lock();
        let check = |state: &mut State| -> Result<bool, Refusal> {
            if self.is_unchanged(state)? {
                return Ok(false);
            }
            let intact = self.is_intact(state)?;
            if !intact {
                self.load(state)?;
            }
            Ok(self.open_others(state)? || !intact)
        };
        let restored = check(&mut state).map_err(NetworkError::kernel(self.what("restoring")))?;
        drop(state);
        let opened = self.open_legacy();
        self.enter_zone()?;
        Ok(restored || opened)
    }

    /// Asks the host's own firewall again about everybody.
    fn forget_admissions(&self) -> Result<(), NetworkError> {
        let state = self.lock();
        let mut batch = Batch::new(&self.options.table);
        if self.options.respect_host_firewall {
            for family in state.families.iter().filter(|f| **f != Family::Bridge) {
                batch.flush_set(*family, rules::ADMITTED);
            }
        }
        match batch.commit(&self.netlink) {
            // It went with the rest.
            Err(refusal) if refusal.is(libc::ENOENT) => Ok(()),
            done => done.map_err(NetworkError::kernel(self.what("emptying a set of"))),
        }
    }

    /// Whether it may have a table at all.
    fn is_on(&self) -> bool {
        self.options.v4 || self.options.v6
    }

    /// Deletes the tables.
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        errors.extend(self.close_others().err());
        self.close_legacy();
        for family in &self.lock().families {
            let mut batch = Batch::new(&self.options.table);
            batch.delete_table(*family);
            match batch.commit(&self.netlink) {
                Err(refusal) if !refusal.is(libc::ENOENT) => {
                    errors.push(NetworkError::kernel(self.what("deleting"))(refusal));
                }
                _ => {}
            }
        }
        NetworkError::all(errors)
    }

    fn of_ports(
        &self,
        state: &State,
        link: &str,
        ports: &[PublishedPort],
        targets: Targets,
    ) -> Vec<(Slot, Element)> {
        let Some(rules) = state.bridges.get(link) else {
            return Vec::new();
        };
        let elements = |port| contents::of_port(port, targets, rules, &self.options);
        ports.iter().flat_map(elements).collect()
    }

    /// Makes changes, which `state` has already, in the kernel.
    fn make(&self, state: &mut State, changes: &[Change]) -> Result<(), Refusal> {
        if !state.is_loaded {
            return Ok(());
        }
        if state.families_wanted(&self.options) != state.families {
            self.load(state)?;
            return self.open_others(state).map(|_| ());
        }
        let mut batch = Batch::new(&self.options.table);
        for added in [false, true] {
            // One message for each set: the kernel has room for a few hundred answers only.
            let mut sets: BTreeMap<Slot, Vec<&Element>> = BTreeMap::new();
            for change in changes.iter().filter(|change| change.added == added) {
                sets.entry(change.slot).or_default().push(&change.element);
            }
            for ((family, set), elements) in sets {
                if !state.families.contains(&family) {
                    continue;
                }
                if added {
                    batch.add_elements(family, set, elements);
                } else {
                    batch.delete_elements(family, set, elements);
                }
            }
        }
        match batch.commit(&self.netlink) {
            // Somebody flushed the rules.
            Err(refusal) if refusal.is(libc::ENOENT) => self.load(state),
            done => done,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} nftables table {}", self.options.table)
    }
}

/// An element that came or went.
#[derive(Debug)]
struct Change {
    slot: Slot,
    element: Element,
    added: bool,
}

impl State {
    fn add_bridge(&mut self, rules: &BridgeRules, options: &FirewallOptions) -> Vec<Change> {
        self.bridges.insert(rules.link.clone(), rules.clone());
        self.add(contents::of_bridge(rules, options))
    }

    fn remove_bridge(&mut self, link: &str, options: &FirewallOptions) -> Vec<Change> {
        match self.bridges.remove(link) {
            Some(rules) => self.remove(contents::of_bridge(&rules, options)),
            None => Vec::new(),
        }
    }

    fn add(&mut self, elements: Vec<(Slot, Element)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (slot, element) in elements {
            if self.contents.add(slot, element.clone()) {
                changes.push(Change {
                    slot,
                    element,
                    added: true,
                });
            }
        }
        changes
    }

    fn remove(&mut self, elements: Vec<(Slot, Element)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (slot, element) in elements {
            if self.contents.remove(slot, &element) {
                changes.push(Change {
                    slot,
                    element,
                    added: false,
                });
            }
        }
        changes
    }

    /// A table that is not needed costs: for example, one for IPv6 makes the kernel track its connections. One that is
    /// there stays.
    fn families_wanted(&self, options: &FirewallOptions) -> BTreeSet<Family> {
        let mut families = self.families.clone();
        let mut bridges = self.bridges.values();
        let has_v6 = |rules: &BridgeRules| rules.subnets.iter().any(|s| s.addr().is_ipv6());
        if options.v4 {
            families.insert(Family::V4);
        }
        if options.v6 && self.bridges.values().any(has_v6) {
            families.insert(Family::V6);
        }
        let has_tables = (options.v4 || options.v6) && !self.without_bridge_family;
        if has_tables && bridges.any(|rules| !rules.icc) {
            families.insert(Family::Bridge);
        }
        families
    }
}
