//! bfloat16 products on any CPU: operands are rounded and multiplied as float32.
//!
//! A product of two bfloat16 values is exact in float32, so this is what the faster levels compute,
//! but for the order of their sums.

use std::cell::Cell;

use rayon::prelude::*;

use super::{Operand, Out};
use crate::arch::multiversion;

/// Values that a task rounds.
const CHUNK: usize = 1 << 15;

thread_local! {
    static ROUNDED: Cell<[Vec<f32>; 2]> = Cell::default();
}

/// `y (+)= x w` by `float_product`, of rounded copies.
pub fn product(
    float_product: impl Fn([usize; 3], Operand, Operand, &mut [f32], Out),
    shape @ [m, n, k]: [usize; 3],
    x: Operand,
    w: Operand,
    y: &mut [f32],
    out: Out,
) {
    let [mut xs, mut ws] = ROUNDED.take();
    xs.resize(m * k, 0.0);
    ws.resize(k * n, 0.0);
    for (from, to) in [(x, &mut xs), (w, &mut ws)] {
        to.par_chunks_mut(CHUNK).zip(from.values.par_chunks(CHUNK)).for_each(|(to, from)| round(from, to));
    }
    let (x, w) = (Operand { values: &xs, ..x }, Operand { values: &ws, ..w });
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
