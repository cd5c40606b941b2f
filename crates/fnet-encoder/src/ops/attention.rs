//! `o = softmax(q kᵀ / sqrt(d)) v` of one head and one sequence (Vaswani et al. 2017, equation 1), in blocks: no
//! more than 256 x 512 scores exist at once. The softmax of a row is carried from block to block (Milakov and
//! Gimelshein 2018; Dao et al. 2022, algorithms 1 and 4), and the backward pass recomputes the scores from one kept
//! value per row: the logarithm of its sum.

use crate::arch::{exp, multiversion, sum_by};
use crate::gemm::{Matrix, Out, multiply_on_this_thread};

/// Rows of q in a block.
const ROWS: usize = 256;
/// Rows of k and v in a block.
const COLUMNS: usize = 512;

/// One head's part of rows `stride` apart: `len` rows of `width` values.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The values, from the first one on.
    pub values: &'a [f32],
    /// Between rows.
    pub stride: usize,
    /// Rows.
    pub len: usize,
    /// Values in a row.
    pub width: usize,
}

impl<'a> Rows<'a> {
    fn matrix(self, first: usize) -> Matrix<'a> {
        Matrix::new(&self.values[first * self.stride..], self.stride)
    }

    fn row(self, i: usize) -> &'a [f32] {
        &self.values[i * self.stride..][..self.width]
    }
}

/// Scores of one block and their gradient, kept by the caller between calls.
#[derive(Default)]
pub struct Scores {
    scores: Vec<f32>,
    gradient: Vec<f32>,
}

fn blocks(len: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(size).map(move |first| (first, size.min(len - first)))
}

/// Fills `o` `[len, width]`, and `sums` with the logarithm of each row's sum of exponentials.
pub fn forward(q: Rows, k: Rows, v: Rows, o: &mut [f32], sums: &mut [f32], w: &mut Scores) {
    let (len, width) = (q.len, q.width);
    let scale = 1.0 / (width as f32).sqrt();
    for (top, rows) in blocks(len, ROWS) {
        let o = &mut o[top * width..][..rows * width];
        let sums = &mut sums[top..top + rows];
        let mut largest = [f32::NEG_INFINITY; ROWS];
        sums.fill(0.0);
        for (left, columns) in blocks(len, COLUMNS) {
            w.scores.resize(rows * columns, 0.0);
            let keys = k.matrix(left).transposed();
            multiply_on_this_thread([rows, columns, width], q.matrix(top), keys, &mut w.scores, Out::Set);
            let out = if left == 0 { Out::Set } else { Out::Add };
            for (i, scores) in w.scores.chunks_exact_mut(columns).enumerate() {
                let shrunk = softmax_part(scores, scale, &mut largest[i], &mut sums[i]);
                if out == Out::Add {
                    o[i * width..][..width].iter_mut().for_each(|o| *o *= shrunk);
                }
            }
            multiply_on_this_thread(
                [rows, width, columns],
                Matrix::new(&w.scores, columns),
                v.matrix(left),
                o,
                out,
            );
        }
        for ((o, sum), largest) in o.chunks_exact_mut(width).zip(sums).zip(largest) {
            let factor = 1.0 / *sum;
            o.iter_mut().for_each(|o| *o *= factor);
            *sum = largest + sum.ln();
        }
    }
}

multiversion! {
    /// `scores = exp(scale scores - largest so far)`; adds them to `sum`. Returns the factor by which the previous
    /// sum was scaled.
    fn softmax_part(scores: &mut [f32], scale: f32, largest: &mut f32, sum: &mut f32) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 32];
        let (whole, rest) = scores.as_chunks::<32>();
        for chunk in whole {
            for (lane, s) in lanes.iter_mut().zip(chunk) {
                *lane = if *s > *lane { *s } else { *lane };
            }
        }
        let here = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
        let now = largest.max(scale * here);
        for s in scores.iter_mut() {
            *s = exp(scale * *s - now);
        }
        let shrunk = exp(*largest - now);
        *sum = *sum * shrunk + sum_by(scores.len(), |i| scores[i]);
        *largest = now;
        shrunk
    }
}

/// Fills `dq`, `dk` and `dv`, each `[len, width]`, from `d_o`, `o` and what `forward` left in `sums`.
#[allow(clippy::too_many_arguments)] // values and gradients, each in its buffer
pub fn backward(
    [q, k, v]: [Rows; 3],
    [o, d_o]: [Rows; 2],
    sums: &[f32],
    [dq, dk, dv]: [&mut [f32]; 3],
    w: &mut Scores,
) {
    let (len, width) = (q.len, q.width);
    let scale = 1.0 / (width as f32).sqrt();
    for (top, rows) in blocks(len, ROWS) {
        let dq = &mut dq[top * width..][..rows * width];
        for (left, columns) in blocks(len, COLUMNS) {
            let (wide, high) = ([rows, columns, width], [columns, width, rows]);
            w.scores.resize(rows * columns, 0.0);
            w.gradient.resize(rows * columns, 0.0);
            multiply_on_this_thread(
                wide,
                q.matrix(top),
                k.matrix(left).transposed(),
                &mut w.scores,
                Out::Set,
            );
            multiply_on_this_thread(
                wide,
                d_o.matrix(top),
                v.matrix(left).transposed(),
                &mut w.gradient,
                Out::Set,
            );
            let both = w.scores.chunks_exact_mut(columns).zip(w.gradient.chunks_exact_mut(columns));
            for (i, (scores, gradient)) in both.enumerate() {
                let (o, d_o) = (o.row(top + i), d_o.row(top + i));
                let mean = o.iter().zip(d_o).fold(0.0, |sum, (o, d)| sum + o * d);
                softmax_backward(scores, gradient, scale, sums[top + i], mean);
            }
            let probabilities = Matrix::new(&w.scores, columns);
            let gradient = Matrix::new(&w.gradient, columns);
            let out = |first: usize| if first == 0 { Out::Set } else { Out::Add };
            let (dk, dv) =
                (&mut dk[left * width..][..columns * width], &mut dv[left * width..][..columns * width]);
            multiply_on_this_thread(high, probabilities.transposed(), d_o.matrix(top), dv, out(top));
            multiply_on_this_thread(high, gradient.transposed(), q.matrix(top), dk, out(top));
            multiply_on_this_thread([rows, width, columns], gradient, k.matrix(left), dq, out(left));
        }
    }
}

multiversion! {
    /// `scores = p = exp(scale scores - sum)`, `gradient = scale p (gradient - mean)`
    fn softmax_backward(scores: &mut [f32], gradient: &mut [f32], scale: f32, sum: f32, mean: f32) {
        for (s, g) in scores.iter_mut().zip(gradient) {
            let p = exp(scale * *s - sum);
            *s = p;
            *g = scale * p * (*g - mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    fn rows(values: &[f32], width: usize) -> Rows<'_> {
        Rows { values, stride: width, len: values.len() / width, width }
    }

    fn run(q: &[f32], k: &[f32], v: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut o, mut sums) = (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / width]);
        let [q, k, v] = [q, k, v].map(|x| rows(x, width));
        forward(q, k, v, &mut o, &mut sums, &mut Scores::default());
        (o, sums)
    }

    #[test]
    fn matches_the_formula_and_its_gradients() {
        for (len, width) in [(1, 1), (1, 8), (3, 5), (65, 16), (600, 7), (1030, 3)] {
            let [q, k, v, d_o] = [1, 2, 3, 4]
                .map(|seed| noise(len * width, seed).iter().map(|v| 2.0 * v).collect::<Vec<f32>>());
            let (o, sums) = run(&q, &k, &v, width);
            for i in [0, len / 2, len - 1] {
                let dot = |j: usize| -> f64 {
                    let of = |m: &[f32], i: usize, c: usize| f64::from(m[i * width + c]);
                    (0..width).map(|c| of(&q, i, c) * of(&k, j, c)).sum::<f64>() / (width as f64).sqrt()
                };
                let weights: Vec<f64> = (0..len).map(|j| dot(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..width {
                    let exact =
                        (0..len).map(|j| weights[j] * f64::from(v[j * width + c])).sum::<f64>() / total;
                    assert!((f64::from(o[i * width + c]) - exact).abs() < 1e-5, "{len} x {width}");
                }
            }
            let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![f32::NAN; len * width]);
            let (all, results) = ([&q, &k, &v].map(|x| rows(x, width)), [&o, &d_o].map(|x| rows(x, width)));
            backward(all, results, &sums, [&mut dq, &mut dk, &mut dv], &mut Scores::default());
            if len > 1 {
                check_gradient("q", &q, &dq, &d_o, |q| run(q, &k, &v, width).0);
                check_gradient("k", &k, &dk, &d_o, |k| run(&q, k, &v, width).0);
            }
            check_gradient("v", &v, &dv, &d_o, |v| run(&q, &k, v, width).0);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let (q, v) = ([100.0, 0.0, -100.0], [1.0, 2.0, 3.0]);
        let (o, sums) = run(&q, &q, &v, 1);
        assert!((o[0] - 1.0).abs() < 1e-6 && (o[1] - 2.0).abs() < 1e-6 && (o[2] - 3.0).abs() < 1e-6);
        assert!(sums.iter().all(|s| s.is_finite()));
        assert!(run(&[f32::NAN], &[1.0], &[1.0], 1).0[0].is_nan());
    }
}
