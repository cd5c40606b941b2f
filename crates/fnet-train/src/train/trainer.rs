//! One loop for pretraining and fine-tuning.

use std::time::Instant;

use fnet_encoder::{AdamW, Dropout, Loss, Model, Moments, Workspace, gradient_norm};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::folder::state::{Position, State};
use crate::folder::{MetricsLog, RunFolder};
use crate::progress::Progress;
use crate::random::generator;
use crate::train::schedule::Schedule;
use crate::train::stop::Stop;

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
}

/// The result of one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepOutcome {
    /// Loss over all predictions of the step.
    pub loss: Loss,
    /// Tokens that went through the encoder.
    pub tokens: usize,
}

/// Values of an evaluation by name, and the one that the best model is chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Name and value.
    pub values: Vec<(String, f64)>,
    /// Higher is better.
    pub score: f64,
}

/// What is trained: draws batches, and knows how well the model does.
pub trait Objective {
    /// Draws the next batches from `position`, advances it, and adds their gradients.
    ///
    /// # Errors
    /// If a batch does not fit the model.
    fn step(
        &mut self,
        model: &Model,
        position: &mut Position,
        dropout: Dropout,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<StepOutcome>;

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

/// A run in progress.
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
}

impl Trainer<'_> {
    /// Trains to the end of the budget from the folder's checkpoint, which a new run starts with.
    ///
    /// # Errors
    /// If a file cannot be written, the loss diverges, or a signal stops the run.
    pub fn run(&mut self, stop: &Stop) -> Result<State> {
        let len = self.model.parameters().len();
        let mut moments = Moments::new(self.model.parameters());
        let mut state = self.folder.load_checkpoint(self.model, &mut moments)?;
        if state.data != self.objective.data() {
            let message = "cannot go on: its training data is not what it was when the run began";
            return Err(Error::file(self.folder.path(), message));
        }
        stop.arm();
        let mut metrics = self.folder.metrics(state.step)?;
        let mut progress = Progress::new(self.name, self.quiet);
        let mut gradients = vec![0.0; len];
        let mut w = Workspace::new();
        let mut checkpointed = Instant::now();
        let mut log = Window::default();
        while self.progress(&state) < 1.0 {
            if stop.is_set() {
                self.checkpoint(&moments, &state, &mut metrics)?;
                let resume = self.resume_command.clone();
                return Err(Error::Interrupted { step: state.step, resume });
            }
            let before = self.progress(&state);
            let epoch = state.position.epoch;
            let started = Instant::now();
            let row = self.step(&mut state, &mut moments, &mut gradients, &mut w)?;
            let seconds = started.elapsed().as_secs_f64();
            state.seconds += seconds;
            let after = self.progress(&state);
            metrics.write(&row.to_json(&state, seconds))?;
            log.add(&row, seconds);
            if progress.wants_update() {
                progress.update(Some(after), &log.message(&state));
                metrics.flush()?;
                log = Window::default();
            }
            let due = match self.settings.evaluations {
                0 => state.position.epoch > epoch,
                n => (after * f64::from(n)).floor() > (before * f64::from(n)).floor(),
            };
            if due || after >= 1.0 {
                self.evaluate(&mut state, &mut w, &mut metrics, &progress)?;
            }
            if checkpointed.elapsed().as_secs_f64() >= 60.0 * self.settings.checkpoint_minutes {
                self.checkpoint(&moments, &state, &mut metrics)?;
                checkpointed = Instant::now();
            }
        }
        self.checkpoint(&moments, &state, &mut metrics)?;
        Ok(state)
    }

    /// Fraction of the budget that is used up.
    fn progress(&self, state: &State) -> f64 {
        match self.settings.budget {
            Budget::Steps(steps) => state.step as f64 / steps.max(1) as f64,
            Budget::Epochs(epochs) => self.objective.epochs(state.position) / epochs.max(1e-9),
            Budget::Minutes(minutes) => state.seconds / (60.0 * minutes).max(1e-9),
        }
    }

    fn step(
        &mut self,
        state: &mut State,
        moments: &mut Moments,
        gradients: &mut [f32],
        w: &mut Workspace,
    ) -> Result<StepRow> {
        let settings = self.settings;
        let half_step = match settings.budget {
            Budget::Steps(steps) => 0.5 / steps.max(1) as f64,
            _ => 0.0,
        };
        let learning_rate = settings.schedule.at(self.progress(state) + half_step);
        let dropout = Dropout {
            rate: self.model.config().hidden_dropout_prob,
            key: generator(settings.seed, "dropout", state.step).random(),
        };
        let outcome = self.objective.step(self.model, &mut state.position, dropout, gradients, w)?;
        let loss = outcome.loss.mean();
        let norm = gradient_norm(self.model.parameters(), gradients);
        self.check(state, loss, norm, learning_rate)?;
        let scale = if settings.clip > 0.0 && norm > settings.clip { settings.clip / norm } else { 1.0 };
        state.step += 1;
        state.tokens += outcome.tokens as u64;
        settings.optimizer.step(
            self.model.parameters_mut(),
            gradients,
            moments,
            state.step,
            learning_rate as f32,
            scale as f32,
        );
        Ok(StepRow { outcome, loss, norm, learning_rate })
    }

    /// Refuses a step that would spoil the weights.
    fn check(&self, state: &mut State, loss: f64, norm: f64, learning_rate: f64) -> Result<()> {
        let (mut first, smooth) = state.loss.unwrap_or((loss, loss));
        if state.step < FIRST_STEPS {
            first += (loss - first) / (state.step + 1) as f64;
        }
        let smooth = 0.98 * smooth + 0.02 * loss;
        let failed = |what, value| {
            let (step, folder) = (state.step + 1, self.folder.path().to_path_buf());
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

    fn evaluate(
        &mut self,
        state: &mut State,
        w: &mut Workspace,
        metrics: &mut MetricsLog,
        progress: &Progress,
    ) -> Result<()> {
        let Some(evaluation) = self.objective.evaluate(self.model, w)? else { return Ok(()) };
        if let Some((_, value)) = evaluation.values.iter().find(|(_, v)| !v.is_finite()) {
            let (step, value, what) = (state.step, *value, "evaluation");
            let learning_rate = self.settings.schedule.at(self.progress(state));
            let folder = self.folder.path().to_path_buf();
            return Err(Error::Diverged { step, what, value, learning_rate, folder });
        }
        let words: Vec<_> = evaluation.values.iter().map(|(name, v)| format!("{name} {v:.4}")).collect();
        progress.line(&format!("step {}: {}", state.step, words.join(", ")));
        let mut row = json!({"step": state.step, "seconds": round(state.seconds)});
        for (name, value) in &evaluation.values {
            row[name] = json!(value);
        }
        metrics.write(&row)?;
        let better = state.best.is_none_or(|(_, best)| evaluation.score > best);
        if better {
            state.best = Some((state.step, evaluation.score));
        }
        if better || !self.objective.keeps_best() {
            state.values = evaluation.values;
        }
        if better && self.objective.keeps_best() {
            self.folder.save_model(self.model)?;
        }
        Ok(())
    }

    fn checkpoint(&self, moments: &Moments, state: &State, metrics: &mut MetricsLog) -> Result<()> {
        metrics.flush()?;
        self.folder.save_checkpoint(self.model, moments, state)?;
        if self.objective.keeps_best() { Ok(()) } else { self.folder.save_model(self.model) }
    }
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
