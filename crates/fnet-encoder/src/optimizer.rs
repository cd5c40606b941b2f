//! AdamW on the flat buffer (Loshchilov and Hutter 2019, algorithm 2), with clipping by global norm.

use rayon::prelude::*;

use crate::ops::adamw::{self, Update};
use crate::parameters::{Parameters, TensorInfo};

/// Values per task; also the block size of the norm's sum, so it must not depend on threads.
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
    /// Start of each tensor's moments, by its index in the table.
    starts: Vec<Option<usize>>,
}

impl Moments {
    /// Zero moments for what is trainable now. Tensors frozen later keep theirs; tensors unfrozen later get theirs
    /// then.
    pub fn new(parameters: &Parameters) -> Self {
        let mut moments = Self::default();
        for (index, tensor) in parameters.table().iter().enumerate().filter(|(_, t)| t.trainable) {
            moments.of(index, tensor);
        }
        moments
    }

    /// First value of a tensor's moments, by its index in the table; `None` if it is not trained.
    pub fn start_of(&self, index: usize) -> Option<usize> {
        *self.starts.get(index)?
    }

    /// The range of a tensor's moments.
    fn of(&mut self, index: usize, tensor: &TensorInfo) -> std::ops::Range<usize> {
        if self.starts.len() <= index {
            self.starts.resize(index + 1, None);
        }
        let start = *self.starts[index].get_or_insert_with(|| {
            let start = self.first.len();
            self.first.resize(start + tensor.len(), 0.0);
            self.second.resize(start + tensor.len(), 0.0);
            start
        });
        start..start + tensor.len()
    }
}

/// Euclidean norm of the trainable part of a gradient.
pub fn gradient_norm(parameters: &Parameters, gradients: &[f32]) -> f64 {
    let square = |t: &TensorInfo| -> f64 {
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
        let (table, values) = parameters.split_mut();
        for (index, tensor) in table.iter().enumerate().filter(|(_, t)| t.trainable) {
            let (range, kept) = (tensor.range(), moments.of(index, tensor));
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
                values[range.clone()].par_chunks_mut(CHUNK),
                moments.first[kept.clone()].par_chunks_mut(CHUNK),
                moments.second[kept].par_chunks_mut(CHUNK),
                gradients[range].par_chunks_mut(CHUNK),
            )
                .into_par_iter()
                .for_each(|(w, m, v, gradients)| adamw::update(w, m, v, gradients, update));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Init;

    #[test]
    fn freezing_later_shifts_no_moments() {
        let mut parameters = Parameters::default();
        for name in ["a", "b", "c"] {
            parameters.add(name, &[2], Init::Ones);
        }
        parameters.allocate();
        let run = |freeze: &[&str]| {
            let (mut parameters, adamw) = (parameters.clone(), AdamW::default());
            parameters.freeze("b");
            let mut moments = Moments::new(&parameters);
            let mut step = |parameters: &mut Parameters, n| {
                let mut gradients = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|g| g * n as f32);
                adamw.step(parameters, &mut gradients, &mut moments, n, 0.1, 1.0);
            };
            step(&mut parameters, 1);
            for name in freeze {
                parameters.freeze(name);
            }
            step(&mut parameters, 2);
            parameters
        };
        let (all, frozen) = (run(&[]), run(&["a"]));
        assert_eq!(frozen.get("c"), all.get("c"));
        assert_eq!(frozen.get("b"), Some(&[0.0; 2][..]), "as allocated");
        assert_ne!(frozen.get("a"), all.get("a"));
    }
}
