//! What a pretraining will need, before it starts.

use fnet_encoder::{Level, Model, Padding, Precision, pretrained};

use super::PretrainSettings;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;

/// The memory and the work of a pretraining.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// Weights, in number.
    pub parameters: usize,
    /// Bytes of weights, gradients and moments.
    pub weights: usize,
    /// Bytes of activations.
    pub activations: usize,
    /// Bytes of mixing plans, at most.
    pub plans: usize,
    /// Tokens in a batch at most.
    pub batch_tokens: usize,
    /// Floating-point operations of a forward pass per token.
    pub flops_per_token: f64,
    /// Operands of products.
    pub precision: Precision,
    /// What computes them.
    pub level: Level,
}

/// What a run with these settings will need, without reading the corpus: its vocabulary is as large as it may be.
///
/// # Errors
/// As [`PretrainSettings::resolve`], and if a model or tokenizer that the settings name cannot be opened.
pub fn need(settings: &PretrainSettings) -> Result<Need> {
    let mut settings = settings.clone();
    settings.resolve()?;
    let model = model_of(&settings)?;
    let longest = settings.longest(model.config());
    let tokens = settings.batch_tokens(longest);
    let masked = (settings.mask_rate * tokens as f64).ceil() as usize;
    // Sequences of their own length are more than full ones: as a guess, a quarter as long.
    let sequences = if settings.padding == Some(Padding::Fixed) { 1 } else { 4 } * tokens / longest;
    let products = model.products();
    Ok(Need {
        parameters: model.parameters().len(),
        weights: model.parameter_bytes(),
        activations: model.workspace_bytes(tokens, sequences, masked),
        plans: model.plan_bytes(),
        batch_tokens: tokens,
        flops_per_token: model.flops_per_token(longest),
        precision: products.precision(),
        level: products.level(),
    })
}

/// The model of a run, its vocabulary as large as it may be.
pub(super) fn model_of(settings: &PretrainSettings) -> Result<Model> {
    let head = settings.objective.head();
    let mut model = match (&settings.model, &settings.tokenizer) {
        (Some(path), _) => pretrained::open_as(path, head, 1)?.0,
        (None, Some(path)) => Model::new(settings.config(&Tokenizer::read(path)?)?, head, 1)?,
        (None, None) => Model::new(settings.shape()?, head, 1)?,
    };
    settings.training.prepare(&mut model, true)?;
    Ok(model)
}
