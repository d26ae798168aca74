//! One line of a log file, and what a client is to see of it.

use super::{Frame, LogOptions};
use bytes::Bytes;
use gantry_runtime::log::LogFormat;
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An entry of json-file.
#[derive(Debug, Deserialize)]
struct JsonEntry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// An entry of either format.
#[derive(Debug)]
struct Entry<'a> {
    stream: u8,
    /// With its newline, but for a part of a line.
    text: Cow<'a, [u8]>,
    time: Timestamp,
    attrs: BTreeMap<String, String>,
}

impl<'a> Entry<'a> {
    /// Reads a line of a file; `None` for one that is no entry.
    fn parse(line: &'a [u8], format: LogFormat) -> Option<Self> {
        match format {
            LogFormat::Json => {
                let entry: JsonEntry<'_> = serde_json::from_slice(line).ok()?;
                Some(Self {
                    stream: if entry.stream == "stderr" { 2 } else { 1 },
                    text: match entry.log {
                        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                    },
                    time: entry.time.parse().ok()?,
                    attrs: entry.attrs,
                })
            }
            LogFormat::Local => Self::local(line),
        }
    }

    /// See `gantry_runtime::log` for the format.
    fn local(line: &'a [u8]) -> Option<Self> {
        let (kind, rest) = line.split_first()?;
        let (digits, text) = rest.split_at_checked(13)?;
        let time = digits.iter().try_fold(0_i128, |time, digit| {
            let value = char::from(*digit).to_digit(32)?;
            Some(time << 5 | i128::from(value))
        })?;
        let text = match kind {
            b'o' | b'e' => {
                let mut whole = text.to_vec();
                whole.push(b'\n');
                Cow::Owned(whole)
            }
            b'O' | b'E' => Cow::Borrowed(text),
            _ => return None,
        };
        Some(Self {
            stream: if matches!(kind, b'e' | b'E') { 2 } else { 1 },
            text,
            time: Timestamp::from_nanosecond(time).ok()?,
            attrs: BTreeMap::new(),
        })
    }
}

/// What is wanted of a log.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) options: LogOptions,
    /// Files of the log at most.
    pub(super) most_files: u32,
    pub(super) format: LogFormat,
}

/// Turns lines into frames; knows for each stream whether the next text goes on with a line.
#[derive(Debug)]
pub(super) struct Format {
    wanted: Wanted,
    within_line: [bool; 2],
}

impl Format {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            within_line: [false; 2],
        }
    }

    /// Adds a line's frame, if it is wanted; false when nothing that follows is. A line that is not an entry (torn by a
    /// crash) is passed over.
    pub(super) fn line(&mut self, line: &[u8], frames: &mut Vec<Frame>) -> bool {
        let Some(entry) = Entry::parse(line, self.wanted.format) else {
            return true;
        };
        let options = &self.wanted.options;
        let time = entry.time.as_nanosecond();
        if options.until.is_some_and(|until| time > i128::from(until)) {
            return false;
        }
        if options.since.is_some_and(|since| time < i128::from(since)) {
            return true;
        }
        let stream = entry.stream;
        let chosen = if stream == 2 {
            options.stderr
        } else {
            options.stdout
        };
        if !chosen {
            return true;
        }
        // COMPAT: Docker puts time and details before every part of a long line; we put them before the line.
        let begins = !std::mem::replace(
            &mut self.within_line[usize::from(stream - 1)],
            !entry.text.ends_with(b"\n"),
        );
        let mut text = String::new();
        if begins && options.timestamps {
            let _ = write!(text, "{:.9}", entry.time);
            text.push(' ');
        }
        if begins && options.details {
            details(&entry.attrs, &mut text);
            text.push(' ');
        }
        let bytes = if text.is_empty() {
            Bytes::from(entry.text.into_owned())
        } else {
            let mut bytes = text.into_bytes();
            bytes.extend_from_slice(&entry.text);
            Bytes::from(bytes)
        };
        frames.push(Frame { stream, bytes });
        true
    }
}

/// `key=value,...` with both escaped as in a query.
fn details(attrs: &BTreeMap<String, String>, out: &mut String) {
    for (number, (key, value)) in attrs.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        escape(key, out);
        out.push('=');
        escape(value, out);
    }
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into())
            }
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}
