//! The fold algorithm: mixing one sample through half of the rows and half of the columns.
//!
//! `Re(FFT2(x))` sees only the part of `x` that is even under `(n, m) -> (-n, -m)`. Indices are
//! modulo `seq_len` (S) and `hidden` (D):
//!
//! 1. [`Fold`]    `w[n, m] = (x[n, m] + x[-n, -m]) / 2`, for n = 0..=S/2; then the FFT of each row, `A[n, :]`
//! 2. [`Spread`]  `r[n, j] = Re A - Im A`, `r[-n, j] = Re A + Im A`, for j = 0..=D/2; then the FFT of each column, `Z`
//! 3. [`Unfold`]  `u[k] = Re Z + Im Z`, `u[-k] = Re Z - Im Z`; `y[k, j] = u[k, j]`, `y[-k, -j] = u[k, j]`
//!
//! About `1.25 N log2 N` flops for `N = S D`, a quarter of the complex two-dimensional FFT. Two real rows (or
//! columns) make one complex FFT: with `Z = FFT(a + i b)`, `X = Re Z` and `Y = Im Z`,
//!
//! - `2 Re A[k] = X[k] + X[-k]`, `2 Im A[k] = Y[k] - Y[-k]`
//! - `2 Re B[k] = Y[k] + Y[-k]`, `2 Im B[k] = X[-k] - X[k]`
//!
//! and all three halves are taken at once, where x is read. Rows enter the registers' lanes by transposing
//! tiles; the columns of `r` are stored strip by strip, as the second FFT walks them.

mod rows;
mod spread;
mod unfold;

pub(crate) use rows::Fold;
pub(crate) use spread::Spread;
pub(crate) use unfold::{Unfold, Write};

use crate::vector::Vector;

/// `index -> -index mod len`.
#[inline(always)]
fn mirrored(index: usize, len: usize) -> usize {
    if index == 0 { 0 } else { len - index }
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
