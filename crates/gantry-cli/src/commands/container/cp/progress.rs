//! How far a copy is, on a terminal, and the line at its end.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::format::human_size_short;

const STEP: Duration = Duration::from_millis(75);

/// Counts a copy's bytes, and shows them while it lasts.
pub(super) struct Progress {
    count: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    shown: Option<JoinHandle<()>>,
}

/// A reader whose bytes are counted.
pub(super) struct Counted<R> {
    from: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Progress {
    pub(super) fn start(header: &'static str, quiet: bool) -> Self {
        let (count, done) = (Arc::default(), Arc::default());
        let shown = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let (count, done) = (Arc::clone(&count), Arc::clone(&done));
            std::thread::spawn(move || show(header, &count, &done))
        });
        Self { count, done, shown }
    }

    pub(super) fn count<R: Read>(&self, from: R) -> Counted<R> {
        Counted {
            from,
            count: self.count.clone(),
        }
    }

    /// Ends it; tells how much was copied to where, unless quiet.
    pub(super) fn finish(self, quiet: bool, destination: &str) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(shown) = self.shown {
            let _ = shown.join();
            eprint!("\x1b[u\x1b[2K");
        }
        if !quiet {
            let size = human_size_short(self.count.load(Ordering::Relaxed) as f64);
            eprintln!("Successfully copied {size} to {destination}");
        }
    }
}

fn show(header: &str, count: &AtomicU64, done: &AtomicBool) {
    let mut out = std::io::stderr();
    let size = |bytes: u64| human_size_short(bytes as f64);
    let column = header.len() + 1;
    // The terminal going away is no reason to stop copying.
    let _ = write!(out, "\x1b[s\x1b[?25l\x1b[u\x1b[2K{header}{}", size(0));
    let mut last = 0;
    while !done.load(Ordering::Relaxed) {
        std::thread::sleep(STEP);
        let now = count.load(Ordering::Relaxed);
        if now != last {
            let _ = write!(out, "\x1b[{column}G\x1b[0K{}", size(now));
            let _ = out.flush();
            last = now;
        }
    }
    let _ = write!(out, "\x1b[?25h");
}
