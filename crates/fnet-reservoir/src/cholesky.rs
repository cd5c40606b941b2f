//! Cholesky factors of large symmetric matrices, block by block, with the same bytes at any number of threads.

use ndarray::{Array2, ArrayView1, Axis, linalg::general_mat_mul, s};
use rayon::prelude::*;

/// Columns of a block.
const BLOCK: usize = 96;

/// `L` with `L Lᵀ = A`; above the diagonal is nothing of meaning.
pub struct Cholesky {
    l: Array2<f64>,
}

impl Cholesky {
    /// Factors the matrix of which `a` holds the lower half; `None` where it is not positive definite.
    pub fn of(mut a: Array2<f64>) -> Option<Self> {
        let n = a.nrows();
        for first in (0..n).step_by(BLOCK) {
            let end = (first + BLOCK).min(n);
            factor_block(&mut a, first, end)?;
            let (top, mut below) = a.view_mut().split_at(Axis(0), end);
            let block = top.slice(s![first.., first..end]);
            below.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut row| {
                for j in first..end {
                    let known = dot(row.slice(s![first..j]), block.row(j - first).slice(s![..j - first]));
                    row[j] = (row[j] - known) / block[[j - first, j - first]];
                }
            });
            let panel = a.slice(s![end.., first..end]).to_owned();
            let mut rest = a.slice_mut(s![end.., end..]);
            rest.axis_chunks_iter_mut(Axis(1), BLOCK).into_par_iter().enumerate().for_each(
                |(i, mut columns)| {
                    let from = i * BLOCK;
                    let mut below = columns.slice_mut(s![from.., ..]);
                    let own = panel.slice(s![from..from + below.ncols(), ..]);
                    general_mat_mul(-1.0, &panel.slice(s![from.., ..]), &own.t(), 1.0, &mut below);
                },
            );
        }
        Some(Self { l: a })
    }

    /// `X` with `A X = B`.
    pub fn solve(&self, mut b: Array2<f64>) -> Array2<f64> {
        let (l, n) = (&self.l, self.l.nrows());
        b.axis_iter_mut(Axis(1)).into_par_iter().for_each(|mut column| {
            let mut x = column.to_owned();
            for i in 0..n {
                x[i] = (x[i] - dot(l.row(i).slice(s![..i]), x.slice(s![..i]))) / l[[i, i]];
            }
            for i in (0..n).rev() {
                let value = x[i] / l[[i, i]];
                x[i] = value;
                // By rows of L, which lie together.
                x.slice_mut(s![..i]).scaled_add(-value, &l.row(i).slice(s![..i]));
            }
            column.assign(&x);
        });
        b
    }

    /// `tr A⁻¹`, the sum of the squares of `L⁻¹`, whose columns are found a block at a time.
    pub fn trace_of_inverse(&self) -> f64 {
        let (l, n) = (&self.l, self.l.nrows());
        let columns = |first: usize| {
            let width = BLOCK.min(n - first);
            let mut x = Array2::<f64>::zeros((n - first, width));
            for top in (first..n).step_by(BLOCK) {
                let end = (top + BLOCK).min(n);
                let (above, mut own) = x.view_mut().split_at(Axis(0), top - first);
                let mut own = own.slice_mut(s![..end - top, ..]);
                general_mat_mul(-1.0, &l.slice(s![top..end, first..top]), &above, 0.0, &mut own);
                for i in top..end {
                    if top == first {
                        own[[i - top, i - top]] = 1.0;
                    }
                    for k in top..i {
                        let (before, mut rows) = own.view_mut().split_at(Axis(0), i - top);
                        rows.row_mut(0).scaled_add(-l[[i, k]], &before.row(k - top));
                    }
                    own.row_mut(i - top).mapv_inplace(|v| v / l[[i, i]]);
                }
            }
            x.iter().map(|v| v * v).sum()
        };
        let squares: Vec<f64> =
            (0..n).step_by(BLOCK).collect::<Vec<_>>().into_par_iter().map(columns).collect();
        squares.iter().sum()
    }
}

fn factor_block(a: &mut Array2<f64>, first: usize, end: usize) -> Option<()> {
    for i in first..end {
        for j in first..=i {
            let known = dot(a.row(i).slice(s![first..j]), a.row(j).slice(s![first..j]));
            let left = a[[i, j]] - known;
            if i == j && !(left > 0.0 && left.is_finite()) {
                return None;
            }
            a[[i, j]] = if i == j { left.sqrt() } else { left / a[[j, j]] };
        }
    }
    Some(())
}

/// In eight sums, so that the CPU can add them side by side.
fn dot(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    match (a.as_slice(), b.as_slice()) {
        (Some(a), Some(b)) => {
            let mut sums = [0.0; 8];
            let (a, rest_a) = a.as_chunks::<8>();
            let (b, rest_b) = b.as_chunks::<8>();
            for (a, b) in a.iter().zip(b) {
                (0..8).for_each(|k| sums[k] += a[k] * b[k]);
            }
            let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
            sums.iter().sum::<f64>() + rest
        }
        _ => a.iter().zip(&b).map(|(a, b)| a * b).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_of_several_blocks_is_solved() {
        for n in [1, 7, 96, 97, 250] {
            // Symmetric and positive definite: a decaying kernel with something on the diagonal.
            let of = |i: usize, j: usize| {
                (-0.05 * (i as f64 - j as f64).abs()).exp() + if i == j { 0.5 } else { 0.0 }
            };
            let a = Array2::from_shape_fn((n, n), |(i, j)| of(i, j));
            let x = Array2::from_shape_fn((n, 2), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0);
            let lower = Array2::from_shape_fn((n, n), |(i, j)| if j <= i { of(i, j) } else { f64::NAN });
            let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let solved = [1, 3].map(|threads| {
                pool(threads).install(|| {
                    let factor = Cholesky::of(lower.clone()).unwrap();
                    (factor.solve(a.dot(&x)), factor.trace_of_inverse(), factor.solve(Array2::eye(n)))
                })
            });
            assert_eq!(solved[0], solved[1], "threads change the bits");
            let (found, trace, inverse) = &solved[0];
            assert!((found - &x).iter().all(|d| d.abs() < 1e-9), "{n}");
            assert!((inverse.diag().sum() - trace).abs() < 1e-9 * trace, "{n}");
        }
        assert!(Cholesky::of(Array2::from_elem((2, 2), 1.0)).is_none());
        assert!(Cholesky::of(Array2::from_elem((2, 2), f64::NAN)).is_none());
    }
}
