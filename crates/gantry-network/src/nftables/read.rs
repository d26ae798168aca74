//! What is in the kernel.
use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, DATA_VALUE, ELEMENT_DATA,
    ELEMENT_FLAGS, ELEMENT_KEY, ELEMENTS_LIST, ELEMENTS_SET, ELEMENTS_TABLE, Element, Family,
    HOOK_NUMBER, HOOK_PRIORITY, RULE_CHAIN, RULE_HANDLE, RULE_TABLE, RULE_USER_DATA,
    SET_DATA_LENGTH, SET_DATA_TYPE, SET_FLAGS, SET_KEY_LENGTH, SET_KEY_TYPE, SET_NAME, SET_TABLE,
    family_header, subsystem,
};
use crate::netlink::{Message, Netlink, Refusal, attributes, string};

const GENERATION_ID: u16 = 1;

/// A chain of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenChain {
    /// None: one that concerns nobody here.
    pub(crate) family: Option<Family>,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Kind, hook and priority of a base chain.
    pub(crate) base: Option<(String, u32, i32)>,
    pub(crate) drops: bool,
}

/// A rule of anybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenRule {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    /// All that the kernel says of it, as attributes.
    pub(crate) bytes: Vec<u8>,
}

impl SeenRule {
    pub(crate) fn comment(&self) -> Option<String> {
        let mut parts = attributes(&self.bytes);
        let (_, text) = parts.find(|(kind, _)| *kind == RULE_USER_DATA)?;
        text_of(text)
    }
}

/// What a set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenSet {
    pub(crate) name: String,
    /// Flags; type and length of keys; of values.
    pub(crate) shape: [u32; 5],
}

/// The number of the rules' last change, whoever made it.
pub(crate) fn generation(netlink: &Netlink) -> Result<u32, Refusal> {
    let get = Message::with_flags(subsystem(libc::NFT_MSG_GETGEN), libc::NLM_F_REQUEST)
        .fixed(&family_header(libc::AF_UNSPEC));
    let answer = netlink.query(&get)?.unwrap_or_default();
    Ok(big(&answer, GENERATION_ID).unwrap_or_default())
}

/// All chains of a family; none: of every family.
pub(crate) fn chains(netlink: &Netlink, family: Option<Family>) -> Result<Vec<SeenChain>, Refusal> {
    let family = family.map_or(libc::AF_UNSPEC, |f| f as i32);
    let answers = netlink.dump(&dump(libc::NFT_MSG_GETCHAIN, family))?;
    Ok(answers.iter().map(|answer| chain(answer)).collect())
}

fn chain(answer: &[u8]) -> SeenChain {
    let hook = value(answer, CHAIN_HOOK).map(|hook| {
        let number = |wanted| {
            let found = attributes(hook).find(|(kind, _)| *kind == wanted);
            found.and_then(|(_, v)| number(v)).unwrap_or_default()
        };
        (number(HOOK_NUMBER), number(HOOK_PRIORITY) as i32)
    });
    SeenChain {
        family: [Family::Inet, Family::V4, Family::Bridge, Family::V6]
            .into_iter()
            .find(|family| answer.first() == Some(&(*family as u8))),
        table: text(answer, CHAIN_TABLE),
        name: text(answer, CHAIN_NAME),
        base: hook.map(|(hook, priority)| (text(answer, CHAIN_TYPE), hook, priority)),
        drops: big(answer, CHAIN_POLICY) == Some(libc::NF_DROP as u32),
    }
}

/// The rules of a table, or of a chain of it.
pub(crate) fn rules(
    netlink: &Netlink,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> Result<Vec<SeenRule>, Refusal> {
    let mut get = dump(libc::NFT_MSG_GETRULE, family as i32).string(RULE_TABLE, table);
    if let Some(chain) = chain {
        get = get.string(RULE_CHAIN, chain);
    }
    let answers = netlink.dump(&get)?;
    let seen = answers.into_iter().map(|bytes| SeenRule {
        chain: text(&bytes, RULE_CHAIN),
        handle: handle(&bytes),
        // Before it, among others, is the number of the rules' last change.
        bytes: bytes.get(4..).unwrap_or_default().to_vec(),
    });
    Ok(seen.collect())
}

fn handle(rule: &[u8]) -> u64 {
    value(rule, RULE_HANDLE)
        .and_then(|v| v.first_chunk())
        .map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

/// The comments of a chain's rules in an IPv4 table; none where there is no such table.
pub(crate) fn comments(
    netlink: &Netlink,
    table: &str,
    chain: &str,
) -> Result<Vec<String>, Refusal> {
    let rules = rules(netlink, Family::V4, table, Some(chain))?;
    Ok(rules.iter().filter_map(SeenRule::comment).collect())
}

fn text_of(user_data: &[u8]) -> Option<String> {
    match user_data {
        [0, _, text @ ..] => Some(string(text)),
        _ => None,
    }
}

/// The sets of a table that have names of their own.
pub(crate) fn sets(
    netlink: &Netlink,
    family: Family,
    table: &str,
) -> Result<Vec<SeenSet>, Refusal> {
    let get = dump(libc::NFT_MSG_GETSET, family as i32).string(SET_TABLE, table);
    let answers = match netlink.dump(&get) {
        Err(refusal) if refusal.is(libc::ENOENT) => Vec::new(),
        answers => answers?,
    };
    let kinds = [
        SET_FLAGS,
        SET_KEY_TYPE,
        SET_KEY_LENGTH,
        SET_DATA_TYPE,
        SET_DATA_LENGTH,
    ];
    let seen = answers.iter().map(|answer| SeenSet {
        name: text(answer, SET_NAME),
        shape: kinds.map(|kind| big(answer, kind).unwrap_or_default()),
    });
    Ok(seen.collect())
}

/// The elements of a set; None: there is no such set.
pub(crate) fn elements(
    netlink: &Netlink,
    family: Family,
    table: &str,
    set: &str,
) -> Result<Option<Vec<Element>>, Refusal> {
    let get = dump(libc::NFT_MSG_GETSETELEM, family as i32)
        .string(ELEMENTS_TABLE, table)
        .string(ELEMENTS_SET, set);
    let answers = match netlink.dump(&get) {
        Err(refusal) if refusal.is(libc::ENOENT) => return Ok(None),
        answers => answers?,
    };
    let mut all = Vec::new();
    for answer in &answers {
        let list = value(answer, ELEMENTS_LIST).unwrap_or_default();
        all.extend(attributes(list).map(|(_, bytes)| element(bytes)));
    }
    Ok(Some(all))
}

fn element(bytes: &[u8]) -> Element {
    let find = |bytes: &[u8], wanted| {
        let found = attributes(bytes).find(|(kind, _)| *kind == wanted);
        found.map(|(_, value)| value.to_vec()).unwrap_or_default()
    };
    let flags = number(&find(bytes, ELEMENT_FLAGS)).unwrap_or_default();
    Element {
        key: find(&find(bytes, ELEMENT_KEY), DATA_VALUE),
        value: find(&find(bytes, ELEMENT_DATA), DATA_VALUE),
        ends_interval: flags & libc::NFT_SET_ELEM_INTERVAL_END as u32 != 0,
    }
}

fn dump(kind: i32, family: i32) -> Message {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    Message::with_flags(subsystem(kind), flags).fixed(&family_header(family))
}

/// An attribute of an answer, which begins with `struct nfgenmsg`.
fn value(answer: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(answer.get(4..)?)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

fn text(answer: &[u8], wanted: u16) -> String {
    value(answer, wanted).map(string).unwrap_or_default()
}

fn big(answer: &[u8], wanted: u16) -> Option<u32> {
    number(value(answer, wanted)?)
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}
