//! Where the training of towers that are compared by cosine begins: in closed form, with whitened vectors.
//!
//! What an encoder says of texts differs most along a few directions that mean little, and cosines see nothing
//! else. Whitening (Su et al. 2021) takes `z = L⁻¹ (x - mean)` with `L Lᵀ` the covariance of the training texts, so
//! that every direction counts the same. The line from cosines to labels then follows by least squares.

use fnet_encoder::{Head, Model, Pairs, Workspace};

use crate::error::Result;
use crate::tasks::dataset::{INFERENCE_TOKENS, predict, run_batches};
use crate::tasks::encoding::Example;

/// Examples that the covariance is taken of.
const MOST_EXAMPLES: usize = 4_000;
/// Added to the covariance's diagonal, as a part of its mean: directions that few texts use stay small.
const RIDGE: f64 = 0.01;

/// Sets the pooler and the output of a model whose towers are compared by cosine; others stay as they are.
///
/// # Errors
/// If an example does not fit the model.
pub fn start(model: &mut Model, examples: &[Example], w: &mut Workspace) -> Result<()> {
    let compares = model.head() == Head::Regression && model.config().classifier_pairs != Pairs::Together;
    if !compares || examples.is_empty() {
        return Ok(());
    }
    let step = examples.len().div_ceil(MOST_EXAMPLES);
    let sample: Vec<Example> = examples.iter().step_by(step).cloned().collect();
    let (width, hidden) = (model.pooled_width(), model.config().hidden_size);
    let mut texts = Vec::new();
    run_batches(model, &sample, INFERENCE_TOKENS, w, |batch, _, w| {
        texts.extend_from_slice(model.pooled(batch, w));
        Ok(())
    })?;
    let prefix = format!("{}.pooler.dense", model.config().model_type);
    for first in (0..width).step_by(hidden) {
        let Some((weight, bias)) = whiten(&texts, width, first, hidden) else { continue };
        let parameters = model.parameters_mut();
        if let Some(matrix) = parameters.get_mut(&format!("{prefix}.weight")) {
            for (row, values) in matrix.chunks_exact_mut(width).skip(first).zip(weight.chunks_exact(hidden)) {
                row.fill(0.0);
                row[first..first + hidden].copy_from_slice(values);
            }
        }
        if let Some(vector) = parameters.get_mut(&format!("{prefix}.bias")) {
            vector[first..first + hidden].copy_from_slice(&bias);
        }
    }
    set_line(model, 1.0, 0.0);
    let cosines = predict(model, &sample, INFERENCE_TOKENS, w, |_| {})?;
    let (slope, offset) = line(cosines.iter().zip(&sample).map(|(x, e)| (f64::from(*x), f64::from(e.label))));
    set_line(model, slope as f32, offset as f32);
    Ok(())
}

fn set_line(model: &mut Model, slope: f32, offset: f32) {
    for (name, value) in [("classifier.weight", slope), ("classifier.bias", offset)] {
        if let Some(values) = model.parameters_mut().get_mut(name) {
            values.fill(value);
        }
    }
}

/// Slope and offset of the line through points, by least squares; flat where they stand above each other.
fn line(points: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let n = points.clone().count().max(1) as f64;
    let (x_mean, y_mean) = points.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (xx, xy) = points.fold((0.0, 0.0), |(xx, xy), (x, y)| {
        (xx + (x - x_mean).powi(2), xy + (x - x_mean) * (y - y_mean))
    });
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    (slope, y_mean - slope * x_mean)
}

/// The matrix `[count, count]` and the bias that whiten columns `first..first + count` of `rows`; `None` where
/// their covariance has no inverse.
fn whiten(rows: &[f32], width: usize, first: usize, count: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let part = |row: &[f32]| -> Vec<f64> { row[first..first + count].iter().map(|v| f64::from(*v)).collect() };
    let n = (rows.len() / width).max(1) as f64;
    let mut mean = vec![0.0; count];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(part(row)).for_each(|(m, v)| *m += v / n);
    }
    // The lower half is enough.
    let mut covariance = vec![0.0; count * count];
    for row in rows.chunks_exact(width) {
        let centred: Vec<f64> = part(row).iter().zip(&mean).map(|(v, m)| v - m).collect();
        for (i, a) in centred.iter().enumerate() {
            let line = &mut covariance[i * count..][..=i];
            line.iter_mut().zip(&centred).for_each(|(c, b)| *c += a * b / n);
        }
    }
    let trace: f64 = (0..count).map(|i| covariance[i * (count + 1)]).sum();
    (0..count).for_each(|i| covariance[i * (count + 1)] += RIDGE * trace / count as f64);
    let inverse = invert_lower(&cholesky(covariance, count)?, count);
    let bias = inverse.chunks_exact(count).map(|row| {
        let moved: f64 = row.iter().zip(&mean).map(|(w, m)| w * m).sum();
        -moved as f32
    });
    Some((inverse.iter().map(|v| *v as f32).collect(), bias.collect()))
}

/// `L` with `L Lᵀ` the matrix of which `a` holds the lower half; `None` where it is not positive definite.
fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let left = a[i * n + j] - known;
            if i == j && !(left > 0.0 && left.is_finite()) {
                return None;
            }
            a[i * n + j] = if i == j { left.sqrt() } else { left / a[j * n + j] };
        }
    }
    Some(a)
}

/// The inverse of a lower triangular matrix.
fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        inverse[i * n + i] = 1.0 / l[i * n + i];
        for k in 0..i {
            let factor = l[i * n + k] / l[i * n + i];
            for j in 0..=k {
                inverse[i * n + j] -= factor * inverse[k * n + j];
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitened_columns_have_no_mean_and_no_covariance() {
        let (width, first, count, n) = (7, 2, 4, 500);
        // Columns that lean on each other, from a generator of one's own.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = Vec::new();
        for _ in 0..n {
            let common = noise();
            rows.extend((0..width).map(|j| 3.0 + common * j as f32 + noise()));
        }
        let (weight, bias) = whiten(&rows, width, first, count).unwrap();
        let whitened: Vec<Vec<f32>> = rows
            .chunks_exact(width)
            .map(|row| {
                let x = &row[first..first + count];
                let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                weight.chunks_exact(count).zip(&bias).map(|(w, b)| dot(w) + b).collect()
            })
            .collect();
        for i in 0..count {
            let mean = whitened.iter().map(|z| z[i]).sum::<f32>() / n as f32;
            assert!(mean.abs() < 1e-4, "{mean}");
            for j in 0..count {
                let covariance = whitened.iter().map(|z| z[i] * z[j]).sum::<f32>() / n as f32;
                // The ridge takes a little from the smallest directions.
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((covariance - expected).abs() < 0.2, "{i} {j}: {covariance}");
            }
        }
        assert!(whiten(&[f32::NAN; 14], 7, 0, 2).is_none());
        assert!(whiten(&[1.0; 14], 7, 0, 2).is_none(), "all texts alike");
    }

    #[test]
    fn a_line_through_points() {
        let (slope, offset) = line([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)].into_iter());
        assert!((slope - 2.0).abs() < 1e-12 && (offset - 1.0).abs() < 1e-12);
        assert_eq!(line([(1.0, 1.0), (1.0, 3.0)].into_iter()), (0.0, 2.0));
    }
}
