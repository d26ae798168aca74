//! Docker's lines of progress (moby: pkg/jsonmessage, daemon/internal/streamformatter).

use crate::images::ProgressSender;
use gantry_api::progress::{Progress, ProgressDetail};
use gantry_oci::Reference;
use std::time::{Duration, Instant};

/// Time between two lines about the same download.
const INTERVAL: Duration = Duration::from_millis(100);
/// Characters of a bar.
const WIDTH: u64 = 50;

/// Sends a line. Nobody listening is no failure here: the server ends the work by dropping it.
pub(super) async fn say(progress: &ProgressSender, line: Progress) {
    let _ = progress.send(line).await;
}

/// What is pulled.
pub(super) async fn begin(reference: &Reference, progress: &ProgressSender) {
    // COMPAT: with a digest, the whole name.
    let asked = match &reference.tag {
        Some(tag) => tag.clone(),
        None => reference.to_string(),
    };
    let line = Progress {
        id: Some(asked),
        ..Progress::status(format!("Pulling from {}", reference.path))
    };
    say(progress, line).await;
}

/// What a pull came to.
pub(super) async fn end(reference: &Reference, changed: bool, progress: &ProgressSender) {
    let status = match changed {
        true => "Downloaded newer image for",
        false => "Image is up to date for",
    };
    let line = format!("Status: {status} {}", reference.familiar());
    say(progress, Progress::status(line)).await;
}

/// The lines about one layer.
#[derive(Debug)]
pub(super) struct Bar<'a> {
    progress: &'a ProgressSender,
    id: &'a str,
    total: u64,
    last: Option<Instant>,
}

impl<'a> Bar<'a> {
    pub(super) fn new(progress: &'a ProgressSender, id: &'a str, total: u64) -> Self {
        Self {
            progress,
            id,
            total,
            last: None,
        }
    }

    pub(super) fn id(&self) -> &'a str {
        self.id
    }

    /// A step of its own.
    pub(super) async fn step(&self, text: &str) {
        say(self.progress, Progress::of(self.id, text)).await;
    }

    /// A step that nobody waits for.
    pub(super) fn now(&mut self, text: &str) {
        let _ = self.progress.try_send(Progress::of(self.id, text));
    }

    /// How far a step is; now and then, and never waiting for a slow client.
    pub(super) fn at(&mut self, text: &str, current: u64) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            return;
        }
        self.last = Some(now);
        let _ = self.progress.try_send(self.line(text, current));
    }

    /// The end of a step that counts bytes.
    pub(super) async fn whole(&self, text: &str) {
        say(self.progress, self.line(text, self.total)).await;
    }

    fn line(&self, text: &str, current: u64) -> Progress {
        line(self.id, text, current, self.total)
    }
}

/// How far something is.
pub(super) fn line(id: &str, text: &str, current: u64, total: u64) -> Progress {
    Progress {
        progress_detail: Some(ProgressDetail { current, total }),
        progress: Some(bar(current, total)),
        ..Progress::of(id, text)
    }
}

/// `[=====>      ]  1.2MB/3.4MB`, as Docker draws it for a wide terminal.
fn bar(current: u64, total: u64) -> String {
    if total == 0 || current > total {
        return format!("{:>8}", size(current));
    }
    let done = current.saturating_mul(100) / total / 2;
    let (done, rest) = (done as usize, (WIDTH - done) as usize);
    format!(
        "[{}>{}] {:>8}/{}",
        "=".repeat(done),
        " ".repeat(rest),
        size(current),
        size(total)
    )
}

/// Go's `units.HumanSize`: four significant digits, powers of 1000.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
        .into_iter()
        .peekable();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0 && units.peek().is_some() {
        value /= 1000.0;
        unit = units.next().unwrap_or_default();
    }
    let decimals = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let sizes = [0, 999, 1000, 1234, 3_415_000, 12_340_000, 123_456_789];
        let texts = sizes.map(size);
        assert_eq!(
            texts,
            [
                "0B", "999B", "1kB", "1.234kB", "3.415MB", "12.34MB", "123.5MB"
            ]
        );
    }

    #[test]
    fn bars() {
        let half = format!("[{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(25));
        assert_eq!(bar(500, 1000), half);
        assert_eq!(bar(5, 0), "      5B");
        assert_eq!(
            bar(1000, 1000),
            format!("[{}>]      1kB/1kB", "=".repeat(50))
        );
    }
}
