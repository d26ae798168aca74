//! MACs: made from addresses, read and written.
use crate::error::NetworkError;
use crate::link::Mac;
use std::net::IpAddr;

/// The MAC of who has this address, if nothing else is asked for. As it is the same for every owner of the address,
/// what neighbours remember stays right.
pub(super) fn default(address: IpAddr) -> Mac {
    of(address, [0x02, 0x42])
}

/// A locally administered MAC made of two bytes and an address (of IPv6: its last four bytes).
pub(super) fn of(address: IpAddr, prefix: [u8; 2]) -> Mac {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (u128::from(address) as u32).to_be_bytes(),
    };
    [prefix[0], prefix[1], a, b, c, d]
}

pub(super) fn format(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub(super) fn parse(text: &str) -> Result<Mac, NetworkError> {
    let byte = |part: &str| {
        let is_hex = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| is_hex)
    };
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
    bytes
        .and_then(|bytes| Mac::try_from(bytes).ok())
        // An odd first byte is a group's address.
        .filter(|mac| mac[0] & 1 == 0)
        .ok_or_else(|| NetworkError::Invalid(format!("{text} is not a valid mac address")))
}
