//! Registers of SSE, AVX2 with FMA, and AVX-512.
//!
//! One SAFETY reason serves all of this file: the caller of a constructor vouches that the CPU has the level (see
//! `Vector`), and every other method has a value in hand, which proves it. The caller vouches for pointers as the
//! trait requires. Tests: all of `tests.rs`, at each level that the machine has.
#![allow(clippy::undocumented_unsafe_blocks)] // the reason above, once

use std::arch::x86_64::*;
use std::ops::{Add, Mul, Sub};

use crate::vector::Vector;

/// Lanes `low..high` as bits.
#[inline(always)]
fn lane_bits(low: usize, high: usize) -> u32 {
    (1_u32 << high).wrapping_sub(1) & !((1_u32 << low).wrapping_sub(1))
}

macro_rules! vector {
    (
        $(#[$doc:meta])* $name:ident($register:ty) x $lanes:literal;
        $add:ident $sub:ident $mul:ident $mul_add:ident $neg_mul_add:ident $splat:ident $load:ident $store:ident
        load_lanes($from:ident, $low:ident, $high:ident) $load_lanes:block
        store_lanes($value:ident, $to:ident, $low2:ident, $high2:ident) $store_lanes:block
        reverse($reversed:ident) $reverse:block
        transpose($tile:ident) $transpose:block
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($register);

        impl Add for $name {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(unsafe { $add(self.0, other.0) })
            }
        }

        impl Sub for $name {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self(unsafe { $sub(self.0, other.0) })
            }
        }

        impl Mul for $name {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self(unsafe { $mul(self.0, other.0) })
            }
        }

        impl Vector for $name {
            const LANES: usize = $lanes;
            type Tile = [Self; $lanes];

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn load_lanes($from: *const f32, $low: usize, $high: usize) -> Self {
                Self(unsafe { $load_lanes })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn store_lanes(self, $to: *mut f32, $low2: usize, $high2: usize) {
                let $value = self.0;
                unsafe { $store_lanes }
            }

            #[inline(always)]
            fn prefetch(at: *const f32) {
                unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                Self(unsafe { $mul_add(self.0, b.0, c.0) })
            }

            #[inline(always)]
            fn neg_mul_add(self, b: Self, c: Self) -> Self {
                Self(unsafe { $neg_mul_add(self.0, b.0, c.0) })
            }

            #[inline(always)]
            fn reverse(self) -> Self {
                let $reversed = self.0;
                Self(unsafe { $reverse })
            }

            #[inline(always)]
            fn tile(value: Self) -> Self::Tile {
                [value; $lanes]
            }

            #[inline(always)]
            fn transpose($tile: &mut Self::Tile) {
                unsafe { $transpose }
            }
        }
    };
}

/// For each lane, all ones if it is in `low..high`.
#[inline(always)]
unsafe fn mask8(low: usize, high: usize) -> __m256i {
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(high as i32), lane);
        _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low as i32), lane), below)
    }
}

/// As [`mask8`].
#[inline(always)]
unsafe fn mask4(low: usize, high: usize) -> __m128i {
    unsafe {
        let lane = _mm_setr_epi32(0, 1, 2, 3);
        let below = _mm_cmpgt_epi32(_mm_set1_epi32(high as i32), lane);
        _mm_andnot_si128(_mm_cmpgt_epi32(_mm_set1_epi32(low as i32), lane), below)
    }
}

vector! {
    /// Four lanes, for what is left over at the AVX levels.
    F32x4(__m128) x 4;
    _mm_add_ps _mm_sub_ps _mm_mul_ps _mm_fmadd_ps _mm_fnmadd_ps _mm_set1_ps _mm_loadu_ps _mm_storeu_ps
    load_lanes(from, low, high) { _mm_maskload_ps(from, mask4(low, high)) }
    store_lanes(value, to, low, high) { _mm_maskstore_ps(to, mask4(low, high), value) }
    reverse(value) { _mm_permute_ps::<0b00_01_10_11>(value) }
    transpose(t) {
        let a = _mm_unpacklo_ps(t[0].0, t[1].0);
        let b = _mm_unpackhi_ps(t[0].0, t[1].0);
        let c = _mm_unpacklo_ps(t[2].0, t[3].0);
        let d = _mm_unpackhi_ps(t[2].0, t[3].0);
        *t = [
            Self(_mm_movelh_ps(a, c)),
            Self(_mm_movehl_ps(c, a)),
            Self(_mm_movelh_ps(b, d)),
            Self(_mm_movehl_ps(d, b)),
        ];
    }
}

vector! {
    /// Eight lanes: AVX2 with FMA.
    F32x8(__m256) x 8;
    _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_fmadd_ps _mm256_fnmadd_ps
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps
    load_lanes(from, low, high) { _mm256_maskload_ps(from, mask8(low, high)) }
    store_lanes(value, to, low, high) { _mm256_maskstore_ps(to, mask8(low, high), value) }
    reverse(value) { _mm256_permutevar8x32_ps(value, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0)) }
    transpose(t) {
        // Pairs of rows, then quads, then the halves.
        for i in (0..8).step_by(2) {
            let (a, b) = (t[i].0, t[i + 1].0);
            t[i].0 = _mm256_unpacklo_ps(a, b);
            t[i + 1].0 = _mm256_unpackhi_ps(a, b);
        }
        for i in [0, 4] {
            let [a, b, c, d] = [t[i].0, t[i + 1].0, t[i + 2].0, t[i + 3].0];
            t[i].0 = _mm256_shuffle_ps::<0b01_00_01_00>(a, c);
            t[i + 1].0 = _mm256_shuffle_ps::<0b11_10_11_10>(a, c);
            t[i + 2].0 = _mm256_shuffle_ps::<0b01_00_01_00>(b, d);
            t[i + 3].0 = _mm256_shuffle_ps::<0b11_10_11_10>(b, d);
        }
        for i in 0..4 {
            let (a, b) = (t[i].0, t[i + 4].0);
            t[i].0 = _mm256_permute2f128_ps::<0x20>(a, b);
            t[i + 4].0 = _mm256_permute2f128_ps::<0x31>(a, b);
        }
    }
}

vector! {
    /// Sixteen lanes: AVX-512.
    F32x16(__m512) x 16;
    _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_fmadd_ps _mm512_fnmadd_ps
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps
    load_lanes(from, low, high) { _mm512_maskz_loadu_ps(lane_bits(low, high) as __mmask16, from) }
    store_lanes(value, to, low, high) { _mm512_mask_storeu_ps(to, lane_bits(low, high) as __mmask16, value) }
    reverse(value) {
        let order = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        _mm512_permutexvar_ps(order, value)
    }
    transpose(t) {
        // Pairs of rows, then quads; after that the quarters of 128 bits are transposed as a whole.
        for i in (0..16).step_by(2) {
            let (a, b) = (t[i].0, t[i + 1].0);
            t[i].0 = _mm512_unpacklo_ps(a, b);
            t[i + 1].0 = _mm512_unpackhi_ps(a, b);
        }
        for i in (0..16).step_by(4) {
            let [a, b, c, d] = [t[i].0, t[i + 1].0, t[i + 2].0, t[i + 3].0];
            t[i].0 = _mm512_shuffle_ps::<0b01_00_01_00>(a, c);
            t[i + 1].0 = _mm512_shuffle_ps::<0b11_10_11_10>(a, c);
            t[i + 2].0 = _mm512_shuffle_ps::<0b01_00_01_00>(b, d);
            t[i + 3].0 = _mm512_shuffle_ps::<0b11_10_11_10>(b, d);
        }
        for i in 0..4 {
            let [a, b, c, d] = [t[i].0, t[i + 4].0, t[i + 8].0, t[i + 12].0];
            let (ab_even, ab_odd) = (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
            let (cd_even, cd_odd) = (_mm512_shuffle_f32x4::<0b10_00_10_00>(c, d), _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d));
            t[i].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even);
            t[i + 8].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even);
            t[i + 4].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
            t[i + 12].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
        }
    }
}
