//! Masked language modelling on a corpus, as an objective of the training loop.

use fnet_encoder::{Batch, Dropout, Loss, MlmTargets, Model, Padding, Workspace};

use crate::corpus::sequences::Sequences;
use crate::error::{Error, Result};
use crate::mlm::{Masker, Masking};
use crate::random::{fingerprint, generator};
use crate::state::Position;
use crate::tasks::dataset::Encoding;
use crate::tokenizer::Tokenizer;
use crate::trainer::{Evaluation, Objective, StepOutcome};

/// A masked batch.
#[derive(Default)]
struct Masked {
    batch: Batch,
    targets: MlmTargets,
}

impl Masked {
    fn clear(&mut self) {
        self.batch.clear();
        self.targets.places.clear();
        self.targets.labels.clear();
    }
}

/// Draws without anything to predict after which training gives up.
const MOST_EMPTY_DRAWS: usize = 1_000;

/// MLM on one corpus.
pub struct MlmObjective<'a> {
    tokenizer: &'a Tokenizer,
    masker: Masker,
    sequences: Sequences,
    validation: Vec<Masked>,
    micro: Vec<Masked>,
    /// Tokens in a batch at most.
    batch_tokens: usize,
    accumulate: usize,
    longest: usize,
    padding: Padding,
    seed: u64,
    ids: Vec<u32>,
    tokens: Vec<u32>,
    segments: Vec<u32>,
}

/// Settings of the objective.
#[derive(Debug, Clone, Copy)]
pub struct MlmSettings {
    /// What is masked.
    pub masking: Masking,
    /// Tokens in a batch at most: batch size times sequence length.
    pub batch_tokens: usize,
    /// Batches whose gradients are summed for one step.
    pub accumulate: usize,
    /// Longest sequence with its special tokens.
    pub longest: usize,
    /// Whether sequences are filled up to `longest`.
    pub padding: Padding,
    /// Seed of order and masks.
    pub seed: u64,
}

/// The validation masks are the same in every run, at the usual rates: runs can be compared.
const VALIDATION_SEED: u64 = 20_210_509;

impl<'a> MlmObjective<'a> {
    /// Trains on `sequences`, validates on `validation` sequences of token ids.
    pub fn new(
        settings: MlmSettings,
        tokenizer: &'a Tokenizer,
        sequences: Sequences,
        validation: &[Vec<u32>],
    ) -> Self {
        let mut objective = Self {
            tokenizer,
            masker: Masker::new(settings.masking, tokenizer),
            sequences,
            validation: Vec::new(),
            micro: Vec::new(),
            batch_tokens: settings.batch_tokens.max(settings.longest),
            accumulate: settings.accumulate.max(1),
            longest: settings.longest,
            padding: settings.padding,
            seed: settings.seed,
            ids: Vec::new(),
            tokens: Vec::new(),
            segments: Vec::new(),
        };
        let training = std::mem::replace(
            &mut objective.masker,
            Masker::new(Masking { whole_word: settings.masking.whole_word, ..Masking::default() }, tokenizer),
        );
        let mut random = generator(VALIDATION_SEED, "validation", 0);
        let mut masked = Masked::default();
        for ids in validation {
            if masked.batch.tokens().len() + ids.len() > objective.batch_tokens {
                objective.validation.push(std::mem::take(&mut masked));
            }
            objective.ids.clone_from(ids);
            objective.append(&mut masked, &mut random);
        }
        if !masked.batch.is_empty() {
            objective.validation.push(masked);
        }
        objective.masker = training;
        objective
    }

    /// Masks `self.ids` and appends it, unless there is nothing in it to be masked.
    fn append(&mut self, masked: &mut Masked, random: &mut rand_chacha::ChaCha8Rng) {
        let (tokens, segments) = (&mut self.tokens, &mut self.segments);
        self.tokenizer.assemble(&self.ids, None, self.longest, tokens, segments);
        let first = masked.batch.tokens().len();
        let targets = masked.targets.places.len();
        self.masker.mask(tokens, first, random, &mut masked.targets);
        if masked.targets.places.len() == targets {
            return;
        }
        let encoding = Encoding { tokenizer: self.tokenizer, longest: self.longest, padding: self.padding };
        encoding.pad(tokens, segments);
        masked.batch.push(tokens, segments);
    }

    /// Length of the next sequence in the batch.
    fn next_len(&self) -> usize {
        match self.padding {
            Padding::Fixed => self.longest,
            Padding::Own => self.ids.len() + 2,
        }
    }

    /// Draws one batch from `position`; a batch ends with the pass.
    fn draw(&mut self, position: &mut Position, masked: &mut Masked) {
        let number = position.epoch.wrapping_shl(40) ^ position.index as u64;
        let mut random = generator(self.seed, "mask", number);
        while position.index < self.sequences.len() {
            let mut ids = std::mem::take(&mut self.ids);
            self.sequences.shuffled(self.seed, position.epoch, position.index, &mut ids);
            self.ids = ids;
            let len = masked.batch.tokens().len();
            if len > 0 && len + self.next_len() > self.batch_tokens {
                return;
            }
            self.append(masked, &mut random);
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
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<StepOutcome> {
        let mut micro = std::mem::take(&mut self.micro);
        micro.resize_with(self.accumulate, Masked::default);
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
        let scale = 1.0 / count.max(1) as f32;
        let mut outcome = StepOutcome::default();
        for (i, Masked { batch, targets }) in micro.iter().enumerate() {
            if batch.is_empty() {
                continue;
            }
            let dropout = Dropout { key: dropout.key.wrapping_add(i as u64), ..dropout };
            model.forward(batch, Some(dropout), w)?;
            outcome.loss.add(model.mlm_loss(batch, targets, scale, dropout, gradients, w)?);
            outcome.tokens += batch.tokens().len();
        }
        self.micro = micro;
        Ok(outcome)
    }

    fn epochs(&self, position: Position) -> f64 {
        position.epoch as f64 + position.index as f64 / self.sequences.len().max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let mut loss = Loss::default();
        for Masked { batch, targets } in &self.validation {
            model.forward(batch, None, w)?;
            loss.add(model.mlm_evaluate(batch, targets, w)?);
        }
        if loss.count == 0 {
            return Ok(None);
        }
        let accuracy = loss.correct as f64 / loss.count as f64;
        Ok(Some(Evaluation {
            values: vec![("validation_loss".into(), loss.mean()), ("masked_accuracy".into(), accuracy)],
            score: -loss.mean(),
        }))
    }

    fn data(&self) -> u64 {
        fingerprint(format!("{} {}", self.sequences.len(), self.sequences.tokens()).as_bytes())
    }

    fn keeps_best(&self) -> bool {
        false
    }
}
