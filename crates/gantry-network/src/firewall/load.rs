//! Loading the tables, and finding out whether they are still what was loaded.
//!
//! What is there is filled anew, not deleted: the user's chain stays, as do chains of the user's in our tables. All of it
//! is one transaction, so that no packet sees a half of it.
use super::rules::{self, FORMER, USER};
use super::{Firewall, State};
use crate::netlink::Refusal;
use crate::nftables::{self, Base, Batch, Chain, Element, Family, SeenChain};
use std::collections::{BTreeMap, BTreeSet};

/// Times that the tables are loaded when somebody is deleting them meanwhile.
const ATTEMPTS: usize = 5;

/// The tables as they were after they had been loaded.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The number of the last change of which we know that it left us whole.
    generation: u32,
    tables: BTreeMap<Family, SeenTable>,
}

/// Our chains of a table and their rules, as the kernel tells them.
#[derive(Debug, Default, PartialEq, Eq)]
struct SeenTable {
    chains: Vec<SeenChain>,
    rules: Vec<Vec<u8>>,
}

impl Firewall {
    /// Makes the tables what `state` says.
    pub(super) fn load(&self, state: &mut State) -> Result<(), Refusal> {
        state.families = state.families_wanted(&self.options);
        for _ in 0..ATTEMPTS {
            match self.fill(state, false) {
                Err(refusal) if self.lacks_bridge_family(state, &refusal) => {
                    tracing::warn!(
                        "this kernel has no nftables for bridges: containers of networks without icc are kept apart only \
                         where br_netfilter is loaded"
                    );
                    state.without_bridge_family = true;
                    state.families.remove(&Family::Bridge);
                    continue;
                }
                // Something of ours is there that cannot be changed into what it should be.
                Err(refusal) if cannot_be_changed(&refusal) => self.fill(state, true)?,
                done => done?,
            }
            state.seen = self.look(state)?;
            if self.is_complete(state) && self.has_elements(state)? {
                return Ok(());
            }
        }
        Err(std::io::Error::from_raw_os_error(libc::EAGAIN).into())
    }

    fn lacks_bridge_family(&self, state: &State, refusal: &Refusal) -> bool {
        let is_wanted = state.families.contains(&Family::Bridge);
        let refused = [libc::EOPNOTSUPP, libc::EAFNOSUPPORT];
        is_wanted && refused.iter().any(|errno| refusal.is(*errno)) && !self.can(Family::Bridge)
    }

    /// Whether the kernel takes tables of the family.
    fn can(&self, family: Family) -> bool {
        let name = format!("{}-probe", self.options.table);
        let mut batch = Batch::new(&name);
        batch.add_table(family);
        batch.delete_table(family);
        batch.commit(&self.netlink).is_ok()
    }

    /// Whether nobody, not even we, has changed any rules since we looked last.
    pub(super) fn is_unchanged(&self, state: &State) -> Result<bool, Refusal> {
        Ok(nftables::generation(&self.netlink)? == state.seen.generation)
    }

    /// Whether the kernel has all that was loaded, and what was added since.
    pub(super) fn is_intact(&self, state: &mut State) -> Result<bool, Refusal> {
        let seen = self.look(state)?;
        let intact = seen.tables == state.seen.tables && self.has_elements(state)?;
        if intact {
            state.seen.generation = seen.generation;
        }
        Ok(intact)
    }

    fn fill(&self, state: &State, anew: bool) -> Result<(), Refusal> {
        let mut batch = Batch::new(&self.options.table);
        for family in &state.families {
            self.fill_table(*family, state, anew, &mut batch)?;
        }
        batch.commit(&self.netlink)
    }

    fn fill_table(
        &self,
        family: Family,
        state: &State,
        anew: bool,
        batch: &mut Batch<'_>,
    ) -> Result<(), Refusal> {
        let chains = self.chains(family);
        let there = self.chains_there(family)?;
        batch.add_table(family);
        let is_ours = |name: &str| name != USER && FORMER.contains(&name);
        let ours = || there.iter().filter(|seen| is_ours(&seen.name));
        for seen in ours() {
            batch.flush_chain(family, &seen.name);
        }
        for seen in ours() {
            let kept = chains.iter().any(|chain| is_same(chain, seen));
            if anew || !kept {
                batch.delete_chain(family, &seen.name);
            }
        }
        let sets_there = nftables::sets(&self.netlink, family, &self.options.table)?;
        for set in rules::sets(family) {
            let seen = sets_there.iter().find(|seen| seen.name == set.name);
            match seen {
                Some(seen) if seen.shape == set.shape() && !anew => {
                    batch.flush_set(family, set.name);
                }
                Some(_) => {
                    batch.delete_set(family, set.name);
                    batch.add_set(family, &set);
                }
                None => batch.add_set(family, &set),
            }
            let elements = state.contents.of((family, set.name));
            batch.add_elements(family, set.name, elements);
        }
        for chain in &chains {
            batch.add_chain(family, chain);
        }
        for chain in &chains {
            batch.add_rules(family, chain);
        }
        Ok(())
    }

    fn chains(&self, family: Family) -> Vec<Chain> {
        rules::chains(family, self.options.respect_host_firewall, self.carried)
    }

    fn chains_there(&self, family: Family) -> Result<Vec<SeenChain>, Refusal> {
        let mut chains = nftables::chains(&self.netlink, Some(family))?;
        chains.retain(|chain| chain.table == self.options.table);
        Ok(chains)
    }

    fn look(&self, state: &State) -> Result<Seen, Refusal> {
        let generation = nftables::generation(&self.netlink)?;
        let mut tables = BTreeMap::new();
        for family in &state.families {
            let names: Vec<_> = self.chains(*family).iter().map(|c| c.name).collect();
            let is_ours = |name: &str| names.contains(&name);
            let mut chains = self.chains_there(*family)?;
            chains.retain(|chain| is_ours(&chain.name));
            let table = &self.options.table;
            let rules = nftables::rules(&self.netlink, *family, table, None)?;
            let rules = rules
                .into_iter()
                .filter(|rule| is_ours(&rule.chain) && rule.chain != USER)
                .map(|rule| rule.bytes)
                .collect();
            tables.insert(*family, SeenTable { chains, rules });
        }
        Ok(Seen { generation, tables })
    }

    /// Whether what was seen is all of it.
    fn is_complete(&self, state: &State) -> bool {
        state.families.iter().all(|family| {
            let chains = self.chains(*family);
            let rules: usize = chains.iter().map(|chain| chain.rules.len()).sum();
            let seen = state.seen.tables.get(family);
            seen.is_some_and(|t| t.chains.len() == chains.len() && t.rules.len() == rules)
        })
    }

    fn has_elements(&self, state: &State) -> Result<bool, Refusal> {
        for family in &state.families {
            for set in rules::sets(*family) {
                let table = &self.options.table;
                let found = nftables::elements(&self.netlink, *family, table, set.name)?;
                let Some(found) = found else {
                    return Ok(false);
                };
                let found: BTreeSet<&Element> = found.iter().collect();
                let wanted = state.contents.of((*family, set.name));
                if set.expiring.is_none() && !found.iter().copied().eq(wanted) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn is_same(chain: &Chain, seen: &SeenChain) -> bool {
    let base = |base: Base| (base.kind.to_owned(), base.hook as u32, base.priority);
    chain.name == seen.name && chain.base.map(base) == seen.base
}

fn cannot_be_changed(refusal: &Refusal) -> bool {
    [libc::EEXIST, libc::EBUSY, libc::EOPNOTSUPP, libc::EINVAL]
        .iter()
        .any(|errno| refusal.is(*errno))
}
