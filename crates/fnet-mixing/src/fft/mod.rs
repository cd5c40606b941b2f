//! Complex FFTs of any length along columns, as many columns at a time as a register has lanes.
//!
//! The data is `[length][re, im][lane]`, so that a butterfly needs no shuffles. The FFT is in
//! place, by decimation in frequency (Gentleman and Sande 1966): a pass of radix `r` over blocks of
//! `m` elements leaves `r` independent blocks of `m / r`. It ends with frequency `k` at
//! `position(k)`; code that reads the result looks that up, and nothing is ever reordered.

mod bluestein;
mod butterflies;
mod multiply;
mod pass;

use std::f64::consts::TAU;

use crate::arch::Simd;
use pass::Pass;

/// The largest prime that is transformed by definition; above it Bluestein's algorithm is faster.
const LARGEST_DIRECT_PRIME: usize = 61;

/// Passes over blocks larger than this (in bytes) go over all of the data one after another; a smaller block goes
/// through all of its passes while it is in the first-level cache.
const CACHED_BLOCK: usize = 24 << 10;

/// A planned FFT.
pub(crate) struct Fft {
    len: usize,
    passes: Vec<Pass>,
    positions: Vec<u32>,
}

impl Fft {
    /// Plans for `len` elements, at least 1. `largest_power` of two is what fits in the registers: 4 or 8.
    pub fn new(len: usize, largest_power: usize) -> Self {
        let mut passes = Vec::new();
        let mut block = len;
        for radix in radices(len, largest_power) {
            passes.push(Pass::new(radix, block, largest_power));
            block /= radix;
        }
        let positions = (0..len).map(|k| position(k, len, &passes) as u32).collect();
        Self { len, passes, positions }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let passes = self.passes.iter().map(|pass| size_of::<Pass>() + pass.bytes());
        size_of_val(&self.positions[..]) + passes.sum::<usize>()
    }

    /// The position of frequency `k` after [`forward`](Self::forward).
    ///
    /// # Safety
    /// `k` is below the length. (A check here would keep the compiler from unrolling the loops that look up.)
    #[inline(always)]
    pub unsafe fn position_unchecked(&self, k: usize) -> usize {
        debug_assert!(k < self.len);
        // SAFETY: there is a position for each frequency. Tests: `fft::tests`.
        unsafe { *self.positions.as_ptr().add(k) as usize }
    }

    /// Complex elements of scratch that [`forward`](Self::forward) needs.
    pub fn scratch_len(&self) -> usize {
        self.passes.iter().map(Pass::scratch_len).max().unwrap_or(0)
    }

    /// Transforms in place: `X[k] = sum over n of x[n] exp(-2 pi i n k / len)`, at `position(k)`.
    ///
    /// # Safety
    /// The CPU has the level `simd`, which has registers of `lanes`. `data` holds `len`, and `scratch`
    /// `scratch_len`, complex elements of `2 * lanes` values each.
    pub unsafe fn forward(&self, simd: Simd, lanes: usize, data: *mut f32, scratch: *mut f32) {
        let element = 2 * lanes;
        let in_cache = |pass: &&Pass| pass.block * element * size_of::<f32>() <= CACHED_BLOCK;
        let outer = self.passes.iter().take_while(|pass| !in_cache(pass)).count();
        let (outer, inner) = self.passes.split_at(outer);
        // SAFETY: the blocks of each pass tile the `len` elements; the rest is the caller's promise. Tests:
        // `fft::tests`, and every shape of `tests.rs`.
        unsafe {
            for pass in outer {
                pass.run(simd, lanes, data, self.len / pass.block, scratch);
            }
            let Some(first) = inner.first() else { return };
            for i in 0..self.len / first.block {
                let data = data.add(i * first.block * element);
                for pass in inner {
                    pass.run(simd, lanes, data, first.block / pass.block, scratch);
                }
            }
        }
    }

    /// The reverse, not scaled: from frequency `k` at `position(k)` to the elements in order.
    ///
    /// The DFT is symmetric, so its passes in reverse, each transposed, take its own output order and give the
    /// input order. This is again the forward transform; with real and imaginary parts swapped it is the inverse.
    ///
    /// # Safety
    /// As [`forward`](Self::forward), without scratch: for lengths whose prime factors are 2, 3, 5 and 7.
    unsafe fn inverse(&self, simd: Simd, lanes: usize, data: *mut f32) {
        for pass in self.passes.iter().rev() {
            // SAFETY: as in `forward`.
            unsafe { pass.run_transposed(simd, lanes, data, self.len / pass.block) }
        }
    }
}

/// The radices of a length, in the order of their passes: powers of two, then primes upwards.
fn radices(mut len: usize, largest_power: usize) -> Vec<usize> {
    let mut radices = Vec::new();
    let mut twos = len.trailing_zeros() as usize;
    len >>= twos;
    while twos > 0 {
        let bits = match twos {
            1 | 2 => twos,
            _ if largest_power >= 8 && twos != 4 => 3,
            _ if twos % 2 == 1 => 3,
            _ => 2,
        };
        radices.push(1 << bits);
        twos -= bits;
    }
    let mut prime = 3;
    while len > 1 {
        while len.is_multiple_of(prime) {
            radices.push(prime);
            len /= prime;
        }
        prime += 2;
        if prime * prime > len && len > 1 {
            prime = len;
        }
    }
    radices
}

/// Where the passes leave frequency `k`: its digits, the first pass's first.
fn position(mut k: usize, len: usize, passes: &[Pass]) -> usize {
    let (mut place, mut block) = (0, len);
    for pass in passes {
        block /= pass.radix;
        place += k % pass.radix * block;
        k /= pass.radix;
    }
    place
}

/// `exp(-2 pi i t / len)` as (re, im).
fn root(t: usize, len: usize) -> [f32; 2] {
    let (sin, cos) = (TAU * (t % len) as f64 / len as f64).sin_cos();
    [cos as f32, -sin as f32]
}

#[cfg(test)]
mod tests;
