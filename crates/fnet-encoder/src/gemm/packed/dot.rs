//! Tiles of bfloat16 pairs by AVX-512's `vdpbf16ps`.

use std::arch::x86_64::*;

use super::pack::{Layout, Values};
use super::{COLUMNS, Kernel};

/// Whether `vdpbf16ps` does more work a second than `vfmadd`: not on Intel's cores, where it starts
/// every fourth time as often (measured on Emerald Rapids: 83 against 161 Gflop/s).
pub fn is_fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|s| u32::from_le_bytes(*s))
}

/// Words ahead of the current one that are fetched into the first-level cache.
pub const AHEAD: usize = 16;

/// Tiles of 12 rows: 24 sums, two vectors of w and one value of x fill the 32 registers best.
#[derive(Clone, Copy)]
pub struct Dot;

impl Kernel for Dot {
    const ROWS: usize = 12;
    // Longer sums read and write results less often; lower tasks spare the translation of addresses.
    const DEPTH: usize = 768;
    const HEIGHT: usize = 96;
    const STRIP: Layout = Layout::WordsFirst;
    const VALUES: Values = Values::Two;

    unsafe fn tile(self, depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe { tile(depth, x, w, y, stride, add) }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile(depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
    // SAFETY: `x`, `w` and `y` hold what `Kernel::tile` says; two registers make a row of COLUMNS. What is
    // fetched ahead may lie beyond them: a prefetch reads nothing.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; Dot::ROWS];
        // The results are needed last: no sum waits for them.
        for i in 0..Dot::ROWS {
            _mm_prefetch::<_MM_HINT_T0>(y.add(i * stride).cast());
            _mm_prefetch::<_MM_HINT_T0>(y.add(i * stride + 16).cast());
        }
        for p in 0..depth {
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((p + AHEAD) * COLUMNS).cast());
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((p + AHEAD) * COLUMNS + 16).cast());
            _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add((p + AHEAD) * Dot::ROWS).cast());
            let column = |half: usize| -> __m512bh {
                std::mem::transmute(_mm512_loadu_si512(w.add(p * COLUMNS + 16 * half).cast()))
            };
            let (left, right) = (column(0), column(1));
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                let pair: __m512bh = std::mem::transmute(_mm512_set1_epi32(*x.add(p * Dot::ROWS + i) as i32));
                *a = _mm512_dpbf16_ps(*a, pair, left);
                *b = _mm512_dpbf16_ps(*b, pair, right);
            }
        }
        for (i, [a, b]) in sums.into_iter().enumerate() {
            let (low, high) = (y.add(i * stride), y.add(i * stride + 16));
            let (mut a, mut b) = (a, b);
            if add {
                a = _mm512_add_ps(a, _mm512_loadu_ps(low));
                b = _mm512_add_ps(b, _mm512_loadu_ps(high));
            }
            _mm512_storeu_ps(low, a);
            _mm512_storeu_ps(high, b);
        }
    }
}
