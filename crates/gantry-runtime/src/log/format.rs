//! An entry as bytes: Docker's escapes and Go's time.

use super::{Entry, Stream};
use std::time::Duration;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends an entry as Docker's json-file driver writes it.
pub(super) fn json(out: &mut Vec<u8>, entry: &Entry<'_>, attrs: &[u8]) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, entry.text);
    if entry.ends {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(match entry.stream {
        Stream::Stdout => b"\",\"stream\":\"stdout\",",
        Stream::Stderr => b"\",\"stream\":\"stderr\",",
    });
    out.extend_from_slice(attrs);
    out.extend_from_slice(b"\"time\":\"");
    timestamp(out, entry.since_1970());
    out.extend_from_slice(b"\"}\n");
}

/// Appends an entry in the compact format.
pub(super) fn local(out: &mut Vec<u8>, entry: &Entry<'_>) {
    out.push(match (entry.stream, entry.ends) {
        (Stream::Stdout, true) => b'o',
        (Stream::Stdout, false) => b'O',
        (Stream::Stderr, true) => b'e',
        (Stream::Stderr, false) => b'E',
    });
    let time = entry.since_1970().as_nanos() as u64;
    out.extend((0..13).rev().map(|digit| {
        let value = (time >> (digit * 5)) as u8 & 31;
        if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        }
    }));
    out.extend_from_slice(entry.text);
    out.push(b'\n');
}

/// `"attrs":{...},` for pairs that are sorted by key; nothing for none.
pub(super) fn attributes(pairs: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    if pairs.is_empty() {
        return out;
    }
    out.extend_from_slice(b"\"attrs\":{");
    for (number, (key, value)) in pairs.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        for (text, after) in [(key, b':'), (value, b' ')] {
            out.push(b'"');
            escape(&mut out, text.as_bytes());
            out.push(b'"');
            if after == b':' {
                out.push(after);
            }
        }
    }
    out.extend_from_slice(b"},");
    out
}

/// Text inside a JSON string as Docker's log writer has it: `<`, `>`, `&` and controls as `\u00..`, what is not UTF-8
/// as `\ufffd`.
pub(super) fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        escape_valid(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let length = match byte {
            b'"' | b'\\' | b'<' | b'>' | b'&' | 0..0x20 => 1,
            // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
            0xe2 if bytes[at + 1] == 0x80 && matches!(bytes[at + 2], 0xa8 | 0xa9) => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&bytes[plain..at]);
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0xe2 => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'2',
                b'0',
                b'2',
                HEX[usize::from(bytes[at + 2] & 0xf)],
            ]),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
            }
        }
        at += length;
        plain = at;
    }
    out.extend_from_slice(&bytes[plain..]);
}

/// How much of the text does not end inside a character that may still be completed.
pub(super) fn whole_characters(text: &[u8]) -> usize {
    for back in 1..=3.min(text.len()) {
        let at = text.len() - back;
        let length = match text[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back && at > 0 {
            at
        } else {
            text.len()
        };
    }
    text.len()
}

/// Appends a time as Go's RFC 3339 with nanoseconds, in UTC, without zeros at the end of the fraction.
pub(super) fn timestamp(out: &mut Vec<u8>, since_1970: Duration) {
    let (year, month, day, in_day) = civil(since_1970.as_secs());
    push_digits(out, year, 4);
    for (before, number) in [
        (b'-', month),
        (b'-', day),
        (b'T', in_day[0]),
        (b':', in_day[1]),
        (b':', in_day[2]),
    ] {
        out.push(before);
        push_digits(out, number, 2);
    }
    let nanoseconds = u64::from(since_1970.subsec_nanos());
    if nanoseconds != 0 {
        out.push(b'.');
        push_digits(out, nanoseconds, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn push_digits(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Year, month, day, and hours, minutes, seconds of a time in seconds since 1970.
pub(super) fn civil(seconds: u64) -> (u64, u64, u64, [u64; 3]) {
    let (year, month, day) = date(seconds / 86_400);
    let in_day = seconds % 86_400;
    (
        year,
        month,
        day,
        [in_day / 3600, in_day / 60 % 60, in_day % 60],
    )
}

/// The Gregorian date of a day since 1970, counted in years that begin in March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
