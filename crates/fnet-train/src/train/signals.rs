//! Learning from signals, as an objective of the training loop.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use fnet_encoder::{Batch, ClassTargets, Dropout, Loss, Mode, Model, Targets, Workspace};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::data::signals::spans::{SpanCounts, are_of_spans};
use crate::data::signals::{Asked, Signal, Source, Target, UNASKED};
use crate::data::tasks::dataset::{Labels, likeliest, score, score_of};
use crate::data::tasks::label_sets::{self, LabelCounts};
use crate::data::tasks::metrics::Metric;
use crate::error::Result;
use crate::folder::state::Position;
use crate::random::{Fingerprint, generator};
use crate::train::leaves::Leaf;
use crate::train::standardize;
use crate::train::trainer::{Evaluation, Gradient, Objective, StepOutcome};

/// Positions run at once when nothing is trained.
pub(crate) const INFERENCE_POSITIONS: usize = 4_096;
/// Values of vectors that are in a batch, about.
const MOST_VALUES: usize = 8 << 20;
/// Examples that are read side by side.
const READ_AT_ONCE: usize = 64;
/// Positions of a training batch that run at once: activations of more leave the caches.
const TRAINING_POSITIONS: usize = 2_048;

/// Fine-tuning on one source of signals.
pub(crate) struct SignalObjective {
    pub train: Box<dyn Source>,
    pub dev: Option<Box<dyn Source>>,
    pub batch_size: usize,
    pub accumulate: usize,
    pub seed: u64,
    /// Values in a vector.
    width: usize,
    /// Of all examples, to learn from and to judge by.
    fingerprint: u64,
    order: Vec<u32>,
    ordered: Option<u64>,
    /// What the frozen trunk gives for each training example, where the head alone is trained.
    pooled: Option<Vec<f32>>,
    step: Step,
}

/// The examples of a step, read once for all of its leaves.
#[derive(Default)]
struct Step {
    /// Where they begin, once they are read.
    from: Option<Position>,
    /// Where the next ones do.
    next: Position,
    /// Their numbers.
    indices: Vec<u32>,
    signals: Vec<Signal>,
}

/// A batch of signals with their targets.
#[derive(Default)]
pub(crate) struct Drawn {
    pub batch: Batch,
    pub classes: Vec<u32>,
    pub numbers: Vec<f32>,
    pub labels: Vec<f32>,
    /// Instead of what is in the batch: what the trunk gives for it.
    pooled: Vec<f32>,
}

impl Drawn {
    fn push(&mut self, signal: &Signal, width: usize, pooled: Option<&[f32]>) -> Result<()> {
        if let Some(pooled) = pooled {
            self.pooled.extend_from_slice(pooled);
            self.batch.push(&[0], &[]); // counted, not read
        } else if width == 0 {
            self.batch.push(&signal.tokens, &[]);
        } else {
            self.batch.push_vectors(&signal.vectors, width)?;
        }
        match &signal.target {
            Target::Class(class) => self.classes.push(*class),
            Target::Number(number) => self.numbers.push(*number),
            Target::Classes(classes) => self.classes.extend_from_slice(classes),
            Target::Numbers(numbers) => self.numbers.extend_from_slice(numbers),
            Target::Labels(labels) => self.labels.extend_from_slice(labels),
        }
        Ok(())
    }

    fn targets(&self) -> ClassTargets<'_> {
        match () {
            () if !self.labels.is_empty() => ClassTargets::Labels(&self.labels),
            () if !self.numbers.is_empty() => ClassTargets::Values(&self.numbers),
            () => ClassTargets::Classes(&self.classes),
        }
    }

    /// Examples, or positions, that have a target.
    fn rows(&self, outputs: usize) -> usize {
        self.classes.len() + self.numbers.len() + self.labels.len() / outputs
    }

    /// Appends a row's target as numbers, unless nothing is known of it.
    fn push_target(&self, row: usize, outputs: usize, y: &mut Vec<f32>) -> bool {
        if let Some(number) = self.numbers.get(row) {
            y.push(*number);
        } else if let Some(class) = self.classes.get(row) {
            if *class == UNASKED {
                return false;
            }
            y.extend((0..outputs as u32).map(|own| f32::from(own == *class)));
        } else {
            let labels = &self.labels[row * outputs..][..outputs];
            if labels.iter().any(|label| label.is_nan()) {
                return false;
            }
            y.extend(labels.iter().map(|label| 2.0 * label - 1.0));
        }
        true
    }
}

/// How many predictions a target asks for.
fn asked(target: &Target) -> usize {
    let known = |classes: &[u32]| classes.iter().filter(|class| **class != UNASKED).count();
    match target {
        Target::Class(class) => known(&[*class]),
        Target::Classes(classes) => known(classes),
        Target::Number(_) => 1,
        Target::Numbers(numbers) => numbers.len(),
        Target::Labels(labels) => labels.iter().filter(|label| !label.is_nan()).count(),
    }
}

impl SignalObjective {
    pub fn new(
        train: Box<dyn Source>,
        dev: Option<Box<dyn Source>>,
        batch_size: usize,
        accumulate: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut all = Fingerprint::default();
        all.add(train.fingerprint()?);
        if let Some(dev) = &dev {
            all.add(dev.fingerprint()?);
        }
        let (width, fingerprint, order) = (train.shape().width, all.value(), Vec::new());
        Ok(Self {
            train,
            dev,
            batch_size,
            accumulate,
            seed,
            width,
            fingerprint,
            order,
            ordered: None,
            pooled: None,
            step: Step::default(),
        })
    }

    /// What the output layer reads of each training example and what it should say: 1 for its class and 0 for others, 1 or
    /// -1 for each label, or the number; nothing of batches whose numbers `runs` denies. Positions of which nothing is known
    /// are left out.
    pub fn each_row(
        &self,
        model: &Model,
        w: &mut Workspace,
        runs: impl Fn(usize) -> bool,
        mut take: impl FnMut((f64, usize), &[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (outputs, all) = (model.head().outputs(), self.train.len().max(1));
        let (mut x, mut y, mut seen, mut batches) = (Vec::new(), Vec::new(), 0, 0..);
        each_batch(&*self.train, INFERENCE_POSITIONS, |drawn| {
            seen += drawn.batch.texts();
            let done = (seen as f64 / all as f64, drawn.batch.tokens().len());
            if !batches.next().is_some_and(&runs) {
                return take(done, &[], &[]);
            }
            x.clear();
            y.clear();
            let mut forward = model.forward(&drawn.batch, Mode::Infer, w)?;
            let rows = forward.seen_by_classifier()?;
            let inputs = rows.len() / drawn.rows(outputs).max(1);
            for (row, x_row) in rows.chunks_exact(inputs.max(1)).enumerate() {
                if drawn.push_target(row, outputs, &mut y) {
                    x.extend_from_slice(x_row);
                }
            }
            take(done, &x, &y)
        })
    }

    /// Reads the examples of the step that begins at `from`; a step ends with the pass.
    fn read(&mut self, from: Position) -> Result<()> {
        if self.step.from == Some(from) {
            return Ok(());
        }
        if self.ordered != Some(from.epoch) {
            self.order = (0..self.train.len() as u32).collect();
            self.order.shuffle(&mut generator(self.seed, "shuffle", from.epoch));
            self.ordered = Some(from.epoch);
        }
        let (all, step) = (self.order.len(), &mut self.step);
        let start = from.index.min(all);
        let end = (start + self.batch_size.max(1) * self.accumulate.max(1)).min(all);
        step.from = None;
        step.indices = self.order[start..end].to_vec();
        step.signals.resize_with(end - start, Signal::default);
        for (index, signal) in step.indices.iter().zip(&mut step.signals) {
            self.train.read(from.epoch, *index as usize, signal)?;
        }
        step.next = Position { index: end, ..from };
        if end == all {
            step.next = Position { epoch: from.epoch + 1, index: 0 };
        }
        step.from = Some(from);
        Ok(())
    }

    /// The step's examples of a leaf, in batches that are run one after another.
    fn batches(&self, leaf: Leaf) -> Result<Vec<Drawn>> {
        let (mut batches, mut drawn) = (Vec::new(), Drawn::default());
        let own = leaf.range(self.step.signals.len());
        for (index, signal) in self.step.indices[own.clone()].iter().zip(&self.step.signals[own]) {
            let (own, there) = (signal.positions(self.width), drawn.batch.tokens().len());
            if there > 0 && there + own > TRAINING_POSITIONS {
                batches.push(std::mem::take(&mut drawn));
            }
            let pooled = self.pooled.as_ref().map(|all| {
                let width = all.len() / self.train.len();
                &all[*index as usize * width..][..width]
            });
            drawn.push(signal, self.width, pooled)?;
        }
        if !drawn.batch.is_empty() {
            batches.push(drawn);
        }
        Ok(batches)
    }
}

impl Objective for SignalObjective {
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        leaf: Leaf,
        dropout: Dropout,
        gradient: Gradient,
        w: &mut Workspace,
    ) -> Result<StepOutcome> {
        if self.pooled.is_none() && self.train.is_fixed() && model.trains_head_alone() {
            self.pooled = Some(pool(model, &*self.train, 0..self.train.len(), w)?);
        }
        let begun = Instant::now();
        self.read(*position)?;
        *position = self.step.next;
        let batches = self.batches(leaf)?;
        let scale = 1.0 / self.step.signals.iter().map(|s| asked(&s.target)).sum::<usize>().max(1) as f32;
        let mut outcome = StepOutcome { drawing: begun.elapsed(), ..StepOutcome::default() };
        let Gradient { values, mut told } = gradient;
        // What the classifier reads is measured after the backward pass: then nothing travels before.
        let measures = self.pooled.is_none() && model.config().classifier_standardized;
        for (i, drawn) in batches.iter().enumerate() {
            let mode = Mode::Train(leaf.dropout(dropout, i));
            let mut forward = match drawn.pooled.as_slice() {
                [] => model.forward(&drawn.batch, mode, w)?,
                pooled => model.forward_pooled(&drawn.batch, pooled, mode, w)?,
            };
            let targets = Targets::examples(drawn.targets(), scale);
            let told = if i + 1 == batches.len() && !measures { told.take() } else { None };
            outcome.loss.add(forward.backward_by_layers(targets, values, told)?.examples);
            if measures {
                standardize::measure(model, forward.read_by_classifier(), values);
            }
            outcome.tokens += drawn.batch.tokens().len();
        }
        Ok(outcome)
    }

    fn measured(&self, model: &Model) -> Vec<Range<usize>> {
        standardize::places(model).into_iter().flatten().collect()
    }

    fn after_step(&mut self, model: &mut Model, gradients: &mut [f32]) {
        standardize::follow(model, gradients, self.step.signals.len());
    }

    fn epochs(&self, position: Position) -> f64 {
        position.epoch as f64 + position.index as f64 / self.train.len().max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let Some(dev) = &self.dev else { return Ok(None) };
        let Judged { loss, mut values } = judge(model, &**dev, INFERENCE_POSITIONS, w)?;
        let score = score_of(&values);
        values.insert(0, ("dev_loss".to_string(), loss.mean()));
        Ok(Some(Evaluation { values, score }))
    }

    fn data(&self) -> u64 {
        self.fingerprint
    }

    fn keeps_best(&self) -> bool {
        self.dev.is_some()
    }
}

/// How well the simplest guess does: of each position the label that its vector shows (bits), or the class that training
/// has most for the same vector; of whole signals the class that training has most, or its mean.
pub(crate) fn floor(train: &dyn Source, dev: &dyn Source) -> Result<(&'static str, f64)> {
    if train.reading().asked() == Asked::Labels {
        let labels = train.shape().classes.len();
        let guess = label_sets::commonest(labels, &all_labels(train)?);
        let (expected, always) = (all_labels(dev)?, guess.repeat(dev.len()));
        return Ok(("micro_f1", LabelCounts::of(labels, &always, &expected).micro_f1()));
    }
    let mut counts = HashMap::<u64, Vec<usize>>::new();
    each_class(train, |key, class| {
        let counts = counts.entry(key).or_default();
        counts.resize(counts.len().max(class as usize + 1), 0);
        counts[class as usize] += 1;
    })?;
    let most = |counts: &Vec<usize>| (0..counts.len()).rev().max_by_key(|class| counts[*class]);
    let most: HashMap<u64, Option<usize>> = counts.iter().map(|(key, counts)| (*key, most(counts))).collect();
    let (mut right, mut all, mut off) = (0, 0, 0.0);
    each_class(dev, |key, class| {
        right += usize::from(most.get(&key) == Some(&Some(class as usize)));
        all += 1;
    })?;
    let mut signal = Signal::default();
    for index in 0..dev.len() {
        dev.read_plain(index, &mut signal)?;
        match &signal.target {
            Target::Class(_) | Target::Classes(_) => {}
            Target::Number(number) => {
                off += f64::from(number.abs());
                all += 1;
            }
            Target::Numbers(numbers) => {
                off += numbers.iter().map(|number| f64::from(number.abs())).sum::<f64>();
                all += numbers.len();
            }
            Target::Labels(labels) => {
                let asked = labels.iter().zip(&signal.vectors).filter(|(label, _)| !label.is_nan());
                for (label, value) in asked {
                    right += usize::from((*value > 0.0) == (*label > 0.5));
                    all += 1;
                }
            }
        }
    }
    Ok(match dev.reading().asked().numbers() {
        Some(scale) => ("mean_absolute_error", off / all.max(1) as f64 * f64::from(scale.deviation[0])),
        None => ("accuracy", right as f64 / all.max(1) as f64),
    })
}

/// The labels of all signals.
fn all_labels(source: &dyn Source) -> Result<Vec<f32>> {
    let (mut all, mut signal) = (Vec::new(), Signal::default());
    for index in 0..source.len() {
        source.read_plain(index, &mut signal)?;
        if let Target::Labels(labels) = &signal.target {
            all.extend_from_slice(labels);
        }
    }
    Ok(all)
}

/// All classes that are asked, with a key of the position's vector or token; of whole signals it is 0.
fn each_class(source: &dyn Source, mut take: impl FnMut(u64, u32)) -> Result<()> {
    let (width, mut signal) = (source.shape().width, Signal::default());
    for index in 0..source.len() {
        source.read_plain(index, &mut signal)?;
        match &signal.target {
            Target::Class(class) => take(0, *class),
            Target::Classes(classes) => {
                for (position, class) in classes.iter().enumerate().filter(|(_, class)| **class != UNASKED) {
                    let mut key = Fingerprint::default();
                    match signal.vectors.get(position * width..(position + 1) * width) {
                        Some(vector) if width > 0 => {
                            vector.iter().for_each(|v| key.add(u64::from(v.to_bits())));
                        }
                        _ => key.add(signal.tokens.get(position).map_or(0, |id| u64::from(*id))),
                    }
                    take(key.value(), *class);
                }
            }
            Target::Number(_) | Target::Numbers(_) | Target::Labels(_) => {}
        }
    }
    Ok(())
}

/// How well a model does on a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Over all predictions.
    pub loss: Loss,
    /// Metrics by name; the first is what counts.
    pub values: Vec<(String, f64)>,
}

/// How well a model does on all examples of a source, in batches of about so many positions.
pub(crate) fn judge(
    model: &Model,
    source: &dyn Source,
    positions: usize,
    w: &mut Workspace,
) -> Result<Judged> {
    let (mut loss, mut outputs, mut expected) = (Loss::default(), Vec::new(), Vec::new());
    let (classes, mut counts) = (source.shape().classes, SpanCounts::default());
    let asked = source.reading().asked();
    let has_spans = asked == Asked::Positions && are_of_spans(&classes);
    each_batch(source, positions, |drawn| {
        let mut forward = model.forward(&drawn.batch, Mode::Infer, w)?;
        if asked.numbers().is_some() || asked == Asked::Labels {
            outputs.extend_from_slice(forward.logits()?);
            expected.extend_from_slice(if asked == Asked::Labels { &drawn.labels } else { &drawn.numbers });
        }
        if has_spans {
            let logits = forward.logits()?;
            for range in drawn.batch.ranges() {
                let name = |class: u32| classes[class as usize].as_str();
                let asked = range.filter(|t| drawn.classes[*t] != UNASKED);
                let row = |t: usize| &logits[t * classes.len()..][..classes.len()];
                let (labels, predicted): (Vec<_>, Vec<_>) =
                    asked.map(|t| (name(drawn.classes[t]), name(likeliest(row(t))))).unzip();
                counts.add(&labels, &predicted);
            }
        }
        loss.add(forward.loss(Targets::examples(drawn.targets(), 1.0))?.examples);
        Ok(())
    })?;
    let accuracy = ("accuracy".to_string(), loss.accuracy());
    let values = match &asked {
        Asked::Number(scale) | Asked::Numbers(scale) => {
            let real = |values: &[f32]| -> Vec<f64> {
                values.iter().map(|v| f64::from(scale.invert(0, *v))).collect()
            };
            let (outputs, expected) = (real(&outputs), real(&expected));
            [Metric::Pearson, Metric::Spearman, Metric::MeanAbsoluteError]
                .map(|metric| (metric.name().to_string(), metric.of_values(&outputs, &expected)))
                .to_vec()
        }
        Asked::Labels => {
            let labels = Labels::Several(classes);
            score(&labels, &labels.usual_metrics(), &outputs, &expected)
        }
        _ if has_spans => vec![("span_f1".to_string(), counts.f1()), accuracy],
        _ => vec![accuracy],
    };
    Ok(Judged { loss, values })
}

/// What the trunk gives for some examples of a source, `[examples, pooled_width]`.
pub(crate) fn pool(
    model: &Model,
    source: &dyn Source,
    indices: impl ExactSizeIterator<Item = usize>,
    w: &mut Workspace,
) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(indices.len() * model.pooled_width());
    each_batch_of(source, indices, INFERENCE_POSITIONS, |drawn| {
        all.extend_from_slice(model.forward(&drawn.batch, Mode::Infer, w)?.pooled());
        Ok(())
    })?;
    Ok(all)
}

/// Hands all examples of a source to `take`, in their order, in batches of about so many positions.
pub(crate) fn each_batch(
    source: &dyn Source,
    positions: usize,
    take: impl FnMut(&Drawn) -> Result<()>,
) -> Result<()> {
    each_batch_of(source, 0..source.len(), positions, take)
}

fn each_batch_of(
    source: &dyn Source,
    indices: impl ExactSizeIterator<Item = usize>,
    positions: usize,
    mut take: impl FnMut(&Drawn) -> Result<()>,
) -> Result<()> {
    let (width, mut left) = (source.shape().width, indices.len());
    // Wide vectors fill the memory before many of them do.
    let positions = positions.min((MOST_VALUES / width.max(1)).max(1));
    let indices: Vec<usize> = indices.collect();
    let mut drawn = Drawn::default();
    for block in indices.chunks(READ_AT_ONCE) {
        let read = |index: &usize| {
            let mut signal = Signal::default();
            source.read(0, *index, &mut signal).map(|()| signal)
        };
        for signal in block.par_iter().map(read).collect::<Vec<_>>() {
            drawn.push(&signal?, width, None)?;
            left -= 1;
            if left == 0 || drawn.batch.tokens().len() >= positions {
                take(&drawn)?;
                drawn = Drawn::default();
            }
        }
    }
    Ok(())
}
