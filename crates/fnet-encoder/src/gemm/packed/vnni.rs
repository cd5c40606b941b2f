//! Tiles of whole numbers in AVX-512 registers, with `vpdpbusd`: four values of 8 bits to a word.

use std::arch::x86_64::*;

use super::avx512::{AHEAD, HEIGHT, ROWS, add_up};
use super::pack::{Layout, Values};
use super::{COLUMNS, TileKernel};

/// Of unsigned values of x, 128 more than what they stand for, and signed ones of w.
#[derive(Clone, Copy)]
pub struct Vnni<'a> {
    /// What one unit of each row of x is worth.
    x_scales: &'a [f32],
    /// What one unit of each column of w is worth.
    w_scales: &'a [f32],
    /// What each column's sum starts with: -128 times the sum of its values.
    starts: &'a [i32],
}

impl<'a> Vnni<'a> {
    /// The longest inner axis whose sums cannot overflow, in values.
    pub const LONGEST: usize = 1 << 16;

    /// How many scales there must be for so many rows of x and columns of w: for whole tiles.
    pub fn scales([rows, columns]: [usize; 2]) -> [usize; 2] {
        [rows.next_multiple_of(ROWS), columns.next_multiple_of(COLUMNS)]
    }

    /// For operands of these scales, as many as [`scales`](Self::scales) says.
    pub fn new(x_scales: &'a [f32], w_scales: &'a [f32], starts: &'a [i32]) -> Self {
        assert!(x_scales.len().is_multiple_of(ROWS) && w_scales.len().is_multiple_of(COLUMNS));
        assert_eq!(w_scales.len(), starts.len());
        Self { x_scales, w_scales, starts }
    }
}

impl TileKernel for Vnni<'_> {
    const ROWS: usize = ROWS;
    const STRIP: Layout = Layout::WordsFirst;
    /// Of words, which hold four values.
    const VALUES: Values = Values::One;
    /// All of them: a sum is scaled once.
    const DEPTH: usize = Self::LONGEST / 4;
    const HEIGHT: usize = HEIGHT;

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn tile(
        self,
        [row, column]: [usize; 2],
        depth: usize,
        x: *const u32,
        w: *const u32,
        y: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let x_scales = &self.x_scales[row..][..ROWS];
        let (w_scales, starts) = (&self.w_scales[column..][..COLUMNS], &self.starts[column..][..COLUMNS]);
        // SAFETY: `x`, `w` and `y` hold what `TileKernel::tile` says; two registers make a row of COLUMNS. What is
        // prefetched may lie beyond them: a prefetch reads nothing. Covered by `eight_bits_are_summed_exactly`.
        unsafe {
            let start = [0, 16].map(|i| _mm512_loadu_si512(starts.as_ptr().add(i).cast()));
            let mut sums = [start; ROWS];
            add_up!(sums, depth, x, w, y, stride, |word, columns, sum| _mm512_dpbusd_epi32(
                sum, word, columns
            ));
            let scales = [0, 16].map(|i| _mm512_loadu_ps(w_scales.as_ptr().add(i)));
            for (i, sums) in sums.into_iter().enumerate() {
                let x_scale = _mm512_set1_ps(x_scales[i]);
                for (half, sum) in sums.into_iter().enumerate() {
                    let y = y.add(i * stride + 16 * half);
                    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(x_scale, scales[half]));
                    let before = if add { _mm512_loadu_ps(y) } else { _mm512_setzero_ps() };
                    _mm512_storeu_ps(y, _mm512_add_ps(before, value));
                }
            }
        }
    }
}
