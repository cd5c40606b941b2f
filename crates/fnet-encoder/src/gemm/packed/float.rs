//! Tiles of float32 values by AVX-512's `vfmadd`.

use std::arch::x86_64::*;

use super::dot::AHEAD;
use super::pack::{Layout, Values};
use super::{COLUMNS, Kernel};

/// Tiles of 12 rows: as in [`Dot`](super::Dot).
#[derive(Clone, Copy)]
pub struct Float;

impl Kernel for Float {
    const ROWS: usize = 12;
    // Longer sums read and write results less often; lower tasks spare the translation of addresses.
    const DEPTH: usize = 768;
    const HEIGHT: usize = 96;
    const STRIP: Layout = Layout::WordsFirst;
    const VALUES: Values = Values::One;

    unsafe fn tile(self, depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe { tile(depth, x, w, y, stride, add) }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile(depth: usize, x: *const u32, w: *const u32, y: *mut f32, stride: usize, add: bool) {
    // SAFETY: `x`, `w` and `y` hold what `Kernel::tile` says; two registers make a row of COLUMNS. What is
    // fetched ahead may lie beyond them: a prefetch reads nothing.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; Float::ROWS];
        // The results are needed last: no sum waits for them.
        for i in 0..Float::ROWS {
            _mm_prefetch::<_MM_HINT_T0>(y.add(i * stride).cast());
            _mm_prefetch::<_MM_HINT_T0>(y.add(i * stride + 16).cast());
        }
        for p in 0..depth {
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((p + AHEAD) * COLUMNS).cast());
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add((p + AHEAD) * COLUMNS + 16).cast());
            _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add((p + AHEAD) * Float::ROWS).cast());
            let column = |half: usize| _mm512_loadu_ps(w.add(p * COLUMNS + 16 * half).cast());
            let (left, right) = (column(0), column(1));
            for (i, [a, b]) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(f32::from_bits(*x.add(p * Float::ROWS + i)));
                *a = _mm512_fmadd_ps(value, left, *a);
                *b = _mm512_fmadd_ps(value, right, *b);
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
