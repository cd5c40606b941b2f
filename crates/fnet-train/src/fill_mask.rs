//! Guessing the masked tokens of a text.

use fnet_encoder::{Batch, Mode};

use crate::error::{Error, Result};
use crate::predictor::{Predictor, softmax};

/// A guess for a mask.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Guess {
    /// The token, as the vocabulary spells it.
    pub token: String,
    /// Its probability.
    pub probability: f32,
    /// The text with it filled in.
    pub text: String,
}

/// The guesses for a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// Those for each mask, likeliest first.
    pub masks: Vec<Vec<Guess>>,
    /// Whether the text was too long for the model, and its end was left out.
    pub cut: bool,
}

impl Predictor {
    /// The `top` likeliest tokens at each mask of a text.
    ///
    /// # Errors
    /// If the model does not predict tokens.
    pub fn fill_masks(&mut self, text: &str, top: usize) -> Result<Filled> {
        let path = self.path().to_path_buf();
        let (model, tokenizer, encoding, w) = self.parts();
        if !model.head().predicts_tokens() {
            return Err(Error::file(&path, "has no MLM head: give a pretrained model's folder"));
        }
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let ids = tokenizer.encode(text)?;
        let cut = tokenizer.assemble(&ids, None, encoding.longest, &mut tokens, &mut segments);
        let mask = tokenizer.special().mask;
        let places: Vec<u32> = (0..tokens.len() as u32).filter(|p| tokens[*p as usize] == mask).collect();
        let whole = tokens.clone();
        encoding.pad(&mut tokens, &mut segments);
        let mut batch = Batch::new();
        batch.push(&tokens, &segments);
        let mut forward = model.forward(&batch, Mode::Infer, w)?;
        let logits = forward.mlm_logits(&places)?;
        let guesses = |(place, logits): (&u32, &[f32])| {
            let shares = softmax(logits);
            let mut order: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
            order.sort_by(|a, b| shares[*b as usize].total_cmp(&shares[*a as usize]));
            let guess = |id: &u32| {
                let mut filled = whole.clone();
                filled[*place as usize] = *id;
                Guess {
                    token: tokenizer.token(*id),
                    probability: shares[*id as usize],
                    text: tokenizer.decode(&filled[1..filled.len() - 1]),
                }
            };
            order.iter().take(top).map(guess).collect()
        };
        let masks = places.iter().zip(logits.chunks(model.config().vocab_size)).map(guesses).collect();
        Ok(Filled { masks, cut })
    }
}
