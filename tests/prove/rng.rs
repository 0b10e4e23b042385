//! Numbers that follow from a seed (splitmix64): a round can be run again.

/// A stream of numbers.
pub struct Rng(u64);

impl Rng {
    /// The stream of a round.
    pub fn new(seed: u64, round: u64) -> Self {
        Self(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
