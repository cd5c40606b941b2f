//! One loop for pretraining and fine-tuning.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fnet_encoder::{AdamW, Dropout, Loss, Model, Moments, TensorInfo, Told, Workspace, gradient_norm};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::folder::state::{Position, State};
use crate::folder::{MetricsLog, RunFolder};
use crate::progress::Progress;
use crate::random::generator;
use crate::team::Team;
use crate::train::leaves::{Exchange, Leaf, Leaves};
use crate::train::schedule::Schedule;
use crate::train::stop::Stop;
use crate::train::time_spent::TimeSpent;

/// How long a run lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// Optimiser steps.
    Steps(u64),
    /// Passes over the data.
    Epochs(f64),
    /// Minutes of training, validation not counted.
    Minutes(f64),
}

/// Settings of the loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopSettings {
    /// How long.
    pub budget: Budget,
    /// Learning rate.
    pub schedule: Schedule,
    /// Optimiser.
    pub optimizer: AdamW,
    /// Largest global gradient norm; 0 for no clipping.
    pub clip: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Evaluations over the run; 0 for one after each pass over the data.
    pub evaluations: u32,
    /// Minutes between checkpoints.
    pub checkpoint_minutes: f64,
    /// Parts of a batch whose gradients are added in a tree, a power of two.
    pub leaves: usize,
    /// How gradients travel between processes.
    pub exchange: Exchange,
}

/// The result of one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepOutcome {
    /// Loss over all predictions of the step.
    pub loss: Loss,
    /// Tokens that went through the encoder.
    pub tokens: usize,
    /// Time in which its batches were drawn.
    pub drawing: Duration,
    /// Time in which gradients travelled between processes, and were waited for.
    pub exchange: Duration,
}

impl StepOutcome {
    /// Bytes of an outcome without its time.
    pub(super) const BYTES: usize = 32;

    /// Adds that of another part of the batch.
    pub(super) fn add(&mut self, other: Self) {
        self.loss.add(other.loss);
        self.tokens += other.tokens;
        self.drawing += other.drawing;
        self.exchange += other.exchange;
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let Loss { sum, count, correct } = self.loss;
        let numbers = [sum.to_bits(), count as u64, correct as u64, self.tokens as u64];
        bytemuck::cast(numbers.map(u64::to_le_bytes))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |i: usize| numbers.get(i).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let loss =
            Loss { sum: f64::from_bits(number(0)), count: number(1) as usize, correct: number(2) as usize };
        Self { loss, tokens: number(3) as usize, ..Self::default() }
    }
}

/// Values of an evaluation by name, and the one that the best model is chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Name and value.
    pub values: Vec<(String, f64)>,
    /// Higher is better.
    pub score: f64,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words: Vec<_> = self.values.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// Where an objective adds its gradient.
pub struct Gradient<'a> {
    /// As many values as parameters.
    pub values: &'a mut [f32],
    /// Told of layers whose values are complete, if the objective knows.
    pub told: Told<'a>,
}

/// What is trained: draws batches, and knows how well the model does.
pub trait Objective {
    /// Draws the next batches from `position`, advances it, and adds the gradient of a part of them. `dropout` is the
    /// step's, of which each leaf makes its own.
    ///
    /// # Errors
    /// If a batch does not fit the model.
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        leaf: Leaf,
        dropout: Dropout,
        gradient: Gradient,
        w: &mut Workspace,
    ) -> Result<StepOutcome>;

    /// Ranges of parameters that have no gradient, and in whose places a step adds up something else.
    fn measured(&self, _model: &Model) -> Vec<Range<usize>> {
        Vec::new()
    }

    /// Follows what the step has changed. `gradients` are zero but for what was [`measured`](Self::measured), which is to be
    /// zero afterwards, too.
    fn after_step(&mut self, _model: &mut Model, _gradients: &mut [f32]) {}

    /// Passes over the data up to `position`.
    fn epochs(&self, position: Position) -> f64;

    /// How well the model does on held-out data; `None` where there is none.
    ///
    /// # Errors
    /// If an example does not fit the model.
    fn evaluate(&mut self, model: &Model, w: &mut Workspace) -> Result<Option<Evaluation>>;

    /// A fingerprint of the training data.
    fn data(&self) -> u64;

    /// Whether the folder keeps the best model instead of the last.
    fn keeps_best(&self) -> bool;
}

/// A smoothed loss this many times the mean of the first steps means that training has diverged.
const DIVERGED: f64 = 3.0;
/// The steps whose mean loss others are compared with.
const FIRST_STEPS: u64 = 50;

/// A run to be trained.
pub struct Trainer<'a> {
    /// The model, which has the last weights afterwards.
    pub model: &'a mut Model,
    /// What is trained.
    pub objective: &'a mut dyn Objective,
    /// Settings.
    pub settings: &'a LoopSettings,
    /// Where everything is written.
    pub folder: &'a RunFolder,
    /// Name in the progress.
    pub name: &'a str,
    /// No progress.
    pub quiet: bool,
    /// How to resume after Ctrl-C.
    pub resume_command: String,
    /// The processes that train with this one, of which the first alone writes.
    pub team: Option<Arc<dyn Team>>,
}

impl<'a> Trainer<'a> {
    /// Trains to the end of the budget from the folder's checkpoint, which a new run starts with.
    ///
    /// # Errors
    /// If a file cannot be written, the loss diverges, or a signal stops the run.
    pub fn run(self, stop: &Stop) -> Result<State> {
        stop.arm();
        let (mut w, mut checkpointed) = (Workspace::new(), Instant::now());
        let mut course = Course::begin(self)?;
        loop {
            // First, for it brings the clocks together by which all find the end.
            let stops = course.stops(stop);
            if course.is_done() {
                break;
            }
            if stops {
                course.checkpoint()?;
                return Err(course.interrupted());
            }
            course.advance(&mut w)?;
            if course.wants_checkpoint(checkpointed) {
                course.checkpoint()?;
                checkpointed = Instant::now();
            }
        }
        course.checkpoint()?;
        Ok(course.state)
    }
}

/// A run in progress.
pub(super) struct Course<'a> {
    pub run: Trainer<'a>,
    pub state: State,
    pub moments: Moments,
    gradients: Vec<f32>,
    /// Of the process that writes.
    metrics: Option<MetricsLog>,
    progress: Progress,
    log: Window,
    spent: TimeSpent,
    leaves: Leaves,
    /// Whether the folder keeps the last model even where the objective would keep the best.
    pub keeps_last: bool,
}

impl<'a> Course<'a> {
    /// Goes on from the folder's checkpoint.
    pub fn begin(run: Trainer<'a>) -> Result<Self> {
        let mut moments = Moments::new(run.model.parameters());
        let state = run.folder.load_checkpoint(run.model, &mut moments)?;
        if state.data != run.objective.data() {
            let message = "cannot go on: its training data is not what it was when the run began";
            return Err(Error::file(run.folder.path(), message));
        }
        let leads = run.team.as_ref().is_none_or(|team| team.rank() == 0);
        let metrics = if leads { Some(run.folder.metrics(state.step)?) } else { None };
        let leaves = Leaves::new(run.settings.leaves, run.settings.exchange, run.team.clone());
        let gradients = vec![0.0; run.model.parameters().len()];
        let progress = Progress::new(run.name, run.quiet);
        let (log, spent) = (Window::default(), TimeSpent::default());
        Ok(Self { run, state, moments, gradients, metrics, progress, log, spent, leaves, keeps_last: false })
    }

    /// Whether this process writes.
    pub fn leads(&self) -> bool {
        self.metrics.is_some()
    }

    /// Whether the budget is used up.
    pub fn is_done(&self) -> bool {
        self.part_done() >= 1.0
    }

    /// One step, with an evaluation where one is due.
    pub fn advance(&mut self, w: &mut Workspace) -> Result<()> {
        let (before, epoch) = (self.part_done(), self.state.position.epoch);
        let begun = TimeSpent::begin();
        let row = self.step(w)?;
        let seconds = self.spent.add(begun, &row.outcome).as_secs_f64();
        self.state.seconds += seconds;
        let after = self.part_done();
        self.log_row(&row.to_json(&self.state, seconds))?;
        self.log.add(&row, seconds);
        if self.progress.wants_update() {
            self.progress.update(Some(after), &self.log.message(&self.state));
            self.flush_log()?;
            self.log = Window::default();
        }
        let due = match self.run.settings.evaluations {
            0 => self.state.position.epoch > epoch,
            n => (after * f64::from(n)).floor() > (before * f64::from(n)).floor(),
        };
        if due || after >= 1.0 { self.evaluate(w) } else { Ok(()) }
    }

    fn log_row(&mut self, row: &Value) -> Result<()> {
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(row))
    }

    fn flush_log(&mut self) -> Result<()> {
        self.metrics.as_mut().map_or(Ok(()), MetricsLog::flush)
    }

    /// Whether this process, or one that trains with it, was asked to stop. All go by the leader's clock.
    pub fn stops(&mut self, stop: &Stop) -> bool {
        let Some(team) = &self.run.team else { return stop.is_set() };
        let mut own = self.state.seconds.to_le_bytes().to_vec();
        own.push(u8::from(stop.is_set()));
        let all = team.share(&own);
        let seconds = all.first().and_then(|leader| leader.first_chunk());
        self.state.seconds = seconds.map_or(self.state.seconds, |bytes| f64::from_le_bytes(*bytes));
        all.iter().any(|rank| rank.last() == Some(&1))
    }

    /// Whether the last checkpoint is old.
    pub fn wants_checkpoint(&self, last: Instant) -> bool {
        last.elapsed().as_secs_f64() >= 60.0 * self.run.settings.checkpoint_minutes
    }

    /// What a run says that was asked to stop.
    pub fn interrupted(&self) -> Error {
        Error::Interrupted { step: self.state.step, resume: self.run.resume_command.clone() }
    }

    fn keeps_best(&self) -> bool {
        !self.keeps_last && self.run.objective.keeps_best()
    }

    /// Fraction of the budget that is used up.
    fn part_done(&self) -> f64 {
        let state = &self.state;
        match self.run.settings.budget {
            Budget::Steps(steps) => state.step as f64 / steps.max(1) as f64,
            Budget::Epochs(epochs) => self.run.objective.epochs(state.position) / epochs.max(1e-9),
            Budget::Minutes(minutes) => state.seconds / (60.0 * minutes).max(1e-9),
        }
    }

    fn step(&mut self, w: &mut Workspace) -> Result<StepRow> {
        let settings = self.run.settings;
        let half_step = match settings.budget {
            Budget::Steps(steps) => 0.5 / steps.max(1) as f64,
            _ => 0.0,
        };
        let learning_rate = settings.schedule.at(self.part_done() + half_step);
        let dropout = Dropout {
            rate: self.run.model.config().hidden_dropout_prob,
            key: generator(settings.seed, "dropout", self.state.step).random(),
        };
        let (run, gradients, start) = (&mut self.run, &mut self.gradients, self.state.position);
        let (model, objective, position) = (&*run.model, &mut *run.objective, &mut self.state.position);
        let (learnt, layers) = (learnt(model, &objective.measured(model)), model.layer_starts());
        let outcome = self.leaves.sum(gradients, &learnt, &layers, &mut |leaf, gradient| {
            *position = start;
            objective.step(model, position, leaf, dropout, gradient, w)
        })?;
        let loss = outcome.loss.mean();
        let norm = gradient_norm(run.model.parameters(), gradients);
        self.check(loss, norm, learning_rate)?;
        let scale = if settings.clip > 0.0 && norm > settings.clip { settings.clip / norm } else { 1.0 };
        self.state.step += 1;
        self.state.tokens += outcome.tokens as u64;
        settings.optimizer.step(
            self.run.model.parameters_mut(),
            &mut self.gradients,
            &mut self.moments,
            self.state.step,
            learning_rate as f32,
            scale as f32,
        );
        self.run.objective.after_step(self.run.model, &mut self.gradients);
        Ok(StepRow { outcome, loss, norm, learning_rate })
    }

    /// Refuses a step that would spoil the weights.
    fn check(&mut self, loss: f64, norm: f64, learning_rate: f64) -> Result<()> {
        let state = &mut self.state;
        let (mut first, smooth) = state.loss.unwrap_or((loss, loss));
        if state.step < FIRST_STEPS {
            first += (loss - first) / (state.step + 1) as f64;
        }
        let smooth = 0.98 * smooth + 0.02 * loss;
        let failed = |what, value| {
            let (step, folder) = (state.step + 1, self.run.folder.path().to_path_buf());
            Err(Error::Diverged { step, what, value, learning_rate, folder })
        };
        if !loss.is_finite() {
            return failed("loss", loss);
        }
        if !norm.is_finite() {
            return failed("gradient norm", norm);
        }
        if state.step > FIRST_STEPS && smooth > DIVERGED * first.max(1.0) {
            return failed("loss", smooth);
        }
        state.loss = Some((first, smooth));
        Ok(())
    }

    /// Measures how well the model does, and stores it if it is to be kept.
    pub fn evaluate(&mut self, w: &mut Workspace) -> Result<()> {
        let Some(evaluation) = self.run.objective.evaluate(self.run.model, w)? else { return Ok(()) };
        if let Some((_, value)) = evaluation.values.iter().find(|(_, v)| !v.is_finite()) {
            let (step, value, what) = (self.state.step, *value, "evaluation");
            let learning_rate = self.run.settings.schedule.at(self.part_done());
            let folder = self.run.folder.path().to_path_buf();
            return Err(Error::Diverged { step, what, value, learning_rate, folder });
        }
        self.progress.line(&format!("step {}: {evaluation}", self.state.step));
        let mut row = json!({"step": self.state.step, "seconds": round(self.state.seconds)});
        for (name, value) in &evaluation.values {
            row[name] = json!(value);
        }
        self.log_row(&row)?;
        let better = self.state.best.is_none_or(|(_, best)| evaluation.score > best);
        if better {
            self.state.best = Some((self.state.step, evaluation.score));
        }
        if better || !self.keeps_best() {
            self.state.values = evaluation.values;
        }
        if better && self.keeps_best() && self.leads() {
            self.run.folder.save_model(self.run.model)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        self.log_time()?;
        self.flush_log()?;
        self.run.folder.save_checkpoint(self.run.model, &self.moments, &self.state)?;
        self.save_last()
    }

    /// Says what the time of this process's steps went into.
    fn log_time(&mut self) -> Result<()> {
        if self.spent.is_empty() {
            return Ok(());
        }
        self.progress.line(&self.spent.message());
        self.log_row(&json!({"step": self.state.step, "time": self.spent.to_json()}))
    }

    /// Writes a checkpoint beside the last one, see [`RunFolder::take_checkpoint`].
    pub fn stage_checkpoint(&mut self) -> Result<()> {
        self.log_time()?;
        self.flush_log()?;
        self.run.folder.stage_checkpoint(self.run.model, &self.moments, &self.state)
    }

    /// Stores the model as it is now, unless the best is kept.
    pub fn save_last(&self) -> Result<()> {
        if self.keeps_best() { Ok(()) } else { self.run.folder.save_model(self.run.model) }
    }
}

/// The ranges of what a step learns, by gradients or by measuring, in the parameters' order.
fn learnt(model: &Model, measured: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let is_learnt = |tensor: &&TensorInfo| tensor.trainable || measured.contains(&tensor.range());
    for tensor in model.parameters().table().iter().filter(is_learnt) {
        let own = tensor.range();
        match ranges.last_mut() {
            Some(last) if last.end == own.start => last.end = own.end,
            _ => ranges.push(own),
        }
    }
    ranges
}

/// What is logged for a step.
struct StepRow {
    outcome: StepOutcome,
    loss: f64,
    norm: f64,
    learning_rate: f64,
}

impl StepRow {
    fn to_json(&self, state: &State, seconds: f64) -> Value {
        json!({
            "step": state.step,
            "loss": round(self.loss),
            "learning_rate": self.learning_rate,
            "gradient_norm": round(self.norm),
            "tokens": self.outcome.tokens,
            "tokens_per_second": (self.outcome.tokens as f64 / seconds).round(),
            "seconds": round(state.seconds),
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Means since the last progress line.
#[derive(Default)]
struct Window {
    loss: f64,
    steps: u32,
    tokens: usize,
    seconds: f64,
}

impl Window {
    fn add(&mut self, row: &StepRow, seconds: f64) {
        self.loss += row.loss;
        self.steps += 1;
        self.tokens += row.outcome.tokens;
        self.seconds += seconds;
    }

    fn message(&self, state: &State) -> String {
        format!(
            "step {}, loss {:.4}, {:.0} tokens/s",
            state.step,
            self.loss / f64::from(self.steps.max(1)),
            self.tokens as f64 / self.seconds.max(1e-9)
        )
    }
}
