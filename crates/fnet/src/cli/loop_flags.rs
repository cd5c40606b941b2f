//! Settings of the training loop.

use clap::Args;
use fnet_encoder::{AdamW, Model};
use fnet_train::train::recipe::{Part, Recipe, train_only};
use fnet_train::train::schedule::{Decay, Schedule};
use fnet_train::train::trainer::{Budget, LoopSettings};
use fnet_train::{Error, Result};
use serde::{Deserialize, Serialize};

use super::common::in_range;
use super::product_flags::ProductFlags;

/// Settings of the training loop, as flags and as `training.toml`.
#[derive(Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoopFlags {
    /// Train for this many optimiser steps
    #[arg(long, conflicts_with_all = ["epochs", "minutes"])]
    pub steps: Option<u64>,
    /// Train for this many passes over the data
    #[arg(long, conflicts_with = "minutes")]
    pub epochs: Option<f64>,
    /// Train for this many minutes; the schedule fits the time
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Sequences in a batch (pretraining: as many tokens as this many full sequences)
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Batches whose gradients are summed for one step
    #[arg(long)]
    pub accumulate: Option<usize>,
    /// Highest learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Part of the run in which the learning rate rises, from 0 to 1
    #[arg(long)]
    pub warm_up: Option<f64>,
    /// How the learning rate falls after warm-up
    #[arg(long, value_enum)]
    pub decay: Option<Decay>,
    /// AdamW's weight decay, on weights but not on biases and norms
    #[arg(long)]
    pub weight_decay: Option<f32>,
    /// AdamW's decay of the first moment
    #[arg(long)]
    pub beta1: Option<f32>,
    /// AdamW's decay of the second moment
    #[arg(long)]
    pub beta2: Option<f32>,
    /// Largest global gradient norm; 0 turns clipping off
    #[arg(long)]
    pub clip: Option<f64>,
    /// Dropout rate
    #[arg(long)]
    pub dropout: Option<f32>,
    /// Seed of everything random: the same seed gives the same bytes
    #[arg(long)]
    pub seed: Option<u64>,
    /// Evaluations over the run; 0 for one after each pass over the data
    #[arg(long)]
    pub evaluations: Option<u32>,
    /// Minutes between checkpoints
    #[arg(long)]
    pub checkpoint_minutes: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub products: ProductFlags,
    /// Compute each feed-forward layer again in the backward pass instead of keeping it: a third of the
    /// memory for activations, a sixth more work, the same bytes
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Parts of the model that are trained; the others are frozen
    #[arg(long = "train-parts", value_enum, value_delimiter = ',', value_name = "PART")]
    pub parts: Vec<Part>,
    /// A named choice of what is trained
    #[arg(long, value_enum, conflicts_with = "parts")]
    pub recipe: Option<Recipe>,
    /// Parameters that are not trained, by name; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    pub freeze: Vec<String>,
}

/// Defaults that differ between pretraining and fine-tuning.
pub struct LoopDefaults {
    /// Nothing where they follow from the data.
    pub epochs: Option<f64>,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub warm_up: f64,
    pub evaluations: u32,
    pub dropout: f32,
}

impl LoopFlags {
    /// Fills in what was not given, and refuses what cannot be.
    pub fn resolve(&mut self, defaults: &LoopDefaults) -> Result<()> {
        if self.steps.is_none() && self.minutes.is_none() {
            self.epochs = self.epochs.or(defaults.epochs);
        }
        self.batch_size.get_or_insert(defaults.batch_size);
        self.accumulate.get_or_insert(1);
        self.learning_rate.get_or_insert(defaults.learning_rate);
        self.warm_up.get_or_insert(defaults.warm_up);
        self.decay.get_or_insert(Decay::Linear);
        self.weight_decay.get_or_insert(0.01);
        self.beta1.get_or_insert(0.9);
        self.beta2.get_or_insert(0.999);
        self.clip.get_or_insert(1.0);
        self.dropout.get_or_insert(defaults.dropout);
        self.seed.get_or_insert(1);
        self.evaluations.get_or_insert(defaults.evaluations);
        self.checkpoint_minutes.get_or_insert(5.0);
        self.products.resolve()?;
        in_range("--steps", self.steps.map(|s| s as f64), 1.0, 1e15)?;
        in_range("--epochs", self.epochs, 1e-6, 1e9)?;
        in_range("--minutes", self.minutes, 1e-6, 1e9)?;
        in_range("--batch-size", self.batch_size.map(|n| n as f64), 1.0, 1e6)?;
        in_range("--accumulate", self.accumulate.map(|n| n as f64), 1.0, 1e6)?;
        in_range("--learning-rate", self.learning_rate, 0.0, 1e3)?;
        in_range("--warm-up", self.warm_up, 0.0, 1.0)?;
        in_range("--weight-decay", self.weight_decay.map(f64::from), 0.0, 1e3)?;
        in_range("--beta1", self.beta1.map(f64::from), 0.0, 0.999_999)?;
        in_range("--beta2", self.beta2.map(f64::from), 0.0, 0.999_999)?;
        in_range("--clip", self.clip, 0.0, 1e9)?;
        in_range("--dropout", self.dropout.map(f64::from), 0.0, 0.99)?;
        in_range("--checkpoint-minutes", self.checkpoint_minutes, 0.0, 1e9)
    }

    /// Whether something says how long to train.
    pub fn has_budget(&self) -> bool {
        self.steps.is_some() || self.minutes.is_some() || self.epochs.is_some()
    }

    /// The loop's settings, once resolved.
    pub fn settings(&self) -> LoopSettings {
        let budget = match (self.steps, self.minutes) {
            (Some(steps), _) => Budget::Steps(steps),
            (None, Some(minutes)) => Budget::Minutes(minutes),
            (None, None) => Budget::Epochs(self.epochs.unwrap_or(1.0)),
        };
        let usual = AdamW::default();
        LoopSettings {
            budget,
            schedule: Schedule {
                learning_rate: self.learning_rate.unwrap_or_default(),
                warm_up: self.warm_up.unwrap_or_default(),
                decay: self.decay.unwrap_or(Decay::Linear),
            },
            optimizer: AdamW {
                beta1: self.beta1.unwrap_or(usual.beta1),
                beta2: self.beta2.unwrap_or(usual.beta2),
                weight_decay: self.weight_decay.unwrap_or(usual.weight_decay),
                epsilon: usual.epsilon,
            },
            clip: self.clip.unwrap_or_default(),
            seed: self.seed.unwrap_or(1),
            evaluations: self.evaluations.unwrap_or_default(),
            checkpoint_minutes: self.checkpoint_minutes.unwrap_or(5.0),
        }
    }

    /// Sets how a model is trained: products, memory, and the parameters that `--freeze` names.
    pub fn prepare(&self, model: &mut Model, quiet: bool) -> Result<()> {
        let products = { self.products }.resolve()?;
        model.set_products(products);
        model.set_recompute(self.recompute);
        if !quiet {
            eprintln!("{} products by {}", products.precision().name(), products.level().name());
        }
        self.recipe.unwrap_or_default().apply(model, self.seed.unwrap_or(1))?;
        if !self.parts.is_empty() {
            train_only(model, &self.parts);
        }
        for pattern in &self.freeze {
            if model.parameters_mut().freeze(pattern) == 0 {
                let message = format!("--freeze {pattern}: no parameter has such a name");
                return Err(Error::usage(message));
            }
        }
        if model.parameters().trainable_len() == 0 {
            return Err(Error::usage("--train-parts, --recipe, --freeze: nothing is left to be trained"));
        }
        Ok(())
    }
}
