//! Where the training of towers begins: in closed form, with whitened vectors and their cosine.
//!
//! What an encoder says of texts differs most along a few directions that mean little, and cosines see nothing
//! else. Whitening (Su et al. 2021) takes `z = L⁻¹ (x - mean)` with `L Lᵀ` the covariance of the training texts, so
//! that every direction counts the same. From cosines to numbers leads the line of least squares, to classes linear
//! discriminant analysis (Hastie et al. 2009, section 4.3); all else that the output layer sees starts without weight.

use fnet_encoder::{Head, Model, Pairs, Workspace};

use crate::dense;
use crate::error::Result;
use crate::tasks::dataset::{INFERENCE_TOKENS, predict, run_batches};
use crate::tasks::encoding::Example;

/// Examples that the covariance is taken of.
const MOST_EXAMPLES: usize = 4_000;
/// Added to the covariance's diagonal, as a part of its mean: directions that few texts use stay small.
const RIDGE: f64 = 0.01;

/// Sets the pooler and the output layer of a model that reads pairs in towers; others stay as they are.
///
/// # Errors
/// If an example does not fit the model.
pub fn start(model: &mut Model, examples: &[Example], w: &mut Workspace) -> Result<()> {
    if model.config().classifier_pairs == Pairs::Together || examples.is_empty() {
        return Ok(());
    }
    let step = examples.len().div_ceil(MOST_EXAMPLES);
    let sample: Vec<Example> = examples.iter().step_by(step).cloned().collect();
    whiten_pooler(model, &sample, w)?;
    let outputs = model.head().outputs();
    set_output(model, &vec![(1.0, 0.0); outputs]);
    let cosines = predict(model, &sample, INFERENCE_TOKENS, w, |_| {})?;
    let points = cosines.chunks_exact(outputs).zip(&sample);
    let points: Vec<_> = points.map(|(y, example)| (f64::from(y[0]), example.label)).collect();
    let lines = match model.head() {
        Head::Regression => vec![line(&points)],
        _ => discriminants(&points, outputs),
    };
    set_output(model, &lines);
    Ok(())
}

/// Has the pooler whiten each vector that is read of a text.
fn whiten_pooler(model: &mut Model, sample: &[Example], w: &mut Workspace) -> Result<()> {
    let (width, hidden) = (model.pooled_width(), model.config().hidden_size);
    let mut texts = Vec::new();
    run_batches(model, sample, INFERENCE_TOKENS, w, |batch, _, w| {
        texts.extend_from_slice(model.pooled(batch, w));
        Ok(())
    })?;
    let name = format!("{}.pooler.dense", model.config().model_type);
    for first in (0..width).step_by(hidden) {
        let Some((weight, bias)) = whiten(&texts, width, first, hidden) else { continue };
        if let Some(matrix) = model.parameters_mut().get_mut(&format!("{name}.weight")) {
            for (row, values) in matrix.chunks_exact_mut(width).skip(first).zip(weight.chunks_exact(hidden)) {
                row.fill(0.0);
                row[first..first + hidden].copy_from_slice(values);
            }
        }
        if let Some(vector) = model.parameters_mut().get_mut(&format!("{name}.bias")) {
            vector[first..first + hidden].copy_from_slice(&bias);
        }
    }
    Ok(())
}

/// Has each output be a line of the cosine, the last of what it sees: slope and offset.
fn set_output(model: &mut Model, lines: &[(f64, f64)]) {
    if let Some(weight) = model.parameters_mut().get_mut("classifier.weight") {
        let inputs = weight.len() / lines.len().max(1);
        weight.fill(0.0);
        for (row, line) in weight.chunks_exact_mut(inputs).zip(lines) {
            row[inputs - 1] = line.0 as f32;
        }
    }
    if let Some(bias) = model.parameters_mut().get_mut("classifier.bias") {
        bias.iter_mut().zip(lines).for_each(|(b, line)| *b = line.1 as f32);
    }
}

/// Line of each class by linear discriminant analysis of one value: `x mean / variance + ln(share) - mean² / (2
/// variance)`, with the variance inside the classes.
fn discriminants(points: &[(f64, f32)], classes: usize) -> Vec<(f64, f64)> {
    let n = points.len().max(1) as f64;
    let (mut counts, mut means) = (vec![0.0; classes], vec![0.0; classes]);
    for (x, class) in points {
        counts[*class as usize] += 1.0;
        means[*class as usize] += x;
    }
    means.iter_mut().zip(&counts).for_each(|(mean, count)| *mean /= f64::max(*count, 1.0));
    let variance = points.iter().map(|(x, class)| (x - means[*class as usize]).powi(2)).sum::<f64>() / n;
    let variance = variance.max(1e-6);
    let of_class = |(mean, count): (&f64, &f64)| {
        // A class without rows is as likely as one with half of a row.
        (mean / variance, (count.max(0.5) / n).ln() - mean * mean / (2.0 * variance))
    };
    means.iter().zip(&counts).map(of_class).collect()
}

/// Slope and offset of the line through points, by least squares; flat where they stand above each other.
fn line(points: &[(f64, f32)]) -> (f64, f64) {
    let n = points.len().max(1) as f64;
    let (x_sum, y_sum) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + f64::from(*y)));
    let (x_mean, y_mean) = (x_sum / n, y_sum / n);
    let (xx, xy) = points.iter().fold((0.0, 0.0), |(xx, xy), (x, y)| {
        (xx + (x - x_mean).powi(2), xy + (x - x_mean) * (f64::from(*y) - y_mean))
    });
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    (slope, y_mean - slope * x_mean)
}

/// The matrix `[count, count]` and the bias that whiten columns `first..first + count` of `rows`; `None` where
/// their covariance has no inverse.
fn whiten(rows: &[f32], width: usize, first: usize, count: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let part =
        |row: &[f32]| -> Vec<f64> { row[first..first + count].iter().map(|v| f64::from(*v)).collect() };
    let texts: Vec<Vec<f64>> = rows.chunks_exact(width).map(part).collect();
    let mean = dense::mean(&texts, count);
    let mut covariance = dense::covariance(&texts, &mean);
    dense::add_ridge(&mut covariance, RIDGE);
    let inverse = dense::inverse_of_factor(&dense::cholesky(covariance, count)?, count);
    let bias = inverse.chunks_exact(count).map(|row| {
        let moved: f64 = row.iter().zip(&mean).map(|(w, m)| w * m).sum();
        -moved as f32
    });
    Some((inverse.iter().map(|v| *v as f32).collect(), bias.collect()))
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
        let (slope, offset) = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]);
        assert!((slope - 2.0).abs() < 1e-12 && (offset - 1.0).abs() < 1e-12);
        assert_eq!(line(&[(1.0, 1.0), (1.0, 3.0)]), (0.0, 2.0));
    }

    #[test]
    fn classes_meet_where_both_are_as_likely() {
        let points = [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, 1.0)];
        let lines = discriminants(&points, 3);
        let at = |x: f64| lines.iter().map(|l| l.0 * x + l.1).collect::<Vec<_>>();
        assert!((at(0.5)[0] - at(0.5)[1]).abs() < 1e-9, "{:?}", at(0.5));
        assert!(at(0.0)[0] > at(0.0)[1] && at(1.0)[1] > at(1.0)[0]);
        assert!(at(0.0)[2].is_finite());
        assert!(
            discriminants(&[(1.0, 0.0), (1.0, 1.0)], 2).iter().all(|l| l.0.is_finite() && l.1.is_finite())
        );
    }
}
