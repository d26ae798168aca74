//! GELF 1.1: JSON, over UDP compressed and in chunks, over TCP with a zero byte at the end.

use super::{Entry, Stream};
use crate::log::format;
use crate::log::settings::{Compression, Gelf};
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write as _;

/// The longest datagram, its chunk's head included (Graylog's advice for a path of 1,500 bytes).
const DATAGRAM: usize = 1420;
/// Two magic bytes, the message's number (8), the chunk's and how many there are.
const HEAD: usize = 12;
/// The format has room for no more.
const MOST_CHUNKS: usize = 128;

/// The datagrams of a message, or the one message of a stream. A message that needs too many datagrams is none.
pub(super) fn messages(settings: &Gelf, entry: &Entry<'_>, datagrams: bool) -> Vec<Vec<u8>> {
    let mut json = json(settings, entry);
    if !datagrams {
        json.push(0);
        return vec![json];
    }
    let level = match settings.level {
        level @ 0..=9 => flate2::Compression::new(level.unsigned_abs()),
        _ => flate2::Compression::default(),
    };
    let bytes = match settings.compression {
        Compression::None => json,
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            // Writing to memory does not fail.
            let _ = encoder.write_all(&json);
            encoder.finish().unwrap_or_default()
        }
        Compression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            let _ = encoder.write_all(&json);
            encoder.finish().unwrap_or_default()
        }
    };
    chunks(bytes)
}

fn json(settings: &Gelf, entry: &Entry<'_>) -> Vec<u8> {
    let mut out = b"{\"version\":\"1.1\",\"host\":\"".to_vec();
    format::escape(&mut out, settings.hostname.as_bytes());
    out.extend_from_slice(b"\",\"short_message\":\"");
    format::escape(&mut out, entry.text);
    let milliseconds = entry.since_1970().as_millis();
    let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
    let mut time = seconds.to_string();
    if fraction > 0 {
        time.push_str(format!(".{fraction:03}").trim_end_matches('0'));
    }
    let level = match entry.stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
    };
    out.extend_from_slice(format!("\",\"timestamp\":{time},\"level\":{level}").as_bytes());
    if !settings.extra.is_empty() {
        out.push(b',');
        out.extend_from_slice(settings.extra.as_bytes());
    }
    out.push(b'}');
    out
}

fn chunks(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if bytes.len() <= DATAGRAM {
        return vec![bytes];
    }
    let pieces: Vec<&[u8]> = bytes.chunks(DATAGRAM - HEAD).collect();
    if pieces.len() > MOST_CHUNKS {
        return Vec::new();
    }
    let mut number = [0_u8; 8];
    // Eight bytes come whole (getrandom(2)).
    let _ = rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty());
    let datagram = |(place, piece): (usize, &&[u8])| {
        let mut out = vec![0x1e, 0x0f];
        out.extend(number);
        out.extend([place as u8, pieces.len() as u8]);
        out.extend_from_slice(piece);
        out
    };
    pieces.iter().enumerate().map(datagram).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_come_in_chunks_that_make_the_whole() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| n as u8).collect();
        let chunks = chunks(bytes.clone());
        assert_eq!(chunks.len(), 4);
        let whole: Vec<u8> = chunks.iter().flat_map(|c| c[HEAD..].to_vec()).collect();
        assert_eq!(whole, bytes);
        for (place, chunk) in chunks.iter().enumerate() {
            assert!(chunk.len() <= DATAGRAM);
            assert_eq!(chunk[..2], [0x1e, 0x0f]);
            assert_eq!(chunk[2..10], chunks[0][2..10]);
            assert_eq!(chunk[10..12], [place as u8, 4]);
        }
        assert!(super::chunks(vec![0; DATAGRAM * 200]).is_empty());
    }
}
