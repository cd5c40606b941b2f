//! Settings of training that pretraining and fine-tuning share.

use fnet_encoder::{AdamW, Level, Model, ModelConfig, PRESETS, Precision, Products};
use serde::{Deserialize, Serialize};

use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::settings::{in_range, refused};
use crate::train::leaves::Exchange;
use crate::train::recipe::{Part, Recipe, train_only};
use crate::train::schedule::{Decay, Schedule};
use crate::train::trainer::{Budget, LoopSettings};

/// How long and how a model is trained, and which of its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Optimiser steps. With neither these nor `epochs` nor `minutes`, the run decides.
    pub steps: Option<u64>,
    /// Passes over the data.
    pub epochs: Option<f64>,
    /// Minutes of training; the schedule fits the time.
    pub minutes: Option<f64>,
    /// Sequences in a batch; in pretraining as many tokens as this many full sequences.
    pub batch_size: usize,
    /// Batches whose gradients are summed for one step.
    pub accumulate: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Fraction of the run in which the learning rate rises, from 0 to 1.
    pub warm_up: f64,
    /// How the learning rate falls after warm-up.
    pub decay: Decay,
    /// AdamW's weight decay, on weights but not on biases and norms.
    pub weight_decay: f32,
    /// AdamW's decay of the first moment.
    pub beta1: f32,
    /// AdamW's decay of the second moment.
    pub beta2: f32,
    /// Largest global gradient norm; 0 turns clipping off.
    pub clip: f64,
    /// Dropout rate.
    pub dropout: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Evaluations over the run; 0 for one after each pass over the data.
    pub evaluations: u32,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f64,
    /// Parts of a batch whose gradients are added in a tree, a power of two: the bytes of a run on several processes with as
    /// many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub leaves: usize,
    /// How gradients travel between processes.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub exchange: Exchange,
    /// Operands of matrix products.
    pub precision: Precision,
    /// What computes them; by default the fastest of this machine.
    pub products: Option<Level>,
    /// Compute each feed-forward layer again in the backward pass instead of keeping it.
    pub recompute: bool,
    /// Parts of the model that are trained, if not all; instead of `recipe`.
    pub parts: Vec<Part>,
    /// A named choice of what is trained.
    pub recipe: Recipe,
    /// Parameters that are not trained, by name; `*` stands for any characters.
    pub freeze: Vec<String>,
}

fn one() -> usize {
    1
}

fn is_one(leaves: &usize) -> bool {
    *leaves == 1
}

fn is_plain(exchange: &Exchange) -> bool {
    *exchange == Exchange::F32
}

/// The defaults of fine-tuning.
impl Default for TrainingSettings {
    fn default() -> Self {
        let optimizer = AdamW::default();
        Self {
            steps: None,
            epochs: None,
            minutes: None,
            batch_size: 32,
            accumulate: 1,
            learning_rate: 3e-4,
            warm_up: 0.1,
            decay: Decay::Linear,
            weight_decay: optimizer.weight_decay,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            clip: 1.0,
            dropout: 0.1,
            seed: 1,
            evaluations: 0,
            checkpoint_minutes: 5.0,
            leaves: 1,
            exchange: Exchange::F32,
            precision: Precision::default(),
            products: None,
            recompute: false,
            parts: Vec::new(),
            recipe: Recipe::Full,
            freeze: Vec::new(),
        }
    }
}

impl TrainingSettings {
    /// Settles what computes products, and refuses what cannot be.
    ///
    /// # Errors
    /// Names the first setting that is out of its range.
    pub fn resolve(&mut self) -> Result<()> {
        self.products = Some(training_products(self.precision, self.products)?.level());
        in_range("steps", self.steps.map(|n| n as f64), 1.0, 1e15)?;
        in_range("epochs", self.epochs, 1e-6, 1e9)?;
        in_range("minutes", self.minutes, 1e-6, 1e9)?;
        in_range("batch_size", self.batch_size as f64, 1.0, 1e6)?;
        in_range("accumulate", self.accumulate as f64, 1.0, 1e6)?;
        in_range("leaves", self.leaves as f64, 1.0, 65_536.0)?;
        if !self.leaves.is_power_of_two() {
            return Err(refused(&format!("leaves {}", self.leaves), "must be a power of two"));
        }
        in_range("learning_rate", self.learning_rate, 0.0, 1e3)?;
        in_range("warm_up", self.warm_up, 0.0, 1.0)?;
        in_range("weight_decay", f64::from(self.weight_decay), 0.0, 1e3)?;
        in_range("beta1", f64::from(self.beta1), 0.0, 0.999_999)?;
        in_range("beta2", f64::from(self.beta2), 0.0, 0.999_999)?;
        in_range("clip", self.clip, 0.0, 1e9)?;
        in_range("dropout", f64::from(self.dropout), 0.0, 0.99)?;
        in_range("checkpoint_minutes", self.checkpoint_minutes, 0.0, 1e9)
    }

    /// How long to train, if something says so.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let minutes = || self.minutes.map(Budget::Minutes);
        self.steps.map(Budget::Steps).or_else(minutes).or_else(|| self.epochs.map(Budget::Epochs))
    }

    /// The loop's settings; `usual` is the budget where nothing says.
    pub(crate) fn loop_settings(&self, usual: Budget) -> LoopSettings {
        let Self { learning_rate, warm_up, decay, weight_decay, beta1, beta2, .. } = *self;
        LoopSettings {
            budget: self.budget().unwrap_or(usual),
            schedule: Schedule { learning_rate, warm_up, decay },
            optimizer: AdamW { beta1, beta2, weight_decay, ..AdamW::default() },
            clip: self.clip,
            seed: self.seed,
            evaluations: self.evaluations,
            checkpoint_minutes: self.checkpoint_minutes,
            leaves: self.leaves,
            exchange: self.exchange,
        }
    }

    /// Sets how a model is trained: products, memory, and which parameters.
    ///
    /// # Errors
    /// If a pattern of `freeze` matches nothing, or nothing is left to be trained.
    pub fn prepare(&self, model: &mut Model, quiet: bool) -> Result<()> {
        let products = training_products(self.precision, self.products)?;
        model.set_products(products);
        model.set_recompute(self.recompute);
        if !quiet {
            eprintln!("{} products by {}", products.precision().name(), products.level().name());
        }
        self.recipe.apply(model, self.seed)?;
        if !self.parts.is_empty() {
            train_only(model, &self.parts);
        }
        for pattern in &self.freeze {
            if model.parameters_mut().freeze(pattern) == 0 {
                return Err(refused(&format!("freeze {pattern}"), "no parameter has such a name"));
            }
        }
        if model.parameters().trainable_len() == 0 {
            return Err(refused("parts, recipe, freeze", "nothing is left to be trained"));
        }
        Ok(())
    }
}

/// The longest sequence in tokens: what the setting asks for, by its name, or else `most`. A model that mixes padding in is
/// told.
///
/// # Errors
/// If more is asked for than there can be, or the tokenizer cannot pad.
pub(crate) fn longest(
    model: &mut Model,
    tokenizer: &Tokenizer,
    (field, asked): (&str, Option<usize>),
    most: usize,
) -> Result<usize> {
    if let Some(tokens) = asked.filter(|tokens| *tokens > most) {
        let message = format!("the model's longest sequence is {most}");
        return Err(refused(&format!("{field} {tokens}"), message));
    }
    let longest = asked.unwrap_or(most);
    if model.config().fixed_length().is_some() {
        tokenizer.check_padding()?;
        model.change_config(|config| config.padding_length = Some(longest))?;
    }
    Ok(longest)
}

/// The shape of a preset.
///
/// # Errors
/// If there is none of that name; names those that there are.
pub(super) fn preset_named(name: &str) -> Result<ModelConfig> {
    ModelConfig::preset(name).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|preset| preset.0).collect();
        refused(&format!("preset {name}"), format!("known presets are {}", known.join(", ")))
    })
}

/// Products at a precision, by one level or by the fastest of this machine.
///
/// # Errors
/// If this machine lacks the level.
pub fn products(precision: Precision, level: Option<Level>) -> Result<Products> {
    let Some(level) = level else { return Ok(Products::new(precision)) };
    Products::with_level(precision, level).ok_or_else(|| {
        let here: Vec<_> = Products::all(precision).map(|p| p.level().name()).collect();
        let (level, precision, here) = (level.name(), precision.name(), here.join(", "));
        refused(&format!("products {level}"), format!("for {precision} this machine has {here}"))
    })
}

/// Products by which a model is trained.
///
/// # Errors
/// If the precision is for inference only, or this machine lacks the level.
pub fn training_products(precision: Precision, level: Option<Level>) -> Result<Products> {
    if precision == Precision::Int8 {
        return Err(refused("precision int8", "is for inference; models are trained in f32 or bf16"));
    }
    products(precision, level)
}
