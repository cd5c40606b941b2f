//! Tiles in AVX-512 registers: float32 values with `vfmadd`, bfloat16 pairs with `vdpbf16ps`.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::pack::{Layout, Values};
use super::{COLUMNS, TileKernel};

/// Whether `vdpbf16ps` does more work per second than `vfmadd`: not on Intel's cores, where it starts only a
/// quarter as often (measured on Emerald Rapids: 83 against 161 Gflop/s).
pub fn is_dot_fast() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx] == [b"Auth", b"enti", b"cAMD"].map(|s| u32::from_le_bytes(*s))
}

/// Adds up a tile's products over `depth` words, in two registers for each row.
macro_rules! add_up {
    ($sums:ident, $depth:expr, $x:expr, $w:expr, $y:expr, $stride:expr, $multiply_add:expr) => {
        // The results are needed last: no sum waits for them.
        for i in 0..ROWS {
            _mm_prefetch::<_MM_HINT_T0>($y.add(i * $stride).cast());
            _mm_prefetch::<_MM_HINT_T0>($y.add(i * $stride + 16).cast());
        }
        for p in 0..$depth {
            let ahead = $w.wrapping_add((p + AHEAD) * COLUMNS);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
            _mm_prefetch::<_MM_HINT_T0>($x.wrapping_add((p + AHEAD) * ROWS).cast());
            let columns = $w.add(p * COLUMNS);
            let left = _mm512_loadu_si512(columns.cast());
            let right = _mm512_loadu_si512(columns.add(16).cast());
            for (i, [a, b]) in $sums.iter_mut().enumerate() {
                let word = _mm512_set1_epi32(*$x.add(p * ROWS + i) as i32);
                *a = $multiply_add(word, left, *a);
                *b = $multiply_add(word, right, *b);
            }
        }
    };
}
pub(super) use add_up;

/// Rows of a tile: 24 sums, two vectors of w and one word of x fill the 32 registers best.
pub(super) const ROWS: usize = 12;
/// Longer sums read and write results less often.
const DEPTH: usize = 768;
/// Lower tasks need fewer address translations.
pub(super) const HEIGHT: usize = 96;
/// Words to prefetch ahead of the current one, into the first-level cache.
pub(super) const AHEAD: usize = 16;

macro_rules! kernel {
    ($(#[$meta:meta])* $name:ident, $values:expr, $features:literal, $multiply_add:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name;

        impl TileKernel for $name {
            const ROWS: usize = ROWS;
            const STRIP: Layout = Layout::WordsFirst;
            const VALUES: Values = $values;
            const DEPTH: usize = DEPTH;
            const HEIGHT: usize = HEIGHT;

            #[target_feature(enable = $features)]
            unsafe fn tile(
                self,
                _: [usize; 2],
                depth: usize,
                x: *const u32,
                w: *const u32,
                y: *mut f32,
                stride: usize,
                add: bool,
            ) {
                // SAFETY: `x`, `w` and `y` hold what `TileKernel::tile` says; two registers make a row of COLUMNS. What
                // is prefetched may lie beyond them: a prefetch reads nothing.
                unsafe {
                    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                    add_up!(sums, depth, x, w, y, stride, $multiply_add);
                    for (i, [mut a, mut b]) in sums.into_iter().enumerate() {
                        let (low, high) = (y.add(i * stride), y.add(i * stride + 16));
                        if add {
                            a = _mm512_add_ps(a, _mm512_loadu_ps(low));
                            b = _mm512_add_ps(b, _mm512_loadu_ps(high));
                        }
                        _mm512_storeu_ps(low, a);
                        _mm512_storeu_ps(high, b);
                    }
                }
            }
        }
    };
}

kernel!(
    /// Of float32 values.
    Float,
    Values::One,
    "avx512f",
    |x, w, sum| _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(w), sum)
);

kernel!(
    /// Of pairs of bfloat16.
    Dot,
    Values::Two,
    "avx512f,avx512bf16",
    |x, w, sum| _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(w))
);
