//! Matrix products: the only place that calls a matrix library.
//!
//! Two promises are kept here. *Own bits*: a row of the result does not depend on how many other
//! rows there are. *Same bytes*: nothing depends on the number of threads. The library sums in
//! order along the inner axis as long as that axis is at most `DEPTH` long, but it has special
//! kernels for few rows; so the inner axis is cut here, and few rows are padded to more.
//!
//! In bfloat16 the operands are rounded first, and products may run on kernels of our own ([`bf16`]).
//!
//! All matrices are row-major. Lengths are checked by assertions: callers own their buffers.

pub mod bf16;

use std::cell::Cell;

pub use bf16::Bf16Level;
use gemm::Parallelism;
use rayon::prelude::*;

/// Longest inner axis given to the library at once; it never cuts one of at most this length.
const DEPTH: usize = 512;
/// Products with fewer columns than this are computed by plain loops, whatever their rows.
const NARROW: usize = 16;
/// Products with an inner axis of at most this length are, too.
const SHALLOW: usize = 2;
/// Rows that a product is padded to where the library would treat it as a special case.
const PADDED_ROWS: usize = 17;
/// Products of at most this many values are special to the library.
const SMALL: usize = 256;
/// Fewest rows worth a task of their own.
const TASK_ROWS: usize = 64;

thread_local! {
    static PADDED: Cell<(Vec<f32>, Vec<f32>)> = Cell::default();
}

/// What the operands of products are; sums, weights and everything else are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32
    #[default]
    F32,
    /// Rounded to bfloat16, summed in float32.
    Bf16(Bf16Level),
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
    /// The same matrix with rows for columns.
    #[cfg(target_arch = "x86_64")]
    fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

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

/// How an operand lies in memory: as it is read, or with its axes exchanged.
#[derive(Clone, Copy)]
enum Order {
    Plain,
    Transposed,
}

impl<'a> Operand<'a> {
    /// A matrix of `rows` x `columns`.
    fn new(values: &'a [f32], [rows, columns]: [usize; 2], order: Order) -> Self {
        match order {
            Order::Plain => Self { values, row: columns, column: 1 },
            Order::Transposed => Self { values, row: 1, column: rows },
        }
    }
}

/// `y[m, n] = x[m, k] w[n, k]ᵀ`: the forward pass of a linear layer.
pub fn matmul_nt(precision: Precision, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    product(precision, shape, [Order::Plain, Order::Transposed], x, w, y, out);
}

/// `y[m, n] = x[m, k] w[k, n]`: the gradient of a linear layer's input.
pub fn matmul_nn(precision: Precision, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    product(precision, shape, [Order::Plain, Order::Plain], x, w, y, out);
}

/// `y[m, n] = x[k, m]ᵀ w[k, n]`: the gradient of a linear layer's weight, summed over tokens.
pub fn matmul_tn(precision: Precision, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    product(precision, shape, [Order::Transposed, Order::Plain], x, w, y, out);
}

fn product(
    precision: Precision,
    shape @ [m, n, k]: [usize; 3],
    orders: [Order; 2],
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    out: Out,
) {
    let (x, w) = (Operand::new(x, [m, k], orders[0]), Operand::new(w, [k, n], orders[1]));
    assert_eq!(y.len(), m * n);
    assert!(x.reaches(m, k) && w.reaches(k, n));
    if m == 0 || n == 0 {
        return;
    }
    match precision {
        Precision::F32 => float_product(shape, x, w, y, out),
        Precision::Bf16(level) => bf16::product(level, shape, x, w, y, out),
    }
}

fn float_product([m, n, k]: [usize; 3], x: Operand, w: Operand, y: &mut [f32], out: Out) {
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
    if n < NARROW || k <= SHALLOW {
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

    type Product = fn(Precision, [usize; 3], &[f32], &[f32], &mut [f32], Out);

    const PRODUCTS: [(&str, Product); 3] = [("nt", matmul_nt), ("nn", matmul_nn), ("tn", matmul_tn)];

    const SHAPES: [[usize; 3]; 12] = [
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
        [96, 544, 31],
        [3, 20, 0],
    ];

    /// Every precision at every level of this machine.
    fn precisions() -> Vec<Precision> {
        let levels = Bf16Level::ALL.into_iter().filter(|level| level.is_available());
        [Precision::F32].into_iter().chain(levels.map(Precision::Bf16)).collect()
    }

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

    /// Operands as products of this precision see them: those of bfloat16 have 8 bits.
    fn operands(precision: Precision, [m, n, k]: [usize; 3]) -> [Vec<f32>; 2] {
        let seen = |v: f32| if precision == Precision::F32 { v } else { bf16::round(v) };
        [(m * k, 1), (n * k, 2)].map(|(len, seed)| noise(len, seed).into_iter().map(seen).collect())
    }

    fn check(
        precision: Precision,
        run: impl Fn(&str, Product, [usize; 3], &[f32], &[f32], &mut [f32], Out),
    ) {
        for shape @ [m, n, k] in SHAPES {
            let [x, w] = operands(precision, shape);
            for (kind, product) in PRODUCTS {
                let exact = exact(shape, &x, &w, kind);
                let mut y = vec![f32::NAN; m * n];
                run(kind, product, shape, &x, &w, &mut y, Out::Set);
                run(kind, product, shape, &x, &w, &mut y, Out::Add);
                for (y, e) in y.iter().zip(&exact) {
                    let bound = 1e-5 * (k as f64).sqrt() + 1e-6;
                    assert!((f64::from(*y) - 2.0 * e).abs() < bound, "{precision:?} {kind} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn matches_float64() {
        for precision in precisions() {
            check(precision, |_, product, shape, x, w, y, out| product(precision, shape, x, w, y, out));
        }
    }

    #[test]
    fn operands_are_rounded_to_bfloat16() {
        let shape @ [m, n, k] = [33, 48, 70];
        let (x, w) = (noise(m * k, 7), noise(n * k, 8));
        let rounded = |v: &[f32]| v.iter().map(|v| bf16::round(*v)).collect::<Vec<_>>();
        for precision in precisions().into_iter().skip(1) {
            for (kind, product) in PRODUCTS {
                let (mut y, mut expected) = (vec![0.0; m * n], vec![0.0; m * n]);
                product(precision, shape, &x, &w, &mut y, Out::Set);
                product(precision, shape, &rounded(&x), &rounded(&w), &mut expected, Out::Set);
                assert!(y == expected, "{precision:?} {kind}");
            }
        }
        assert_eq!(bf16::round(1.0 + 1.0 / 256.0), 1.0, "ties to even");
        assert_eq!(bf16::round(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0, "ties to even");
        assert!(bf16::round(f32::from_bits(0x7F80_0001)).is_nan() && bf16::round(f32::MAX).is_infinite());
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for precision in precisions() {
            for (n, k) in [(256, 256), (17, 33), (16, 512), (48, 7), (3, 100), (96, 1500)] {
                let rows = 140;
                let (x, w) = (noise(rows * k, 3), noise(n * k, 4));
                for product in [matmul_nt as Product, matmul_nn] {
                    let mut all = vec![0.0; rows * n];
                    product(precision, [rows, n, k], &x, &w, &mut all, Out::Set);
                    for m in (1..20).chain([33, 64, 65, 100]) {
                        let first = (m * 7) % (rows - m);
                        let mut some = vec![0.0; m * n];
                        product(precision, [m, n, k], &x[first * k..][..m * k], &w, &mut some, Out::Set);
                        assert!(
                            some == all[first * n..][..m * n],
                            "{precision:?} {m} rows of n {n} k {k}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        for precision in precisions() {
            for [m, n, k] in [[333, 70, 600], [129, 17, 33], [1000, 16, 20]] {
                let (x, w) = (noise(m * k, 5), noise(n * k, 6));
                for (_, product) in PRODUCTS {
                    let run = |threads| {
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                        let mut y = vec![0.0; m * n];
                        pool.install(|| product(precision, [m, n, k], &x, &w, &mut y, Out::Set));
                        y
                    };
                    let one = run(1);
                    for threads in [2, 3, 7] {
                        assert!(one == run(threads), "{precision:?} {threads} threads");
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_match_float64() {
        if !Bf16Level::Avx512Bf16.is_available() {
            eprintln!("skipped: packing needs AVX-512 with bfloat16, which this machine lacks");
            return;
        }
        check(Precision::Bf16(Bf16Level::Amx), |kind, _, shape @ [m, n, k], x, w, y, out| {
            let order = |transposed| if transposed { Order::Transposed } else { Order::Plain };
            let x = Operand::new(x, [m, k], order(kind == "tn"));
            let w = Operand::new(w, [k, n], order(kind == "nt"));
            bf16::emulated_product(shape, x, w, y, out);
        });
    }
}
