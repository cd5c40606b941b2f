//! Learning from signals, as an objective of the training loop.

use fnet_encoder::{Batch, ClassTargets, Dropout, Loss, Mode, Model, Targets, Workspace};
use rand::seq::SliceRandom;

use crate::data::signals::{Signal, Source, Target};
use crate::error::Result;
use crate::folder::state::Position;
use crate::random::{Fingerprint, generator};
use crate::train::trainer::{Evaluation, Objective, StepOutcome};

/// Positions run at once when nothing is trained.
const INFERENCE_POSITIONS: usize = 4_096;

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
}

/// A batch of signals with their targets.
#[derive(Default)]
pub(crate) struct Drawn {
    pub batch: Batch,
    pub classes: Vec<u32>,
    pub labels: Vec<f32>,
}

impl Drawn {
    fn push(&mut self, signal: &Signal, width: usize) -> Result<()> {
        self.batch.push_vectors(&signal.vectors, width)?;
        match &signal.target {
            Target::Class(class) => self.classes.push(*class),
            Target::Labels(labels) => self.labels.extend_from_slice(labels),
        }
        Ok(())
    }

    fn targets(&self) -> ClassTargets<'_> {
        if self.labels.is_empty() {
            ClassTargets::Classes(&self.classes)
        } else {
            ClassTargets::Labels(&self.labels)
        }
    }

    /// How many predictions the loss is the sum of.
    fn count(&self) -> usize {
        self.classes.len() + self.labels.iter().filter(|label| !label.is_nan()).count()
    }
}

impl SignalObjective {
    pub fn new(
        train: Box<dyn Source>,
        dev: Option<Box<dyn Source>>,
        batch_size: usize,
        accumulate: usize,
        seed: u64,
    ) -> Self {
        let mut all = Fingerprint::default();
        all.add(train.fingerprint());
        dev.iter().for_each(|dev| all.add(dev.fingerprint()));
        let (width, fingerprint, order) = (train.shape().width, all.value(), Vec::new());
        Self { train, dev, batch_size, accumulate, seed, width, fingerprint, order, ordered: None }
    }

    /// Draws one batch from `position`; a batch ends with the pass.
    fn draw(&mut self, position: &mut Position) -> Result<Drawn> {
        if self.ordered != Some(position.epoch) {
            self.order = (0..self.train.len() as u32).collect();
            self.order.shuffle(&mut generator(self.seed, "shuffle", position.epoch));
            self.ordered = Some(position.epoch);
        }
        let (mut drawn, mut signal) = (Drawn::default(), Signal::default());
        let start = position.index.min(self.order.len());
        let end = (start + self.batch_size.max(1)).min(self.order.len());
        for index in &self.order[start..end] {
            self.train.read(position.epoch, *index as usize, &mut signal);
            drawn.push(&signal, self.width)?;
        }
        position.index = end;
        if end == self.order.len() {
            *position = Position { epoch: position.epoch + 1, index: 0 };
        }
        Ok(drawn)
    }
}

impl Objective for SignalObjective {
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<StepOutcome> {
        let (epoch, mut micro) = (position.epoch, Vec::new());
        while micro.len() < self.accumulate.max(1) && position.epoch == epoch {
            micro.push(self.draw(position)?);
        }
        let scale = 1.0 / micro.iter().map(Drawn::count).sum::<usize>().max(1) as f32;
        let mut outcome = StepOutcome::default();
        for (i, drawn) in micro.iter().enumerate() {
            let dropout = Dropout { key: dropout.key.wrapping_add(i as u64), ..dropout };
            let mut forward = model.forward(&drawn.batch, Mode::Train(dropout), w)?;
            let targets = Targets::examples(drawn.targets(), scale);
            outcome.loss.add(forward.backward(targets, gradients)?.examples);
            outcome.tokens += drawn.batch.tokens().len();
        }
        Ok(outcome)
    }

    fn epochs(&self, position: Position) -> f64 {
        position.epoch as f64 + position.index as f64 / self.train.len().max(1) as f64
    }

    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>> {
        let Some(dev) = &self.dev else { return Ok(None) };
        let loss = judge(model, &**dev, w)?;
        let values = vec![("dev_loss".to_string(), loss.mean()), ("accuracy".to_string(), loss.accuracy())];
        Ok(Some(Evaluation { values, score: loss.accuracy() }))
    }

    fn data(&self) -> u64 {
        self.fingerprint
    }

    fn keeps_best(&self) -> bool {
        self.dev.is_some()
    }
}

/// The accuracy of what needs no learning: of each position's label what its vector shows, where it shows anything, or
/// of whole signals the class that training has most.
pub(crate) fn floor(train: &dyn Source, dev: &dyn Source) -> f64 {
    let (mut counts, mut signal) = (Vec::<usize>::new(), Signal::default());
    for index in 0..train.len() {
        train.read(0, index, &mut signal);
        if let Target::Class(class) = signal.target {
            let class = class as usize;
            counts.resize(counts.len().max(class + 1), 0);
            counts[class] += 1;
        }
    }
    let most = counts.iter().copied().max().and_then(|most| counts.iter().position(|count| *count == most));
    let (mut right, mut all) = (0, 0);
    for index in 0..dev.len() {
        dev.read(0, index, &mut signal);
        match &signal.target {
            Target::Class(class) => {
                right += usize::from(Some(*class as usize) == most);
                all += 1;
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
    right as f64 / all.max(1) as f64
}

/// The loss on all examples of a source, with how many predictions are right.
pub(crate) fn judge(model: &Model, source: &dyn Source, w: &mut Workspace) -> Result<Loss> {
    let mut loss = Loss::default();
    run(model, source, w, |drawn, mut forward| {
        loss.add(forward.loss(Targets::examples(drawn.targets(), 1.0))?.examples);
        Ok(())
    })?;
    Ok(loss)
}

/// Runs the model over all examples of a source, in batches, in their order.
pub(crate) fn run(
    model: &Model,
    source: &dyn Source,
    w: &mut Workspace,
    mut take: impl FnMut(&Drawn, fnet_encoder::Forward) -> Result<()>,
) -> Result<()> {
    let (width, mut signal, mut index) = (source.shape().width, Signal::default(), 0);
    while index < source.len() {
        let mut drawn = Drawn::default();
        while index < source.len() && drawn.batch.tokens().len() < INFERENCE_POSITIONS {
            source.read(0, index, &mut signal);
            drawn.push(&signal, width)?;
            index += 1;
        }
        take(&drawn, model.forward(&drawn.batch, Mode::Infer, w)?)?;
    }
    Ok(())
}
