//! Chains of others that would drop what ours has passed.
//!
//! In nftables the strictest table wins: where `iptables -P FORWARD DROP` was said (as Docker and ufw do), or firewalld
//! runs, packets of our bridges die whatever our own tables say. Docker puts rules of its own there. We put one: accept
//! what bears the mark of our chains.
use super::rules::PASSED;
use super::{Firewall, NetworkError, State};
use crate::netlink::Refusal;
use crate::nftables::{self, Batch, Expression, Family, Field, Hook, SeenChain, SeenRule, Verdict};
use std::collections::BTreeSet;

/// Table and chain of `iptables` and `ip6tables`, as made by their nftables variants.
const IPTABLES: (&str, &str) = ("filter", "FORWARD");
/// Firewalld's chains. Docker puts its bridges into a zone of firewalld's in which containers may send to the host; what
/// ufw or `iptables` says of that counts with Docker, too.
pub(super) const FIREWALLD: [(&str, &str); 2] = [
    ("firewalld", "filter_FORWARD"),
    ("firewalld", "filter_INPUT"),
];
/// What firewalld has while it loads its rules again: gone in a moment.
const FIREWALLD_RELOADING: &str = "firewalld_policy_drop";
/// The `mark` match of iptables; revision 1 is `struct xt_mark_mtinfo1`.
const MARK_MATCH: (&str, u32) = ("mark", 1);

impl Firewall {
    /// Puts our rule into chains that need it; whether one was missing. A chain that cannot be changed is told of in the
    /// log, and is no error.
    pub(super) fn open_others(&self, state: &mut State) -> Result<bool, Refusal> {
        let mut opened = false;
        state.locked_out = false;
        for chain in self.others()? {
            let Some(family) = chain.family else {
                continue;
            };
            let wanted = match family {
                Family::Inet => !state.families.is_empty(),
                _ => state.families.contains(&family),
            };
            let rules = nftables::rules(&self.netlink, family, &chain.table, Some(&chain.name))?;
            let has_ours = rules.iter().any(|rule| self.is_ours(rule));
            let needed = chain.drops || !rules.is_empty();
            if !(wanted && needed) || has_ours {
                continue;
            }
            match self.open_other(family, &chain) {
                Ok(()) => {
                    tracing::info!(
                        table = chain.table,
                        chain = chain.name,
                        "a rule was put there that accepts what our own chains have passed"
                    );
                    opened = true;
                }
                // See `zone`.
                Err(refusal) if family == Family::Inet && refusal.is(libc::EPERM) => {
                    state.locked_out = true;
                }
                Err(refusal) => {
                    let name = format!("{} {}", chain.table, chain.name);
                    if state.warned_of.insert(name.clone()) {
                        tracing::warn!(
                            chain = name,
                            error = %refusal.error,
                            "packets of containers may be dropped there: accept those with mark {PASSED:#x}/{PASSED:#x}"
                        );
                    }
                }
            }
        }
        self.warn_of_hindrances(state)?;
        Ok(opened)
    }

    fn open_other(&self, family: Family, chain: &SeenChain) -> Result<(), Refusal> {
        let insert = |rule: Vec<Expression>| {
            let mut batch = Batch::new(&chain.table);
            batch.insert_rule(family, &chain.name, &rule, &self.note());
            batch.commit(&self.netlink)
        };
        if family == Family::Inet {
            return insert(accept_marked());
        }
        // The kernel may have been built without what makes rules of iptables.
        insert(accept_marked_for_iptables()).or_else(|_| insert(accept_marked()))
    }

    /// Takes our rules out again.
    pub(super) fn close_others(&self) -> Result<(), NetworkError> {
        let close = || -> Result<(), Refusal> {
            for chain in self.others()? {
                let Some(family) = chain.family else {
                    continue;
                };
                let (table, name) = (&chain.table, &chain.name);
                let rules = nftables::rules(&self.netlink, family, table, Some(name))?;
                let mut batch = Batch::new(table);
                for rule in rules.iter().filter(|rule| self.is_ours(rule)) {
                    batch.delete_rule(family, name, rule.handle);
                }
                batch.commit(&self.netlink)?;
            }
            Ok(())
        };
        close().map_err(NetworkError::kernel(
            "taking our rules out of other firewalls' chains",
        ))
    }

    /// Says once of each chain of somebody's, other than those above, that it drops forwarded packets by default.
    fn warn_of_hindrances(&self, state: &mut State) -> Result<(), Refusal> {
        for name in self.hindrances(&state.families)? {
            if state.warned_of.insert(name.clone()) {
                tracing::warn!(
                    chain = name,
                    "packets of containers are dropped there by default: accept those with mark {PASSED:#x}/{PASSED:#x}"
                );
            }
        }
        Ok(())
    }

    /// Chains that drop forwarded packets of these families by default, and have no rule of ours.
    pub(super) fn hindrances(&self, families: &BTreeSet<Family>) -> Result<Vec<String>, Refusal> {
        let mut found = Vec::new();
        for chain in nftables::chains(&self.netlink, None)? {
            let forwards = matches!(&chain.base, Some((kind, hook, _))
                if kind == "filter" && *hook == Hook::Forward as u32)
                && chain.table != FIREWALLD_RELOADING;
            let is_judged = |family: &Family| match family {
                Family::Bridge => false,
                Family::Inet => !families.is_empty(),
                family => families.contains(family),
            };
            let family = chain.family.filter(is_judged);
            let (Some(family), true) = (family, forwards && chain.drops) else {
                continue;
            };
            let (table, name) = (&chain.table, &chain.name);
            let rules = nftables::rules(&self.netlink, family, table, Some(name))?;
            if !rules.iter().any(|rule| self.is_ours(rule)) {
                found.push(format!("{table} {name}"));
            }
        }
        Ok(found)
    }

    fn others(&self) -> Result<Vec<SeenChain>, Refusal> {
        let is_one = |chain: &SeenChain| {
            let name = (chain.table.as_str(), chain.name.as_str());
            match chain.family {
                Some(Family::V4 | Family::V6) => name == IPTABLES,
                Some(Family::Inet) => FIREWALLD.contains(&name),
                _ => false,
            }
        };
        let mut chains = nftables::chains(&self.netlink, None)?;
        chains.retain(is_one);
        Ok(chains)
    }

    fn is_ours(&self, rule: &SeenRule) -> bool {
        rule.comment() == Some(self.note())
    }

    /// The comment of our rules in others' chains.
    pub(super) fn note(&self) -> String {
        format!("passed by table {}", self.options.table)
    }
}

fn accept_marked() -> Vec<Expression> {
    vec![
        Expression::Load {
            field: Field::Mark,
            to: 0,
        },
        Expression::Bits {
            at: 0,
            mask: PASSED.to_ne_bytes().to_vec(),
            flip: vec![0; 4],
        },
        Expression::Compare {
            at: 0,
            equal: true,
            value: PASSED.to_ne_bytes().to_vec(),
        },
        Expression::Count,
        Expression::Finish(Verdict::Accept),
    ]
}

/// `-m mark --mark 0x1000/0x1000 -j ACCEPT`, such that `iptables -S` still lists the table.
fn accept_marked_for_iptables() -> Vec<Expression> {
    let mark = PASSED.to_ne_bytes();
    vec![
        Expression::Match {
            name: MARK_MATCH.0,
            revision: MARK_MATCH.1,
            // Mark, mask, not inverted; filled up to 16 bytes.
            data: [mark, mark, [0; 4], [0; 4]].concat(),
        },
        Expression::Count,
        Expression::Finish(Verdict::Accept),
    ]
}
