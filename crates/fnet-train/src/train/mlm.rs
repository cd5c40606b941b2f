//! Dynamic masking for masked language modelling (Devlin et al. 2019, section 3.1; masks drawn anew
//! each time as in Liu et al. 2019).

use fnet_encoder::MlmTargets;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::tokenizer::Tokenizer;

/// What is masked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Masking {
    /// Fraction of the tokens that is predicted.
    pub rate: f64,
    /// Fraction of these replaced by `[MASK]`.
    pub mask: f64,
    /// Fraction of these replaced by a random token; the rest is left as it is.
    pub random: f64,
    /// Whether all pieces of a word are masked together.
    pub whole_word: bool,
}

impl Default for Masking {
    fn default() -> Self {
        Self { rate: 0.15, mask: 0.8, random: 0.1, whole_word: false }
    }
}

/// Masks sequences of one vocabulary.
pub struct Masker {
    masking: Masking,
    mask: u32,
    special: Vec<bool>,
    /// Ids that a random replacement is drawn from.
    ordinary: Vec<u32>,
    continuation: Vec<bool>,
    words: Vec<(usize, usize)>,
}

impl Masker {
    /// Looks up what masking needs to know of the vocabulary.
    pub fn new(masking: Masking, tokenizer: &Tokenizer) -> Self {
        let special = tokenizer.specials();
        Self {
            masking,
            mask: tokenizer.special().mask,
            ordinary: (0..special.len() as u32).filter(|id| !special[*id as usize]).collect(),
            continuation: tokenizer.continuations(),
            special,
            words: Vec::new(),
        }
    }

    /// Masks a sequence in place, and appends its targets, counted from `first`, the sequence's offset in the
    /// batch. At least one token is masked if one can be.
    pub fn mask(
        &mut self,
        tokens: &mut [u32],
        first: usize,
        random: &mut ChaCha8Rng,
        targets: &mut MlmTargets,
    ) {
        self.words.clear();
        for (i, id) in tokens.iter().enumerate() {
            if self.special[*id as usize] {
                continue;
            }
            match self.words.last_mut() {
                Some(word) if self.masking.whole_word && word.1 == i && self.continuation[*id as usize] => {
                    word.1 = i + 1;
                }
                _ => self.words.push((i, i + 1)),
            }
        }
        let candidates: usize = self.words.iter().map(|w| w.1 - w.0).sum();
        let wanted = ((candidates as f64 * self.masking.rate).round() as usize).max(1);
        self.words.shuffle(random);
        let mut chosen = 0;
        let mut places = Vec::with_capacity(wanted);
        for word in &self.words {
            if chosen >= wanted {
                break;
            }
            chosen += word.1 - word.0;
            places.extend(word.0..word.1);
        }
        places.sort_unstable();
        for place in places {
            let id = &mut tokens[place];
            targets.places.push((first + place) as u32);
            targets.labels.push(*id);
            let draw: f64 = random.random();
            if draw < self.masking.mask {
                *id = self.mask;
            } else if draw < self.masking.mask + self.masking.random && !self.ordinary.is_empty() {
                *id = self.ordinary[random.random_range(0..self.ordinary.len())];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::Kind;
    use crate::random::generator;

    fn tokenizer() -> Tokenizer {
        let text = ["unhappiness happiness happy un ness the and of"; 3].map(String::from);
        Tokenizer::train(Kind::Wordpiece, 60, false, text.into_iter()).unwrap()
    }

    #[test]
    fn rates() {
        let tokenizer = tokenizer();
        let id = tokenizer.encode("happy").unwrap()[0];
        let special = tokenizer.special();
        let mut masker = Masker::new(Masking::default(), &tokenizer);
        let mut tokens = vec![id; 20_000];
        tokens[0] = special.cls;
        let mut targets = MlmTargets::default();
        masker.mask(&mut tokens, 7, &mut generator(1, "mask", 0), &mut targets);
        assert_eq!(targets.places.len(), 3_000);
        assert!(targets.labels.iter().all(|l| *l == id));
        let at = |p: &u32| tokens[*p as usize - 7];
        let masked = targets.places.iter().filter(|p| at(p) == special.mask).count();
        let kept = targets.places.iter().filter(|p| at(p) == id).count();
        assert!((2_330..2_470).contains(&masked), "{masked}");
        assert!((240..400).contains(&kept), "{kept}");
        assert_eq!(tokens[0], special.cls);
    }

    #[test]
    fn whole_words_stay_together() {
        let tokenizer = tokenizer();
        let masking = Masking { rate: 0.3, mask: 1.0, random: 0.0, whole_word: true };
        let mut masker = Masker::new(masking, &tokenizer);
        let continuation = tokenizer.continuations();
        let original = tokenizer.encode("the unhappiness and happiness of happy un ness zzz xqx").unwrap();
        for seed in 0..50 {
            let mut tokens = original.clone();
            let mut targets = MlmTargets::default();
            masker.mask(&mut tokens, 0, &mut generator(seed, "mask", 0), &mut targets);
            assert!(!targets.places.is_empty());
            for i in 1..original.len() {
                if continuation[original[i] as usize] {
                    let mask = tokenizer.special().mask;
                    assert_eq!(tokens[i] == mask, tokens[i - 1] == mask);
                }
            }
        }
    }

    #[test]
    fn nothing_to_mask() {
        let tokenizer = tokenizer();
        let mut masker = Masker::new(Masking::default(), &tokenizer);
        let mut targets = MlmTargets::default();
        let mut tokens = [tokenizer.special().cls, tokenizer.special().sep];
        masker.mask(&mut tokens, 0, &mut generator(1, "mask", 0), &mut targets);
        masker.mask(&mut [], 0, &mut generator(1, "mask", 0), &mut targets);
        assert!(targets.places.is_empty());
    }
}
