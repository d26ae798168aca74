//! One line of a log file, and what a client is to see of it.

use super::{Frame, LogOptions};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An entry as the shim writes it.
#[derive(Debug, Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) options: LogOptions,
    /// Files of the log at most.
    pub(super) most_files: u32,
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
        let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else {
            return true;
        };
        let options = &self.wanted.options;
        if options.since.is_some() || options.until.is_some() {
            let time = entry
                .time
                .parse::<Timestamp>()
                .map_or(0, Timestamp::as_nanosecond);
            if options.until.is_some_and(|until| time > i128::from(until)) {
                return false;
            }
            if options.since.is_some_and(|since| time < i128::from(since)) {
                return true;
            }
        }
        let (stream, chosen) = if entry.stream == "stderr" {
            (2, options.stderr)
        } else {
            (1, options.stdout)
        };
        if !chosen {
            return true;
        }
        // COMPAT: Docker puts time and details before every part of a long line; we put them before the line.
        let begins = !std::mem::replace(
            &mut self.within_line[usize::from(stream - 1)],
            !entry.log.ends_with('\n'),
        );
        let mut text = String::new();
        if begins && options.timestamps {
            fixed_time(&entry.time, &mut text);
            text.push(' ');
        }
        if begins && options.details {
            details(&entry.attrs, &mut text);
            text.push(' ');
        }
        let bytes = if text.is_empty() {
            Bytes::from(entry.log.into_owned())
        } else {
            text.push_str(&entry.log);
            Bytes::from(text)
        };
        frames.push(Frame { stream, bytes });
        true
    }
}

/// The time with all nine digits of its fraction, as Docker shows it.
fn fixed_time(time: &str, out: &mut String) {
    let Some(bare) = time.strip_suffix('Z') else {
        out.push_str(time);
        return;
    };
    let (seconds, fraction) = bare.split_once('.').unwrap_or((bare, ""));
    let _ = write!(out, "{seconds}.{fraction:0<9}Z");
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
