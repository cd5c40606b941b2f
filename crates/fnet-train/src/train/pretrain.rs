//! Masked language modelling on a corpus, as an objective of the training loop.

use std::time::Instant;

use fnet_encoder::{
    Batch, ClassTargets, Dropout, Head, IGNORED, Loss, MlmTargets, Mode, Model, Targets, Workspace,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::corpus::sequences::Sequences;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::folder::state::Position;
use crate::random::generator;
use crate::train::leaves::Leaf;
use crate::train::mlm::{Masker, Masking};
use crate::train::trainer::{Evaluation, Gradient, Objective, StepOutcome};

/// What is learnt in addition to masked tokens, from pairs of neighbouring sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Learns {
    /// Nothing: masked tokens of single sequences.
    #[default]
    Mlm,
    /// Whether the second sequence follows the first or is from elsewhere (Devlin et al. 2019, section 3.1)
    MlmNsp,
    /// Whether two neighbours stand in the text's order (Lan et al. 2020, section 3.1)
    MlmSop,
}

impl Learns {
    /// The head that learns it.
    pub fn head(self) -> Head {
        if self.pairs() { Head::PreTraining } else { Head::MaskedLm }
    }

    /// Whether sequences are pairs.
    pub fn pairs(self) -> bool {
        self != Self::Mlm
    }

    /// Longest part of a sequence, so that the whole has at most `longest` tokens.
    pub fn longest_part(self, longest: usize) -> usize {
        if self.pairs() { longest.saturating_sub(3) / 2 } else { longest.saturating_sub(2) }
    }

    /// Leaves a pair as it is, class 0, or turns it into one of class 1, with even chances; `IGNORED` if it is not
    /// a pair. `other` fills in a second part from elsewhere.
    fn arrange(
        self,
        pair: &mut Pair,
        random: &mut ChaCha8Rng,
        mut other: impl FnMut(&mut ChaCha8Rng, &mut Vec<u32>),
    ) -> u32 {
        if pair[1].is_empty() {
            return IGNORED;
        }
        let class = u32::from(random.random_bool(0.5));
        match self {
            Self::MlmNsp if class == 1 => {
                let own = std::mem::take(&mut pair[1]);
                // Elsewhere may be a single sequence, or this very pair.
                let found = (0..MOST_DRAWS).any(|_| {
                    pair[1].clear();
                    other(random, &mut pair[1]);
                    !pair[1].is_empty() && pair[1] != own
                });
                if !found {
                    pair[1] = own;
                    return 0;
                }
            }
            Self::MlmSop if class == 1 => pair.swap(0, 1),
            _ => {}
        }
        class
    }

    /// Name of the metric for classifying pairs.
    fn metric(self) -> &'static str {
        if self == Self::MlmSop { "sentence_order_accuracy" } else { "next_sentence_accuracy" }
    }
}

/// Token ids of a sequence's two parts; the second is empty if it is not a pair.
pub type Pair = [Vec<u32>; 2];

/// A masked batch.
#[derive(Default)]
struct Masked {
    batch: Batch,
    targets: MlmTargets,
    /// Of each sequence, where there are pairs.
    classes: Vec<u32>,
}

impl Masked {
    /// The sequences of a leaf.
    fn part(&self, leaf: Leaf) -> Self {
        let sequences = leaf.range(self.batch.len());
        let batch = self.batch.part(sequences.clone());
        let offsets = self.batch.offsets();
        let [start, end] =
            [sequences.start, sequences.end].map(|at| offsets.get(at).copied().unwrap_or(0) as u32);
        let [first, last] =
            [start, end].map(|token| self.targets.places.partition_point(|place| *place < token));
        let targets = MlmTargets {
            places: self.targets.places[first..last].iter().map(|place| place - start).collect(),
            labels: self.targets.labels[first..last].to_vec(),
        };
        Self { batch, targets, classes: self.classes[sequences].to_vec() }
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.targets.places.clear();
        self.targets.labels.clear();
        self.classes.clear();
    }
}

/// Draws of a second part after which the pair stays as it is.
const MOST_DRAWS: usize = 1_000;
/// Draws without anything to predict after which training gives up.
const MOST_EMPTY_DRAWS: usize = 1_000;

/// MLM on one corpus.
pub struct MlmObjective<'a> {
    tokenizer: &'a Tokenizer,
    settings: MlmSettings,
    masker: Masker,
    sequences: Sequences,
    validation: Vec<Masked>,
    micro: Vec<Masked>,
    /// Of all training and validation tokens.
    fingerprint: u64,
    pair: Pair,
    tokens: Vec<u32>,
    segments: Vec<u32>,
}

/// Settings of the objective.
#[derive(Debug, Clone, Copy)]
pub struct MlmSettings {
    /// What is learnt.
    pub learns: Learns,
    /// What is masked.
    pub masking: Masking,
    /// Tokens in a batch at most: batch size times sequence length.
    pub batch_tokens: usize,
    /// Batches whose gradients are summed for one step.
    pub accumulate: usize,
    /// Longest sequence with its special tokens.
    pub longest: usize,
    /// The length that every sequence is padded to, if padding is mixed in.
    pub fixed_length: Option<usize>,
    /// Seed of order and masks.
    pub seed: u64,
}

/// The validation masks are the same in every run, at the usual rates: runs can be compared.
const VALIDATION_SEED: u64 = 20_210_509;

impl<'a> MlmObjective<'a> {
    /// Trains on `sequences`, validates on the sequences in `validation`; both are pairs if the settings ask for
    /// them.
    pub fn new(
        settings: MlmSettings,
        tokenizer: &'a Tokenizer,
        sequences: Sequences,
        validation: &[Pair],
    ) -> Self {
        let usual = Masking { whole_word: settings.masking.whole_word, ..Masking::default() };
        let settings = MlmSettings {
            batch_tokens: settings.batch_tokens.max(settings.longest),
            accumulate: settings.accumulate.max(1),
            ..settings
        };
        let mut objective = Self {
            tokenizer,
            settings,
            masker: Masker::new(usual, tokenizer),
            sequences,
            validation: Vec::new(),
            micro: Vec::new(),
            fingerprint: 0,
            pair: Pair::default(),
            tokens: Vec::new(),
            segments: Vec::new(),
        };
        let mut random = generator(VALIDATION_SEED, "validation", 0);
        let mut masked = Masked::default();
        for pair in validation {
            objective.pair.clone_from(pair);
            let class = settings.learns.arrange(&mut objective.pair, &mut random, |random, second| {
                second.clone_from(&validation[random.random_range(0..validation.len())][1]);
            });
            if !objective.fits(&masked) {
                objective.validation.push(std::mem::take(&mut masked));
            }
            objective.append(&mut masked, class, &mut random);
        }
        if !masked.batch.is_empty() {
            objective.validation.push(masked);
        }
        objective.masker = Masker::new(settings.masking, tokenizer);
        let mut fingerprint = objective.sequences.fingerprint();
        for batch in objective.validation.iter().map(|masked| &masked.batch) {
            batch.tokens().iter().for_each(|id| fingerprint.add(u64::from(*id)));
        }
        objective.fingerprint = fingerprint.value();
        objective
    }

    /// Masks `self.pair` and appends it, unless nothing in it can be masked.
    fn append(&mut self, masked: &mut Masked, class: u32, random: &mut ChaCha8Rng) {
        let MlmSettings { longest, fixed_length, .. } = self.settings;
        let (tokens, segments) = (&mut self.tokens, &mut self.segments);
        let second = Some(self.pair[1].as_slice()).filter(|ids| !ids.is_empty());
        self.tokenizer.assemble(&self.pair[0], second, longest, tokens, segments);
        let first = masked.batch.tokens().len();
        let targets = masked.targets.places.len();
        self.masker.mask(tokens, first, random, &mut masked.targets);
        if masked.targets.places.len() == targets {
            return;
        }
        if let Some(length) = fixed_length {
            self.tokenizer.fill_up(length, tokens, segments);
        }
        masked.batch.push(tokens, segments);
        masked.classes.push(class);
    }

    /// Whether a batch has room for `self.pair`.
    fn fits(&self, masked: &Masked) -> bool {
        let MlmSettings { longest, fixed_length, batch_tokens, .. } = self.settings;
        let special = if self.pair[1].is_empty() { 2 } else { 3 };
        let own = (self.pair[0].len() + self.pair[1].len() + special).min(longest);
        let len = fixed_length.unwrap_or(own);
        masked.batch.is_empty() || masked.batch.tokens().len() + len <= batch_tokens
    }

    /// Draws one batch from `position`; a batch ends with the pass.
    fn draw(&mut self, position: &mut Position, masked: &mut Masked) {
        let number = position.epoch.wrapping_shl(40) ^ position.index as u64;
        let MlmSettings { seed, learns, .. } = self.settings;
        let mut random = generator(seed, "mask", number);
        while position.index < self.sequences.len() {
            let place = self.sequences.shuffled(seed, position.epoch, position.index);
            let sequences = &self.sequences;
            for (ids, place) in self.pair.iter_mut().zip(place.segments()) {
                ids.clear();
                sequences.read(place, ids);
            }
            let class = learns.arrange(&mut self.pair, &mut random, |random, second| {
                let any = sequences.places()[random.random_range(0..sequences.len())];
                sequences.read(any.segments()[1], second);
            });
            if !self.fits(masked) {
                return;
            }
            self.append(masked, class, &mut random);
            position.index += 1;
        }
        *position = Position { epoch: position.epoch + 1, index: 0 };
    }
}

impl Objective for MlmObjective<'_> {
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        leaf: Leaf,
        dropout: Dropout,
        gradient: Gradient,
        w: &mut Workspace,
    ) -> Result<StepOutcome> {
        let begun = Instant::now();
        let mut micro = std::mem::take(&mut self.micro);
        micro.resize_with(self.settings.accumulate, Masked::default);
        // The mean is over all masked tokens of the step, however they fall into batches.
        let mut count = 0;
        for _ in 0..MOST_EMPTY_DRAWS {
            let epoch = position.epoch;
            for masked in &mut micro {
                masked.clear();
                if position.epoch == epoch {
                    self.draw(position, masked); // a step does not reach into the next pass
                }
            }
            count = micro.iter().map(|m| m.targets.places.len()).sum();
            if count > 0 {
                break;
            }
        }
        if count == 0 {
            return Err(Error::usage("no token of the corpus can be masked: it is all unknown words"));
        }
        let scale = 1.0 / count as f32;
        let pair_scale =
            1.0 / micro.iter().flat_map(|m| &m.classes).filter(|c| **c != IGNORED).count().max(1) as f32;
        let mut outcome = StepOutcome { drawing: begun.elapsed(), ..StepOutcome::default() };
        let cut: Vec<Masked>;
        let own = if leaf.is_whole() {
            &micro
        } else {
            cut = micro.iter().map(|masked| masked.part(leaf)).collect();
            &cut
        };
        let Gradient { values, mut told } = gradient;
        let last = own.iter().rposition(|masked| !masked.batch.is_empty());
        for (i, Masked { batch, targets, classes }) in own.iter().enumerate() {
            if batch.is_empty() {
                continue;
            }
            let mut all = Targets::masked(targets, scale);
            if self.settings.learns.pairs() {
                all = all.and_examples(ClassTargets::Classes(classes), pair_scale);
            }
            let mut forward = model.forward(batch, Mode::Train(leaf.dropout(dropout, i)), w)?;
            let told = if Some(i) == last { told.take() } else { None };
            outcome.loss.add(forward.backward_by_layers(all, values, told)?.masked);
            outcome.tokens += batch.tokens().len();
        }
        self.micro = micro;
        Ok(outcome)
    }

    fn epochs(&self, position: Position) -> f64 {
        position.epoch as f64 + position.index as f64 / self.sequences.len().max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let learns = self.settings.learns;
        let [mut loss, mut pairs] = [Loss::default(); 2];
        for Masked { batch, targets, classes } in &self.validation {
            let mut all = Targets::masked(targets, 1.0);
            if learns.pairs() {
                all = all.and_examples(ClassTargets::Classes(classes), 1.0);
            }
            let losses = model.forward(batch, Mode::Infer, w)?.loss(all)?;
            loss.add(losses.masked);
            pairs.add(losses.examples);
        }
        if loss.count == 0 {
            return Ok(None);
        }
        let mut values =
            vec![("validation_loss".into(), loss.mean()), ("masked_accuracy".into(), loss.accuracy())];
        if pairs.count > 0 {
            values.push((learns.metric().into(), pairs.accuracy()));
        }
        Ok(Some(Evaluation { values, score: -loss.mean() }))
    }

    fn data(&self) -> u64 {
        self.fingerprint
    }

    fn keeps_best(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_arranged_by_their_class() {
        let mut random = generator(1, "pairs", 0);
        for learns in [Learns::MlmNsp, Learns::MlmSop] {
            let mut classes = 0;
            for _ in 0..1_000 {
                let mut pair = [vec![1], vec![2]];
                let class = learns.arrange(&mut pair, &mut random, |random, second| {
                    // Half of the sequences from elsewhere are not pairs.
                    second.extend([3].iter().take(random.random_range(0..2)));
                });
                let expected = match (learns, class) {
                    (_, 0) => [1, 2],
                    (Learns::MlmNsp, _) => [1, 3],
                    _ => [2, 1],
                };
                assert_eq!(pair, expected.map(|id| vec![id]));
                classes += class;
            }
            assert!((420..580).contains(&classes), "{classes}");
            let mut only = [vec![1], vec![2]];
            let elsewhere = (0..20).map(|_| {
                let class = learns.arrange(&mut only, &mut random, |_, second| second.push(2));
                only.sort_unstable();
                class
            });
            assert!(elsewhere.sum::<u32>() == 0 || learns == Learns::MlmSop, "no pair but this one");
            let mut single = [vec![1], vec![]];
            assert_eq!(learns.arrange(&mut single, &mut random, |_, _| {}), IGNORED);
            assert_eq!(single, [vec![1], vec![]]);
        }
    }
}
