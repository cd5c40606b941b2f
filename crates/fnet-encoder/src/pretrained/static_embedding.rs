//! Vectors of texts that are means of one vector a token, as sentence-transformers' own `StaticEmbedding` makes them.

use rayon::prelude::*;
use serde_json::{Value, json};

use crate::embeddings::words_name;
use crate::pooling::Pool;
use crate::{Head, Model, ops};

/// The tensor that `StaticEmbedding` reads.
pub(super) const STATIC_WORDS: &str = "embedding.weight";
/// Its class.
pub(super) const STATIC_CLASS: &str = "StaticEmbedding";

/// Whether a model's vectors are such means, up to their length: weighted words through one matrix at most, scaled to length
/// one. Models with another head keep their vectors by the way.
pub(super) fn has_static_words(model: &Model) -> bool {
    let config = model.config();
    let reads_words = config.sentence.as_ref().is_some_and(|sentence| {
        let is_linear = |dense: &crate::SentenceDense| dense.activation == "linear";
        sentence.normalize
            && sentence.pooling.pools() == [Pool::Weighted]
            && sentence.dense.len() <= 1
            && sentence.dense.iter().all(is_linear)
    });
    // The tokens around a text must not count: they are not read there.
    let weights = model.parameters().get(&format!("{}.sentence.word_weights", config.prefix()));
    let weight = |id: u32| weights.and_then(|weights| weights.get(id as usize)).copied();
    let frame_counts = config.bos_token_id.and_then(weight) != Some(0.0);
    // Folders of BERT may lower or cut texts in their own way.
    reads_words && model.head() == Head::Sentence && config.has_projection() && !frame_counts
}

/// What sentence-transformers opens such a folder by.
pub(super) fn modules() -> Value {
    let module = |class: &str| format!("sentence_transformers.models.{class}");
    json!([
        {"idx": 0, "name": "0", "path": "", "type": module(STATIC_CLASS)},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": module("Normalize")},
    ])
}

/// A vector for each token, `[vocab_size, width]`: its word embedding times its weight, through the matrix. Tokens without a
/// weight do not count, and have zeros.
pub(super) fn words(model: &Model) -> ([usize; 2], Vec<f32>) {
    let (config, parameters) = (model.config(), model.parameters());
    let of_sentence = |name: &str| parameters.get(&format!("{}.sentence.{name}", config.prefix()));
    let words = parameters.get(&words_name(config)).unwrap_or_default();
    let weights = of_sentence("word_weights").unwrap_or_default();
    let (matrix, bias) = (of_sentence("0.weight"), of_sentence("0.bias").unwrap_or_default());
    let (hidden, width) = (config.hidden_size, model.vector_width().unwrap_or(0));
    let mut table = vec![0.0; config.vocab_size * width];
    let rows = table.par_chunks_exact_mut(width.max(1)).zip(words.par_chunks_exact(hidden)).zip(weights);
    rows.filter(|(_, weight)| **weight != 0.0).for_each(|((row, word), weight)| match matrix {
        Some(matrix) => {
            for ((y, column), bias) in row.iter_mut().zip(matrix.chunks_exact(hidden)).zip(bias) {
                *y = weight * ops::dot(column, word) + bias;
            }
        }
        None => row.iter_mut().zip(word).for_each(|(y, x)| *y = weight * x),
    });
    ([config.vocab_size, width], table)
}
