//! Other ways to mix tokens, on one thread, as one would write them with good libraries.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use realfft::{RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner, num_complex::Complex32};

/// The naive use of rustfft: complex FFTs along both axes with plain loops between them, the imaginary part
/// thrown away.
pub struct Complex2d {
    rows: Arc<dyn Fft<f32>>,
    columns: Arc<dyn Fft<f32>>,
}

impl Complex2d {
    pub fn new(seq_len: usize, hidden: usize) -> Self {
        let mut planner = FftPlanner::new();
        Self { rows: planner.plan_fft_forward(hidden), columns: planner.plan_fft_forward(seq_len) }
    }

    pub fn mix(&self, x: &[f32], y: &mut [f32]) {
        let (hidden, seq_len) = (self.rows.len(), self.columns.len());
        let sample = seq_len * hidden;
        for (x, y) in x.chunks_exact(sample).zip(y.chunks_exact_mut(sample)) {
            let mut z: Vec<_> = x.iter().map(|v| Complex32::new(*v, 0.0)).collect();
            self.rows.process(&mut z);
            let mut column = vec![Complex32::default(); seq_len];
            for j in 0..hidden {
                for n in 0..seq_len {
                    column[n] = z[n * hidden + j];
                }
                self.columns.process(&mut column);
                for k in 0..seq_len {
                    y[k * hidden + j] = column[k].re;
                }
            }
        }
    }
}

/// The careful use of realfft and rustfft: real FFTs along the hidden axis, complex ones along the sequence on half
/// of the columns, the other half by symmetry.
pub struct RealThenComplex {
    rows: Arc<dyn RealToComplex<f32>>,
    columns: Arc<dyn Fft<f32>>,
}

impl RealThenComplex {
    pub fn new(seq_len: usize, hidden: usize) -> Self {
        let rows = RealFftPlanner::new().plan_fft_forward(hidden);
        Self { rows, columns: FftPlanner::new().plan_fft_forward(seq_len) }
    }

    pub fn mix(&self, x: &[f32], y: &mut [f32]) {
        let (hidden, seq_len) = (self.rows.len(), self.columns.len());
        let (sample, half) = (seq_len * hidden, hidden / 2 + 1);
        let mut row = self.rows.make_input_vec();
        let mut z = vec![Complex32::default(); seq_len * half];
        let mut transposed = z.clone();
        for (x, y) in x.chunks_exact(sample).zip(y.chunks_exact_mut(sample)) {
            for (x, z) in x.chunks_exact(hidden).zip(z.chunks_exact_mut(half)) {
                row.copy_from_slice(x);
                self.rows.process(&mut row, z).expect("planned for these lengths");
            }
            transpose(&z, &mut transposed, seq_len, half);
            self.columns.process(&mut transposed);
            transpose(&transposed, &mut z, half, seq_len);
            for (k, y) in y.chunks_exact_mut(hidden).enumerate() {
                let opposite = &z[(seq_len - k) % seq_len * half..][..half];
                y[..half].iter_mut().zip(&z[k * half..]).for_each(|(y, z)| *y = z.re);
                y[half..].iter_mut().rev().zip(&opposite[1..]).for_each(|(y, z)| *y = z.re);
            }
        }
    }
}

fn transpose(from: &[Complex32], to: &mut [Complex32], rows: usize, columns: usize) {
    const TILE: usize = 16;
    for i0 in (0..rows).step_by(TILE) {
        for j0 in (0..columns).step_by(TILE) {
            for i in i0..rows.min(i0 + TILE) {
                for j in j0..columns.min(j0 + TILE) {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
}

/// The DFT by matrix products, `Re(F x F) = C x C - S x S`, as the original does for short sequences.
pub struct Products {
    sequence: [Array2<f32>; 2],
    hidden: [Array2<f32>; 2],
}

impl Products {
    pub fn new(seq_len: usize, hidden: usize) -> Self {
        let table = |len: usize, f: fn(f64) -> f64| {
            Array2::from_shape_fn((len, len), |(j, k)| {
                f(std::f64::consts::TAU * (j * k % len) as f64 / len as f64) as f32
            })
        };
        let both = |len| [table(len, f64::cos), table(len, f64::sin)];
        Self { sequence: both(seq_len), hidden: both(hidden) }
    }

    pub fn mix(&self, x: &[f32], y: &mut [f32]) {
        let shape = (self.sequence[0].nrows(), self.hidden[0].nrows());
        for (x, y) in x.chunks_exact(shape.0 * shape.1).zip(y.chunks_exact_mut(shape.0 * shape.1)) {
            let x = ArrayView2::from_shape(shape, x).expect("one sample");
            let mut y = ArrayViewMut2::from_shape(shape, y).expect("one sample");
            let [cos, sin] = [0, 1].map(|i| self.sequence[i].dot(&x.dot(&self.hidden[i])));
            y.assign(&(cos - sin));
        }
    }
}

/// Softmax attention of heads of 64 values over one sample, which serves as queries, keys and values; projections are left out.
pub fn attention(x: &[f32], y: &mut [f32], seq_len: usize, hidden: usize) {
    const HEAD: usize = 64;
    const QUERIES: usize = 128; // a block of scores stays in the cache
    let sample = seq_len * hidden;
    for (x, y) in x.chunks_exact(sample).zip(y.chunks_exact_mut(sample)) {
        let x = ArrayView2::from_shape((seq_len, hidden), x).expect("one sample");
        let mut y = ArrayViewMut2::from_shape((seq_len, hidden), y).expect("one sample");
        for head in (0..hidden).step_by(HEAD) {
            let x = x.slice(s![.., head..head + HEAD]);
            for first in (0..seq_len).step_by(QUERIES) {
                let rows = first..seq_len.min(first + QUERIES);
                let mut scores = x.slice(s![rows.clone(), ..]).dot(&x.t());
                for mut row in scores.rows_mut() {
                    let largest = row.fold(f32::MIN, |a, b| a.max(*b));
                    row.mapv_inplace(|v| ((v - largest) * 0.125).exp());
                    let sum = row.sum();
                    row /= sum;
                }
                y.slice_mut(s![rows, head..head + HEAD]).assign(&scores.dot(&x));
            }
        }
    }
}
