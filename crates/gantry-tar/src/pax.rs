//! PAX records: `<length> <key>=<value>\n`, where the value may be any bytes, line feeds among them.

use crate::reader::{Entry, bad, identity};
use std::io;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records before an entry say of it.
#[derive(Debug, Default)]
pub(crate) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    time: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `GNU.sparse.<key>`, in the order in which they came: some come many times.
    pub(crate) sparse: Vec<(String, String)>,
    sparse_name: Option<Vec<u8>>,
}

/// Reads all records.
pub(crate) fn parse(mut data: &[u8]) -> io::Result<Records> {
    let mut records = Records::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or_else(|| bad("invalid PAX record"))?;
        data = rest;
        records.take(key, value)?;
    }
    Ok(records)
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let digits = &data[..space];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

fn text(value: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(value).map_err(|_| bad("invalid PAX record"))
}

fn decimal<T: std::str::FromStr>(value: &[u8]) -> io::Result<T> {
    text(value)?
        .parse()
        .map_err(|_| bad("invalid number in a PAX record"))
}

impl Records {
    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        // An empty value takes back what a global record said.
        let given = !value.is_empty();
        match key {
            b"path" | b"linkpath" | b"GNU.sparse.name" if value.contains(&0) => {
                return Err(bad("a path has a NUL byte"));
            }
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" if given => self.size = Some(decimal(value)?),
            b"uid" if given => self.uid = Some(decimal(value)?),
            b"gid" if given => self.gid = Some(decimal(value)?),
            b"mtime" if given => self.time = Some(time(text(value)?)?),
            b"GNU.sparse.name" => self.sparse_name = given.then(|| value.to_vec()),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    let record = (text(name)?.to_owned(), text(value)?.to_owned());
                    self.sparse.push(record);
                }
            }
        }
        Ok(())
    }

    /// The last value of a `GNU.sparse.` record.
    pub(crate) fn sparse(&self, key: &str) -> Option<&str> {
        let found = self.sparse.iter().rev().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Puts into an entry what its header could not hold.
    pub(crate) fn apply(&mut self, entry: &mut Entry) -> io::Result<()> {
        if let Some(path) = self.path.take() {
            entry.path = path;
        }
        if let Some(link) = self.link.take() {
            entry.link = link;
        }
        if let Some(uid) = self.uid {
            entry.uid = identity(uid)?;
        }
        if let Some(gid) = self.gid {
            entry.gid = identity(gid)?;
        }
        if let Some(time) = self.time {
            entry.time = time;
        }
        // The header's own name of a sparse file is a stand-in.
        if let Some(name) = self.sparse_name.take() {
            entry.path = name;
        }
        Ok(())
    }
}

/// `-1700000000.123` as whole seconds and the nanoseconds after them.
fn time(text: &str) -> io::Result<(i64, u32)> {
    let invalid = || bad("invalid time in a PAX record");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0_u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    if text.starts_with('-') && nanos > 0 {
        return Ok((seconds.saturating_sub(1), 1_000_000_000 - nanos));
    }
    Ok((seconds, nanos))
}
