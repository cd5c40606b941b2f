//! Stateless randomness: each use has its own generator, made from the seed, a name and a number. So nothing needs
//! to be saved to resume after a kill.

pub use fnet_encoder::Fingerprint;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator for one purpose (`"shuffle"`, `"mask"`) and one index (an epoch, a step).
pub fn generator(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&index.to_le_bytes());
    for (slot, byte) in bytes[16..].iter_mut().zip(purpose.bytes()) {
        *slot = byte;
    }
    ChaCha8Rng::from_seed(bytes)
}

/// FNV-1a over bytes: a short, stable fingerprint of settings.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}
