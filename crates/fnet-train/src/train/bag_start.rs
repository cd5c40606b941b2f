//! Initialisation of the bag's opinion: word vectors centred on the mean of the training texts' words.
//!
//! What all words have in common says nothing about a text, and in a long text it is most of the sum.

use fnet_encoder::{BAG_WORDS, Model};

use crate::data::tasks::encoding::Example;

/// Subtracts the mean over the examples' tokens from the word vectors of a model's bag; a model without one is
/// unchanged.
pub fn centre(model: &mut Model, examples: &[Example]) {
    let (hidden, pad) = (model.config().hidden_size, model.config().pad_token_id);
    let Some(words) = model.parameters_mut().get_mut(BAG_WORDS) else { return };
    let (mut sum, mut count) = (vec![0.0_f64; hidden], 0.0);
    let tokens = examples.iter().flat_map(|example| &example.texts).flat_map(|text| &text.tokens);
    for id in tokens.filter(|id| Some(**id) != pad) {
        let row = &words[*id as usize * hidden..][..hidden];
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        count += 1.0;
    }
    for row in words.chunks_exact_mut(hidden) {
        row.iter_mut().zip(&sum).for_each(|(w, s)| *w -= (s / f64::max(count, 1.0)) as f32);
    }
}

#[cfg(test)]
mod tests {
    use fnet_encoder::{Head, ModelConfig};

    use super::*;
    use crate::data::tasks::encoding::Text;

    #[test]
    fn the_training_texts_come_to_zero() {
        let preset = ModelConfig::preset("tiny").unwrap();
        let config = ModelConfig { vocab_size: 9, classifier_bag: true, ..preset };
        let mut model = Model::new(config, Head::Classification { labels: 2 }, 1).unwrap();
        let example = |tokens: &[u32]| {
            let text = Text::whole(tokens.to_vec(), vec![0; tokens.len()]);
            Example { texts: vec![text], target: vec![0.0] }
        };
        centre(&mut model, &[example(&[1, 5, 2]), example(&[1, 7, 7, 7, 2])]);
        let words = model.parameters().get(BAG_WORDS).unwrap();
        for j in 0..128 {
            let sum: f32 = [1, 5, 2, 1, 7, 7, 7, 2].iter().map(|id| words[id * 128 + j]).sum();
            assert!(sum.abs() < 1e-5, "{sum}");
        }
    }
}
