//! `y = gamma * (x - mean) / sqrt(variance + eps) + beta` over each row (Ba et al. 2016), alone and
//! together with the sum that it follows.

use rayon::prelude::*;

use super::dropout::{Dropout, Mask};
use super::{SUM_ROWS, add_partial, clear_partial};
use crate::arch::{multiversion, sum_by, sums_by};

/// `(mean, 1 / standard deviation)` of a row, kept for the backward pass.
pub type Stats = [f32; 2];

/// A layer norm's scale `gamma`, shift `beta` and `eps`.
#[derive(Clone, Copy)]
pub struct Scale<'a> {
    /// Scale of each column.
    pub gamma: &'a [f32],
    /// Shift of each column.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// What is summed before a layer norm: `x = dropout(x + bias) + residual`.
#[derive(Clone, Copy)]
pub struct Sum<'a> {
    /// Added to each row; may be empty.
    pub bias: &'a [f32],
    /// Dropout and its site.
    pub dropout: Option<(Dropout, u32)>,
    /// Added to each value.
    pub residual: &'a [f32],
}

/// `y = norm(x)`; fills `stats` with one entry per row.
pub fn forward(x: &[f32], scale: Scale, y: &mut [f32], stats: &mut [Stats]) {
    let width = scale.gamma.len();
    let rows = super::task_rows(width);
    (y.par_chunks_mut(rows * width), x.par_chunks(rows * width), stats.par_chunks_mut(rows))
        .into_par_iter()
        .for_each(|(y, x, stats)| norm_rows(x, scale, y, stats));
}

/// `x = dropout(x + bias) + residual`, then `y = norm(x)`, in one pass.
pub fn forward_sum(x: &mut [f32], sum: Sum, scale: Scale, y: &mut [f32], stats: &mut [Stats]) {
    let width = scale.gamma.len();
    let rows = super::task_rows(width);
    let mask = sum.dropout.and_then(|(dropout, site)| dropout.mask(site));
    (
        y.par_chunks_mut(rows * width),
        x.par_chunks_mut(rows * width),
        sum.residual.par_chunks(rows * width),
        stats.par_chunks_mut(rows),
    )
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (y, x, residual, stats))| {
            let sum = Sum { residual, ..sum };
            sum_norm_rows(x, sum, mask, (i * rows * width) as u32, scale, y, stats);
        });
}

multiversion! {
    fn sum_norm_rows(
        x: &mut [f32], sum: Sum, mask: Option<Mask>, first: u32, scale: Scale, y: &mut [f32], stats: &mut [Stats],
    ) {
        let width = scale.gamma.len();
        let rows = x.chunks_exact_mut(width).zip(sum.residual.chunks_exact(width));
        for (row, ((x, residual), (y, stats))) in rows.zip(y.chunks_exact_mut(width).zip(stats)).enumerate() {
            super::add(x, sum.bias);
            if let Some(mask) = mask {
                mask.apply(first.wrapping_add((row * width) as u32), x);
            }
            super::add(x, residual);
            *stats = norm_row(x, scale, y);
        }
    }
}

multiversion! {
    pub(super) fn norm_rows(x: &[f32], scale: Scale, y: &mut [f32], stats: &mut [Stats]) {
        let width = scale.gamma.len();
        for ((x, y), stats) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(stats) {
            *stats = norm_row(x, scale, y);
        }
    }
}

#[inline(always)]
fn norm_row(x: &[f32], Scale { gamma, beta, eps }: Scale, y: &mut [f32]) -> Stats {
    let width = gamma.len();
    let mean = sum_by(width, |i| x[i]) / width as f32;
    let variance = sum_by(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
    let stats = [mean, 1.0 / (variance + eps).sqrt()];
    apply_row(x, stats, gamma, beta, y);
    stats
}

#[inline(always)]
fn apply_row(x: &[f32], [mean, scale]: Stats, gamma: &[f32], beta: &[f32], y: &mut [f32]) {
    for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
        *y = (x - mean) * scale * gamma + beta;
    }
}

/// `y = norm(x)` again, bit for bit, from the statistics.
pub fn forward_again(x: &[f32], stats: &[Stats], scale: Scale, y: &mut [f32]) {
    let width = scale.gamma.len();
    let rows = super::task_rows(width);
    (y.par_chunks_mut(rows * width), x.par_chunks(rows * width), stats.par_chunks(rows))
        .into_par_iter()
        .for_each(|(y, x, stats)| again_rows(x, stats, scale, y));
}

multiversion! {
    fn again_rows(x: &[f32], stats: &[Stats], scale: Scale, y: &mut [f32]) {
        let width = scale.gamma.len();
        for ((x, y), stats) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(stats) {
            apply_row(x, *stats, scale.gamma, scale.beta, y);
        }
    }
}

/// ScaleGradients of a layer norm's and its sum's parameters, which are added to; `None` where frozen.
#[derive(Default)]
pub struct ScaleGradients<'a> {
    /// `d_gamma += sum over rows of dy * n`, with `n` the normalised row.
    pub gamma: Option<&'a mut [f32]>,
    /// `d_beta += sum over rows of dy`
    pub beta: Option<&'a mut [f32]>,
    /// Of the bias in the sum before the norm.
    pub bias: Option<&'a mut [f32]>,
}

/// One block's sums.
struct Sums<'a> {
    gamma: &'a mut [f32],
    beta: &'a mut [f32],
    /// May be empty.
    bias: &'a mut [f32],
}

/// `dx = scale * (g - mean(g) - n * mean(g * n))` with `g = dy * gamma` and `n` the normalised row.
///
/// `dy` becomes the gradient of what dropout was applied to: `dx` with the same mask, or `dx`.
#[allow(clippy::too_many_arguments)] // an operation's values and gradients, each in its buffer
pub fn backward(
    dy: &mut [f32],
    x: &[f32],
    stats: &[Stats],
    gamma: &[f32],
    dropout: Option<(Dropout, u32)>,
    dx: &mut [f32],
    gradients: ScaleGradients,
    partial: &mut Vec<f32>,
) {
    let width = gamma.len();
    let mask = dropout.and_then(|(dropout, site)| dropout.mask(site));
    let bias_width = if gradients.bias.is_some() { width } else { 0 };
    let sums = 2 * width + bias_width;
    clear_partial(partial, stats.len(), sums);
    let values = SUM_ROWS * width;
    (
        dx.par_chunks_mut(values),
        dy.par_chunks_mut(values),
        x.par_chunks(values),
        stats.par_chunks(SUM_ROWS),
        partial.par_chunks_mut(sums),
    )
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (dx, dy, x, stats, sums))| {
            let (gamma_sums, rest) = sums.split_at_mut(width);
            let (beta, bias) = rest.split_at_mut(width);
            let sums = Sums { gamma: gamma_sums, beta, bias };
            backward_rows(dy, x, stats, gamma, mask, (i * values) as u32, dx, sums);
        });
    let ScaleGradients { gamma, beta, bias } = gradients;
    add_partial(partial, &mut [(width, gamma), (width, beta), (bias_width, bias)]);
}

multiversion! {
    fn backward_rows(
        dy: &mut [f32], x: &[f32], stats: &[Stats], gamma: &[f32], mask: Option<Mask>, first: u32,
        dx: &mut [f32], sums: Sums,
    ) {
        let width = gamma.len();
        let Sums { gamma: d_gamma, beta: d_beta, bias: d_bias } = sums;
        for (row, (((dy, x), dx), [mean, scale])) in dy
            .chunks_exact_mut(width)
            .zip(x.chunks_exact(width))
            .zip(dx.chunks_exact_mut(width))
            .zip(stats)
            .enumerate()
        {
            let normed = |x: f32| (x - mean) * scale;
            let sums = sums_by(width, |i| [dy[i] * gamma[i], dy[i] * gamma[i] * normed(x[i])]);
            let [g_mean, gn_mean] = sums.map(|sum| sum / width as f32);
            let sums = d_gamma.iter_mut().zip(d_beta.iter_mut());
            for ((((dx, dy), x), gamma), (d_gamma, d_beta)) in
                dx.iter_mut().zip(dy.iter_mut()).zip(x).zip(gamma).zip(sums)
            {
                let n = normed(*x);
                *d_gamma += *dy * n;
                *d_beta += *dy;
                *dx = scale * (*dy * gamma - g_mean - n * gn_mean);
                *dy = *dx;
            }
            if let Some(mask) = mask {
                mask.apply(first.wrapping_add((row * width) as u32), dy);
            }
            super::add(d_bias, dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    const SHAPES: [(usize, usize); 4] = [(1, 5), (3, 7), (131, 33), (2, 130)];

    #[test]
    fn gradients() {
        for ((tokens, width), rate) in SHAPES.into_iter().flat_map(|s| [(s, 0.0), (s, 0.2)]) {
            let (x, residual) = (noise(tokens * width, 1), noise(tokens * width, 5));
            let dy = noise(tokens * width, 2);
            let (gamma, beta, bias) = (noise(width, 3), noise(width, 4), noise(width, 6));
            let dropout = Some((Dropout { rate, key: 7 }, 3));
            let run = |x: &[f32], residual: &[f32], gamma: &[f32], beta: &[f32], bias: &[f32]| {
                let (mut sum, mut y) = (x.to_vec(), vec![0.0; x.len()]);
                let mut stats = vec![[0.0; 2]; tokens];
                let scale = Scale { gamma, beta, eps: 1e-12 };
                forward_sum(&mut sum, Sum { bias, dropout, residual }, scale, &mut y, &mut stats);
                (sum, y, stats)
            };
            let (sum, y, stats) = run(&x, &residual, &gamma, &beta, &bias);
            let mut again = vec![0.0; x.len()];
            forward_again(&sum, &stats, Scale { gamma: &gamma, beta: &beta, eps: 1e-12 }, &mut again);
            assert!(again == y);

            let (mut d_x, mut d_residual) = (dy.clone(), vec![0.0; x.len()]);
            let [mut dg, mut db, mut d_bias] = [(); 3].map(|()| vec![0.0; width]);
            let all = ScaleGradients { gamma: Some(&mut dg), beta: Some(&mut db), bias: Some(&mut d_bias) };
            backward(&mut d_x, &sum, &stats, &gamma, dropout, &mut d_residual, all, &mut Vec::new());
            check_gradient("input", &x, &d_x, &dy, |x| run(x, &residual, &gamma, &beta, &bias).1);
            check_gradient("residual", &residual, &d_residual, &dy, |r| run(&x, r, &gamma, &beta, &bias).1);
            check_gradient("gamma", &gamma, &dg, &dy, |g| run(&x, &residual, g, &beta, &bias).1);
            check_gradient("beta", &beta, &db, &dy, |b| run(&x, &residual, &gamma, b, &bias).1);
            check_gradient("bias", &bias, &d_bias, &dy, |b| run(&x, &residual, &gamma, &beta, b).1);
        }
    }

    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let x: Vec<f32> = noise(4 * 50, 7).iter().map(|v| 100.0 + v).collect();
        let mut y = vec![0.0; x.len()];
        let scale = Scale { gamma: &[1.0; 50], beta: &[0.0; 50], eps: 1e-12 };
        forward(&x, scale, &mut y, &mut [[0.0; 2]; 4]);
        for row in y.chunks(50) {
            let mean: f32 = row.iter().sum::<f32>() / 50.0;
            let variance: f32 = row.iter().map(|v| v * v).sum::<f32>() / 50.0;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3);
        }
    }
}
