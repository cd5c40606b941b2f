//! What pooled vectors are standardised by: their mean and deviation over training signals.
//!
//! The mean over a signal's positions is nearly the same vector for every signal: on a random trunk its deviation is
//! about a hundredth of its size. Learning that by gradients takes many epochs; measuring it takes one pass. While what
//! is below is trained, mean and deviation follow it, as in batch normalisation (Ioffe and Szegedy 2015), from step to step
//! and without a gradient: otherwise a few steps of large weights move all signals out of tanh's range.

use std::ops::Range;

use fnet_encoder::{Model, Workspace};

use crate::data::signals::Source;
use crate::error::Result;
use crate::train::signals::pool;

/// Signals that are measured.
const MOST_SIGNALS: usize = 2_000;
/// Least deviation, as a part of the mean of all: what is constant in training must not be magnified.
const LEAST: f64 = 0.01;

/// Sets the mean and the deviation of a model that standardises what it pools; others are unchanged.
///
/// # Errors
/// If a signal does not fit the model.
pub fn start(model: &mut Model, source: &dyn Source, w: &mut Workspace) -> Result<()> {
    if !model.config().classifier_standardized || source.is_empty() {
        return Ok(());
    }
    let step = source.len().div_ceil(MOST_SIGNALS);
    let rows = pool(model, source, (0..source.len()).step_by(step), w)?;
    let (mean, deviation) = moments(&rows, model.pooled_width());
    set(model, &mean, &deviation);
    Ok(())
}

fn names(model: &Model) -> [String; 2] {
    ["mean", "deviation"].map(|name| format!("{}.pooler.{name}", model.config().model_type))
}

fn set(model: &mut Model, mean: &[f32], deviation: &[f32]) {
    for (name, values) in names(model).iter().zip([mean, deviation]) {
        if let Some(own) = model.parameters_mut().get_mut(name) {
            own.copy_from_slice(values);
        }
    }
}

/// Signals that count as much as all earlier ones, when mean and deviation follow.
const MEMORY: f64 = 1_000.0;

/// Where mean and deviation stand among the parameters of a model that has them.
pub fn places(model: &Model) -> Option<[Range<usize>; 2]> {
    let names = names(model);
    let range =
        |name: &String| model.parameters().table().iter().find(|t| t.name == *name).map(|t| t.range());
    Some([range(&names[0])?, range(&names[1])?])
}

/// Adds pooled vectors to the gradient, in the places of mean and deviation, which have none of their own: how far the
/// vectors are from the mean so far, and the squares of that. So the sums of all processes are added as gradients are.
pub fn measure(model: &Model, rows: &[f32], gradient: &mut [f32]) {
    let Some([mean, deviation]) = places(model) else { return };
    let so_far = &model.parameters().values()[mean.clone()];
    let (mut sum, mut square) = (vec![0.0_f64; so_far.len()], vec![0.0_f64; so_far.len()]);
    for row in rows.chunks_exact(so_far.len()) {
        for (j, (v, m)) in row.iter().zip(so_far).enumerate() {
            let off = f64::from(*v) - f64::from(*m);
            sum[j] += off;
            square[j] += off * off;
        }
    }
    for (place, sums) in [(mean, sum), (deviation, square)] {
        gradient[place].iter_mut().zip(sums).for_each(|(own, sum)| *own += sum as f32);
    }
}

/// Moves mean and deviation towards what was measured of so many vectors, which is then forgotten.
pub fn follow(model: &mut Model, gradient: &mut [f32], count: usize) {
    let Some([mean_place, deviation_place]) = places(model) else { return };
    let [sum, square] = [&mean_place, &deviation_place].map(|place| gradient[place.clone()].to_vec());
    [&mean_place, &deviation_place].into_iter().for_each(|place| gradient[place.clone()].fill(0.0));
    if square.iter().all(|square| *square == 0.0) {
        return; // nothing was measured
    }
    let (count, values) = (count as f64, model.parameters().values());
    let (mut mean, mut deviation) = (values[mean_place].to_vec(), values[deviation_place].to_vec());
    let part = count / (count + MEMORY);
    for j in 0..mean.len() {
        mean[j] += (part * f64::from(sum[j]) / count) as f32;
        let old = f64::from(deviation[j]).powi(2);
        deviation[j] = (old + part * (f64::from(square[j]) / count - old)).sqrt() as f32;
    }
    if let Some(least) = least(&deviation) {
        deviation.iter_mut().for_each(|d| *d = d.max(least));
        set(model, &mean, &deviation);
    }
}

/// The least deviation; `None` where nothing varies.
fn least(deviation: &[f32]) -> Option<f32> {
    let mean = deviation.iter().map(|d| f64::from(*d)).sum::<f64>() / deviation.len().max(1) as f64;
    let least = (LEAST * mean) as f32;
    (least > 0.0).then_some(least)
}

/// Mean and deviation of the columns of `[rows, width]`.
fn moments(rows: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (rows.len() / width).max(1) as f64;
    let (mut mean, mut square) = (vec![0.0_f64; width], vec![0.0_f64; width]);
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count);
    }
    for row in rows.chunks_exact(width) {
        let off = row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2) / count);
        square.iter_mut().zip(off).for_each(|(sum, off)| *sum += off);
    }
    let mut deviation: Vec<f32> = square.iter().map(|v| v.sqrt() as f32).collect();
    let least = least(&deviation);
    deviation.iter_mut().for_each(|d| *d = least.map_or(1.0, |least| d.max(least)));
    (mean.iter().map(|m| *m as f32).collect(), deviation)
}

#[cfg(test)]
mod tests {
    use fnet_encoder::{Head, ModelConfig};

    use super::*;

    #[test]
    fn columns_are_measured() {
        let (mean, deviation) = moments(&[1.0, 5.0, 3.0, 5.0], 2);
        assert_eq!((mean, deviation), (vec![2.0, 5.0], vec![1.0, 0.005]));
        assert_eq!(moments(&[4.0, 5.0], 2), (vec![4.0, 5.0], vec![1.0, 1.0]), "one signal says nothing");
    }

    #[test]
    fn steps_move_the_mean_and_the_deviation() {
        let preset = ModelConfig::preset("tiny").unwrap();
        let config = ModelConfig { vocab_size: 9, classifier_standardized: true, ..preset };
        let mut model = Model::new(config, Head::Classification { labels: 2 }, 1).unwrap();
        let width = model.pooled_width();
        let mut gradient = vec![0.0; model.parameters().len()];
        follow(&mut model, &mut gradient, 0);
        // Ones and threes, again and again: mean 2, deviation 1.
        for _ in 0..20_000 {
            measure(&model, &[vec![1.0; width], vec![3.0; width]].concat(), &mut gradient);
            follow(&mut model, &mut gradient, 2);
        }
        assert!(gradient.iter().all(|value| *value == 0.0));
        for (name, expected) in names(&model).iter().zip([2.0, 1.0]) {
            let values = model.parameters().get(name).unwrap();
            assert!(values.iter().all(|v| (v - expected).abs() < 1e-3), "{name} {}", values[0]);
        }
    }
}
