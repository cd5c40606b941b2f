use super::mirrored;
use crate::arch::Kernel;
use crate::plan::{Plan, Strip};
use crate::vector::Vector;

/// A half for each of the fold and the two separations.
const SCALE: f32 = 0.125;

/// Values along a row that are prefetched before they are needed.
const AHEAD: usize = 128;

/// Reads, folds and transposes a strip of rows into `buffer[m][re, im][row]`.
pub(crate) struct Fold<'a> {
    pub plan: &'a Plan,
    pub strip: Strip,
    /// The sample, `seq_len * hidden` values.
    pub input: *const f32,
    /// `hidden` elements.
    pub buffer: *mut f32,
}

impl Kernel for Fold<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let d = self.plan.hidden;
        for half in 0..2 {
            let first = self.strip.first + half * V::LANES;
            let rows = self.plan.half_rows().saturating_sub(first).min(V::LANES);
            for m in (0..d).step_by(V::LANES) {
                // SAFETY: the caller's promise. Tests: every shape of `tests.rs`.
                unsafe {
                    if rows == 0 {
                        self.zero::<V>(half, m);
                        continue;
                    }
                    match (rows == V::LANES && m + V::LANES <= d, m == 0) {
                        (true, false) => self.whole_tile::<V, false>(half, m),
                        (true, true) => self.whole_tile::<V, true>(half, m),
                        (false, _) => self.tile::<V>(half, m, rows),
                    }
                }
            }
        }
    }
}

impl Fold<'_> {
    /// Columns `m..` of all rows. All loops have sizes known at compile time, and all rows are a step apart, so
    /// that the tile stays in registers.
    ///
    /// # Safety
    /// As [`Kernel::run`]. The tile is inside the matrix; `FIRST` says that `m = 0`.
    #[inline(always)]
    unsafe fn whole_tile<V: Vector, const FIRST: bool>(&self, half: usize, m: usize) {
        let (s, d) = (self.plan.seq_len, self.plan.hidden);
        let first = self.strip.first + half * V::LANES;
        let row = self.input.wrapping_add(first * d);
        let first_opposite = self.input.wrapping_add(mirrored(first, s) * d);
        let below = self.input.wrapping_add((s - first) * d);
        let to = self.buffer.wrapping_add((2 * m + half) * V::LANES);
        // SAFETY: rows `n` and `-n` are below S, and columns below D.
        unsafe {
            // Beyond the end of a row, the rows of the next tile are prefetched.
            let ahead = m + AHEAD + if m + AHEAD < d { 0 } else { (V::LANES - 1) * d };
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..V::LANES {
                let row = row.wrapping_add(i * d);
                let opposite = if i == 0 { first_opposite } else { below.wrapping_sub(i * d) };
                V::prefetch(row.wrapping_add(ahead));
                V::prefetch(opposite.wrapping_add(d).wrapping_sub(ahead));
                tile.as_mut()[i] = folded::<V, FIRST>(row, opposite, m, d);
            }
            V::transpose(&mut tile);
            for i in 0..V::LANES {
                tile.as_ref()[i].store(to.add(i * 2 * V::LANES));
            }
        }
    }

    /// Columns `m..` of a half without rows.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn zero<V: Vector>(&self, half: usize, m: usize) {
        for i in 0..V::LANES.min(self.plan.hidden - m) {
            // SAFETY: columns stay below D.
            unsafe { V::splat(0.0).store(self.buffer.add((2 * (m + i) + half) * V::LANES)) };
        }
    }

    /// Columns `m..` of the first `rows` rows, wherever they are.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn tile<V: Vector>(&self, half: usize, m: usize, rows: usize) {
        let (s, d) = (self.plan.seq_len, self.plan.hidden);
        let first = self.strip.first + half * V::LANES;
        // SAFETY: rows `n` and `-n` are below S; `folded_lanes` and the stores stay below D.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..rows {
                let row = self.input.add((first + i) * d);
                let opposite = self.input.add(mirrored(first + i, s) * d);
                tile.as_mut()[i] = folded_lanes::<V>(row, opposite, m, d);
            }
            V::transpose(&mut tile);
            for i in 0..V::LANES.min(d - m) {
                tile.as_ref()[i].store(self.buffer.add((2 * (m + i) + half) * V::LANES));
            }
        }
    }
}

/// [`folded_lanes`] of columns that are all in the row; `FIRST` says that `m = 0`.
#[inline(always)]
unsafe fn folded<V: Vector, const FIRST: bool>(
    row: *const f32,
    opposite: *const f32,
    m: usize,
    d: usize,
) -> V {
    let from = opposite.wrapping_add(d).wrapping_sub(m + V::LANES - 1);
    // SAFETY: the caller's promise; column 0 is its own mirror image.
    unsafe {
        let mirrored = if FIRST {
            V::load_lanes(from, 0, V::LANES - 1).reverse() + V::load_lanes(opposite, 0, 1)
        } else {
            V::load(from).reverse()
        };
        (V::load(row.wrapping_add(m)) + mirrored) * V::splat(SCALE)
    }
}

/// `(x[n, m] + x[-n, -m]) / 8` for the lanes' columns from `m` on; lanes beyond the row are zero.
#[inline(always)]
unsafe fn folded_lanes<V: Vector>(row: *const f32, opposite: *const f32, m: usize, d: usize) -> V {
    // Lane t, once reversed, holds column m + LANES - 1 - t, whose mirror image is `d` minus that; column 0
    // is its own.
    let from = opposite.wrapping_add(d).wrapping_sub(m + V::LANES - 1);
    let (low, high) = ((m + V::LANES).saturating_sub(d), if m == 0 { V::LANES - 1 } else { V::LANES });
    // SAFETY: the bounds keep every lane inside the two rows.
    unsafe {
        let own = V::load_lanes(opposite, 0, if m == 0 { 1 } else { 0 });
        let direct = V::load_lanes(row.wrapping_add(m), 0, V::LANES.min(d - m));
        (direct + (V::load_lanes(from, low, high).reverse() + own)) * V::splat(SCALE)
    }
}
