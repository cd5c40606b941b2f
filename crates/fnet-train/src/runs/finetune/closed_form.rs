//! Recipe `ridge`: the output layer is solved for in one pass over the data, on everything else frozen.

use std::time::Instant;

use fnet_encoder::{Model, Workspace};
use fnet_reservoir::Penalty;
use fnet_reservoir::ridge::{Ridge, Sums};
use ndarray::ArrayView2;
use serde_json::{Value, json};

use super::rounds::{Done, Rounds};
use super::{FinetuneSettings, Learning, Start, adapter, sums};
use crate::error::{Error, Result};
use crate::folder::state::State;
use crate::folder::{RunFolder, SUMS_FILE};
use crate::progress::Progress;
use crate::runs::running::Running;
use crate::runs::{memory, report};

/// Rows that are summed at once.
const BLOCK: usize = 1_024;
/// Rows by which the size of classes' logits is set.
const MOST_KEPT: usize = 2_000;

/// Solves for the output layer; returns the folder as it stores models, and the results so far.
pub(super) fn fit(
    folder: &RunFolder,
    settings: &FinetuneSettings,
    start: Start,
    learning: &mut Learning,
    running: &Running,
) -> Result<(RunFolder, Value)> {
    let Start { mut model, tokenizer, longest, fresh, resume, .. } = start;
    let folder = adapter::folder(folder, settings, &model, fresh, resume)?;
    let data = learning.objective().data();
    // Whatever is wrong with earlier sums is found before anything is written.
    let mut rows = Rows::new(&model, Progress::new("ridge", running.quiet));
    rows.scales = !learning.is_of_numbers();
    memory::check(settings.signals.makes_wide(), rows.kept.inputs, 1)?;
    if let Some(earlier) = &settings.add {
        let kept = &rows.kept;
        (rows.sums, rows.kept) = sums::read(&earlier.join(SUMS_FILE), kept.inputs, kept.outputs)?;
    }
    if !resume {
        folder.begin(settings, tokenizer.as_ref(), longest, &model, data)?;
    }
    running.start(settings, &model, data)?;
    running.stop.arm();
    let (started, mut w, mut rounds) = (Instant::now(), Workspace::new(), Rounds::new(running));
    let interrupted = || Error::Interrupted { step: 0, resume: running.how_to_resume(folder.path()) };
    let mut take = |done: Done, x: &[f32], y: &[f32]| {
        if running.leads() {
            rows.add(done, x, y);
        }
    };
    let runs = |batch| Rounds::runs(running, batch);
    learning.each_row(&model, &mut w, runs, |done, x, y| {
        if rounds.add(done, x, y, &mut take)? { Err(interrupted()) } else { Ok(()) }
    })?;
    rounds.end(&mut take)?;
    if !running.leads() {
        return Ok((folder, Value::Null));
    }
    rows.flush();
    if settings.keep_sums {
        sums::write(&folder.file(SUMS_FILE), &rows.sums, &rows.kept)?;
    }
    if rows.sums.rows() < 2.0 {
        return Err(Error::usage("the training data have fewer than two targets: there is nothing to learn"));
    }
    if !rows.sums.are_finite() {
        return Err(Error::usage("the trunk's outputs for the training data are not finite"));
    }
    let penalty = settings.penalty.map_or(Penalty::CrossValidation, Penalty::Standardized);
    let count = rows.sums.rows();
    let Some(ridge) = rows.sums.into_solution(penalty) else {
        let at = match settings.penalty {
            Some(penalty) => format!("penalty {penalty}; give a larger one"),
            None => "any penalty".to_string(),
        };
        return Err(Error::usage(format!("the trunk's outputs for the training data are singular at {at}")));
    };
    let factor = if learning.is_of_numbers() { 1.0 } else { rows.kept.factor(&ridge) };
    set_output(&mut model, &ridge, factor);
    let seconds = started.elapsed().as_secs_f64();
    let (mut state, mut metrics) = (State { data, seconds, ..State::default() }, folder.metrics(0)?);
    (state.tokens, state.position.epoch) = (rows.tokens, 1);
    if let Some(evaluation) = learning.objective().evaluate(&model, &mut w)? {
        let mut row = json!({"step": 0, "seconds": seconds});
        evaluation.values.iter().for_each(|(name, value)| row[name] = json!(value));
        metrics.write(&row)?;
        state.values = evaluation.values;
    }
    metrics.flush()?;
    folder.save_model(&model)?;
    folder.drop_checkpoint()?;
    let mut results = report::results(&state, &model);
    results["penalty"] = json!(ridge.penalty);
    results["degrees_of_freedom"] = json!(ridge.freedom);
    results["rows"] = json!(count);
    Ok((folder, results))
}

/// Rows on their way into the sums, and some that are kept.
struct Rows {
    sums: Sums,
    x: Vec<f32>,
    y: Vec<f32>,
    outputs: usize,
    /// Whether rows are kept, by which the outputs are scaled.
    scales: bool,
    kept: Kept,
    tokens: u64,
    progress: Progress,
}

impl Rows {
    fn new(model: &Model, progress: Progress) -> Self {
        let outputs = model.head().outputs();
        let inputs = model.parameters().get("classifier.weight").map_or(0, |weight| weight.len() / outputs);
        let kept = Kept { inputs, outputs, ..Kept::default() };
        Self {
            scales: true,
            sums: Sums::new(inputs, outputs),
            x: Vec::new(),
            y: Vec::new(),
            outputs,
            kept,
            tokens: 0,
            progress,
        }
    }

    /// Adds the rows of a batch.
    fn add(&mut self, done: Done, x: &[f32], y: &[f32]) {
        self.x.extend_from_slice(x);
        self.y.extend_from_slice(y);
        self.tokens += done.1 as u64;
        if self.scales {
            self.kept.add(x, y);
        }
        if self.y.len() >= BLOCK * self.outputs {
            self.flush();
        }
        if self.progress.wants_update() {
            self.progress.update(Some(done.0), &format!("{} rows", self.sums.rows()));
        }
    }

    fn flush(&mut self) {
        self.sums.add(&self.x, &self.y);
        self.x.clear();
        self.y.clear();
    }
}

/// Rows from the whole of the data: whenever there are too many, every other one is left out.
#[derive(Default)]
pub(super) struct Kept {
    pub inputs: usize,
    pub outputs: usize,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
    pub seen: usize,
    pub apart: usize,
}

impl Kept {
    fn add(&mut self, x: &[f32], y: &[f32]) {
        for (x, y) in x.chunks_exact(self.inputs).zip(y.chunks_exact(self.outputs)) {
            if self.seen.is_multiple_of(self.apart.max(1)) {
                self.x.extend_from_slice(x);
                self.y.extend_from_slice(y);
            }
            self.seen += 1;
            if self.y.len() >= 2 * MOST_KEPT * self.outputs {
                self.apart = 2 * self.apart.max(1);
                self.x = every_other(&self.x, self.inputs);
                self.y = every_other(&self.y, self.outputs);
            }
        }
    }

    /// What the outputs of classes are multiplied by to be logits: the factor of the least cross-entropy.
    fn factor(&self, ridge: &Ridge) -> f64 {
        let rows = self.y.len() / self.outputs;
        let x: Vec<f64> = self.x.iter().map(|v| f64::from(*v)).collect();
        let Ok(x) = ArrayView2::from_shape((rows, self.inputs), &x) else { return 1.0 };
        let outputs = ridge.outputs(x);
        // One of many classes is 1 among zeros; labels are 1 or -1.
        let is_one_of_many = self.outputs > 1 && self.y.contains(&0.0);
        let loss = |factor: f64| -> f64 {
            let of_row = |(scores, y): (ndarray::ArrayView1<f64>, &[f32])| -> f64 {
                if is_one_of_many {
                    let highest = scores.iter().fold(f64::MIN, |a, b| a.max(factor * b));
                    let sum: f64 = scores.iter().map(|s| (factor * s - highest).exp()).sum();
                    let own: f64 = scores.iter().zip(y).map(|(s, y)| s * f64::from(*y)).sum();
                    highest + sum.ln() - factor * own
                } else {
                    scores.iter().zip(y).map(|(s, y)| (-factor * s * f64::from(*y)).exp().ln_1p()).sum()
                }
            };
            outputs.rows().into_iter().zip(self.y.chunks_exact(self.outputs)).map(of_row).sum()
        };
        // Convex in the factor: thirds of the range that cannot hold the least are left out.
        let (mut low, mut high) = (0.0_f64, 1_000.0_f64.ln());
        for _ in 0..60 {
            let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if loss(a.exp()) <= loss(b.exp()) { high = b } else { low = a }
        }
        low.exp()
    }
}

fn every_other(values: &[f32], width: usize) -> Vec<f32> {
    values.chunks_exact(width).step_by(2).flatten().copied().collect()
}

fn set_output(model: &mut Model, ridge: &Ridge, factor: f64) {
    let (weight, bias) = (ridge.weight.iter().copied().collect(), ridge.bias.to_vec());
    for (name, values) in [("classifier.weight", weight), ("classifier.bias", bias)] {
        let values: Vec<f64> = values;
        if let Some(own) = model.parameters_mut().get_mut(name) {
            own.iter_mut().zip(values).for_each(|(own, v)| *own = (factor * v) as f32);
        }
    }
}
