//! Products of whole numbers of 8 bits: each row of x and each column of w is rounded to -127..127 by a scale of its own,
//! so that a row of the result depends on its own row alone (Dettmers et al. 2022, section 2.1, vector-wise quantisation).
//!
//! Levels have the same bytes as long as sums of whole numbers are exact in float32: up to an inner axis of 1,040.

use std::cell::Cell;

use rayon::prelude::*;

use super::matrix::{Matrix, Out};
use super::{Level, library};
use crate::arch::{ROUND, multiversion};

/// The largest of 8 bits.
const MOST: f32 = 127.0;
/// Rows of smaller values are zero: the inverse of their scale would not be finite.
const LEAST: f32 = 1e-30;
/// Values that a task rounds.
const CHUNK: usize = 1 << 14;
/// The bit by which x is moved to 0..255: the left operand of `vpdpbusd` has no sign.
const UNSIGNED: u8 = 0x80;

/// An operand's rows, four values of 8 bits in the place of a float, and what a unit of each row is worth.
#[derive(Default)]
struct Rounded {
    words: Vec<f32>,
    scales: Vec<f32>,
}

#[derive(Default)]
struct Buffers {
    x: Rounded,
    w: Rounded,
    /// What each column's sum starts with.
    starts: Vec<i32>,
    /// Both operands and the result, where a library multiplies.
    floats: [Vec<f32>; 3],
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// Whether both operands lie along the inner axis, as those of a linear layer's forward pass do.
pub fn is_for(x: Matrix, w: Matrix) -> bool {
    x.column == 1 && w.row == 1
}

/// `y (+)= x w`, for operands that lie along the inner axis.
pub fn product(level: Level, shape @ [m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: &mut [f32], out: Out) {
    let mut buffers = BUFFERS.take();
    buffers.x.round(x, [m, k], UNSIGNED);
    buffers.w.round(w.transposed(), [n, k], 0);
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni if k <= super::packed::Vnni::LONGEST => by_tiles(shape, &mut buffers, y, out),
        _ => by_floats(shape, &mut buffers, y, out),
    }
    BUFFERS.set(buffers);
}

#[cfg(target_arch = "x86_64")]
fn by_tiles([m, n, k]: [usize; 3], buffers: &mut Buffers, y: &mut [f32], out: Out) {
    use super::packed::{self, Vnni};

    let Buffers { x, w, starts, .. } = buffers;
    let words = k.div_ceil(4);
    let [x_scales, w_scales] = Vnni::scales([m, n]);
    x.scales.resize(x_scales, 0.0);
    w.scales.resize(w_scales, 0.0);
    starts.resize(w_scales, 0);
    let sums = starts.par_iter_mut().zip(bytemuck::cast_slice::<f32, i8>(&w.words).par_chunks(4 * words));
    sums.for_each(|(start, row)| *start = -i32::from(UNSIGNED) * sum(row));
    let kernel = Vnni::new(&x.scales, &w.scales, starts);
    let (x, w) = (Matrix::new(&x.words, words), Matrix::new(&w.words, words).transposed());
    packed::product(kernel, [m, n, words], x, w, y, out);
}

/// On any CPU.
fn by_floats(shape @ [m, n, k]: [usize; 3], buffers: &mut Buffers, y: &mut [f32], out: Out) {
    let Buffers { x, w, floats: [xs, ws, product], .. } = buffers;
    x.floats(k, UNSIGNED, xs);
    w.floats(k, 0, ws);
    product.resize(m * n, 0.0);
    library::product(shape, Matrix::new(xs, k), Matrix::new(ws, k).transposed(), product, Out::Set);
    let rows = y.par_chunks_exact_mut(n).zip(product.par_chunks_exact(n)).zip(&x.scales);
    rows.for_each(|((y, product), x_scale)| {
        for ((y, product), w_scale) in y.iter_mut().zip(product).zip(&w.scales) {
            let before = if out == Out::Add { *y } else { 0.0 };
            *y = before + product * (x_scale * w_scale);
        }
    });
}

impl Rounded {
    /// The first `rows` rows of a matrix, `len` values each, with this bit turned.
    fn round(&mut self, from: Matrix, [rows, len]: [usize; 2], bit: u8) {
        let words = len.div_ceil(4);
        self.words.resize(rows * words, 0.0);
        self.scales.resize(rows, 0.0);
        let values = from.floats();
        let together = (CHUNK / len).max(1);
        let tasks = self.words.par_chunks_mut(together * words).zip(self.scales.par_chunks_mut(together));
        tasks.enumerate().for_each(|(task, (words_of_rows, scales))| {
            for (i, (row, scale)) in words_of_rows.chunks_exact_mut(words).zip(scales).enumerate() {
                let values = &values[(task * together + i) * from.row..][..len];
                *scale = round(values, bytemuck::cast_slice_mut(row), bit);
            }
        });
    }

    /// Rows of `len` whole numbers as float32, from bytes with this bit turned.
    fn floats(&self, len: usize, bit: u8, to: &mut Vec<f32>) {
        to.resize(self.scales.len() * len, 0.0);
        let rows = bytemuck::cast_slice::<f32, u8>(&self.words).par_chunks_exact(len.next_multiple_of(4));
        to.par_chunks_exact_mut(len).zip(rows).for_each(|(to, row)| {
            to.iter_mut().zip(row).for_each(|(to, byte)| *to = f32::from((byte ^ bit) as i8));
        });
    }
}

multiversion! {
    /// Rounds a row to bytes with this bit turned and returns what a unit is worth: NaN if a value is not finite.
    fn round(row: &[f32], bytes: &mut [u8], bit: u8) -> f32 {
        // As whole numbers, bits of floats without their signs have the order of their values, NaN last.
        let most = row.iter().fold(0, |most, value| (value.to_bits() & 0x7FFF_FFFF).max(most));
        let most = f32::from_bits(most);
        let inverse = if most < LEAST { 0.0 } else { MOST / most };
        for (byte, value) in bytes.iter_mut().zip(row) {
            *byte = (value * inverse + ROUND).to_bits() as u8 ^ bit;
        }
        bytes[row.len()..].fill(bit);
        match most {
            _ if most < LEAST => 0.0,
            _ if most.is_finite() => most / MOST,
            _ => f32::NAN,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn sum(row: &[i8]) -> i32 {
    row.iter().map(|value| i32::from(*value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Precision, Products, matmul_nt};
    use crate::testing::noise;

    #[test]
    fn rows_are_rounded_to_the_nearest() {
        let mut bytes = [0; 8];
        let scale = round(&[127.0, -63.5, 2.5, 3.5, -0.4], &mut bytes, 0);
        assert_eq!((scale, bytes.map(|b| b as i8)), (1.0, [127, -64, 2, 4, 0, 0, 0, 0]), "ties to even");
        assert_eq!(round(&[0.0, -0.0], &mut bytes, 0), 0.0);
        assert_eq!(round(&[1e-40, -1e-31], &mut bytes, 0), 0.0);
        assert!(round(&[1.0, f32::NAN], &mut bytes, 0).is_nan());
        assert!(round(&[f32::NEG_INFINITY, 1.0], &mut bytes, 0).is_nan());
        assert_eq!(round(&[f32::MAX, f32::MIN], &mut bytes, UNSIGNED), f32::MAX / 127.0);
        assert_eq!(bytes[..2], [255, 1]);
    }

    /// Against sums of whole numbers, at sizes that fill no tile; scales are powers of two, so nothing else is rounded.
    #[test]
    fn eight_bits_are_summed_exactly() {
        for [m, n, k] in [[1, 16, 3], [13, 33, 70], [40, 100, 1024], [97, 64, 257]] {
            let whole = |len, row: usize, seed| -> Vec<f32> {
                let mut values: Vec<f32> =
                    noise(len, seed).iter().map(|v| (v * 100.0).round() / 8.0).collect();
                values.chunks_exact_mut(row).for_each(|row| row[0] = -127.0 / 8.0);
                values.iter().map(|v| v.clamp(-127.0 / 8.0, 127.0 / 8.0)).collect()
            };
            let (x, w) = (whole(m * k, k, 1), whole(n * k, k, 2));
            for products in Products::all(Precision::Int8) {
                let mut y = vec![1.0; m * n];
                matmul_nt(products, [m, n, k], &x, &w, &mut y, Out::Add);
                for (i, y) in y.iter().enumerate() {
                    let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
                    let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                    assert_eq!(*y, (1.0 + exact) as f32, "{products:?} {m} {n} {k} at {i}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let (mut x, w) = (noise(3 * 40, 1), noise(20 * 40, 2));
        x[45] = f32::NAN;
        for products in Products::all(Precision::Int8) {
            let mut y = vec![0.0; 60];
            matmul_nt(products, [3, 20, 40], &x, &w, &mut y, Out::Set);
            assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i / 20 == 1)), "{products:?}");
        }
    }
}
