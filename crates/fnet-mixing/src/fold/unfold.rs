use std::ops::Range;

use super::{A, A_OPPOSITE, B, B_OPPOSITE, mirrored, separate};
use crate::arch::Kernel;
use crate::plan::{Plan, Strip};
use crate::vector::Vector;

/// Rows whose cache lines are prefetched before they are written.
const ROWS_AHEAD: usize = 2;

/// What the last pass does with the values already in the output.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Write {
    Set,
    Add,
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
        // SAFETY: the caller's promise. Tests: every shape of `tests.rs`.
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
        // In most strips every lane is written, here and mirrored.
        let last = (self.plan.hidden - 1) / 2;
        let start = self.strips.iter().take_while(|s| s.first == 0).count();
        let end = self.strips.partition_point(|s| s.end() - 1 <= last).max(start);
        // SAFETY: the caller's promise.
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
            // Only mirror images that are not columns themselves are written: 1 <= j < d / 2.
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
    // SAFETY: the caller's promise for lanes `low..high`.
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
