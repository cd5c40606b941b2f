use super::{A, A_OPPOSITE, B, B_OPPOSITE, mirrored, separate};
use crate::arch::Kernel;
use crate::plan::{Plan, Strip};
use crate::vector::Vector;

/// Writes `r[n, j]` and `r[-n, j]` of a transformed strip of rows to the column strips.
pub(crate) struct Spread<'a> {
    pub plan: &'a Plan,
    pub strip: Strip,
    /// `hidden` elements.
    pub buffer: *const f32,
    /// All column strips: `spectra_len` values, of which the rows `n` and `-n` are written.
    pub spectra: *mut f32,
}

impl Kernel for Spread<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let whole_rows = self.strip.end() <= self.plan.half_rows();
        let second_half = self.strip.first + V::LANES < self.plan.half_rows();
        for target in &self.plan.column_strips {
            for j in (target.first..target.end()).step_by(V::LANES) {
                let whole = whole_rows && j > 0 && j + V::LANES <= self.plan.half_columns().min(target.end());
                // One tile at a time stays in registers; values read again are in the first-level cache.
                // SAFETY: the caller's promise. Tests: every shape of `tests.rs`.
                unsafe {
                    if whole {
                        self.whole_tile::<V, A_OPPOSITE>(target, j);
                        self.whole_tile::<V, A>(target, j);
                        self.whole_tile::<V, B_OPPOSITE>(target, j);
                        self.whole_tile::<V, B>(target, j);
                    } else {
                        self.tile::<V, A_OPPOSITE>(target, j);
                        self.tile::<V, A>(target, j);
                        if second_half {
                            self.tile::<V, B_OPPOSITE>(target, j);
                            self.tile::<V, B>(target, j);
                        }
                    }
                }
            }
        }
    }
}

impl Spread<'_> {
    /// Columns `j..` of one of the four results, for all rows: as [`Fold::whole_tile`].
    ///
    /// # Safety
    /// As [`Kernel::run`]. The tile is inside the matrix, and `j > 0`.
    #[inline(always)]
    unsafe fn whole_tile<V: Vector, const PART: usize>(&self, target: &Strip, j: usize) {
        let Plan { seq_len: s, hidden: d, row_fft, .. } = self.plan;
        let first = self.strip.first + PART / 2 * V::LANES;
        let step = 2 * target.lanes;
        let strip = self.spectra.wrapping_add(target.first * s + j - target.first);
        // SAFETY: columns are below D, rows below S.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..V::LANES {
                let z = self.buffer.add(row_fft.position_unchecked(j + i) * 2 * V::LANES);
                let opposite = self.buffer.add(row_fft.position_unchecked(d - j - i) * 2 * V::LANES);
                tile.as_mut()[i] = separate::<V>(z, opposite)[PART];
            }
            V::transpose(&mut tile);
            if PART == A_OPPOSITE || PART == B_OPPOSITE {
                tile.as_ref()[0].store(strip.add(mirrored(first, *s) * step));
                let below = strip.wrapping_add((s - first) * step);
                for i in 1..V::LANES {
                    tile.as_ref()[i].store(below.wrapping_sub(i * step));
                }
            } else {
                for i in 0..V::LANES {
                    tile.as_ref()[i].store(strip.add((first + i) * step));
                }
            }
        }
    }

    /// The same for tiles at an edge: columns beyond the half are zero, rows beyond it are left out.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn tile<V: Vector, const PART: usize>(&self, target: &Strip, j: usize) {
        let Plan { seq_len: s, hidden: d, row_fft, .. } = self.plan;
        let first = self.strip.first + PART / 2 * V::LANES;
        let strip = self.spectra.wrapping_add(target.first * s + j - target.first);
        let columns = V::LANES.min(self.plan.half_columns().saturating_sub(j));
        let rows = V::LANES.min(self.plan.half_rows().saturating_sub(first));
        let width = V::LANES.min(target.end() - j);
        // SAFETY: columns are below D, rows below S, and `width` values are inside the strip.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..columns {
                let z = self.buffer.add(row_fft.position_unchecked(j + i) * 2 * V::LANES);
                let opposite =
                    self.buffer.add(row_fft.position_unchecked(mirrored(j + i, *d)) * 2 * V::LANES);
                tile.as_mut()[i] = separate::<V>(z, opposite)[PART];
            }
            V::transpose(&mut tile);
            for i in 0..rows {
                let mirror = PART == A_OPPOSITE || PART == B_OPPOSITE;
                let n = if mirror { mirrored(first + i, *s) } else { first + i };
                tile.as_ref()[i].store_lanes(strip.add(n * 2 * target.lanes), 0, width);
            }
        }
    }
}
