//! Matrix products: the single interface between the layers and the kernels.
//!
//! Two guarantees are kept here. *Own bits*: a row of the result does not depend on how many other rows there are.
//! *Same bytes*: nothing depends on the number of threads. Levels differ in their last bits, so only results of the
//! same level are the same bytes.
//!
//! All matrices are row-major. Lengths are checked by assertions: callers own their buffers.

mod int8;
mod level;
mod library;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod packed;
#[cfg(feature = "internals")]
pub mod peak;
mod rounded;
mod stored;
mod tally;

use std::time::Instant;

pub use level::{Level, Precision, Products};
pub use matrix::{Matrix, Out};
pub(crate) use stored::BLOCK;
pub use stored::Stored;
pub use tally::{Tally, take_tally};

/// Products with fewer columns than this are computed by plain loops, whatever the number of rows.
const NARROW: usize = 16;
/// So are products with an inner axis of at most this length.
const SHALLOW: usize = 2;

/// `y[m, n] = x[m, k] w[n, k]ᵀ`: the forward pass of a linear layer.
pub fn matmul_nt(products: Products, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    multiply(products, shape, Matrix::new(x, shape[2]), Matrix::new(w, shape[2]).transposed(), y, out);
}

/// `y[m, n] = x[m, k] w[k, n]`: the gradient of a linear layer's input.
pub fn matmul_nn(products: Products, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    multiply(products, shape, Matrix::new(x, shape[2]), Matrix::new(w, shape[1]), y, out);
}

/// `y[m, n] = x[k, m]ᵀ w[k, n]`: the gradient of a linear layer's weight, summed over tokens.
pub fn matmul_tn(products: Products, shape: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32], out: Out) {
    multiply(products, shape, Matrix::new(x, shape[0]).transposed(), Matrix::new(w, shape[1]), y, out);
}

/// `y[m, n] = x[m, k] w[k, n]`, for operands of any memory layout.
pub fn multiply(
    products: Products,
    shape @ [m, n, k]: [usize; 3],
    x: Matrix,
    w: Matrix,
    y: &mut [f32],
    out: Out,
) {
    assert_eq!(Some(y.len()), m.checked_mul(n));
    assert!(x.reaches(m, k) && w.reaches(k, n));
    assert!(products.precision() == Precision::Bf16 || [x, w].iter().all(|x| x.stored == Stored::Floats));
    if m == 0 || n == 0 {
        return;
    }
    let begun = Instant::now();
    let is_small = is_small(n, k);
    let float_product = if is_small { plain } else { library::product };
    match (products.precision(), products.level()) {
        (Precision::Int8, level) if !is_small && int8::is_for(x, w) => {
            int8::product(level, shape, x, w, y, out);
        }
        #[cfg(target_arch = "x86_64")]
        (Precision::F32, Level::Avx512) | (Precision::Int8, Level::Avx512Vnni) if !is_small => {
            packed::product(packed::Float, shape, x, w, y, out);
        }
        (Precision::F32 | Precision::Int8, _) => float_product(shape, x, w, y, out),
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Level::Amx) if !is_small => {
            packed::product(packed::amx::Amx::<packed::amx::Cpu>::new(), shape, x, w, y, out);
        }
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, Level::Avx512Bf16) if !is_small => {
            packed::product(packed::Dot, shape, x, w, y, out)
        }
        (Precision::Bf16, _) => rounded::product(float_product, shape, x, w, y, out),
    }
    tally::count(2 * (m * n * k) as u64, begun);
}

/// `y = x w` in float32, for work that is split over threads already.
pub(crate) fn multiply_on_this_thread(
    shape @ [m, n, k]: [usize; 3],
    x: Matrix,
    w: Matrix,
    y: &mut [f32],
    out: Out,
) {
    assert!(Some(y.len()) == m.checked_mul(n) && x.reaches(m, k) && w.reaches(k, n));
    let float_product = if is_small(n, k) { plain } else { library::rows_product };
    float_product(shape, x, w, y, out);
}

/// Whether plain loops compute a product, whatever the number of rows.
fn is_small(n: usize, k: usize) -> bool {
    n < NARROW || k <= SHALLOW
}

/// A product by plain loops: for few columns (a classifier) or almost no depth.
fn plain([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: &mut [f32], out: Out) {
    let (xs, ws) = (x.floats(), w.floats());
    for (i, row) in y.chunks_exact_mut(n).enumerate().take(m) {
        for (j, y) in row.iter_mut().enumerate() {
            let start = if out == Out::Add { *y } else { 0.0 };
            *y = (0..k)
                .fold(start, |sum, p| sum + xs[i * x.row + p * x.column] * ws[p * w.row + j * w.column]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stored::round;
    use super::*;
    use crate::testing::noise;

    type Product = fn(Products, [usize; 3], &[f32], &[f32], &mut [f32], Out);

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
    fn ways() -> Vec<Products> {
        Precision::ALL.into_iter().flat_map(Products::all).collect()
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

    /// Matrices as products of this precision see them: bfloat16 values have 8 bits.
    fn operands(precision: Precision, [m, n, k]: [usize; 3]) -> [Vec<f32>; 2] {
        let seen = |v: f32| if precision == Precision::F32 { v } else { round(v) };
        [(m * k, 1), (n * k, 2)].map(|(len, seed)| noise(len, seed).into_iter().map(seen).collect())
    }

    fn check(ways: Products, run: impl Fn(&str, Product, [usize; 3], &[f32], &[f32], &mut [f32], Out)) {
        for shape @ [m, n, k] in SHAPES {
            let [x, w] = operands(ways.precision(), shape);
            for (kind, product) in PRODUCTS {
                let exact = exact(shape, &x, &w, kind);
                let mut y = vec![f32::NAN; m * n];
                run(kind, product, shape, &x, &w, &mut y, Out::Set);
                run(kind, product, shape, &x, &w, &mut y, Out::Add);
                for (y, e) in y.iter().zip(&exact) {
                    let bound = 1e-5 * (k as f64).sqrt() + 1e-6;
                    assert!((f64::from(*y) - 2.0 * e).abs() < bound, "{ways:?} {kind} {shape:?}");
                }
            }
        }
    }

    #[test]
    fn matches_float64() {
        for ways in [Precision::F32, Precision::Bf16].into_iter().flat_map(Products::all) {
            check(ways, |_, product, shape, x, w, y, out| product(ways, shape, x, w, y, out));
        }
    }

    #[test]
    fn operands_are_rounded_to_bfloat16() {
        let shape @ [m, n, k] = [33, 48, 70];
        let (x, w) = (noise(m * k, 7), noise(n * k, 8));
        let rounded = |v: &[f32]| v.iter().map(|v| round(*v)).collect::<Vec<_>>();
        for ways in Products::all(Precision::Bf16) {
            for (kind, product) in PRODUCTS {
                let (mut y, mut expected) = (vec![0.0; m * n], vec![0.0; m * n]);
                product(ways, shape, &x, &w, &mut y, Out::Set);
                product(ways, shape, &rounded(&x), &rounded(&w), &mut expected, Out::Set);
                assert!(y == expected, "{ways:?} {kind}");
            }
        }
        assert_eq!(round(1.0 + 1.0 / 256.0), 1.0, "ties to even");
        assert_eq!(round(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0, "ties to even");
        assert!(round(f32::from_bits(0x7F80_0001)).is_nan() && round(f32::MAX).is_infinite());
    }

    /// Rows of `width` values as bfloat16, in a buffer of as many places.
    fn halves(values: &[f32], width: usize) -> Vec<f32> {
        let mut halves = vec![f32::NAN; values.len()];
        for (row, halves) in values.chunks(width.max(1)).zip(halves.chunks_mut(width.max(1))) {
            for (i, values) in row.chunks(stored::BLOCK).enumerate() {
                let mut block = [0.0; stored::BLOCK];
                block[..values.len()].copy_from_slice(values);
                Stored::Halves.write(halves, i * stored::BLOCK, &block);
            }
        }
        halves
    }

    #[test]
    fn halves_are_as_good_as_floats() {
        for [m, n, k] in SHAPES {
            let (x, w) = (noise(m * k, 1), noise(n * k, 2));
            for ways in Products::all(Precision::Bf16) {
                // As stored, and each transposed.
                for [x_turned, w_turned] in [[false, false], [false, true], [true, false]] {
                    let (x_width, w_width) = (if x_turned { m } else { k }, if w_turned { k } else { n });
                    let (x_halves, w_halves) = (halves(&x, x_width), halves(&w, w_width));
                    let run = |stored, x: &[f32], w: &[f32]| {
                        let (x, w) = (Matrix::stored(stored, x, x_width), Matrix::stored(stored, w, w_width));
                        let x = if x_turned { x.transposed() } else { x };
                        let w = if w_turned { w.transposed() } else { w };
                        let mut y = vec![0.0; m * n];
                        multiply(ways, [m, n, k], x, w, &mut y, Out::Set);
                        y
                    };
                    let expected = run(Stored::Floats, &x, &w);
                    assert!(run(Stored::Halves, &x_halves, &w_halves) == expected, "{ways:?} {m} {n} {k}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        for ways in ways() {
            for (n, k) in [(256, 256), (17, 33), (16, 512), (48, 7), (3, 100), (96, 1500)] {
                let rows = 140;
                let (x, w) = (noise(rows * k, 3), noise(n * k, 4));
                for product in [matmul_nt as Product, matmul_nn] {
                    let mut all = vec![0.0; rows * n];
                    product(ways, [rows, n, k], &x, &w, &mut all, Out::Set);
                    for m in (1..20).chain([33, 64, 65, 100]) {
                        let first = (m * 7) % (rows - m);
                        let mut some = vec![0.0; m * n];
                        product(ways, [m, n, k], &x[first * k..][..m * k], &w, &mut some, Out::Set);
                        assert!(some == all[first * n..][..m * n], "{ways:?} {m} rows of n {n} k {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        for ways in ways() {
            for [m, n, k] in [[333, 70, 600], [129, 17, 33], [1000, 16, 20]] {
                let (x, w) = (noise(m * k, 5), noise(n * k, 6));
                for (_, product) in PRODUCTS {
                    let run = |threads| {
                        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                        let mut y = vec![0.0; m * n];
                        pool.install(|| product(ways, [m, n, k], &x, &w, &mut y, Out::Set));
                        y
                    };
                    let one = run(1);
                    for threads in [2, 3, 7] {
                        assert!(one == run(threads), "{ways:?} {threads} threads");
                    }
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn tiles_match_float64() {
        let Some(ways) = Products::with_level(Precision::Bf16, Level::Avx512Bf16) else {
            eprintln!("skipped: packing needs AVX-512 with bfloat16, which this machine lacks");
            return;
        };
        let tiles = packed::amx::Amx::<packed::amx::emulated::Emulated>::new();
        check(ways, |kind, product, shape @ [m, n, k], x, w, y, out| {
            if k == 0 {
                return product(ways, shape, x, w, y, out);
            }
            let [x_width, w_width] = [if kind == "tn" { m } else { k }, if kind == "nt" { k } else { n }];
            let run = |stored, x: &[f32], w: &[f32], y: &mut [f32]| {
                let (x, w) = (Matrix::stored(stored, x, x_width), Matrix::stored(stored, w, w_width));
                let x = if kind == "tn" { x.transposed() } else { x };
                let w = if kind == "nt" { w.transposed() } else { w };
                packed::product(tiles, shape, x, w, y, out);
            };
            let mut of_halves = y.to_vec();
            run(Stored::Halves, &halves(x, x_width), &halves(w, w_width), &mut of_halves);
            run(Stored::Floats, x, w, y);
            assert!(of_halves == y, "{kind} {shape:?}");
        });
    }
}
