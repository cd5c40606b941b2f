//! Plain training steps on random tokens, for timing: shared by benches and comparisons.

use std::time::{Duration, Instant};

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::{
    Batch, Dropout, Head, MlmTargets, Mode, Model, ModelConfig, Tally, Targets, Workspace, take_tally,
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::random::generator;
use fnet_encoder::{AdamW, Moments, gradient_norm};

/// A model with everything that its training steps need.
pub struct TimedStep {
    /// The model.
    pub model: Model,
    /// Sequences of equal length.
    pub batch: Batch,
    /// Some of the tokens.
    pub targets: MlmTargets,
    /// Rate of dropout, 0.1 unless set.
    pub dropout: f32,
    gradients: Vec<f32>,
    moments: Moments,
    workspace: Workspace,
    steps: u64,
}

/// How long a step took, and the products in it.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The whole step.
    pub step: Duration,
    /// Its matrix products.
    pub products: Tally,
}

impl TimedStep {
    /// `sequences` of `seq_len` random tokens for an MLM model, a part `masked` of which it predicts.
    pub fn new(model: Model, sequences: usize, seq_len: usize, masked: f64) -> Self {
        let mut random = generator(1, "tokens", 0);
        let (mut batch, mut targets) = (Batch::new(), MlmTargets::default());
        for _ in 0..sequences {
            let vocab = model.config().vocab_size as u32;
            let tokens: Vec<u32> =
                (0..seq_len).map(|_| random.random_range(5.min(vocab - 1)..vocab)).collect();
            batch.push(&tokens, &[]);
        }
        for (place, token) in batch.tokens().iter().enumerate() {
            if random.random_bool(masked) {
                targets.places.push(place as u32);
                targets.labels.push(*token);
            }
        }
        let len = model.parameters().len();
        let (gradients, moments, workspace) =
            (vec![0.0; len], Moments::new(model.parameters()), Workspace::new());
        Self { model, batch, targets, dropout: 0.1, gradients, moments, workspace, steps: 0 }
    }

    /// Forward pass, backward pass, clipping and AdamW.
    ///
    /// # Errors
    /// If the sequences do not fit the model.
    pub fn run(&mut self) -> Result<Timing> {
        take_tally();
        let begun = Instant::now();
        self.steps += 1;
        let dropout = Dropout { rate: self.dropout, key: self.steps };
        let scale = 1.0 / self.targets.places.len().max(1) as f32;
        let gradients = &mut self.gradients;
        let mut forward = self.model.forward(&self.batch, Mode::Train(dropout), &mut self.workspace)?;
        forward.backward(Targets::masked(&self.targets, scale), gradients)?;
        let clip = (1.0 / gradient_norm(self.model.parameters(), gradients)).min(1.0) as f32;
        let parameters = self.model.parameters_mut();
        AdamW::default().step(parameters, gradients, &mut self.moments, self.steps, 1e-4, clip);
        Ok(Timing { step: begun.elapsed(), products: take_tally() })
    }

    /// The fastest of the steps that fit into so many seconds; at least two, the first of which fills the buffers.
    ///
    /// # Errors
    /// If the sequences do not fit the model.
    pub fn measure(&mut self, seconds: f64) -> Result<Timing> {
        let begun = Instant::now();
        self.run()?;
        let mut best = self.run()?;
        while begun.elapsed().as_secs_f64() < seconds {
            let timing = self.run()?;
            best = if timing.step < best.step { timing } else { best };
        }
        Ok(best)
    }

    /// The fastest of the forward passes that fit into so many seconds.
    ///
    /// # Errors
    /// If the sequences do not fit the model.
    pub fn measure_inference(&mut self, seconds: f64) -> Result<Duration> {
        let (begun, mut best) = (Instant::now(), Duration::MAX);
        let mut w = Workspace::new();
        while best == Duration::MAX || begun.elapsed().as_secs_f64() < seconds {
            let started = Instant::now();
            self.model.forward(&self.batch, Mode::Infer, &mut w)?.first_tokens();
            best = best.min(started.elapsed());
        }
        Ok(best)
    }

    /// Bytes of weights, gradients, moments and activations.
    pub fn bytes(&self) -> usize {
        self.model.parameter_bytes() + self.workspace.bytes()
    }
}

/// Speed and memory of one mixer at one sequence length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// The mixer, as on the command line.
    pub name: String,
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// Tokens per second in training steps.
    pub training: f64,
    /// Tokens per second in forward passes.
    pub inference: f64,
    /// Bytes of weights, gradients, moments and activations.
    pub bytes: f64,
}

/// Lengths at which speed and memory are measured.
pub const LENGTHS: [usize; 4] = [128, 512, 2_048, 8_192];
/// Tokens in a batch, or one sequence where that is longer.
const TOKENS: usize = 4_096;
/// Part of the tokens that is predicted.
pub const MASKED: f64 = 0.15;
/// Weights beyond which a length is left out: matrices over the sequence grow with its square.
const MOST_BYTES: usize = 1 << 30;

impl Speed {
    /// Measures a mixer in a model of `config`'s shape, for some seconds; `None` where its weights would be
    /// too large.
    ///
    /// # Errors
    /// If the model cannot be built.
    pub fn measure(config: &ModelConfig, name: &str, seq_len: usize, seconds: f64) -> Result<Option<Self>> {
        let mut config = ModelConfig { max_position_embeddings: seq_len, ..config.clone() };
        config.set_mixers(MixerKind::layers(name, config.num_hidden_layers)?);
        if config.weight_bytes() > MOST_BYTES {
            return Ok(None);
        }
        let model = Model::new(config, Head::MaskedLm, 1)?;
        let mut step = TimedStep::new(model, (TOKENS / seq_len).max(1), seq_len, MASKED);
        let tokens = step.batch.tokens().len() as f64;
        let training = tokens / step.measure(seconds)?.step.as_secs_f64();
        let inference = tokens / step.measure_inference(seconds / 2.0)?.as_secs_f64();
        Ok(Some(Self { name: name.into(), seq_len, training, inference, bytes: step.bytes() as f64 }))
    }
}
