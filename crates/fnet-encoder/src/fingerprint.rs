//! Fingerprints of data and weights: they tell what has changed, not what was forged.

/// A fingerprint of large data, taken piece by piece: FNV-1a over numbers instead of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fingerprint {
    /// Adds a number.
    pub fn add(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x0100_0000_01B3);
        self.0 = mixed ^ (mixed >> 32); // high bits reach the low ones
    }

    /// The fingerprint so far.
    pub fn value(self) -> u64 {
        self.0
    }
}
