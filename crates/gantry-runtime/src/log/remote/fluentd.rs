//! Fluentd's forward protocol, message mode: the MessagePack array `[tag, time, record]`, with the options that the Go
//! library adds (`{}` as nil is left out).

use super::Entry;

/// A message with Docker's pairs.
pub(super) fn message(
    tag: &str,
    record: &[(String, String)],
    sub_second: bool,
    entry: &Entry<'_>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + entry.text.len());
    out.push(0x93);
    text(&mut out, tag.as_bytes());
    let time = entry.since_1970();
    if sub_second {
        // EventTime: an extension of eight bytes of type 0 (seconds, nanoseconds).
        out.extend([0xd7, 0x00]);
        out.extend((time.as_secs() as u32).to_be_bytes());
        out.extend(time.subsec_nanos().to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend((time.as_secs() as i64).to_be_bytes());
    }
    let mut pairs: Vec<(&str, Vec<u8>)> = vec![
        ("source", entry.stream.name().into()),
        ("log", entry.text.to_vec()),
    ];
    if let Some((id, part)) = entry.part {
        pairs.push(("partial_message", "true".into()));
        pairs.push(("partial_id", id.into()));
        pairs.push(("partial_ordinal", part.to_string().into()));
        pairs.push(("partial_last", entry.ends.to_string().into()));
    }
    // A label or variable of the same name takes the place of what comes with each message, but not of its part.
    pairs
        .retain(|(name, _)| name.starts_with("partial_") || !record.iter().any(|(k, _)| k == name));
    map(&mut out, pairs.len() + record.len());
    for (name, value) in record {
        text(&mut out, name.as_bytes());
        text(&mut out, value.as_bytes());
    }
    for (name, value) in pairs {
        text(&mut out, name.as_bytes());
        text(&mut out, &value);
    }
    out
}

fn map(out: &mut Vec<u8>, pairs: usize) {
    match pairs {
        0..16 => out.push(0x80 | pairs as u8),
        _ => {
            out.push(0xde);
            out.extend((pairs.min(0xffff) as u16).to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend([0xd9, length as u8]),
        length @ 256..65536 => {
            out.push(0xda);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend((length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
