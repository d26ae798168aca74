//! The measured steps of a start, for the tracing option of the daemon.

use std::time::Instant;

/// A stopwatch for steps that follow one another.
#[derive(Debug)]
pub(crate) struct Steps {
    on: bool,
    last: Instant,
    /// Name and microseconds of each.
    pub(crate) taken: Vec<(String, u64)>,
}

impl Steps {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            last: Instant::now(),
            taken: Vec::new(),
        }
    }

    pub(crate) fn done(&mut self, name: &str) {
        if self.on {
            let now = Instant::now();
            let micros = (now - self.last).as_micros() as u64;
            self.taken.push((name.to_owned(), micros));
            self.last = now;
        }
    }
}
