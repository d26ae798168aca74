//! What is answered without asking anybody.

use super::Directory;
use super::question::{Fault, HEAD, Question};
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::seq::SliceRandom as _;
use std::net::IpAddr;

/// Seconds that an answer may be remembered. COMPAT: Docker's `respTTL` (moby v28.5.2, libnetwork/resolver.go).
const TIME_TO_LIVE: u32 = 600;
/// What we say that we take by UDP (the size that avoids fragments, see dnsflagday.net/2020).
const OUR_LIMIT: u16 = 1232;
/// Bytes of an address's record beside the address: a pointer to the name, kind, class, time to live, length.
const RECORD: usize = 12;

/// What is done with a message.
#[derive(Debug)]
pub(super) enum Decision {
    Answer(Vec<u8>),
    /// Others are asked; the bytes of the question end here.
    Forward(usize),
    Ignore,
}

/// Reads a message and answers it, if the answer is here.
pub(super) fn decide(
    directory: &dyn Directory,
    container: &str,
    bytes: &[u8],
    by_tcp: bool,
) -> Decision {
    let question = match Question::read(bytes) {
        Ok(question) => question,
        Err(Fault::Ignore) => return Decision::Ignore,
        Err(Fault::Malformed) => return failure(bytes, None, ResponseCode::FormErr),
        Err(Fault::NotImplemented) => return failure(bytes, None, ResponseCode::NotImp),
    };
    let Some(records) = records(directory, container, &question) else {
        return Decision::Forward(question.end);
    };
    let limit = if by_tcp { u16::MAX } else { question.limit };
    encoded(bytes, &question, records, limit.into())
}

/// An answer with nothing but a code, for what could not be had from others.
pub(super) fn server_failure(bytes: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let question = Question::read(bytes).ok();
    match failure(bytes, question.as_ref(), code) {
        Decision::Answer(bytes) => Some(bytes),
        _ => None,
    }
}

/// The records of a name that is ours; None: it is not.
///
/// COMPAT: kinds of records other than these are others' business, even of names that are ours (moby v28.5.2,
/// libnetwork/resolver.go `serveDNS`).
fn records(directory: &dyn Directory, container: &str, question: &Question) -> Option<Vec<RData>> {
    let query = &question.query;
    if query.query_class != DNSClass::IN {
        return None;
    }
    let addresses = |v6| directory.addresses(container, &question.name(), v6);
    match query.query_type {
        kind @ (RecordType::A | RecordType::AAAA) => {
            let v6 = kind == RecordType::AAAA;
            let Some(mut found) = addresses(v6) else {
                let name = question.name();
                let kept = !name.contains('.') && directory.outside(container).keeps_short_names;
                return kept.then(Vec::new);
            };
            found.shuffle(&mut rand::rng());
            Some(found.into_iter().map(record_of).collect())
        }
        // An empty answer: mail goes to the address itself (RFC 5321, 5.1).
        RecordType::MX => addresses(false).map(|_| Vec::new()),
        RecordType::PTR => {
            let name = directory.name_of(container, address_of(&query.name)?)?;
            let target = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
            Some(vec![RData::PTR(PTR(target))])
        }
        _ => None,
    }
}

fn record_of(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn address_of(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// The answer in bytes; as many records as the client takes, with a note where that is not all.
fn encoded(bytes: &[u8], question: &Question, records: Vec<RData>, limit: usize) -> Decision {
    let mut message = reply(bytes, question);
    let all = records.len();
    let room = limit.saturating_sub(question.end + 11) / (RECORD + 4);
    for data in records.into_iter().take(room.max(1)) {
        let name = question.query.name.clone();
        message.add_answer(Record::from_rdata(name, TIME_TO_LIVE, data));
    }
    loop {
        message.metadata.truncation = message.answers.len() < all;
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= limit => return Decision::Answer(bytes),
            Ok(_) if message.answers.pop().is_some() => {}
            Ok(_) => return Decision::Ignore,
            Err(_) => return failure(bytes, Some(question), ResponseCode::ServFail),
        }
    }
}

/// The head of an answer.
fn reply(bytes: &[u8], question: &Question) -> Message {
    let mut message = Message::response(id(bytes), OpCode::Query);
    message.metadata.recursion_desired = bytes[2] & 1 != 0;
    message.metadata.recursion_available = true;
    message.add_query(question.query.clone());
    if question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_LIMIT);
        message.set_edns(edns);
    }
    message
}

fn failure(bytes: &[u8], question: Option<&Question>, code: ResponseCode) -> Decision {
    if bytes.len() < HEAD {
        return Decision::Ignore;
    }
    let mut message = match question {
        Some(question) => reply(bytes, question),
        None => Message::response(id(bytes), OpCode::from_u8(bytes[2] >> 3 & 15)),
    };
    message.metadata.response_code = code;
    message.to_vec().map_or(Decision::Ignore, Decision::Answer)
}

fn id(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
