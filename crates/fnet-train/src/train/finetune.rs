//! Classification or regression of labelled examples, as an objective of the training loop.

use std::time::Instant;

use fnet_encoder::{Batch, ClassTargets, Dropout, Mode, Model, Targets, Workspace};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::tasks::classes::Classes;
use crate::data::tasks::dataset::{
    Dataset, INFERENCE_TOKENS, Labels, batches_by_tokens, each_batch, predict, score_named, score_of,
};
use crate::data::tasks::encoding::{Example, Text};
use crate::data::tasks::metrics::Metric;
use crate::error::Result;
use crate::folder::state::Position;
use crate::random::{Fingerprint, generator};
use crate::train::leaves::Leaf;
use crate::train::trainer::{Evaluation, Gradient, Objective, StepOutcome};

/// Augmentation of training examples, drawn anew each time.
pub struct Variation {
    /// Fraction of the tokens that is hidden, so that no single word is memorised.
    pub hide_rate: f64,
    /// The token put in their place: `[MASK]`.
    pub mask: u32,
    /// By token id, whether it is a special token, which is never hidden.
    pub special: Vec<bool>,
    /// How often a pair's texts are swapped, from 0 to 1.
    pub swap_rate: f64,
}

impl Variation {
    pub(super) fn apply(&self, example: &mut Example, random: &mut ChaCha8Rng) {
        if self.swap_rate > 0.0 && random.random_bool(self.swap_rate) {
            match example.texts.as_mut_slice() {
                [together] => swap(together),
                apart => apart.reverse(),
            }
        }
        if self.hide_rate > 0.0 {
            for id in example.texts.iter_mut().flat_map(|text| &mut text.tokens) {
                if !self.special[*id as usize] && random.random_bool(self.hide_rate) {
                    *id = self.mask;
                }
            }
        }
    }
}

/// Windows of a text that one training step reads.
const MOST_WINDOWS: usize = 4;

/// Appends a text to a training batch; of one with many windows, only some, drawn anew each time.
pub(super) fn push(text: &Text, batch: &mut Batch, random: &mut ChaCha8Rng) {
    let mut windows: Vec<usize> = (0..text.ends.len()).collect();
    if windows.len() > MOST_WINDOWS {
        windows.partial_shuffle(random, MOST_WINDOWS);
        windows.drain(..windows.len() - MOST_WINDOWS); // the shuffled ones are the last
        windows.sort_unstable();
    }
    text.push_to(batch, windows);
}

/// `[CLS] a [SEP] b [SEP]` becomes `[CLS] b [SEP] a [SEP]`.
fn swap(Text { tokens, segments, .. }: &mut Text) {
    let Some(second) = segments.iter().position(|s| *s == 1) else { return };
    let end = segments.iter().rposition(|s| *s == 1).map_or(second, |last| last + 1);
    tokens[1..end].rotate_left(second - 1);
    let middle = 1 + end - second;
    segments[1..middle].fill(0);
    segments[middle..end].fill(1);
}

/// Fine-tuning on one task.
pub struct TaskObjective {
    train: Dataset,
    /// Name and examples; MNLI has two.
    dev: Vec<(String, Dataset)>,
    labels: Labels,
    metrics: Vec<Metric>,
    batch_size: BatchSize,
    accumulate: usize,
    variation: Variation,
    seed: u64,
    /// The weight of each class in the loss; empty if all count the same.
    class_weights: Vec<f32>,
    /// Of all training and held-out examples.
    fingerprint: u64,
    /// Batches of the epoch `ordered`, one after another, and where each ends.
    order: Vec<u32>,
    ends: Vec<usize>,
    ordered: Option<u64>,
}

/// How many examples, or tokens, make a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BatchSize {
    /// So many examples.
    Examples(usize),
    /// Examples of similar length, up to so many tokens.
    Tokens(usize),
}

/// Examples in a pool from which those of similar length are batched.
const POOL: usize = 2_048;

impl TaskObjective {
    /// What the output layer reads of each training example and what it should say: 1 for its class and 0 for others, 1 or
    /// -1 for each label, or the number; nothing of batches whose numbers `runs` denies.
    pub fn each_row(
        &self,
        model: &Model,
        w: &mut Workspace,
        runs: impl Fn(usize) -> bool,
        mut take: impl FnMut((f64, usize), &[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let examples = &self.train.examples;
        let (mut y, mut seen, mut batches) = (Vec::new(), 0, 0..);
        each_batch(examples, INFERENCE_TOKENS, |batch, numbers| {
            seen += numbers.len();
            let done = (seen as f64 / examples.len() as f64, batch.tokens().len());
            if !batches.next().is_some_and(&runs) {
                return take(done, &[], &[]);
            }
            let mut forward = model.forward(batch, Mode::Infer, w)?;
            y.clear();
            for target in numbers.iter().map(|i| &examples[*i as usize].target) {
                match (&self.labels, target.as_slice()) {
                    (Labels::Classes(names), [id]) => {
                        y.extend((0..names.len()).map(|class| f32::from(class == *id as usize)));
                    }
                    (Labels::Several(_), holds) => y.extend(holds.iter().map(|holds| 2.0 * holds - 1.0)),
                    (_, numbers) => y.extend_from_slice(numbers),
                }
            }
            take(done, forward.seen_by_classifier()?, &y)
        })
    }

    /// Trains on `train` in batches of `batch_size`, chooses the best by `dev`.
    pub fn new(
        train: Dataset,
        dev: Vec<(String, Dataset)>,
        labels: Labels,
        metrics: Vec<Metric>,
        (batch_size, accumulate): (BatchSize, usize),
        variation: Variation,
        seed: u64,
    ) -> Self {
        let (accumulate, order, ends, ordered) = (accumulate.max(1), Vec::new(), Vec::new(), None);
        let class_weights = Vec::new();
        let all = std::iter::once(&train).chain(dev.iter().map(|dev| &dev.1));
        let fingerprint = fingerprint(all.map(|data| data.examples.as_slice()));
        Self {
            train,
            dev,
            labels,
            metrics,
            batch_size,
            accumulate,
            variation,
            seed,
            class_weights,
            fingerprint,
            order,
            ends,
            ordered,
        }
    }

    /// The same, with every class having the same share of the loss, however many rows it has.
    pub fn balanced(mut self) -> Self {
        if let Labels::Classes(names) = &self.labels {
            let mut counts = vec![0; names.len()];
            for example in &self.train.examples {
                if let Some(count) = example.target.first().and_then(|id| counts.get_mut(*id as usize)) {
                    *count += 1;
                }
            }
            self.class_weights = Classes::balanced_weights(&counts);
        }
        self
    }

    fn texts_of_example(&self) -> usize {
        self.train.examples.first().map_or(1, |example| example.texts.len()).max(1)
    }

    fn targets_of_example(&self) -> usize {
        self.train.examples.first().map_or(1, |example| example.target.len()).max(1)
    }

    /// Number of training examples.
    pub fn examples(&self) -> usize {
        self.train.examples.len()
    }

    /// Puts an epoch's batches in an order determined by the seed.
    fn shuffle(&mut self, epoch: u64) {
        let mut random = generator(self.seed, "shuffle", epoch);
        self.order = (0..self.train.examples.len() as u32).collect();
        self.order.shuffle(&mut random);
        let count = self.order.len();
        match self.batch_size {
            BatchSize::Examples(size) => {
                self.ends = (0..count).step_by(size.max(1)).map(|i| (i + size.max(1)).min(count)).collect();
            }
            BatchSize::Tokens(most) => {
                let pools = self.order.chunks(POOL);
                let mut batches: Vec<Vec<u32>> =
                    pools.flat_map(|p| batches_by_tokens(&self.train.examples, p.to_vec(), most)).collect();
                batches.shuffle(&mut random);
                let ends = batches.iter().scan(0, |end, batch| {
                    *end += batch.len();
                    Some(*end)
                });
                self.ends = ends.collect();
                self.order = batches.concat();
            }
        }
        self.ordered = Some(epoch);
    }

    fn draw(&mut self, position: &mut Position, batch: &mut Batch, targets: &mut Vec<f32>) {
        if self.ordered != Some(position.epoch) {
            self.shuffle(position.epoch);
        }
        position.index = position.index.min(self.order.len());
        let next = self.ends.partition_point(|end| *end <= position.index);
        let end = self.ends.get(next).copied().unwrap_or(self.order.len());
        batch.clear();
        targets.clear();
        let mut random = generator(self.seed, "vary", position.epoch << 32 | position.index as u64);
        for i in &self.order[position.index..end] {
            let mut example = self.train.examples[*i as usize].clone();
            self.variation.apply(&mut example, &mut random);
            example.texts.iter().for_each(|text| push(text, batch, &mut random));
            targets.extend_from_slice(&example.target);
        }
        position.index = end;
        if end == self.order.len() {
            *position = Position { epoch: position.epoch + 1, index: 0 };
        }
    }
}

/// A fingerprint of labels and tokens.
pub(super) fn fingerprint<'a>(all: impl Iterator<Item = &'a [Example]>) -> u64 {
    let mut fingerprint = Fingerprint::default();
    for examples in all {
        fingerprint.add(examples.len() as u64);
        for example in examples {
            example.target.iter().for_each(|t| fingerprint.add(u64::from(t.to_bits())));
            for text in &example.texts {
                fingerprint.add(text.tokens.len() as u64);
                text.tokens.iter().for_each(|id| fingerprint.add(u64::from(*id)));
            }
        }
    }
    fingerprint.value()
}

impl Objective for TaskObjective {
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
        let (epoch, mut micro) = (position.epoch, Vec::new());
        while micro.len() < self.accumulate && position.epoch == epoch {
            let (mut batch, mut targets) = (Batch::new(), Vec::new());
            self.draw(position, &mut batch, &mut targets);
            micro.push((batch, targets));
        }
        // The mean is over all examples of the step, however they fall into batches.
        let scale = 1.0 / micro.iter().map(|m| m.1.len()).sum::<usize>().max(1) as f32;
        let mut outcome = StepOutcome { drawing: begun.elapsed(), ..StepOutcome::default() };
        if !leaf.is_whole() {
            for (batch, targets) in &mut micro {
                let own = leaf.range(batch.texts() / self.texts_of_example());
                let (texts, values) = (self.texts_of_example(), self.targets_of_example());
                *batch = batch.part(own.start * texts..own.end * texts);
                *targets = targets[own.start * values..own.end * values].to_vec();
            }
        }
        let Gradient { values, mut told } = gradient;
        let last = micro.iter().rposition(|(batch, _)| !batch.is_empty());
        for (i, (batch, targets)) in micro.iter().enumerate() {
            if batch.is_empty() {
                continue;
            }
            let classes: Vec<u32> = targets.iter().map(|t| *t as u32).collect();
            let labels = match &self.labels {
                Labels::Number => ClassTargets::Values(targets),
                Labels::Several(_) => ClassTargets::Labels(targets),
                _ if self.class_weights.is_empty() => ClassTargets::Classes(&classes),
                _ => ClassTargets::Weighted(&classes, &self.class_weights),
            };
            let mut forward = model.forward(batch, Mode::Train(leaf.dropout(dropout, i)), w)?;
            let told = if Some(i) == last { told.take() } else { None };
            let losses = forward.backward_by_layers(Targets::examples(labels, scale), values, told)?;
            outcome.loss.add(losses.examples);
            outcome.tokens += batch.tokens().len();
        }
        Ok(outcome)
    }

    fn epochs(&self, position: Position) -> f64 {
        position.epoch as f64 + position.index as f64 / self.train.examples.len().max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let mut values = Vec::new();
        for (name, dev) in &self.dev {
            let outputs = predict(model, &dev.examples, INFERENCE_TOKENS, w, |_| {})?;
            values.extend(score_named(name, &self.labels, &self.metrics, &outputs, &dev.targets()));
        }
        let score = score_of(&values);
        Ok((!values.is_empty()).then_some(Evaluation { values, score }))
    }

    fn data(&self) -> u64 {
        self.fingerprint
    }

    fn keeps_best(&self) -> bool {
        !self.dev.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_the_part_asked_for_and_no_special_token() {
        let special = vec![true, true, false, false];
        let tokens: Vec<u32> = [0].into_iter().chain((0..10_000).map(|i| 2 + i % 2)).collect();
        let hidden = |hide_rate| {
            let variation = Variation { hide_rate, mask: 1, special: special.clone(), swap_rate: 0.0 };
            let text = Text::whole(tokens.clone(), vec![0; 10_001]);
            let mut example = Example { texts: vec![text], target: vec![0.0] };
            variation.apply(&mut example, &mut generator(1, "vary", 0));
            example.texts.remove(0).tokens
        };
        assert!(hidden(0.0) == tokens);
        let all = hidden(1.0);
        assert!(all[0] == 0 && all[1..].iter().all(|id| *id == 1));
        let some = hidden(0.2).iter().filter(|id| **id == 1).count();
        assert!((1_850..2_150).contains(&some), "{some}");
    }

    #[test]
    fn texts_change_places() {
        let pair = |tokens: &[u32], segments: &[u32]| Text::whole(tokens.into(), segments.into());
        for (before, after) in [
            (pair(&[1, 5, 6, 2, 7, 2], &[0, 0, 0, 0, 1, 1]), pair(&[1, 7, 2, 5, 6, 2], &[0, 0, 0, 1, 1, 1])),
            (
                pair(&[1, 5, 2, 7, 2, 0, 0], &[0, 0, 0, 1, 1, 0, 0]),
                pair(&[1, 7, 2, 5, 2, 0, 0], &[0, 0, 0, 1, 1, 0, 0]),
            ),
            (pair(&[1, 2, 2], &[0, 0, 1]), pair(&[1, 2, 2], &[0, 0, 1])),
            (pair(&[1, 5, 2], &[0, 0, 0]), pair(&[1, 5, 2], &[0, 0, 0])),
        ] {
            let mut swapped = before.clone();
            swap(&mut swapped);
            assert!(swapped.tokens == after.tokens && swapped.segments == after.segments, "{before:?}");
            swap(&mut swapped);
            assert!(swapped.tokens == before.tokens && swapped.segments == before.segments, "{before:?}");
        }
    }
}
