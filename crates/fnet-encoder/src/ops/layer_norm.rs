//! `y = gamma * (x - mean) / sqrt(variance + eps) + beta` over each row (Ba et al. 2016).

use rayon::prelude::*;

use crate::arch::{multiversion, sum_by};

/// Columns that one task of the parameter gradient handles.
const SUM_COLUMNS: usize = 64;
/// Rows summed before they are added to the total, which keeps rounding small.
const SUM_ROWS: usize = 128;

/// `(mean, 1 / standard deviation)` of a row, kept for the backward pass.
pub type Stats = [f32; 2];

/// `y = gamma * normalised(x) + beta`; fills `stats` with one entry a row.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32], stats: &mut [Stats]) {
    let width = gamma.len();
    let rows = super::task_rows(width);
    (y.par_chunks_mut(rows * width), x.par_chunks(rows * width), stats.par_chunks_mut(rows))
        .into_par_iter()
        .for_each(|(y, x, stats)| forward_rows(x, gamma, beta, eps, y, stats));
}

multiversion! {
    fn forward_rows(
        x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32], stats: &mut [Stats],
    ) {
        let width = gamma.len();
        for ((x, y), stats) in
            x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(stats)
        {
            let mean = sum_by(width, |i| x[i]) / width as f32;
            let variance = sum_by(width, |i| (x[i] - mean) * (x[i] - mean)) / width as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            *stats = [mean, scale];
            for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = (x - mean) * scale * gamma + beta;
            }
        }
    }
}

/// `dx = scale * (g - mean(g) - n * mean(g * n))` with `g = dy * gamma` and `n` the normalised row.
pub fn backward_input(dy: &[f32], x: &[f32], stats: &[Stats], gamma: &[f32], dx: &mut [f32]) {
    let width = gamma.len();
    let rows = super::task_rows(width);
    (
        dx.par_chunks_mut(rows * width),
        dy.par_chunks(rows * width),
        x.par_chunks(rows * width),
        stats.par_chunks(rows),
    )
        .into_par_iter()
        .for_each(|(dx, dy, x, stats)| backward_rows(dy, x, stats, gamma, dx));
}

multiversion! {
    fn backward_rows(dy: &[f32], x: &[f32], stats: &[Stats], gamma: &[f32], dx: &mut [f32]) {
        let width = gamma.len();
        for (((dy, x), dx), [mean, scale]) in dy
            .chunks_exact(width)
            .zip(x.chunks_exact(width))
            .zip(dx.chunks_exact_mut(width))
            .zip(stats)
        {
            let g_mean = sum_by(width, |i| dy[i] * gamma[i]) / width as f32;
            let gn_mean =
                sum_by(width, |i| dy[i] * gamma[i] * ((x[i] - mean) * scale)) / width as f32;
            for (((dx, dy), x), gamma) in dx.iter_mut().zip(dy).zip(x).zip(gamma) {
                *dx = scale * (dy * gamma - g_mean - (x - mean) * scale * gn_mean);
            }
        }
    }
}

/// `d_gamma += sum over rows of dy * n`, `d_beta += sum over rows of dy`.
pub fn backward_parameters(dy: &[f32], x: &[f32], stats: &[Stats], d_gamma: &mut [f32], d_beta: &mut [f32]) {
    let width = d_gamma.len();
    (d_gamma.par_chunks_mut(SUM_COLUMNS), d_beta.par_chunks_mut(SUM_COLUMNS))
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (d_gamma, d_beta))| {
            let first = i * SUM_COLUMNS;
            for ((dy, x), stats) in
                dy.chunks(SUM_ROWS * width).zip(x.chunks(SUM_ROWS * width)).zip(stats.chunks(SUM_ROWS))
            {
                parameter_sums(dy, x, stats, width, first, d_gamma, d_beta);
            }
        });
}

multiversion! {
    fn parameter_sums(
        dy: &[f32], x: &[f32], stats: &[Stats], width: usize, first: usize,
        d_gamma: &mut [f32], d_beta: &mut [f32],
    ) {
        let (mut gammas, mut betas) = ([0.0_f32; SUM_COLUMNS], [0.0_f32; SUM_COLUMNS]);
        let count = d_gamma.len();
        for ((dy, x), [mean, scale]) in
            dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(stats)
        {
            let (dy, x) = (&dy[first..][..count], &x[first..][..count]);
            for (((g, b), dy), x) in gammas.iter_mut().zip(&mut betas).zip(dy).zip(x) {
                *g += dy * ((x - mean) * scale);
                *b += dy;
            }
        }
        super::add(d_gamma, &gammas);
        super::add(d_beta, &betas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        for (tokens, width) in [(1, 5), (3, 7), (131, 33), (2, 130)] {
            let (x, dy) = (noise(tokens * width, 1), noise(tokens * width, 2));
            let (gamma, beta) = (noise(width, 3), noise(width, 4));
            let mut stats = vec![[0.0; 2]; tokens];
            let mut y = vec![0.0; x.len()];
            forward(&x, &gamma, &beta, 1e-12, &mut y, &mut stats);
            let run = |x: &[f32], gamma: &[f32], beta: &[f32]| {
                let mut y = vec![0.0; x.len()];
                forward(x, gamma, beta, 1e-12, &mut y, &mut vec![[0.0; 2]; tokens]);
                y
            };
            let mut dx = vec![0.0; x.len()];
            backward_input(&dy, &x, &stats, &gamma, &mut dx);
            let (mut dg, mut db) = (vec![0.0; width], vec![0.0; width]);
            backward_parameters(&dy, &x, &stats, &mut dg, &mut db);
            check_gradient("input", &x, &dx, &dy, |x| run(x, &gamma, &beta));
            check_gradient("gamma", &gamma, &dg, &dy, |g| run(&x, g, &beta));
            check_gradient("beta", &beta, &db, &dy, |b| run(&x, &gamma, b));
        }
    }

    #[test]
    fn rows_have_mean_zero_and_variance_one() {
        let x: Vec<f32> = noise(4 * 50, 7).iter().map(|v| 100.0 + v).collect();
        let mut y = vec![0.0; x.len()];
        forward(&x, &[1.0; 50], &[0.0; 50], 1e-12, &mut y, &mut [[0.0; 2]; 4]);
        for row in y.chunks(50) {
            let mean: f32 = row.iter().sum::<f32>() / 50.0;
            let variance: f32 = row.iter().map(|v| v * v).sum::<f32>() / 50.0;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3);
        }
    }
}
