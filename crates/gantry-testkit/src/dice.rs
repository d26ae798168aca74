//! Chance that can be repeated.

/// Numbers as random as a test needs them: the same seed gives the same ones (xorshift64). The seed is not 0.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
