//! Matrix products: the only place that calls a matrix library.
//!
//! Two promises are kept here. *Own bits*: a row of the result does not depend on how many other
//! rows there are. *Same bytes*: nothing depends on the number of threads. The library sums in
//! order along the inner axis as long as that axis is at most `DEPTH` long, but it has special
//! kernels for few rows; so the inner axis is cut here, and few rows are padded to more.
//!
//! All matrices are row-major. Lengths are checked by assertions: callers own their buffers.

use std::cell::Cell;

use gemm::Parallelism;
use rayon::prelude::*;

/// Longest inner axis given to the library at once; it never cuts one of at most this length.
const DEPTH: usize = 512;
/// Products with fewer columns than this are computed by plain loops, whatever their rows.
const NARROW: usize = 16;
/// Rows that a product is padded to where the library would treat it as a special case.
const PADDED_ROWS: usize = 17;
/// Products of at most this many values are special to the library.
const SMALL: usize = 256;
/// Fewest rows worth a task of their own.
const TASK_ROWS: usize = 64;

thread_local! {
    static PADDED: Cell<(Vec<f32>, Vec<f32>)> = Cell::default();
}

/// Whether a product replaces what the output holds or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// `y = product`
    Set,
    /// `y += product`
    Add,
}

/// An operand: its values and the distance between rows and between columns.
#[derive(Clone, Copy)]
struct Operand<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Operand<'a> {
    fn skip_rows(self, rows: usize) -> Self {
        Self { values: &self.values[(rows * self.row).min(self.values.len())..], ..self }
    }

    fn skip_columns(self, columns: usize) -> Self {
        Self { values: &self.values[(columns * self.column).min(self.values.len())..], ..self }
    }

    fn reaches(self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// `y[m, n] = x[m, k] w[n, k]ᵀ`: the forward pass of a linear layer.
pub fn matmul_nt([m, n, k]: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    let x = Operand { values: x, row: k, column: 1 };
    let w = Operand { values: w, row: 1, column: k };
    product([m, n, k], x, w, y, out);
}

/// `y[m, n] = x[m, k] w[k, n]`: the gradient of a linear layer's input.
pub fn matmul_nn([m, n, k]: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    let x = Operand { values: x, row: k, column: 1 };
    let w = Operand { values: w, row: n, column: 1 };
    product([m, n, k], x, w, y, out);
}

/// `y[m, n] = x[k, m]ᵀ w[k, n]`: the gradient of a linear layer's weight, summed over tokens.
pub fn matmul_tn([m, n, k]: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    let x = Operand { values: x, row: 1, column: m };
    let w = Operand { values: w, row: n, column: 1 };
    product([m, n, k], x, w, y, out);
}

fn product([m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    assert_eq!(y.len(), m * n);
    assert!(x.reaches(m, k) && w.reaches(k, n));
    if m == 0 || n == 0 {
        return;
    }
    let rows = m.div_ceil(rayon::current_num_threads()).next_multiple_of(16).max(TASK_ROWS);
    if rows >= m {
        return rows_product([m, n, k], x, w, y, out);
    }
    y.par_chunks_mut(rows * n).enumerate().for_each(|(i, y)| {
        rows_product([y.len() / n, n, k], x.skip_rows(i * rows), w, y, out);
    });
}

/// A product on one thread.
fn rows_product([m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    if n < NARROW || k <= 2 {
        return plain([m, n, k], x, w, y, out);
    }
    if m > 1 && m * n > SMALL {
        return cut([m, n, k], x, w, y, out);
    }
    let (mut rows, mut result) = PADDED.take();
    rows.clear();
    rows.extend((0..m).flat_map(|i| (0..k).map(move |p| x.values[i * x.row + p * x.column])));
    rows.resize(PADDED_ROWS * k, 0.0);
    result.clear();
    if out == Out::Add {
        result.extend_from_slice(y);
    }
    result.resize(PADDED_ROWS * n, 0.0);
    let padded = Operand { values: &rows, row: k, column: 1 };
    cut([PADDED_ROWS, n, k], padded, w, &mut result, out);
    y.copy_from_slice(&result[..m * n]);
    PADDED.set((rows, result));
}

/// A product in pieces along the inner axis.
fn cut([m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    for start in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - start);
        let (x, w) = (x.skip_columns(start), w.skip_rows(start));
        debug_assert!(x.reaches(m, depth) && w.reaches(depth, n) && y.len() == m * n);
        let add = out == Out::Add || start > 0;
        // SAFETY: `product` has checked that both operands reach their last element and that `y`
        // holds m rows of n values; `y` is borrowed mutably, so nothing overlaps it. Covered by
        // `matches_float64`.
        unsafe {
            gemm::gemm(
                m,
                n,
                depth,
                y.as_mut_ptr(),
                1,
                n as isize,
                add,
                x.values.as_ptr(),
                x.column as isize,
                x.row as isize,
                w.values.as_ptr(),
                w.column as isize,
                w.row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// A product by plain loops: for few columns (a classifier) or almost no depth.
fn plain([m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
    for (i, row) in y.chunks_exact_mut(n).enumerate().take(m) {
        for (j, y) in row.iter_mut().enumerate() {
            let start = if out == Out::Add { *y } else { 0.0 };
            *y = (0..k).fold(start, |sum, p| {
                sum + x.values[i * x.row + p * x.column] * w.values[p * w.row + j * w.column]
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    type Product = fn([usize; 3], &[f32], &[f32], &mut [f32], Out);

    const SHAPES: [[usize; 3]; 10] = [
        [1, 1, 1],
        [3, 2, 300],
        [5, 17, 33],
        [7, 40, 2],
        [150, 33, 1030],
        [2, 16, 512],
        [70, 256, 64],
        [129, 16, 5],
        [1, 300, 700],
        [65, 1, 90],
    ];

    fn exact([m, n, k]: [usize; 3], x: &[f32], w: &[f32], kind: &str) -> Vec<f64> {
        let mut y = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                y[i * n + j] = (0..k)
                    .map(|p| {
                        let a = if kind == "tn" { x[p * m + i] } else { x[i * k + p] };
                        let b = if kind == "nt" { w[j * k + p] } else { w[p * n + j] };
                        f64::from(a) * f64::from(b)
                    })
                    .sum();
            }
        }
        y
    }

    #[test]
    fn matches_float64() {
        let products: [(&str, Product); 3] = [("nt", matmul_nt), ("nn", matmul_nn), ("tn", matmul_tn)];
        for shape @ [m, n, k] in SHAPES {
            let (x, w) = (noise(m * k, 1), noise(n * k, 2));
            for (kind, product) in products {
                let exact = exact(shape, &x, &w, kind);
                let mut y = vec![f32::NAN; m * n];
                product(shape, &x, &w, &mut y, Out::Set);
                product(shape, &x, &w, &mut y, Out::Add);
                for (y, e) in y.iter().zip(&exact) {
                    let bound = 1e-5 * (k as f64).sqrt() + 1e-6;
                    assert!((f64::from(*y) - 2.0 * e).abs() < bound, "{kind} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for (n, k) in [(256, 256), (17, 33), (16, 512), (48, 7), (3, 100), (96, 1500)] {
            let rows = 140;
            let (x, w) = (noise(rows * k, 3), noise(n * k, 4));
            for product in [matmul_nt as Product, matmul_nn] {
                let mut all = vec![0.0; rows * n];
                product([rows, n, k], &x, &w, &mut all, Out::Set);
                for m in (1..20).chain([33, 64, 65, 100]) {
                    let first = (m * 7) % (rows - m);
                    let mut some = vec![0.0; m * n];
                    product([m, n, k], &x[first * k..][..m * k], &w, &mut some, Out::Set);
                    assert!(some == all[first * n..][..m * n], "{m} rows of n {n} k {k}");
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        for [m, n, k] in [[333, 70, 600], [129, 17, 33], [1000, 16, 20]] {
            let (x, w) = (noise(m * k, 5), noise(n * k, 6));
            for product in [matmul_nt as Product, matmul_nn, matmul_tn] {
                let run = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut y = vec![0.0; m * n];
                    pool.install(|| product([m, n, k], &x, &w, &mut y, Out::Set));
                    y
                };
                let one = run(1);
                for threads in [2, 3, 7] {
                    assert!(one == run(threads), "{threads} threads");
                }
            }
        }
    }
}
