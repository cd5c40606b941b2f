//! float32 products by a library: `gemm`, or `matrixmultiply` with that feature.
//!
//! The library sums in order along the inner axis as long as that axis is at most `DEPTH` long, but it has special
//! kernels for few rows; so the inner axis is cut here, and products of few rows are padded.

use std::cell::Cell;

use rayon::prelude::*;

use super::matrix::{Matrix, Out};

/// Longest inner axis given to the library at once; it never cuts one of at most this length.
const DEPTH: usize = if cfg!(feature = "matrixmultiply") { 256 } else { 512 };
/// Rows that a product is padded to if the library would treat it as a special case.
const PADDED_ROWS: usize = 17;
/// Products of at most this many values are special to the library.
const SMALL: usize = 256;
/// Fewest rows worth a task of their own.
const TASK_ROWS: usize = 64;

thread_local! {
    static PADDED: Cell<(Vec<f32>, Vec<f32>)> = Cell::default();
}

/// `y (+)= x w`
pub fn product([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: &mut [f32], out: Out) {
    let rows = m.div_ceil(rayon::current_num_threads()).next_multiple_of(16).max(TASK_ROWS);
    if rows >= m {
        return rows_product([m, n, k], x, w, y, out);
    }
    y.par_chunks_mut(rows * n).enumerate().for_each(|(i, y)| {
        rows_product([y.len() / n, n, k], x.skip_rows(i * rows), w, y, out);
    });
}

/// A product on one thread.
pub fn rows_product([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: &mut [f32], out: Out) {
    if m > 1 && m * n > SMALL {
        return cut([m, n, k], x, w, y, out);
    }
    let (mut rows, mut result) = PADDED.take();
    let xs = x.floats();
    rows.clear();
    rows.extend((0..m).flat_map(|i| (0..k).map(move |p| xs[i * x.row + p * x.column])));
    rows.resize(PADDED_ROWS * k, 0.0);
    result.clear();
    if out == Out::Add {
        result.extend_from_slice(y);
    }
    result.resize(PADDED_ROWS * n, 0.0);
    let padded = Matrix::new(&rows, k);
    cut([PADDED_ROWS, n, k], padded, w, &mut result, out);
    y.copy_from_slice(&result[..m * n]);
    PADDED.set((rows, result));
}

/// A product in pieces along the inner axis.
fn cut([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: &mut [f32], out: Out) {
    for start in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - start);
        let (x, w) = (x.skip_columns(start), w.skip_rows(start));
        debug_assert!(x.reaches(m, depth) && w.reaches(depth, n) && y.len() == m * n);
        let add = out == Out::Add || start > 0;
        // SAFETY: `super::product` has checked that both operands reach their last element and that
        // `y` holds m rows of n values; `y` is borrowed mutably, so nothing overlaps it. Covered by
        // `matches_float64`.
        unsafe { call([m, n, depth], x, w, y.as_mut_ptr(), add) };
    }
}

#[cfg(not(feature = "matrixmultiply"))]
unsafe fn call([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: *mut f32, add: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y,
            1,
            n as isize,
            add,
            x.floats().as_ptr(),
            x.column as isize,
            x.row as isize,
            w.floats().as_ptr(),
            w.column as isize,
            w.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(feature = "matrixmultiply")]
unsafe fn call([m, n, k]: [usize; 3], x: Matrix, w: Matrix, y: *mut f32, add: bool) {
    let (x_steps, w_steps) = ([x.row as isize, x.column as isize], [w.row as isize, w.column as isize]);
    let (x, w) = (x.floats().as_ptr(), w.floats().as_ptr());
    let keep = if add { 1.0 } else { 0.0 };
    // SAFETY: the caller's promise.
    unsafe {
        matrixmultiply::sgemm(
            m, k, n, 1.0, x, x_steps[0], x_steps[1], w, w_steps[0], w_steps[1], keep, y, n as isize, 1,
        );
    }
}
