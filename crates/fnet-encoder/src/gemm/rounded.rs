//! bfloat16 products on any CPU: operands are rounded and multiplied as float32.
//!
//! A product of two bfloat16 values is exact in float32, so this computes what the faster levels do, except for the
//! order of the sums.

use std::cell::Cell;

use rayon::prelude::*;

use super::matrix::{Matrix, Out};
use crate::arch::multiversion;

/// Values that a task rounds.
const CHUNK: usize = 1 << 15;

thread_local! {
    static ROUNDED: Cell<[Vec<f32>; 2]> = Cell::default();
}

/// `y (+)= x w` by `float_product`, on rounded copies.
pub fn product(
    float_product: impl Fn([usize; 3], Matrix, Matrix, &mut [f32], Out),
    shape @ [m, n, k]: [usize; 3],
    x: Matrix,
    w: Matrix,
    y: &mut [f32],
    out: Out,
) {
    let [mut xs, mut ws] = ROUNDED.take();
    for ((from, rows, columns), to) in [((x, m, k), &mut xs), ((w, k, n), &mut ws)] {
        // For a part of a larger matrix, only the values that are read.
        to.resize(from.reach(rows, columns).unwrap_or(0), 0.0); // checked by `multiply`
        to.par_chunks_mut(CHUNK).enumerate().for_each(|(i, to)| round(from, i * CHUNK, to));
    }
    let rounded =
        |values, of: Matrix<'_>| Matrix { row: of.row, column: of.column, ..Matrix::new(values, 0) };
    let (x, w) = (rounded(&xs, x), rounded(&ws, w));
    float_product(shape, x, w, y, out);
    ROUNDED.set([xs, ws]);
}

multiversion! {
    fn round(from: Matrix, skipped: usize, to: &mut [f32]) {
        for (i, to) in to.iter_mut().enumerate() {
            *to = super::stored::round(from.stored.get(from.buffer, from.first + skipped + i));
        }
    }
}
