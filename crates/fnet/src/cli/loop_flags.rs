//! Flags of training.

use clap::Args;
use fnet_train::train::leaves::Exchange;
use fnet_train::train::recipe::{Part, Recipe};
use fnet_train::train::schedule::Decay;
use serde::Serialize;

use super::product_flags::ProductFlags;

/// Flags over the fields of `TrainingSettings`.
#[derive(Args, Serialize)]
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
    /// Batches whose gradients are summed in one step
    #[arg(long)]
    pub accumulate: Option<usize>,
    /// Parts that a batch is cut into, whose gradients are added in a tree: a power of two, 1 by default, 8 under MPI. With
    /// as many, a run has the same bytes at any number of processes
    #[arg(long)]
    pub leaves: Option<usize>,
    /// How gradients travel between processes under MPI
    #[arg(long, value_enum)]
    pub exchange: Option<Exchange>,
    /// Highest learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Fraction of the run in which the learning rate rises, from 0 to 1
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
    /// Recompute each feed-forward layer in the backward pass instead of keeping it: a third of the
    /// memory for activations, a sixth more work, the same bytes
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Parts of the model to train; the others are frozen
    #[arg(long = "train-parts", value_enum, value_delimiter = ',', value_name = "PART")]
    pub parts: Vec<Part>,
    /// A named choice of what is trained
    #[arg(long, value_enum, conflicts_with = "parts")]
    pub recipe: Option<Recipe>,
    /// Parameters not to train, by name; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    pub freeze: Vec<String>,
}
