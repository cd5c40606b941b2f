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
        for half in 0..2 {
            let first = self.strip.first + half * V::LANES;
            let rows = self.plan.half_rows().saturating_sub(first).min(V::LANES);
            for m in (0..self.plan.hidden).step_by(V::LANES) {
                let inside = first > 0 && rows == V::LANES && m > 0 && m + V::LANES <= self.plan.hidden;
                // SAFETY: the caller's word. Tests: every shape of `tests.rs`.
                unsafe {
                    if inside {
                        self.tile_inside::<V>(half, m);
                    } else {
                        self.tile::<V>(half, m, rows);
                    }
                }
            }
        }
    }
}

impl Fold<'_> {
    /// Columns `m..` of all rows, where each row and each mirrored row is in one piece and a step from the
    /// one before: the compiler keeps the tile in registers.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn tile_inside<V: Vector>(&self, half: usize, m: usize) {
        let (s, d) = (self.plan.seq_len, self.plan.hidden);
        let first = self.strip.first + half * V::LANES;
        let mut row = self.input.wrapping_add(first * d + m);
        let mut opposite = self.input.wrapping_add((s - first + 1) * d - (m + V::LANES - 1));
        let to = self.buffer.wrapping_add((2 * m + half) * V::LANES);
        // SAFETY: rows `n` and `-n` are below S, and columns below D.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..V::LANES {
                tile.as_mut()[i] = (V::load(row) + V::load(opposite).reverse()) * V::splat(SCALE);
                row = row.wrapping_add(d);
                opposite = opposite.wrapping_sub(d);
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
        // SAFETY: rows `n` and `-n` are below S; `folded` and the stores stay below D.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..rows {
                let row = self.input.add((first + i) * d);
                let opposite = self.input.add(mirrored(first + i, s) * d);
                tile.as_mut()[i] = folded::<V>(row, opposite, m, d);
            }
            V::transpose(&mut tile);
            for i in 0..V::LANES.min(d - m) {
                tile.as_ref()[i].store(self.buffer.add((2 * (m + i) + half) * V::LANES));
            }
        }
    }
}

/// `(x[n, m] + x[-n, -m]) / 8` for the lanes' columns from `m` on; lanes beyond the row are zero.
#[inline(always)]
unsafe fn folded<V: Vector>(row: *const f32, opposite: *const f32, m: usize, d: usize) -> V {
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
        for target in &self.plan.column_strips {
            for j in (target.first..target.end()).step_by(V::LANES) {
                let columns = V::LANES.min(self.plan.half_columns().saturating_sub(j));
                // SAFETY: the caller's word. Tests: every shape of `tests.rs`.
                unsafe {
                    if columns == V::LANES && j > 0 {
                        self.tile::<V, true>(target, j, columns);
                    } else {
                        self.tile::<V, false>(target, j, columns);
                    }
                }
            }
        }
    }
}

impl Spread<'_> {
    /// Columns `j..` of all rows; those beyond `columns` are zero. `INSIDE` says that there are none, and that
    /// `j > 0`.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn tile<V: Vector, const INSIDE: bool>(&self, target: &Strip, j: usize, columns: usize) {
        let first = self.strip.first;
        // SAFETY: the caller's word.
        unsafe {
            // One tile at a time stays in registers; what is read again is in the first-level cache.
            self.part::<V, INSIDE, A_OPPOSITE>(target, first, j, columns);
            self.part::<V, INSIDE, A>(target, first, j, columns);
            self.part::<V, INSIDE, B_OPPOSITE>(target, first + V::LANES, j, columns);
            self.part::<V, INSIDE, B>(target, first + V::LANES, j, columns);
        }
    }

    /// One of the four results, for rows `first..`.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn part<V: Vector, const INSIDE: bool, const PART: usize>(
        &self,
        target: &Strip,
        first: usize,
        j: usize,
        columns: usize,
    ) {
        let (d, row_fft) = (self.plan.hidden, &self.plan.row_fft);
        let columns = if INSIDE { V::LANES } else { columns };
        // SAFETY: columns are below D.
        unsafe {
            let mut tile = V::tile(V::splat(0.0));
            for i in 0..columns {
                let opposite = if INSIDE { d - j - i } else { mirrored(j + i, d) };
                let z = self.buffer.add(row_fft.position_unchecked(j + i) * 2 * V::LANES);
                let opposite = self.buffer.add(row_fft.position_unchecked(opposite) * 2 * V::LANES);
                tile.as_mut()[i] = separate::<V>(z, opposite)[PART];
            }
            V::transpose(&mut tile);
            self.put::<V>(target, first, j, PART == A_OPPOSITE || PART == B_OPPOSITE, &tile);
        }
    }

    /// Stores columns `j..` of rows `first..`, or of their mirror images.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    #[inline(always)]
    unsafe fn put<V: Vector>(&self, target: &Strip, first: usize, j: usize, opposite: bool, tile: &V::Tile) {
        let (s, step) = (self.plan.seq_len, 2 * target.lanes);
        let strip = self.spectra.wrapping_add(target.first * s + j - target.first);
        let width = V::LANES.min(target.end() - j);
        let rows = self.plan.half_rows().saturating_sub(first).min(V::LANES);
        // SAFETY: rows are below S, and `width` values from column j are inside the strip.
        unsafe {
            if width == V::LANES && rows == V::LANES && first > 0 {
                let mut to = strip.wrapping_add(if opposite { s - first } else { first } * step);
                for i in 0..V::LANES {
                    tile.as_ref()[i].store(to);
                    to = if opposite { to.wrapping_sub(step) } else { to.wrapping_add(step) };
                }
            } else {
                for i in 0..rows {
                    let n = if opposite { mirrored(first + i, s) } else { first + i };
                    tile.as_ref()[i].store_lanes(strip.wrapping_add(n * step), 0, width);
                }
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
        let Plan { seq_len: s, hidden: d, column_fft, .. } = self.plan;
        for k in self.rows.clone() {
            let opposite = mirrored(k, *s);
            // SAFETY: rows k and -k are below S.
            unsafe {
                let rows = [self.output.add(k * d), self.output.add(opposite * d)];
                let at = column_fft.position_unchecked(k) * 2 * V::LANES;
                let at_opposite = column_fft.position_unchecked(opposite) * 2 * V::LANES;
                for strip in self.strips {
                    let columns = self.spectra.add(strip.first * s);
                    let parts = separate::<V>(columns.add(at), columns.add(at_opposite));
                    let last = strip.first + 2 * V::LANES - 1;
                    if strip.first > 0 && last <= (d - 1) / 2 && k != opposite {
                        self.put::<V, ADD, true>(strip, rows, parts);
                    } else {
                        self.put::<V, ADD, false>(strip, rows, parts);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`Kernel::run`]. `INSIDE` says that all lanes are written, here and there, and that the two rows differ.
    #[inline(always)]
    unsafe fn put<V: Vector, const ADD: bool, const INSIDE: bool>(
        &self,
        strip: &Strip,
        [row, opposite]: [*mut f32; 2],
        parts: [V; 4],
    ) {
        let d = self.plan.hidden;
        // SAFETY: `Places` keeps to the row.
        unsafe {
            let a = Places::new::<V, INSIDE>(strip.first, d);
            let b = Places::new::<V, INSIDE>(strip.first + V::LANES, d);
            a.put::<V, ADD>(row, opposite, parts[A_OPPOSITE]);
            b.put::<V, ADD>(row, opposite, parts[B_OPPOSITE]);
            if INSIDE || row != opposite {
                a.put::<V, ADD>(opposite, row, parts[A]);
                b.put::<V, ADD>(opposite, row, parts[B]);
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
    unsafe fn put<V: Vector, const ADD: bool>(&self, row: *mut f32, mirrored_row: *mut f32, u: V) {
        let mirrored = mirrored_row.wrapping_offset(self.mirrored_first);
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
