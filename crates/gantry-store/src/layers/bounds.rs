//! How far what is compressed may swell: a few kilobytes can be made that become terabytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes may come out of compressed ones: `floor` in any case, beyond that `ratio` times those that went in.
///
/// What people pack comes to three times its compressed size, texts to twenty; gzip cannot do more than 1032.
#[derive(Debug, Clone, Copy)]
pub struct Swelling {
    pub floor: u64,
    /// 0: there is no bound.
    pub ratio: u64,
}

impl Default for Swelling {
    fn default() -> Self {
        Self {
            floor: 8 << 30,
            ratio: 200,
        }
    }
}

/// Counts what a decoder has taken.
pub(super) struct Counted<R> {
    from: R,
    taken: Arc<AtomicU64>,
}

/// Counts what a decoder gives, and ends it with an error where that is too much.
pub(super) struct Bounded<R> {
    from: R,
    taken: Arc<AtomicU64>,
    given: u64,
    swelling: Swelling,
}

impl<R> Counted<R> {
    pub(super) fn new(from: R) -> (Self, Arc<AtomicU64>) {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Self {
            from,
            taken: taken.clone(),
        };
        (counted, taken)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        self.from.consume(n);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl<R> Bounded<R> {
    pub(super) fn new(from: R, taken: Arc<AtomicU64>, swelling: Swelling) -> Self {
        Self {
            from,
            taken,
            given: 0,
            swelling,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.given += n as u64;
        let Swelling { floor, ratio } = self.swelling;
        if ratio > 0 && self.given > floor {
            let taken = self.taken.load(Ordering::Relaxed);
            if self.given > taken.saturating_mul(ratio) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{taken} compressed bytes become more than {}, which is more than {ratio} times as many; \
                         max-unpack-ratio in daemon.json sets the bound",
                        self.given
                    ),
                ));
            }
        }
        Ok(n)
    }
}
