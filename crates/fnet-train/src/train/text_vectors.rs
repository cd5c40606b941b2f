//! Closed-form start of the readout for vectors of texts: rare words count more, and every direction the same.
//!
//! A word's weight is `a / (a + share)` of its share of all words (Arora et al. 2017, section 3). Whitening (Su et al. 2021)
//! takes `z = L⁻¹ (x - mean)`, with `L Lᵀ` the covariance of texts. Both take one pass over any text, and no gradient.

use fnet_encoder::{Model, Pool, Pooling, SentenceConfig, Workspace};

use crate::data::tasks::encoding::{Example, Text};
use crate::error::Result;
use crate::train::whitening::whiten_blocks;

/// What is read where nobody says.
pub fn usual_pooling() -> Result<Pooling> {
    Ok(Pooling::new(vec![Pool::Weighted])?)
}

/// A readout of these vectors through a square matrix.
pub fn readout(pooling: Pooling, hidden_size: usize, layers: usize) -> SentenceConfig {
    let width = |pool: &Pool| if *pool == Pool::Layers { (layers + 1) * hidden_size } else { hidden_size };
    let width = pooling.pools().iter().map(width).sum();
    SentenceConfig::square(pooling, width)
}

/// The share of all words at which a word has half of the largest weight.
const RARE: f64 = 1e-3;

/// How often each token occurs.
#[derive(Debug, Clone)]
pub struct TokenCounts(Vec<u64>);

impl TokenCounts {
    /// None yet, of a vocabulary of so many.
    pub fn new(vocabulary: usize) -> Self {
        Self(vec![0; vocabulary])
    }

    /// Counts these.
    pub fn add(&mut self, tokens: &[u32]) {
        for id in tokens {
            if let Some(count) = self.0.get_mut(*id as usize) {
                *count += 1;
            }
        }
    }

    /// Each token's weight; special tokens have none.
    fn weights(&self, special: &[bool]) -> Vec<f32> {
        let is_special = |id: usize| special.get(id).copied().unwrap_or(false);
        let own = self.0.iter().enumerate().filter(|(id, _)| !is_special(*id));
        let all = own.map(|(_, count)| count).sum::<u64>().max(1) as f64;
        let weight = |count: u64| RARE / (RARE + count as f64 / all);
        let weights = self.0.iter().enumerate();
        weights.map(|(id, count)| if is_special(id) { 0.0 } else { weight(*count) as f32 }).collect()
    }
}

/// Sets the weights of words, where they are read, and the first dense layer, from the counts of all texts and some of them.
///
/// # Errors
/// If a text does not fit the model.
pub fn start(
    model: &mut Model,
    counts: &TokenCounts,
    special: &[bool],
    sample: &[Example],
    w: &mut Workspace,
) -> Result<()> {
    let name = format!("{}.sentence", model.config().model_type);
    weigh(model, &name, counts, special);
    whiten_blocks(model, &format!("{name}.0"), sample, w)
}

/// Sets the weights of words that a classifier reads, where it does, from its training texts.
pub fn weigh_pooled(model: &mut Model, examples: &[Example], special: &[bool]) {
    let mut counts = TokenCounts::new(model.config().vocab_size);
    examples.iter().flat_map(|example| &example.texts).for_each(|text| counts.add(&text.tokens));
    let name = format!("{}.pooler", model.config().model_type);
    weigh(model, &name, &counts, special);
}

fn weigh(model: &mut Model, name: &str, counts: &TokenCounts, special: &[bool]) {
    if let Some(weights) = model.parameters_mut().get_mut(&format!("{name}.word_weights")) {
        weights.copy_from_slice(&counts.weights(special));
    }
}

/// Tokens of a text that is whitened by: about a sentence.
const SENTENCE: usize = 24;
/// Shorter ones say little.
const SHORTEST: usize = 8;
/// Texts that are whitened by.
pub const SAMPLE: usize = 4_000;

/// The first sentence's worth of tokens of a longer text, framed as the model reads it; `None` if it is too short.
pub fn sentence_of(tokens: &[u32], frame: [u32; 2]) -> Option<Example> {
    let part = &tokens[..tokens.len().min(SENTENCE)];
    let tokens = [&frame[..1], part, &frame[1..]].concat();
    let segments = vec![0; tokens.len()];
    let example = Example { texts: vec![Text::whole(tokens, segments)], target: Vec::new() };
    (part.len() >= SHORTEST).then_some(example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_weigh_more() {
        let mut counts = TokenCounts::new(4);
        counts.add(&[0, 1, 1, 1, 2, 9]);
        let weights = counts.weights(&[true, false, false, false]);
        assert_eq!(weights[0], 0.0);
        assert!((weights[1] - 1e-3 / (1e-3 + 0.75)).abs() < 1e-6);
        assert!(weights[1] < weights[2] && weights[2] < weights[3] && weights[3] == 1.0);
        assert_eq!(TokenCounts::new(2).weights(&[]), [1.0, 1.0]);
    }

    #[test]
    fn a_text_is_cut_to_a_sentence() {
        let tokens: Vec<u32> = (10..100).collect();
        let text = sentence_of(&tokens, [1, 2]).unwrap();
        let tokens = &text.texts[0].tokens;
        assert_eq!((tokens.len(), tokens[0], tokens[1], tokens[25]), (26, 1, 10, 2));
        assert!(sentence_of(&[5; 7], [1, 2]).is_none());
    }
}
