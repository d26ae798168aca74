//! nftables, as far as the crate's own tables need it (`linux/netfilter/nf_tables.h`).
//!
//! What belongs together is sent as one batch: the kernel takes all of it or nothing.

mod expression;
mod read;

pub(crate) use expression::{Expression, Field, Verdict};
pub(crate) use read::{SeenChain, SeenRule, chains, comments, elements, generation, rules, sets};

use crate::netlink::{Message, Netlink, Refusal};
use std::cmp::Ordering;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USER_DATA: u16 = 7;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const SET_USER_DATA: u16 = 13;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const LIST_ITEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const ACCEPT: u32 = 1;
/// An attribute holds at most 64 KiB; an element here takes less than 120 bytes.
const ELEMENTS_A_MESSAGE: usize = 400;

/// What kind of packets a table is for (`linux/netfilter.h`, `NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4 and IPv6 together; not for tables of ours.
    Inet = 1,
    V4 = 2,
    Bridge = 7,
    V6 = 10,
}

/// Where a chain is called (`linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A chain; without a base it is only jumped to.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Vec<Expression>>,
}

/// What makes the kernel call a chain. Its policy is to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A type that keys and values are made of: its number in the `nft` program (which shows it by that) and its size.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    Ipv4Address,
    Ipv6Address,
    Protocol,
    Port,
    InterfaceName,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
        }
    }

    /// Bytes in a concatenation, where each part fills whole registers.
    fn length(self) -> u32 {
        match self {
            Self::Ipv4Address | Self::Protocol | Self::Port => 4,
            Self::Ipv6Address | Self::InterfaceName => 16,
        }
    }
}

/// A set, or with `values` a map.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Vec<Type>,
    pub(crate) values: Vec<Type>,
    /// Keys are ranges, given by first and first-after.
    pub(crate) interval: bool,
    /// Elements come from rules, and go by themselves after a while.
    pub(crate) expiring: Option<Expiring>,
}

/// How a set forgets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expiring {
    pub(crate) after: std::time::Duration,
    /// Elements at most.
    pub(crate) size: u32,
}

impl Set {
    fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.interval {
            flags |= libc::NFT_SET_INTERVAL;
        }
        if !self.values.is_empty() {
            flags |= libc::NFT_SET_MAP;
        }
        if self.expiring.is_some() {
            flags |= libc::NFT_SET_TIMEOUT | libc::NFT_SET_EVAL;
        }
        flags as u32
    }
}

impl Set {
    /// What [`read::SeenSet`] says of such a set.
    pub(crate) fn shape(&self) -> [u32; 5] {
        [
            self.flags(),
            type_number(&self.key),
            type_length(&self.key),
            type_number(&self.values),
            type_length(&self.values),
        ]
    }
}

/// The number of a concatenated type: six bits a part.
fn type_number(parts: &[Type]) -> u32 {
    parts.iter().fold(0, |sum, part| sum << 6 | part.number())
}

fn type_length(parts: &[Type]) -> u32 {
    parts.iter().map(|part| part.length()).sum()
}

/// A note to the `nft` program, without which it shows names in such a set backwards: note 0, 4 bytes, 1.
fn keys_in_machine_order() -> Vec<u8> {
    [&[0, 4], 1u32.to_ne_bytes().as_slice()].concat()
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// Empty in a set.
    pub(crate) value: Vec<u8>,
    /// Ends the interval that the element before began.
    pub(crate) ends_interval: bool,
}

/// In the order in which the kernel takes intervals: one ends before the next begins at the same key.
impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key
            .cmp(&other.key)
            .then(other.ends_interval.cmp(&self.ends_interval))
            .then_with(|| self.value.cmp(&other.value))
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Element {
    pub(crate) fn key(key: Vec<u8>) -> Self {
        Self::pair(key, Vec::new())
    }

    pub(crate) fn pair(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self {
            key,
            value,
            ends_interval: false,
        }
    }

    /// What a deletion names.
    fn without_value(&self) -> Self {
        Self {
            value: Vec::new(),
            ..self.clone()
        }
    }
}

/// Changes that are made together, to tables of one name.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    table: &'a str,
    messages: Vec<Message>,
    /// Numbers sets; the kernel wants one for each.
    sets: u32,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        Self {
            table,
            messages: vec![marker(libc::NFNL_MSG_BATCH_BEGIN)],
            sets: 0,
        }
    }

    /// Makes the table where there is none.
    pub(crate) fn add_table(&mut self, family: Family) {
        let message = request(family, libc::NFT_MSG_NEWTABLE, libc::NLM_F_CREATE);
        self.messages.push(message.string(TABLE_NAME, self.table));
    }

    /// Deletes the table with all that is in it.
    pub(crate) fn delete_table(&mut self, family: Family) {
        let message = request(family, libc::NFT_MSG_DELTABLE, 0);
        self.messages.push(message.string(TABLE_NAME, self.table));
    }

    /// Makes the chain, empty, where there is none.
    pub(crate) fn add_chain(&mut self, family: Family, chain: &Chain) {
        let mut message = request(family, libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE)
            .string(CHAIN_TABLE, self.table)
            .string(CHAIN_NAME, chain.name);
        if let Some(base) = chain.base {
            message = message
                .nest(CHAIN_HOOK, |m| {
                    m.big(HOOK_NUMBER, base.hook as u32)
                        .big(HOOK_PRIORITY, base.priority as u32)
                })
                .big(CHAIN_POLICY, ACCEPT)
                .string(CHAIN_TYPE, base.kind);
        }
        self.messages.push(message);
    }

    /// Adds rules at the end of a chain.
    pub(crate) fn add_rules(&mut self, family: Family, chain: &Chain) {
        for rule in &chain.rules {
            self.add_rule(family, chain.name, rule, "");
        }
    }

    /// Adds a rule at the end of a chain; a comment is kept with it, see [`comments`].
    pub(crate) fn add_rule(
        &mut self,
        family: Family,
        chain: &str,
        rule: &[Expression],
        comment: &str,
    ) {
        self.new_rule(family, libc::NLM_F_APPEND, chain, rule, comment);
    }

    /// Puts a rule at the head of a chain.
    pub(crate) fn insert_rule(
        &mut self,
        family: Family,
        chain: &str,
        rule: &[Expression],
        comment: &str,
    ) {
        self.new_rule(family, 0, chain, rule, comment);
    }

    fn new_rule(
        &mut self,
        family: Family,
        place: i32,
        chain: &str,
        rule: &[Expression],
        comment: &str,
    ) {
        let flags = libc::NLM_F_CREATE | place;
        let mut message = request(family, libc::NFT_MSG_NEWRULE, flags)
            .string(RULE_TABLE, self.table)
            .string(RULE_CHAIN, chain)
            .nest(RULE_EXPRESSIONS, |m| {
                rule.iter().fold(m, |m, expression| {
                    m.nest(LIST_ITEM, |m| expression.encode(m, family))
                })
            });
        if !comment.is_empty() {
            message = message.bytes(RULE_USER_DATA, &user_data(comment));
        }
        self.messages.push(message);
    }

    /// Deletes one rule.
    pub(crate) fn delete_rule(&mut self, family: Family, chain: &str, handle: u64) {
        let message = request(family, libc::NFT_MSG_DELRULE, 0)
            .string(RULE_TABLE, self.table)
            .string(RULE_CHAIN, chain)
            .bytes(RULE_HANDLE, &handle.to_be_bytes());
        self.messages.push(message);
    }

    /// Deletes the rules of a chain that is there.
    pub(crate) fn flush_chain(&mut self, family: Family, chain: &str) {
        let message = request(family, libc::NFT_MSG_DELRULE, 0)
            .string(RULE_TABLE, self.table)
            .string(RULE_CHAIN, chain);
        self.messages.push(message);
    }

    /// Deletes a chain without rules.
    pub(crate) fn delete_chain(&mut self, family: Family, chain: &str) {
        let message = request(family, libc::NFT_MSG_DELCHAIN, 0)
            .string(CHAIN_TABLE, self.table)
            .string(CHAIN_NAME, chain);
        self.messages.push(message);
    }

    pub(crate) fn add_set(&mut self, family: Family, set: &Set) {
        self.sets += 1;
        let mut message = request(family, libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE)
            .string(SET_TABLE, self.table)
            .string(SET_NAME, set.name)
            .big(SET_FLAGS, set.flags())
            .big(SET_KEY_TYPE, type_number(&set.key))
            .big(SET_KEY_LENGTH, type_length(&set.key))
            .big(SET_ID, self.sets);
        if !set.values.is_empty() {
            message = message
                .big(SET_DATA_TYPE, type_number(&set.values))
                .big(SET_DATA_LENGTH, type_length(&set.values));
        }
        if let Some(expiring) = set.expiring {
            let milliseconds = expiring.after.as_millis() as u64;
            message = message
                .bytes(SET_TIMEOUT, &milliseconds.to_be_bytes())
                .nest(SET_DESCRIPTION, |m| m.big(1, expiring.size));
        }
        if matches!(set.key.as_slice(), [Type::InterfaceName]) {
            message = message.bytes(SET_USER_DATA, &keys_in_machine_order());
        }
        self.messages.push(message);
    }

    /// Deletes a set that no rule uses.
    pub(crate) fn delete_set(&mut self, family: Family, set: &str) {
        let message = request(family, libc::NFT_MSG_DELSET, 0)
            .string(SET_TABLE, self.table)
            .string(SET_NAME, set);
        self.messages.push(message);
    }

    /// Deletes the elements of a set.
    pub(crate) fn flush_set(&mut self, family: Family, set: &str) {
        let message = request(family, libc::NFT_MSG_DELSETELEM, 0)
            .string(ELEMENTS_TABLE, self.table)
            .string(ELEMENTS_SET, set);
        self.messages.push(message);
    }

    /// Adds elements; those that are there already stay.
    pub(crate) fn add_elements<'e>(
        &mut self,
        family: Family,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) {
        let elements = elements.into_iter().cloned().collect();
        let (kind, flags) = (libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE);
        self.elements(family, kind, flags, set, elements);
    }

    /// Deletes elements; one that is missing fails the batch.
    pub(crate) fn delete_elements<'e>(
        &mut self,
        family: Family,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) {
        let elements = elements.into_iter().map(Element::without_value).collect();
        self.elements(family, libc::NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements(
        &mut self,
        family: Family,
        kind: i32,
        flags: i32,
        set: &str,
        elements: Vec<Element>,
    ) {
        for chunk in elements.chunks(ELEMENTS_A_MESSAGE) {
            let message = request(family, kind, flags)
                .string(ELEMENTS_TABLE, self.table)
                .string(ELEMENTS_SET, set)
                .nest(ELEMENTS_LIST, |m| chunk.iter().fold(m, encode_element));
            self.messages.push(message);
        }
    }

    /// Sends the batch.
    pub(crate) fn commit(mut self, netlink: &Netlink) -> Result<(), Refusal> {
        match self.messages.as_mut_slice() {
            [_] | [] => return Ok(()),
            // One answer tells of all; those that fail answer unasked.
            [.., last] => last.ask_for_answer(),
        }
        self.messages.push(marker(libc::NFNL_MSG_BATCH_END));
        netlink.execute(&self.messages)
    }
}

/// A comment as the `nft` program notes it: note 0, its length, its text with a closing zero.
fn user_data(comment: &str) -> Vec<u8> {
    let length = comment.len() as u8 + 1;
    [&[0, length], comment.as_bytes(), &[0]].concat()
}

fn encode_element(message: Message, element: &Element) -> Message {
    message.nest(LIST_ITEM, |mut m| {
        m = m.nest(ELEMENT_KEY, |m| m.bytes(DATA_VALUE, &element.key));
        if !element.value.is_empty() {
            m = m.nest(ELEMENT_DATA, |m| m.bytes(DATA_VALUE, &element.value));
        }
        if element.ends_interval {
            m = m.big(ELEMENT_FLAGS, libc::NFT_SET_ELEM_INTERVAL_END as u32);
        }
        m
    })
}

/// `struct nfgenmsg` without a resource.
fn family_header(family: i32) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

fn subsystem(kind: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16
}

fn request(family: Family, kind: i32, flags: i32) -> Message {
    let flags = libc::NLM_F_REQUEST | flags;
    Message::with_flags(subsystem(kind), flags).fixed(&family_header(family as i32))
}

/// Begin or end of a batch for nftables.
fn marker(kind: i32) -> Message {
    let mut header = family_header(libc::AF_UNSPEC);
    header[2..4].copy_from_slice(&(libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes());
    Message::with_flags(kind as u16, libc::NLM_F_REQUEST).fixed(&header)
}
