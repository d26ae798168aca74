//! What is read of a query: its head and its question. The rest is passed on as it came, so nothing that is new in the
//! world of names needs to be known here.

use hickory_proto::op::{Message, Query};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Bytes of the fixed head of every message.
pub(super) const HEAD: usize = 12;
/// Bytes of an answer by UDP to who does not say that it takes more (RFC 1035, 2.3.4).
const PLAIN_LIMIT: u16 = 512;

/// Bytes of the longest query that is read: there are no such, and many at once would take the daemon's memory.
const LONGEST: usize = 4096;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;

/// A query that may be answered.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) query: Query,
    /// Where the bytes of the question end.
    pub(super) end: usize,
    /// Bytes that the client takes by UDP.
    pub(super) limit: u16,
    /// The client knows EDNS, so the answer has it.
    pub(super) edns: bool,
}

/// Why a message is not answered with names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No query at all, or less than a head: no answer, which others could be made to answer in turn.
    Ignore,
    /// Nobody can read it.
    Malformed,
    /// Something else than a query for a name.
    NotImplemented,
}

impl Question {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or(Fault::Ignore)?;
        if head[2] & RESPONSE != 0 {
            return Err(Fault::Ignore);
        }
        if head[2] & OPCODE != 0 {
            return Err(Fault::NotImplemented);
        }
        if bytes.len() > LONGEST || u16::from_be_bytes([head[4], head[5]]) != 1 {
            return Err(Fault::Malformed);
        }
        let mut decoder = BinDecoder::new(bytes).clone(HEAD as u16);
        let query = Query::read(&mut decoder).map_err(|_| Fault::Malformed)?;
        let edns = Message::from_vec(bytes).ok().and_then(|m| m.edns);
        Ok(Self {
            query,
            end: decoder.index(),
            limit: edns
                .as_ref()
                .map_or(PLAIN_LIMIT, |e| e.max_payload().max(PLAIN_LIMIT)),
            edns: edns.is_some(),
        })
    }

    /// The name that is asked for, without a final dot, as it was written.
    pub(super) fn name(&self) -> String {
        let labels: Vec<_> = self
            .query
            .name
            .iter()
            .map(String::from_utf8_lossy)
            .collect();
        labels.join(".")
    }
}
