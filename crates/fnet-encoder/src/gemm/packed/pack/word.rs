//! Words as stored in memory: one float32 value, or two bfloat16 values, rounded here or earlier.

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::gemm::BLOCK;

/// How words are read. Its functions, and those that use it, are compiled with the features of their caller.
pub trait Word {
    /// What memory holds.
    type Value: Copy;

    /// Values of a word.
    const VALUES: usize;

    /// Neighbouring words of one lane from the first of `count` values on.
    unsafe fn neighbours(at: *const Self::Value, count: usize) -> __m512i;

    /// One word of neighbouring lanes: of up to `VALUES` values, `stride` apart, in `lanes` lanes.
    unsafe fn of_lanes(at: *const Self::Value, stride: usize, values: usize, lanes: usize) -> __m512i;
}

/// A value of float32.
pub struct Float;

impl Word for Float {
    type Value = f32;
    const VALUES: usize = 1;

    #[inline(always)]
    unsafe fn neighbours(at: *const f32, count: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { load(at, count) }
    }

    #[inline(always)]
    unsafe fn of_lanes(at: *const f32, _: usize, values: usize, lanes: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { load(at, if values > 0 { lanes } else { 0 }) }
    }
}

/// Two values, rounded to bfloat16.
pub struct Pair;

impl Word for Pair {
    type Value = f32;
    const VALUES: usize = 2;

    #[inline(always)]
    unsafe fn neighbours(at: *const f32, count: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { round(load(at, count), load(at.wrapping_add(16), count.saturating_sub(16))) }
    }

    #[inline(always)]
    unsafe fn of_lanes(at: *const f32, stride: usize, values: usize, lanes: usize) -> __m512i {
        let lanes = [0, 1].map(|value| if value < values { lanes } else { 0 });
        // SAFETY: the caller's promise.
        unsafe {
            let rounded = round(load(at, lanes[0]), load(at.wrapping_add(stride), lanes[1]));
            _mm512_permutexvar_epi16(transmute::<[u16; 32], __m512i>(IN_TURN), rounded)
        }
    }
}

/// Two values that are bfloat16 already.
pub struct Halves;

impl Word for Halves {
    type Value = u16;
    const VALUES: usize = 2;

    #[inline(always)]
    unsafe fn neighbours(at: *const u16, count: usize) -> __m512i {
        let first = ((1_u64 << count.min(32)) - 1) as __mmask32;
        // SAFETY: only those `count` values are read, which the caller has there.
        unsafe { _mm512_maskz_loadu_epi16(first, at.cast()) }
    }

    #[inline(always)]
    unsafe fn of_lanes(at: *const u16, stride: usize, values: usize, lanes: usize) -> __m512i {
        let lanes = [0, 1].map(|value| if value < values { lanes.min(16) } else { 0 });
        // SAFETY: the caller's promise.
        unsafe {
            let low = Self::neighbours(at, lanes[0]);
            let high = Self::neighbours(at.wrapping_add(stride), lanes[1]);
            let both = _mm512_shuffle_i64x2::<0x44>(low, high);
            _mm512_permutexvar_epi16(transmute::<[u16; 32], __m512i>(IN_TURN), both)
        }
    }
}

/// Values of the lower and the upper half, alternating.
const IN_TURN: [u16; 32] = {
    let mut from = [0; 32];
    let mut i = 0;
    while i < 32 {
        from[i] = i as u16 / 2 + 16 * (i as u16 % 2);
        i += 1;
    }
    from
};

/// 32 values as bfloat16.
#[inline(always)]
unsafe fn round(low: __m512i, high: __m512i) -> __m512i {
    // SAFETY: the caller has the features; all are 512 bits without invalid values.
    unsafe {
        transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(
            _mm512_castsi512_ps(high),
            _mm512_castsi512_ps(low),
        ))
    }
}

/// Rounds a block to bfloat16 in pairs, if the CPU can.
pub fn halve(values: &[f32; BLOCK], pairs: &mut [f32; BLOCK / 2]) -> bool {
    let can = super::super::has_avx512_bf16();
    if can {
        // SAFETY: the CPU has just been asked. Covered by `every_way_of_rounding_is_the_same`.
        unsafe { halve_here(values, pairs) }
    }
    can
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn halve_here(values: &[f32; BLOCK], pairs: &mut [f32; BLOCK / 2]) {
    for (values, pairs) in values.chunks_exact(32).zip(pairs.chunks_exact_mut(16)) {
        // SAFETY: 32 values are read, 16 pairs are written.
        unsafe {
            let words = Pair::neighbours(values.as_ptr(), 32);
            _mm512_storeu_si512(pairs.as_mut_ptr().cast(), words);
        }
    }
}

/// The first `count` of 16 values, zeros after them.
#[inline(always)]
unsafe fn load(at: *const f32, count: usize) -> __m512i {
    let first = ((1_u32 << count.min(16)) - 1) as __mmask16;
    // SAFETY: only those `count` values are read, which the caller has there.
    unsafe { _mm512_castps_si512(_mm512_maskz_loadu_ps(first, at)) }
}
