//! Closed-form initialisation of what reads pooled vectors: their mean and deviation over the training signals.
//!
//! The mean over a signal's positions is nearly the same vector for every signal: on a random trunk its deviation is
//! about a hundredth of its size. Learning that by gradients takes many epochs; measuring it takes one pass.

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
    let prefix = model.config().model_type.clone();
    for (name, values) in [("mean", mean), ("deviation", deviation)] {
        if let Some(own) = model.parameters_mut().get_mut(&format!("{prefix}.pooler.{name}")) {
            own.copy_from_slice(&values);
        }
    }
    Ok(())
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
    let deviation: Vec<f64> = square.iter().map(|v| v.sqrt()).collect();
    let least = LEAST * deviation.iter().sum::<f64>() / width as f64;
    let of = |d: &f64| if least > 0.0 { d.max(least) as f32 } else { 1.0 };
    (mean.iter().map(|m| *m as f32).collect(), deviation.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_measured() {
        let (mean, deviation) = moments(&[1.0, 5.0, 3.0, 5.0], 2);
        assert_eq!((mean, deviation), (vec![2.0, 5.0], vec![1.0, 0.005]));
        assert_eq!(moments(&[4.0, 5.0], 2), (vec![4.0, 5.0], vec![1.0, 1.0]), "one signal says nothing");
    }
}
