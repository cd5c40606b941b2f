//! Closed-form initialisation of towers: whitened vectors, their cosine, and words' matches.
//!
//! An encoder's text vectors differ most along a few directions that mean little, and cosines see nothing else.
//! Whitening (Su et al. 2021) takes `z = L⁻¹ (x - mean)` with `L Lᵀ` the covariance of the training texts, so that
//! every direction counts the same. Matched words are whitened in the same way, and weighted by `a / (a + share)`
//! of their share of all words (Arora et al. 2017, section 3). Cosines and matches are mapped to numbers by least
//! squares, to classes by linear discriminant analysis (Hastie et al. 2009, section 4.3); the output layer's other
//! inputs start with zero weight.

use fnet_encoder::pretrained::MULTI_LABEL;
use fnet_encoder::{Head, Model, Pairs, Workspace};

use crate::data::tasks::dataset::{INFERENCE_TOKENS, run_batches};
use crate::data::tasks::encoding::Example;
use crate::error::Result;
use crate::train::dense::{self, Weighted};

/// Examples that the covariance is computed from.
const MOST_EXAMPLES: usize = 4_000;
/// Added to the covariance's diagonal, as a fraction of its mean: directions that few texts use stay small.
const RIDGE: f64 = 0.01;

/// Sets the pooler and the output layer of a model that reads pairs in towers; others are unchanged.
///
/// # Errors
/// If an example does not fit the model.
pub fn start(model: &mut Model, examples: &[Example], w: &mut Workspace) -> Result<()> {
    if model.config().classifier_pairs == Pairs::Together || examples.is_empty() {
        return Ok(());
    }
    let step = examples.len().div_ceil(MOST_EXAMPLES);
    let sample: Vec<Example> = examples.iter().step_by(step).cloned().collect();
    let name = format!("{}.pooler.dense", model.config().model_type);
    whiten_blocks(model, &name, &sample, w)?;
    if model.config().classifier_matching {
        start_matching(model, &sample);
    }
    let seen = last_seen(model, &sample, w)?;
    let targets: Vec<f32> = sample.iter().flat_map(|example| example.target.iter().copied()).collect();
    let planes = match model.head() {
        Head::Regression => vec![least_squares(&seen, &targets)],
        _ if model.config().problem_type() == Some(MULTI_LABEL) => {
            let labels = model.head().outputs();
            let signs = |label: usize| targets.iter().skip(label).step_by(labels).map(|t| 2.0 * t - 1.0);
            (0..labels).map(|label| least_squares(&seen, &signs(label).collect::<Vec<_>>())).collect()
        }
        _ => discriminants(&seen, &targets, model.head().outputs()),
    };
    set_output(model, &planes);
    Ok(())
}

/// The last inputs of the output layer for each example: the cosine, and the matches if there are any.
fn last_seen(model: &Model, examples: &[Example], w: &mut Workspace) -> Result<Vec<Vec<f64>>> {
    let count = if model.config().classifier_matching { 3 } else { 1 };
    let mut seen = vec![Vec::new(); examples.len()];
    run_batches(model, examples, INFERENCE_TOKENS, w, |mut forward, numbers| {
        let rows = forward.seen_by_classifier()?;
        let width = (rows.len() / numbers.len().max(1)).max(count);
        for (row, i) in rows.chunks_exact(width).zip(numbers) {
            seen[*i as usize] = row[width - count..].iter().map(|v| f64::from(*v)).collect();
        }
        Ok(())
    })?;
    Ok(seen)
}

/// The share of all words at which a word has half of the largest weight.
const RARE: f64 = 1e-3;

/// Whitens matched words, and weights them by how rare they are in these examples.
fn start_matching(model: &mut Model, sample: &[Example]) {
    let (vocabulary, hidden) = (model.config().vocab_size, model.config().hidden_size);
    let mut counts = vec![0_u32; vocabulary];
    let tokens = sample.iter().flat_map(|e| &e.texts).flat_map(|text| &text.tokens);
    tokens.for_each(|id| counts[*id as usize] += 1);
    let all = f64::from(counts.iter().sum::<u32>().max(1));
    let share = |id: usize| f64::from(counts[id]) / all;
    if let Some(weight) = model.parameters_mut().get_mut("classifier.matching.weight") {
        weight.iter_mut().enumerate().for_each(|(id, w)| *w = (RARE / (RARE + share(id))) as f32);
    }
    let words = format!("{}.embeddings.word_embeddings.weight", model.config().model_type);
    let Some(table) = model.parameters().get(&words) else { return };
    let rows: Vec<Weighted> = (table.chunks_exact(hidden).enumerate())
        .filter(|(id, _)| counts[*id] > 0)
        .map(|(id, row)| (row.iter().map(|v| f64::from(*v)).collect(), share(id)))
        .collect();
    let Some((weight, bias)) = whiten(&rows, hidden) else { return };
    for (name, values) in [("weight", weight), ("bias", bias)] {
        if let Some(own) = model.parameters_mut().get_mut(&format!("classifier.matching.dense.{name}")) {
            own.copy_from_slice(&values);
        }
    }
}

/// Makes the dense layer `name` whiten each pooled vector of a text. What has no covariance to whiten by stays as it is.
pub fn whiten_blocks(model: &mut Model, name: &str, sample: &[Example], w: &mut Workspace) -> Result<()> {
    let (width, hidden) = (model.pooled_width(), model.config().hidden_size);
    if model.parameters().get(&format!("{name}.bias")).is_none_or(|bias| bias.len() != width) {
        return Ok(()); // not square
    }
    let mut texts = Vec::new();
    run_batches(model, sample, INFERENCE_TOKENS, w, |mut forward, _| {
        texts.extend_from_slice(forward.pooled());
        Ok(())
    })?;
    for first in (0..width).step_by(hidden) {
        let rows: Vec<Weighted> = (texts.chunks_exact(width))
            .map(|row| (row[first..first + hidden].iter().map(|v| f64::from(*v)).collect(), 1.0))
            .collect();
        let Some((weight, bias)) = whiten(&rows, hidden) else { continue };
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

/// A coefficient for each of a few inputs, and an offset.
type Plane = (Vec<f64>, f64);

/// Makes each output a plane over its last inputs.
fn set_output(model: &mut Model, planes: &[Plane]) {
    if let Some(weight) = model.parameters_mut().get_mut("classifier.weight") {
        let inputs = weight.len() / planes.len().max(1);
        weight.fill(0.0);
        for (row, (slopes, _)) in weight.chunks_exact_mut(inputs).zip(planes) {
            let last = inputs - slopes.len();
            row[last..].iter_mut().zip(slopes).for_each(|(w, slope)| *w = *slope as f32);
        }
    }
    if let Some(bias) = model.parameters_mut().get_mut("classifier.bias") {
        bias.iter_mut().zip(planes).for_each(|(b, plane)| *b = plane.1 as f32);
    }
}

/// Added to a covariance of cosines, so that it has an inverse if all are alike.
const LEAST_VARIANCE: f64 = 1e-6;

/// `L⁻¹` with `L Lᵀ` the covariance of rows around zero, each weighted by its share of the sum of all weights.
fn whitener(rows: &[Weighted], count: usize) -> Option<Vec<f64>> {
    let mut covariance = dense::covariance(rows, &vec![0.0; count]);
    (0..count).for_each(|i| covariance[i * (count + 1)] += LEAST_VARIANCE);
    Some(dense::inverse_of_factor(&dense::cholesky(covariance, count)?, count))
}

/// `S⁻¹ x = L⁻ᵀ L⁻¹ x` from the rows of `L⁻¹`.
fn solve(whitener: &[f64], x: &[f64]) -> Vec<f64> {
    let n = x.len();
    let rows = || whitener.chunks_exact(n.max(1));
    let inner: Vec<f64> = rows().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    (0..n).map(|j| rows().zip(&inner).map(|(row, z)| row[j] * z).sum()).collect()
}

/// Plane of each class by linear discriminant analysis: `x S⁻¹ mean + ln(share) - mean S⁻¹ mean / 2`, with the
/// covariance `S` inside the classes.
fn discriminants(points: &[Vec<f64>], labels: &[f32], classes: usize) -> Vec<Plane> {
    let (n, count) = (points.len().max(1) as f64, points.first().map_or(0, Vec::len));
    let of_class = |class: usize| -> Vec<Weighted> {
        let own = points.iter().zip(labels).filter(|(_, label)| **label as usize == class);
        own.map(|(x, _)| (x.clone(), 1.0)).collect()
    };
    let rows: Vec<_> = (0..classes).map(of_class).collect();
    let means: Vec<Vec<f64>> = rows.iter().map(|rows| dense::mean(rows, count)).collect();
    let inside = rows.iter().zip(&means).flat_map(|(rows, mean)| {
        rows.iter().map(move |(x, w)| (x.iter().zip(mean).map(|(x, m)| x - m).collect(), *w))
    });
    let Some(whitener) = whitener(&inside.collect::<Vec<_>>(), count) else {
        return vec![(vec![0.0; count], 0.0); classes];
    };
    let plane = |(mean, rows): (&Vec<f64>, &Vec<Weighted>)| {
        let slopes = solve(&whitener, mean);
        let half: f64 = slopes.iter().zip(mean).map(|(s, m)| s * m / 2.0).sum();
        // A class without rows is as likely as one with half of a row.
        (slopes, ((rows.len() as f64).max(0.5) / n).ln() - half)
    };
    means.iter().zip(&rows).map(plane).collect()
}

/// The plane of least squares through points.
fn least_squares(points: &[Vec<f64>], labels: &[f32]) -> Plane {
    let count = points.first().map_or(0, Vec::len);
    let rows: Vec<Weighted> = points.iter().map(|x| (x.clone(), 1.0)).collect();
    let x_mean = dense::mean(&rows, count);
    let n = labels.len().max(1) as f64;
    let y_mean = labels.iter().map(|y| f64::from(*y)).sum::<f64>() / n;
    let centred: Vec<Weighted> =
        points.iter().map(|x| (x.iter().zip(&x_mean).map(|(x, m)| x - m).collect(), 1.0)).collect();
    let Some(whitener) = whitener(&centred, count) else { return (vec![0.0; count], y_mean) };
    let mut both = vec![0.0; count];
    for ((x, _), y) in centred.iter().zip(labels) {
        both.iter_mut().zip(x).for_each(|(sum, x)| *sum += x * (f64::from(*y) - y_mean) / n);
    }
    let slopes = solve(&whitener, &both);
    let offset = y_mean - slopes.iter().zip(&x_mean).map(|(s, m)| s * m).sum::<f64>();
    (slopes, offset)
}

/// The matrix `[count, count]` and the bias that whiten weighted rows; `None` if their covariance has no inverse.
fn whiten(rows: &[Weighted], count: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    let mean = dense::mean(rows, count);
    let mut covariance = dense::covariance(rows, &mean);
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
        let (count, n) = (4, 500);
        // Correlated columns, from a small generator.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows = Vec::new();
        for _ in 0..n {
            let common = noise();
            let row = (0..count).map(|j| f64::from(3.0 + common * j as f32 + noise()));
            rows.push((row.collect(), 1.0));
        }
        let (weight, bias) = whiten(&rows, count).unwrap();
        let whitened: Vec<Vec<f32>> = rows
            .iter()
            .map(|(x, _)| {
                let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * *x as f32).sum::<f32>();
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
        // Twice the weight is as good as twice the row.
        let mut twice = rows.clone();
        twice.extend(rows[..100].to_vec());
        rows[..100].iter_mut().for_each(|(_, weight)| *weight = 2.0);
        let (a, b) = (whiten(&rows, count).unwrap().0, whiten(&twice, count).unwrap().0);
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(whiten(&[(vec![f64::NAN; 2], 1.0), (vec![1.0; 2], 1.0)], 2).is_none());
        assert!(whiten(&[(vec![1.0; 2], 1.0), (vec![1.0; 2], 1.0)], 2).is_none(), "all texts alike");
    }

    #[test]
    fn a_plane_through_points() {
        let points = [vec![0.0, 1.0], vec![1.0, 0.0], vec![2.0, 5.0], vec![-1.0, 2.0]];
        let labels: Vec<f32> = points.iter().map(|p| (2.0 * p[0] - p[1] + 3.0) as f32).collect();
        let (slopes, offset) = least_squares(&points, &labels);
        assert!((slopes[0] - 2.0).abs() < 1e-4 && (slopes[1] + 1.0).abs() < 1e-4, "{slopes:?}");
        assert!((offset - 3.0).abs() < 1e-4);
        let (slopes, offset) = least_squares(&[vec![1.0], vec![1.0]], &[1.0, 3.0]);
        assert!(slopes[0] == 0.0 && (offset - 2.0).abs() < 1e-12);
    }

    #[test]
    fn classes_meet_where_both_are_as_likely() {
        let points = [-1.0, 0.0, 1.0, 2.0].map(|x| vec![x]);
        let planes = discriminants(&points, &[0.0, 0.0, 1.0, 1.0], 3);
        let at = |x: f64| planes.iter().map(|p| p.0[0] * x + p.1).collect::<Vec<_>>();
        assert!((at(0.5)[0] - at(0.5)[1]).abs() < 1e-9, "{:?}", at(0.5));
        assert!(at(0.0)[0] > at(0.0)[1] && at(1.0)[1] > at(1.0)[0]);
        assert!(at(0.0)[2].is_finite());
        let alike = discriminants(&[vec![1.0], vec![1.0]], &[0.0, 1.0], 2);
        assert!(alike.iter().all(|p| p.0[0].is_finite() && p.1.is_finite()));
    }
}
