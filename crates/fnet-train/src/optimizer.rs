//! AdamW on the flat buffer (Loshchilov and Hutter 2019, algorithm 2), with clipping by global norm.

use fnet_encoder::Parameters;
use fnet_encoder::ops::adamw::{self, Update};
use rayon::prelude::*;

/// Values a task handles; also the grain of the norm's sum, so it must not depend on threads.
const CHUNK: usize = 1 << 14;

/// Settings of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay, on weights but not on biases and norms.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// First and second moments of the trainable tensors, one after another: frozen ones need no memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// Zero moments for what is trainable now.
    pub fn new(parameters: &Parameters) -> Self {
        let len = parameters.trainable_len();
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

/// Euclidean norm of the trainable part of a gradient.
pub fn gradient_norm(parameters: &Parameters, gradients: &[f32]) -> f64 {
    let square = |t: &fnet_encoder::TensorInfo| -> f64 {
        let partial: Vec<f64> = gradients[t.range()]
            .par_chunks(CHUNK)
            .map(|chunk| {
                let rows = chunk.chunks(16);
                let mut lanes = [0.0_f64; 16];
                for row in rows {
                    for (lane, g) in lanes.iter_mut().zip(row) {
                        *lane += f64::from(*g) * f64::from(*g);
                    }
                }
                lanes.iter().sum()
            })
            .collect();
        partial.iter().sum()
    };
    parameters.table().iter().filter(|t| t.trainable).map(square).sum::<f64>().sqrt()
}

impl AdamW {
    /// One update, `step` counted from 1. Gradients are scaled by `gradient_scale` first, and left zero
    /// for the next step: one sweep reads and writes weights, moments and gradients once.
    pub fn step(
        &self,
        parameters: &mut Parameters,
        gradients: &mut [f32],
        moments: &mut Moments,
        step: u64,
        learning_rate: f32,
        gradient_scale: f32,
    ) {
        let exponent = i32::try_from(step).unwrap_or(i32::MAX);
        let correction1 = (1.0 - f64::from(self.beta1).powi(exponent)) as f32;
        let correction2 = ((1.0 - f64::from(self.beta2).powi(exponent)) as f32).sqrt();
        let table = parameters.table().to_vec();
        let mut first = 0;
        for tensor in table.iter().filter(|t| t.trainable) {
            let range = tensor.range();
            let kept = first..first + range.len();
            first = kept.end;
            let learning_rate = learning_rate * tensor.rate;
            let update = Update {
                beta1: self.beta1,
                beta2: self.beta2,
                gradient_scale,
                keep: if tensor.decays { 1.0 - learning_rate * self.weight_decay } else { 1.0 },
                rate: learning_rate * correction2 / correction1,
                epsilon: self.epsilon * correction2,
            };
            (
                parameters.values_mut()[range.clone()].par_chunks_mut(CHUNK),
                moments.first[kept.clone()].par_chunks_mut(CHUNK),
                moments.second[kept].par_chunks_mut(CHUNK),
                gradients[range].par_chunks_mut(CHUNK),
            )
                .into_par_iter()
                .for_each(|(w, m, v, gradients)| adamw::update(w, m, v, gradients, update));
        }
    }
}

/// How the learning rate goes on after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Straight down to zero.
    Linear,
    /// Half a cosine down to zero.
    Cosine,
    /// Stays.
    Constant,
}

/// Learning rate over a run: linear warm-up, then decay.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Part of the run that warms up, from 0 to 1.
    pub warm_up: f64,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// Learning rate where `progress` of the run (0 to 1) is done.
    pub fn at(&self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        if progress < self.warm_up {
            return self.learning_rate * progress / self.warm_up;
        }
        let rest = (progress - self.warm_up) / (1.0 - self.warm_up).max(1e-9);
        self.learning_rate
            * match self.decay {
                Decay::Linear => 1.0 - rest,
                Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * rest).cos()),
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_shapes() {
        let s = |decay| Schedule { learning_rate: 2.0, warm_up: 0.5, decay };
        for decay in [Decay::Linear, Decay::Cosine, Decay::Constant] {
            assert_eq!(s(decay).at(0.0), 0.0);
            assert_eq!(s(decay).at(0.25), 1.0);
            assert!((s(decay).at(0.5) - 2.0).abs() < 1e-9);
        }
        assert!((s(Decay::Linear).at(0.75) - 1.0).abs() < 1e-9);
        assert!((s(Decay::Cosine).at(0.75) - 1.0).abs() < 1e-9);
        assert_eq!(s(Decay::Constant).at(1.0), 2.0);
        assert_eq!(s(Decay::Linear).at(7.0), 0.0);
        let none = Schedule { learning_rate: 1.0, warm_up: 0.0, decay: Decay::Linear };
        assert_eq!(none.at(0.0), 1.0);
    }
}
