use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{Mixer, MixerBackward, sequences};
use crate::EncoderError;
use crate::arch::tanh;
use crate::gemm::{Out, matmul_nn, matmul_nt};
use crate::modules::Pass;
use crate::workspace::Buffers;

/// Settings of a reservoir. Its weights are not parameters: they follow from these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReservoirConfig {
    /// Largest absolute eigenvalue of the recurrent weights: how long the past is remembered.
    pub spectral_radius: f32,
    /// Fraction of the state replaced at each token, above 0 to 1.
    pub leak: f32,
    /// Scale of the input relative to the recurrence.
    pub input_scale: f32,
    /// Fraction of the recurrent weights that is zero, from 0 to below 1.
    pub sparsity: f32,
    /// Seed of all weights.
    pub seed: u64,
}

impl Default for ReservoirConfig {
    fn default() -> Self {
        Self { spectral_radius: 0.9, leak: 0.5, input_scale: 1.0, sparsity: 0.9, seed: 1 }
    }
}

impl ReservoirConfig {
    pub(crate) fn check(&self) -> Result<(), EncoderError> {
        let fail = |message: String| Err(EncoderError::Config(format!("reservoir: {message}")));
        if !(0.0..=10.0).contains(&self.spectral_radius) {
            return fail(format!("spectral_radius is {}; it must be from 0 to 10", self.spectral_radius));
        }
        if !(self.leak > 0.0 && self.leak <= 1.0) {
            return fail(format!("leak is {}; it must be above 0 and at most 1", self.leak));
        }
        if !(0.0..=1e3).contains(&self.input_scale) {
            return fail(format!("input_scale is {}; it must be from 0 to 1000", self.input_scale));
        }
        if !(0.0..1.0).contains(&self.sparsity) {
            return fail(format!("sparsity is {}; it must be from 0 to below 1", self.sparsity));
        }
        Ok(())
    }
}

/// A fixed random recurrent network over the sequence (echo state network, Jaeger 2001, with leaky units):
/// `a_t = tanh(W_in x_t + W h_{t-1})`, `h_t = (1 - leak) h_{t-1} + leak a_t`, and `y_t = h_t`. Half of the
/// hidden units read the sequence forwards, the others backwards.
pub struct Reservoir {
    hidden: usize,
    leak: f32,
    /// `[hidden, hidden]`: from the input to both directions.
    input: Vec<f32>,
    forwards: Recurrence,
    backwards: Recurrence,
}

/// A sparse square matrix by rows.
struct Recurrence {
    ends: Vec<u32>,
    columns: Vec<u32>,
    weights: Vec<f32>,
}

impl Reservoir {
    /// The reservoir of one layer: each layer has its own weights.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(hidden: usize, layer: usize, config: ReservoirConfig) -> Result<Self, EncoderError> {
        config.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(config.seed);
        random.set_stream(layer as u64);
        let deviation = config.input_scale / (hidden as f32).sqrt();
        let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
        let input = (0..hidden * hidden).map(|_| deviation * normal()).collect();
        let first = hidden.div_ceil(2);
        let forwards = Recurrence::new(first, config, &mut random);
        let backwards = Recurrence::new(hidden - first, config, &mut random);
        Ok(Self { hidden, leak: config.leak, input, forwards, backwards })
    }

    /// Dense copies of the weights, for inspection: from the input `[hidden, hidden]`, and of both directions, each
    /// `[units, units]`.
    pub fn weights(&self) -> [Vec<f32>; 3] {
        [self.input.clone(), self.forwards.dense(), self.backwards.dense()]
    }

    /// Both directions with their hidden units.
    fn directions(&self) -> [(&Recurrence, std::ops::Range<usize>, bool); 2] {
        let first = self.forwards.size();
        [(&self.forwards, 0..first, false), (&self.backwards, first..self.hidden, true)]
    }
}

impl Recurrence {
    fn new(size: usize, config: ReservoirConfig, random: &mut ChaCha8Rng) -> Self {
        let filled = ((1.0 - config.sparsity) * size as f32).ceil() as usize;
        let mut matrix = Self { ends: Vec::new(), columns: Vec::new(), weights: Vec::new() };
        for _ in 0..size {
            let mut columns: Vec<u32> = (0..size as u32).collect();
            columns.partial_shuffle(random, filled.min(size));
            columns.drain(..size - filled.min(size)); // the shuffled ones are the last
            columns.sort_unstable();
            matrix.weights.extend(columns.iter().map(|_| random.random_range(-1.0_f32..1.0)));
            matrix.columns.extend(columns);
            matrix.ends.push(matrix.columns.len() as u32);
        }
        let radius = matrix.spectral_radius();
        let factor = if radius > 0.0 { config.spectral_radius / radius as f32 } else { 0.0 };
        matrix.weights.iter_mut().for_each(|w| *w *= factor);
        matrix
    }

    fn dense(&self) -> Vec<f32> {
        let mut all = vec![0.0; self.size() * self.size()];
        for ((columns, weights), row) in self.rows().zip(all.chunks_exact_mut(self.size().max(1))) {
            columns.iter().zip(weights).for_each(|(c, w)| row[*c as usize] = *w);
        }
        all
    }

    fn size(&self) -> usize {
        self.ends.len()
    }

    fn rows(&self) -> impl Iterator<Item = (&[u32], &[f32])> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let range = start..*end as usize;
            start = *end as usize;
            (&self.columns[range.clone()], &self.weights[range])
        })
    }

    /// `y += W x`
    fn multiply_add(&self, x: &[f32], y: &mut [f32]) {
        for ((columns, weights), y) in self.rows().zip(y) {
            *y = columns.iter().zip(weights).fold(*y, |sum, (c, w)| sum + w * x[*c as usize]);
        }
    }

    /// `y += Wᵀ x`
    fn multiply_add_transposed(&self, x: &[f32], y: &mut [f32]) {
        for ((columns, weights), x) in self.rows().zip(x) {
            columns.iter().zip(weights).for_each(|(c, w)| y[*c as usize] += w * x);
        }
    }

    /// How fast powers of the matrix grow: Gelfand's formula along one start vector.
    fn spectral_radius(&self) -> f64 {
        const STEPS: usize = 400;
        let mut x = vec![1.0_f32; self.size()];
        let mut growth = 0.0_f64;
        for step in 0..STEPS {
            let mut y = vec![0.0; x.len()];
            self.multiply_add(&x, &mut y);
            let norm = y.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if norm == 0.0 {
                return 0.0;
            }
            y.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
            // The first steps still depend on the start vector.
            growth += if step >= STEPS / 2 { norm.ln() } else { 0.0 };
            x = y;
        }
        (growth / (STEPS - STEPS / 2) as f64).exp()
    }
}

/// Tokens in the order that a direction reads them.
fn order(len: usize, reversed: bool) -> impl Iterator<Item = usize> {
    (0..len).map(move |t| if reversed { len - 1 - t } else { t })
}

impl Mixer for Reservoir {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError> {
        let (width, tokens) = (self.hidden, p.batch.tokens().len());
        let [active] = kept.get([x.len()]);
        matmul_nt(p.products, [tokens, width, width], x, &self.input, active, Out::Set);
        // The input's share becomes the activation, and y the state.
        sequences::for_each(p.batch, width, active, |_, active| {
            let len = active.len() / width;
            for (matrix, units, reversed) in self.directions() {
                let mut state = vec![0.0; units.len()];
                for t in order(len, reversed) {
                    let a = &mut active[t * width..][units.clone()];
                    matrix.multiply_add(&state, a);
                    for (state, a) in state.iter_mut().zip(a) {
                        *a = tanh(*a);
                        *state += self.leak * (*a - *state);
                    }
                }
            }
        });
        let active = &*active;
        sequences::for_each(p.batch, width, y, |i, y| {
            let range = p.batch.range(i);
            let (len, active) = (range.len(), &active[range.start * width..range.end * width]);
            for (_, units, reversed) in self.directions() {
                let mut state = vec![0.0; units.len()];
                for t in order(len, reversed) {
                    let (a, y) = (&active[t * width..][units.clone()], &mut y[t * width..][units.clone()]);
                    for ((state, a), y) in state.iter_mut().zip(a).zip(y) {
                        *state += self.leak * (*a - *state);
                        *y = *state;
                    }
                }
            }
        });
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass: p, dy, dx, kept, .. } = back;
        let (width, tokens) = (self.hidden, p.batch.tokens().len());
        let [active] = kept.get([dy.len()]);
        let active = &*active;
        // dy, the gradient of the states, becomes that of the input's share.
        sequences::for_each(p.batch, width, dy, |i, dy| {
            let range = p.batch.range(i);
            let (len, active) = (range.len(), &active[range.start * width..range.end * width]);
            for (matrix, units, reversed) in self.directions() {
                let mut d_state = vec![0.0; units.len()];
                for t in order(len, !reversed) {
                    let (a, d) = (&active[t * width..][units.clone()], &mut dy[t * width..][units.clone()]);
                    for ((d_state, a), d) in d_state.iter_mut().zip(a).zip(d.iter_mut()) {
                        *d_state += *d;
                        *d = self.leak * (1.0 - a * a) * *d_state;
                        *d_state *= 1.0 - self.leak;
                    }
                    matrix.multiply_add_transposed(d, &mut d_state);
                }
            }
        });
        matmul_nn(p.products, [tokens, width, width], dy, &self.input, dx, Out::Add);
        Ok(())
    }

    fn flops_per_token(&self, _: usize) -> f64 {
        let recurrent = self.forwards.weights.len() + self.backwards.weights.len();
        2.0 * (self.hidden * self.hidden + recurrent) as f64
    }

    fn fixed_weights(&self) -> Vec<(&'static str, [usize; 2], Vec<f32>)> {
        let names = ["reservoir.input", "reservoir.forwards", "reservoir.backwards"];
        let sizes = [self.hidden, self.forwards.size(), self.backwards.size()];
        let weights = names.into_iter().zip(sizes).zip(self.weights());
        weights.map(|((name, size), values)| (name, [size; 2], values)).collect()
    }

    fn kept_values(&self, sequences: usize, seq_len: usize) -> usize {
        sequences * seq_len * self.hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spectral_radius_is_what_was_asked_for() {
        let config = ReservoirConfig { spectral_radius: 0.7, sparsity: 0.8, ..Default::default() };
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let matrix = Recurrence::new(90, config, &mut random);
        assert!((matrix.spectral_radius() - 0.7).abs() < 0.02);
        assert_eq!(matrix.weights.len(), 90 * 18);
        // A power of it shrinks as fast as its radius says.
        let mut x = vec![1.0; 90];
        for _ in 0..200 {
            let mut y = vec![0.0; 90];
            matrix.multiply_add(&x, &mut y);
            x = y;
        }
        let size = x.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!(size < 1e-15, "{size}");
    }
}
