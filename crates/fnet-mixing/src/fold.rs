//! The fold algorithm: mixing one sample through half of the rows and half of the columns.
//!
//! `Re(FFT2(x))` sees only the part of `x` that is even under `(n, m) -> (-n, -m)`. Indices are
//! modulo `seq_len` (S) and `hidden` (D):
//!
//! 1. rows     `w[n, m] = (x[n, m] + x[-n, -m]) / 2`, FFT of each row: `A[n, :]`, for n = 0..=S/2;
//!    `r[n, j] = Re A - Im A`, `r[-n, j] = Re A + Im A`, for j = 0..=D/2
//! 2. columns  FFT of each column of `r`: `Z`; `u[k] = Re Z + Im Z`, `u[-k] = Re Z - Im Z`;
//!    `y[k, j] = u[k, j]`, `y[-k, -j] = u[k, j]`
//!
//! About `1.25 N log2 N` flops for `N = S D`, a quarter of the complex two-dimensional FFT. Two real rows
//! make one complex FFT: with `Z = FFT(a + i b)`, `X = Re Z` and `Y = Im Z`,
//!
//! - `2 Re A[k] = X[k] + X[-k]`, `2 Im A[k] = Y[k] - Y[-k]`
//! - `2 Re B[k] = Y[k] + Y[-k]`, `2 Im B[k] = X[-k] - X[k]`
//!
//! and all three halves are taken at once, where x is read. Rows enter the registers' lanes by transposing
//! blocks; the columns of `r` are stored strip by strip, as the second FFT walks them.

use std::ops::Range;

use crate::arch::Kernel;
use crate::plan::{Plan, Strip};
use crate::vector::Vector;

/// A half for each of the fold and the two separations.
const SCALE: f32 = 0.125;

/// How far ahead cache lines are asked for: values along a row that is read, rows that are written.
const AHEAD: usize = 128;
const ROWS_AHEAD: usize = 2;

/// What the last pass does with the values that are in the output.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Write {
    Set,
    Add,
}

/// `index -> -index mod len`.
#[inline(always)]
fn mirrored(index: usize, len: usize) -> usize {
    if index == 0 { 0 } else { len - index }
}

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
                // SAFETY: the caller's word. Tests: every shape of `tests.rs`.
                unsafe {
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
    /// Columns `m..` of all rows. All loops are of sizes that the compiler knows, and all rows a step apart, so that
    /// the tile stays in registers.
    ///
    /// # Safety
    /// As [`Kernel::run`]. The tile is inside the matrix; `FIRST` says that `m = 0`.
    #[inline(always)]
    unsafe fn whole_tile<V: Vector, const FIRST: bool>(&self, half: usize, m: usize) {
        let (s, d) = (self.plan.seq_len, self.plan.hidden);
        let first = self.strip.first + half * V::LANES;
        let row = self.input.wrapping_add(first * d);
        let below = self.input.wrapping_add((s - first) * d);
        let to = self.buffer.wrapping_add((2 * m + half) * V::LANES);
        // SAFETY: rows `n` and `-n` are below S, and columns below D.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            tile.as_mut()[0] = folded::<V, FIRST>(row, self.input.add(mirrored(first, s) * d), m, d);
            for i in 1..V::LANES {
                let (row, opposite) = (row.wrapping_add(i * d), below.wrapping_sub(i * d));
                V::prefetch(row.wrapping_add(m + AHEAD));
                V::prefetch(opposite.wrapping_add(d).wrapping_sub(m + AHEAD));
                tile.as_mut()[i] = folded::<V, FIRST>(row, opposite, m, d);
            }
            V::transpose(&mut tile);
            for i in 0..V::LANES {
                tile.as_ref()[i].store(to.add(i * 2 * V::LANES));
            }
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
    // SAFETY: the caller's word; column 0 is its own mirror image.
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
        for target in &self.plan.column_strips {
            for j in (target.first..target.end()).step_by(V::LANES) {
                let whole = whole_rows && j > 0 && j + V::LANES <= self.plan.half_columns().min(target.end());
                // One tile at a time stays in registers; what is read again is in the first-level cache.
                // SAFETY: the caller's word. Tests: every shape of `tests.rs`.
                unsafe {
                    if whole {
                        self.whole_tile::<V, A_OPPOSITE>(target, j);
                        self.whole_tile::<V, A>(target, j);
                        self.whole_tile::<V, B_OPPOSITE>(target, j);
                        self.whole_tile::<V, B>(target, j);
                    } else {
                        self.tile::<V, A_OPPOSITE>(target, j);
                        self.tile::<V, A>(target, j);
                        self.tile::<V, B_OPPOSITE>(target, j);
                        self.tile::<V, B>(target, j);
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

/// The results of [`separate`] by place.
const A_OPPOSITE: usize = 0;
const A: usize = 1;
const B_OPPOSITE: usize = 2;
const B: usize = 3;

/// From `Z[k]` and `Z[-k]` of `a + i b`: twice `Re A + Im A`, `Re A - Im A`, `Re B + Im B`, `Re B - Im B`.
#[inline(always)]
unsafe fn separate<V: Vector>(z: *const f32, opposite: *const f32) -> [V; 4] {
    // SAFETY: the caller gives two complex elements.
    unsafe {
        let (x, y) = (V::load(z), V::load(z.add(V::LANES)));
        let (x_opposite, y_opposite) = (V::load(opposite), V::load(opposite.add(V::LANES)));
        let (x_sum, x_difference) = (x + x_opposite, x_opposite - x);
        let (y_sum, y_difference) = (y + y_opposite, y - y_opposite);
        [x_sum + y_difference, x_sum - y_difference, y_sum + x_difference, y_sum - x_difference]
    }
}

/// Writes rows `k` and `-k` of the output from transformed strips of columns of one width.
pub(crate) struct Unfold<'a> {
    pub plan: &'a Plan,
    pub strips: &'a [Strip],
    pub rows: Range<usize>,
    /// All column strips: `spectra_len` values.
    pub spectra: *const f32,
    /// The sample, `seq_len * hidden` values, of which the rows `k` and `-k` are written.
    pub output: *mut f32,
    pub write: Write,
}

impl Kernel for Unfold<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's word. Tests: every shape of `tests.rs`.
        unsafe {
            match self.write {
                Write::Set => self.rows::<V, false>(),
                Write::Add => self.rows::<V, true>(),
            }
        }
    }
}

impl Unfold<'_> {
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn rows<V: Vector, const ADD: bool>(&self) {
        // Of most strips every lane is written, here and mirrored.
        let last = (self.plan.hidden - 1) / 2;
        let start = self.strips.iter().take_while(|s| s.first == 0).count();
        let end = self.strips.partition_point(|s| s.end() - 1 <= last).max(start);
        // SAFETY: the caller's word.
        unsafe {
            for strip in self.strips[..start].iter().chain(&self.strips[end..]) {
                for k in self.rows.clone() {
                    self.row::<V, ADD, false>(k, std::slice::from_ref(strip));
                }
            }
            for k in self.rows.clone() {
                self.row::<V, ADD, true>(k, &self.strips[start..end]);
            }
        }
    }

    /// Rows `k` and `-k`, columns of these strips and their mirror images.
    ///
    /// # Safety
    /// As [`Kernel::run`]. `INSIDE` says that all lanes are written.
    #[inline(always)]
    unsafe fn row<V: Vector, const ADD: bool, const INSIDE: bool>(&self, k: usize, strips: &[Strip]) {
        let Plan { seq_len: s, hidden: d, column_fft, .. } = self.plan;
        let k_opposite = mirrored(k, *s);
        let ahead = (ROWS_AHEAD * d) as isize;
        // SAFETY: rows k and -k are below S, and `Places` keeps to the row.
        unsafe {
            let (row, opposite) = (self.output.add(k * d), self.output.add(k_opposite * d));
            let at = column_fft.position_unchecked(k) * 2 * V::LANES;
            let at_opposite = column_fft.position_unchecked(k_opposite) * 2 * V::LANES;
            for strip in strips {
                let columns = self.spectra.add(strip.first * s);
                let parts = separate::<V>(columns.add(at), columns.add(at_opposite));
                let a = Places::new::<V, INSIDE>(strip.first, *d);
                let b = Places::new::<V, INSIDE>(strip.first + V::LANES, *d);
                a.put::<V, ADD>(row, opposite, parts[A_OPPOSITE], ahead);
                b.put::<V, ADD>(row, opposite, parts[B_OPPOSITE], ahead);
                if k_opposite != k {
                    a.put::<V, ADD>(opposite, row, parts[A], -ahead);
                    b.put::<V, ADD>(opposite, row, parts[B], -ahead);
                }
            }
        }
    }
}

/// Where the lanes of a register of columns go in a row and in the mirrored row.
struct Places {
    first: usize,
    /// Where the reversed register begins; it may begin before the row.
    mirrored_first: isize,
    count: usize,
    mirrored_low: usize,
    mirrored_high: usize,
}

impl Places {
    /// `INSIDE` says that all lanes are written, here and there.
    #[inline(always)]
    fn new<V: Vector, const INSIDE: bool>(first: usize, d: usize) -> Self {
        let mirrored_first = d as isize - (first + V::LANES - 1) as isize;
        if INSIDE {
            return Self { first, mirrored_first, count: V::LANES, mirrored_low: 0, mirrored_high: V::LANES };
        }
        Self {
            first,
            mirrored_first,
            count: (d / 2 + 1).saturating_sub(first).min(V::LANES),
            // Of the mirror images those are written that no column is itself: 1 <= j < d / 2.
            mirrored_low: (first + V::LANES).saturating_sub((d - 1) / 2 + 1),
            mirrored_high: if first == 0 { V::LANES - 1 } else { V::LANES },
        }
    }

    #[inline(always)]
    unsafe fn put<V: Vector, const ADD: bool>(
        &self,
        row: *mut f32,
        mirrored_row: *mut f32,
        u: V,
        ahead: isize,
    ) {
        let mirrored = mirrored_row.wrapping_offset(self.mirrored_first);
        V::prefetch(row.wrapping_offset(self.first as isize + ahead));
        V::prefetch(mirrored.wrapping_offset(-ahead));
        // SAFETY: lanes outside the row are masked.
        unsafe {
            put_lanes::<V, ADD>(row.wrapping_add(self.first), u, 0, self.count);
            put_lanes::<V, ADD>(mirrored, u.reverse(), self.mirrored_low, self.mirrored_high);
        }
    }
}

#[inline(always)]
unsafe fn put_lanes<V: Vector, const ADD: bool>(to: *mut f32, value: V, low: usize, high: usize) {
    // SAFETY: the caller's word for lanes `low..high`.
    unsafe {
        if low == 0 && high == V::LANES {
            let value = if ADD { V::load(to) + value } else { value };
            value.store(to);
        } else if low < high {
            let value = if ADD { V::load_lanes(to, low, high) + value } else { value };
            value.store_lanes(to, low, high);
        }
    }
}
