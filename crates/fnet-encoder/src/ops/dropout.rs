//! Dropout (Srivastava et al. 2014): a value is zeroed with probability `rate`, else scaled by `1 / (1 - rate)`.
//! The mask is a hash of a key and the index, so it is recomputed in the backward pass instead of being stored, and
//! depends on nothing else.

use rayon::prelude::*;

use crate::arch::multiversion;

/// Dropout of one training step: its rate, and the key that all its masks come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of zeroing a value, from 0 to below 1.
    pub rate: f32,
    /// Different for each step.
    pub key: u64,
}

impl Dropout {
    /// Applies the mask of `site` in place. The same call is the backward pass.
    pub fn apply(self, site: u32, x: &mut [f32]) {
        let Some(mask) = self.mask(site) else { return };
        x.par_chunks_mut(super::TASK_VALUES).enumerate().for_each(|(i, x)| {
            apply_chunk(mask, (i * super::TASK_VALUES) as u32, x);
        });
    }

    /// The mask of `site`; `None` if nothing is zeroed.
    pub(super) fn mask(self, site: u32) -> Option<Mask> {
        let key = self.key ^ u64::from(site).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (self.rate > 0.0).then(|| Mask {
            low: hash(key as u32, 0),
            high: hash((key >> 32) as u32, key as u32),
            threshold: (f64::from(self.rate) * 4_294_967_296.0) as u32,
            scale: 1.0 / (1.0 - self.rate),
        })
    }
}

/// Which values are zeroed at one site in one step: those whose hash is below the threshold.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// Masks values, the first of which has index `first`.
    #[inline(always)]
    pub fn apply(self, first: u32, x: &mut [f32]) {
        for (i, x) in x.iter_mut().enumerate() {
            let random = hash(hash(first.wrapping_add(i as u32), self.low), self.high);
            *x *= if random < self.threshold { 0.0 } else { self.scale };
        }
    }
}

/// A bijective 32-bit hash with full avalanche, offset by a key.
#[inline(always)]
fn hash(value: u32, key: u32) -> u32 {
    let mut h = value ^ key;
    h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
    h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
    h ^ (h >> 16)
}

multiversion! {
    fn apply_chunk(mask: Mask, first: u32, x: &mut [f32]) {
        mask.apply(first, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_mean_and_depends_on_key_and_site() {
        let masked = |key, site| {
            let mut x = vec![1.0; 100_000];
            Dropout { rate: 0.1, key }.apply(site, &mut x);
            x
        };
        let x = masked(1, 0);
        let zeros = x.iter().filter(|v| **v == 0.0).count();
        assert!((9_700..10_300).contains(&zeros), "{zeros}");
        assert!(x.iter().all(|v| *v == 0.0 || (*v - 1.0 / 0.9).abs() < 1e-6));
        assert_eq!(x, masked(1, 0));
        for other in [masked(2, 0), masked(1, 1), masked(1 << 32, 0)] {
            let both = x.iter().zip(&other).filter(|(a, b)| **a == 0.0 && **b == 0.0).count();
            assert!((850..1_150).contains(&both), "{both}");
        }
    }

    #[test]
    fn rate_zero_changes_nothing() {
        let mut x = [1.0, f32::NAN];
        Dropout { rate: 0.0, key: 1 }.apply(0, &mut x);
        assert_eq!(x[0], 1.0);
    }
}
