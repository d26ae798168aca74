//! The progress messages of a pull or load: moving lines on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};

use serde::Deserialize;

use super::units::human_size;

/// One message of the daemon's stream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    id: String,
    status: String,
    stream: String,
    progress_detail: Option<Detail>,
    error_detail: Option<ErrorDetail>,
    /// For programs, not for eyes.
    aux: Option<serde::de::IgnoredAny>,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: i64,
    total: i64,
    /// What is counted, where it is not bytes.
    units: String,
    hidecounts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
}

/// Shows a stream of JSON messages as they come.
pub(crate) struct Display {
    out: Option<Box<dyn Write>>,
    terminal: bool,
    pub(super) width: usize,
    /// Ids in the order of their lines, upper first.
    lines: Vec<String>,
    pending: Vec<u8>,
}

impl Display {
    pub(crate) fn stdout() -> Display {
        let terminal = std::io::stdout().is_terminal();
        Display::new(Some(Box::new(std::io::stdout())), terminal)
    }

    pub(crate) fn stderr() -> Display {
        let terminal = std::io::stderr().is_terminal();
        Display::new(Some(Box::new(std::io::stderr())), terminal)
    }

    /// Shows nothing; errors are still found.
    pub(crate) fn none() -> Display {
        Display::new(None, false)
    }

    pub(super) fn new(out: Option<Box<dyn Write>>, terminal: bool) -> Display {
        let columns = crate::stream::columns().unwrap_or(200);
        Display {
            out,
            terminal,
            width: columns,
            lines: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Takes a piece of the stream; the error is the one that the stream tells of.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut stream = serde_json::Deserializer::from_slice(&pending).into_iter::<Message>();
        let mut failed = None;
        for message in stream.by_ref() {
            match message {
                Ok(message) => {
                    if let Some(error) = self.show(&message) {
                        failed = Some(error);
                        break;
                    }
                }
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(format!("the daemon's answer is unreadable: {error}")),
            }
        }
        self.pending = pending[stream.byte_offset()..].to_vec();
        failed.map_or(Ok(()), Err)
    }

    fn show(&mut self, message: &Message) -> Option<String> {
        if let Some(detail) = message
            .error_detail
            .as_ref()
            .filter(|detail| !detail.message.is_empty())
        {
            return Some(detail.message.clone());
        }
        if !message.error.is_empty() {
            return Some(message.error.clone());
        }
        if message.aux.is_some() {
            return None;
        }
        // Nobody left to show it to is no reason to stop.
        self.write(message).ok();
        None
    }

    fn write(&mut self, message: &Message) -> std::io::Result<()> {
        let detail = message.progress_detail.as_ref();
        let moving = detail.is_some_and(|detail| detail.current > 0 || detail.total > 0);
        // On something that is no terminal, a bar's steps are left out.
        if !self.terminal && moving {
            return Ok(());
        }
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        if !message.stream.is_empty() {
            write!(out, "{}", message.stream)?;
            return out.flush();
        }
        let mut up = 0;
        if self.terminal && !message.id.is_empty() && detail.is_some() {
            match self.lines.iter().position(|line| *line == message.id) {
                Some(at) => up = self.lines.len() - at,
                None => {
                    self.lines.push(message.id.clone());
                    writeln!(out)?;
                    up = 1;
                }
            }
            write!(out, "\x1b[{up}A\x1b[2K\r")?;
        } else if self.terminal {
            // Lines above a plain one do not move any more.
            self.lines.clear();
        }
        if !message.id.is_empty() {
            write!(out, "{}: ", message.id)?;
        }
        write!(out, "{}", message.status)?;
        match detail.filter(|_| self.terminal) {
            Some(detail) if moving => write!(out, " {}", bar(detail, self.width))?,
            Some(_) => write!(out, " ")?,
            None => {}
        }
        if up > 0 {
            write!(out, "\r\x1b[{up}B")?;
        } else {
            writeln!(out)?;
        }
        out.flush()
    }
}

/// `[=====>     ]  1.2MB/3.4MB`
fn bar(detail: &Detail, width: usize) -> String {
    let (bytes, units) = (detail.units.is_empty(), &detail.units);
    let current = human_size(detail.current as f64);
    if detail.total <= 0 {
        return match bytes {
            true => format!("{current:>8}"),
            false => format!("{} {units}", detail.current),
        };
    }
    let mut text = String::new();
    if width > 110 {
        let done = usize::try_from(detail.current * 50 / detail.total)
            .unwrap_or(0)
            .min(50);
        let left = 50 - done;
        text = format!("[{}>{}] ", "=".repeat(done), " ".repeat(left));
    }
    let total = human_size(detail.total as f64);
    // A total that is too small is not shown.
    let known = detail.current <= detail.total;
    match (detail.hidecounts, bytes, known) {
        (true, ..) => {}
        (false, true, true) => text.push_str(&format!("{current:>8}/{total}")),
        (false, true, false) => text.push_str(&format!("{current:>8}")),
        (false, false, true) => {
            text.push_str(&format!("{}/{} {units}", detail.current, detail.total));
        }
        (false, false, false) => text.push_str(&format!("{} {units}", detail.current)),
    }
    text
}
