//! bfloat16 products on any CPU: operands are rounded and multiplied as float32.
//!
//! A product of two bfloat16 values is exact in float32, so this is what the faster levels compute,
//! but for the order of their sums.

use std::cell::Cell;

use rayon::prelude::*;

use super::{Matrix, Out};
use crate::arch::multiversion;

/// Values that a task rounds.
const CHUNK: usize = 1 << 15;

thread_local! {
    static ROUNDED: Cell<[Vec<f32>; 2]> = Cell::default();
}

/// `y (+)= x w` by `float_product`, of rounded copies.
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
        // Of a part of a larger matrix, no more than is read.
        let end = from.reach(rows, columns);
        let from = Matrix { values: &from.values[..end], ..from };
        to.resize(end, 0.0);
        to.par_chunks_mut(CHUNK).zip(from.values.par_chunks(CHUNK)).for_each(|(to, from)| round(from, to));
    }
    let (x, w) = (Matrix { values: &xs, ..x }, Matrix { values: &ws, ..w });
    float_product(shape, x, w, y, out);
    ROUNDED.set([xs, ws]);
}

multiversion! {
    fn round(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = super::round(*from);
        }
    }
}
