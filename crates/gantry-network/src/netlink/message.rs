//! One netlink message: a header, a family's fixed part, then attributes padded to four bytes
//! (`linux/netlink.h`).

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that name it (without "nested" and "network byte order").
const TYPE_MASK: u16 = 0x3fff;

/// A request under construction.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request that the kernel must acknowledge; `flags` are added to `NLM_F_REQUEST | NLM_F_ACK`.
    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        Self::with_flags(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags)
    }

    /// A request with exactly these flags.
    pub(crate) fn with_flags(kind: u16, flags: i32) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&(HEADER as u32).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// Adds a fixed part, for example `struct ifinfomsg`.
    pub(crate) fn fixed(mut self, part: &[u8]) -> Self {
        self.put_fixed(part);
        self
    }

    pub(crate) fn put_fixed(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
        self.pad();
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// A number in the machine's byte order (routing netlink).
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order (nftables).
    pub(crate) fn big(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its closing zero.
    pub(crate) fn string(mut self, kind: u16, value: &str) -> Self {
        let mut with_zero = Vec::with_capacity(value.len() + 1);
        with_zero.extend_from_slice(value.as_bytes());
        with_zero.push(0);
        self.put(kind, &with_zero);
        self
    }

    /// An attribute made of what `inner` adds.
    pub(crate) fn nest(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        let mut message = inner(self);
        let length = (message.bytes.len() - start) as u16;
        message.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Makes the kernel answer, also when all is well.
    pub(crate) fn ask_for_answer(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | libc::NLM_F_ACK as u16;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Whether the kernel will answer this message when it succeeds.
    pub(super) fn wants_ack(&self) -> bool {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        i32::from(flags) & libc::NLM_F_ACK != 0
    }

    /// Appends the finished message to `out` under the given sequence number.
    pub(super) fn write_to(&self, out: &mut Vec<u8>, sequence: u32) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        out[start..start + 4].copy_from_slice(&(self.bytes.len() as u32).to_ne_bytes());
        out[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// The attributes in `bytes`, by type and value; stops at the first that is cut short.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The text of a zero-terminated attribute.
pub(crate) fn string(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number in the machine's byte order; 0 for an attribute that is too short.
pub(crate) fn u32_of(value: &[u8]) -> u32 {
    value
        .first_chunk()
        .map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}
