//! Labelled examples as the model reads them, and how well it does on them.

use std::path::Path;

use fnet_encoder::{Batch, Forward, Head, Mode, Model, Workspace};
use serde::{Deserialize, Serialize};

use super::classes::is_same_label;
use super::encoding::{Encoding, Example, LongOnes};
use super::label_sets::{self, LabelCounts};
use super::metrics::Metric;
use super::rows::{self, Columns, Row, quoted_names};
use crate::data::held_out::split;
use crate::error::{Error, Result};
use crate::predictor::softmax;
use crate::progress::Progress;
use crate::together::alone;

/// What a label can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    /// One of these, by id.
    Classes(Vec<String>),
    /// A number.
    Number,
    /// Any number of these.
    Several(Vec<String>),
}

impl Labels {
    /// The head that predicts them.
    pub fn head(&self) -> Head {
        match self {
            Self::Classes(names) | Self::Several(names) => Head::Classification { labels: names.len() },
            Self::Number => Head::Regression,
        }
    }

    /// The metrics if the task names none.
    pub fn usual_metrics(&self) -> Vec<Metric> {
        match self {
            Self::Classes(names) if names.len() == 2 => {
                vec![Metric::Accuracy, Metric::F1, Metric::MacroF1, Metric::Matthews]
            }
            Self::Classes(_) => vec![Metric::Accuracy, Metric::MacroF1, Metric::Matthews],
            Self::Number => {
                vec![Metric::Pearson, Metric::Spearman, Metric::MeanAbsoluteError, Metric::MeanSquaredError]
            }
            Self::Several(_) => vec![Metric::MicroF1, Metric::MacroF1, Metric::Accuracy],
        }
    }

    /// A label in numbers: the class's id, the value, or 1 or 0 for each of several.
    ///
    /// # Errors
    /// Names the line of an unknown class or an invalid number.
    pub fn parse(&self, path: &Path, line: usize, label: &str) -> Result<Vec<f32>> {
        let unknown = |names: &[String], label: &str| {
            let known = quoted_names(names.iter().map(String::as_str));
            Error::line(path, line, format!("unknown label `{label}`; known are {known}"))
        };
        match self {
            Self::Classes(names) => {
                let exact = names.iter().position(|n| n == label);
                let id = exact.or_else(|| names.iter().position(|n| is_same_label(n, label)));
                Ok(vec![id.ok_or_else(|| unknown(names, label))? as f32])
            }
            Self::Several(names) => label_sets::targets(names, label).map_err(|label| unknown(names, &label)),
            Self::Number => match label.trim().parse::<f32>() {
                Ok(value) if value.is_finite() => Ok(vec![value]),
                _ => {
                    let is_decimal = label.trim().replace(',', ".").parse::<f32>().is_ok();
                    let hint = if is_decimal { ": write a point for the comma" } else { "" };
                    Err(Error::line(path, line, format!("label `{label}` is not a number{hint}")))
                }
            },
        }
    }

    /// A prediction as the file spells it: the likeliest class, the number, or the labels that hold.
    pub fn spell(&self, output: &[f32]) -> String {
        match self {
            Self::Classes(names) => names.get(likeliest(output) as usize).cloned().unwrap_or_default(),
            Self::Number => output.first().copied().unwrap_or(f32::NAN).to_string(),
            Self::Several(names) => label_sets::spell(names, output).join("|"),
        }
    }

    /// The probability of each class, or of each label on its own; empty for numbers.
    pub fn probabilities(&self, output: &[f32]) -> Vec<f32> {
        match self {
            Self::Classes(_) => softmax(output),
            Self::Several(_) => label_sets::probabilities(output),
            Self::Number => Vec::new(),
        }
    }

    /// Names of the classes or labels.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Classes(names) | Self::Several(names) => names,
            Self::Number => &[],
        }
    }
}

/// Index of the largest output; the first of several.
pub fn likeliest(output: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in output.iter().enumerate() {
        if *v > output[best] {
            best = i;
        }
    }
    best as u32
}

/// The examples of one file.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// In the file's order.
    pub examples: Vec<Example>,
    /// Those too long for the model.
    pub long: LongOnes,
    /// Rows with a blank text.
    pub empty: usize,
}

impl Dataset {
    /// Takes a share of the examples away.
    pub(crate) fn hold_out(&mut self, share: f64) -> Self {
        let [learnt, held_out] = split(self.examples.len(), share);
        let mut part = |indices: &[usize]| -> Vec<Example> {
            indices.iter().map(|index| std::mem::take(&mut self.examples[*index])).collect()
        };
        let examples = part(&held_out);
        self.examples = part(&learnt);
        Self { examples, ..Self::default() }
    }

    /// Reads a labelled file.
    ///
    /// # Errors
    /// If the file cannot be read or a row's label does not fit; names the line.
    pub fn read(
        path: &Path,
        columns: &Columns,
        labels: &Labels,
        encoding: &Encoding,
        quiet: bool,
    ) -> Result<Self> {
        use rayon::prelude::*;
        let mut progress = Progress::new("reading rows", quiet);
        let mut data = Self::default();
        let (mut block, mut empty) = (Vec::new(), 0);
        let mut encode = |block: &mut Vec<(Row, Vec<f32>)>| -> Result<()> {
            let encoded = block.par_iter().map(|(row, label)| encoding.encode(row, label.clone()));
            for encoded in encoded.collect::<Result<Vec<_>>>()? {
                let example = data.long.take(encoded);
                data.examples.push(example);
            }
            block.clear();
            progress.update(None, &format!("{} rows of {}", data.examples.len(), path.display()));
            Ok(())
        };
        rows::read(path, columns, true, |row| {
            let label = labels.parse(path, row.line, row.label.as_deref().unwrap_or(""))?;
            let is_empty = |text: &String| text.trim().is_empty();
            empty += usize::from(is_empty(&row.first) || row.second.as_ref().is_some_and(is_empty));
            block.push((row, label));
            if block.len() >= ENCODED_AT_ONCE { encode(&mut block) } else { Ok(()) }
        })?;
        encode(&mut block)?;
        data.empty = empty;
        Ok(data)
    }

    /// The targets of all examples, one after another.
    pub fn targets(&self) -> Vec<f32> {
        self.examples.iter().flat_map(|e| e.target.iter().copied()).collect()
    }
}

/// Rows that are tokenised at once.
const ENCODED_AT_ONCE: usize = 4096;

/// Tokens run at once when nothing is trained.
pub const INFERENCE_TOKENS: usize = 4_096;

/// Batches of examples of similar length, up to a number of tokens each, as indices of examples.
pub fn batches_by_tokens(examples: &[Example], mut order: Vec<u32>, most: usize) -> Vec<Vec<u32>> {
    let len = |i: u32| examples[i as usize].tokens();
    order.sort_by_key(|i| len(*i));
    let (mut batches, mut tokens) = (Vec::<Vec<u32>>::new(), 0);
    for i in order {
        match batches.last_mut().filter(|_| tokens + len(i) <= most) {
            Some(batch) => batch.push(i),
            None => {
                batches.push(vec![i]);
                tokens = 0;
            }
        }
        tokens += len(i);
    }
    batches
}

/// Runs the encoder over examples in batches of `batch_tokens` and hands each pass to `take`, with the indices of
/// its examples.
///
/// # Errors
/// If an example does not fit the model, or what `take` returns.
pub fn run_batches(
    model: &Model,
    examples: &[Example],
    batch_tokens: usize,
    w: &mut Workspace,
    mut take: impl FnMut(Forward, &[u32]) -> Result<()>,
) -> Result<()> {
    each_batch(examples, batch_tokens, |batch, numbers| take(model.forward(batch, Mode::Infer, w)?, numbers))
}

/// As [`run_batches`], before the encoder runs.
pub(crate) fn each_batch(
    examples: &[Example],
    batch_tokens: usize,
    mut take: impl FnMut(&Batch, &[u32]) -> Result<()>,
) -> Result<()> {
    let mut batch = Batch::new();
    for numbers in batches_by_tokens(examples, (0..examples.len() as u32).collect(), batch_tokens) {
        batch.clear();
        for i in &numbers {
            examples[*i as usize].push_to(&mut batch);
        }
        take(&batch, &numbers)?;
    }
    Ok(())
}

/// The classifier's outputs for examples, `[examples, outputs]`. `done` is told the progress, from 0 to 1.
///
/// # Errors
/// If an example does not fit the model.
pub fn predict(
    model: &Model,
    examples: &[Example],
    batch_tokens: usize,
    w: &mut Workspace,
    done: impl FnMut(f64),
) -> Result<Vec<f32>> {
    let answer = |model: &Model, batch: &Batch| alone(model, batch, w);
    predict_by(model, examples, batch_tokens, answer, done)
}

/// As [`predict`], with outputs from `answer`.
pub(crate) fn predict_by<'a>(
    model: &'a Model,
    examples: &[Example],
    batch_tokens: usize,
    mut answer: impl FnMut(&'a Model, &Batch) -> Result<Vec<f32>>,
    mut done: impl FnMut(f64),
) -> Result<Vec<f32>> {
    let width = model.head().outputs();
    let mut outputs = vec![0.0; examples.len() * width];
    let mut finished = 0;
    each_batch(examples, batch_tokens, |batch, numbers| {
        for (row, i) in answer(model, batch)?.chunks_exact(width.max(1)).zip(numbers) {
            outputs[*i as usize * width..][..width].copy_from_slice(row);
        }
        finished += numbers.len();
        done(finished as f64 / examples.len() as f64);
        Ok(())
    })?;
    Ok(outputs)
}

/// The vectors of each example's texts, `[examples, texts * width]`: those of a readout for vectors of texts, of other models
/// what is pooled.
///
/// # Errors
/// If an example does not fit the model.
pub fn vectors(
    model: &Model,
    examples: &[Example],
    batch_tokens: usize,
    w: &mut Workspace,
) -> Result<Vec<f32>> {
    let (makes_vectors, mut vectors) = (model.vector_width().is_some(), Vec::new());
    run_batches(model, examples, batch_tokens, w, |mut forward, numbers| {
        let made = if makes_vectors { forward.vectors()? } else { forward.pooled() };
        let width = made.len() / numbers.len().max(1);
        vectors.resize(examples.len() * width, 0.0);
        for (row, i) in made.chunks_exact(width.max(1)).zip(numbers) {
            vectors[*i as usize * width..][..width].copy_from_slice(row);
        }
        Ok(())
    })?;
    Ok(vectors)
}

/// A metric's name and value.
pub type Score = (String, f64);

/// The metrics of outputs `[examples, outputs]` against the examples' targets.
pub fn score(labels: &Labels, metrics: &[Metric], outputs: &[f32], expected: &[f32]) -> Vec<Score> {
    if let Labels::Several(names) = labels {
        let counts = LabelCounts::of(names.len(), outputs, expected);
        let value = |metric: &Metric| match metric {
            Metric::MicroF1 => counts.micro_f1(),
            Metric::MacroF1 => counts.macro_f1(),
            Metric::Accuracy => counts.accuracy(expected.len()),
            _ => f64::NAN,
        };
        return metrics.iter().map(|m| (m.name().to_string(), value(m))).collect();
    }
    let value = |metric: &Metric| match labels {
        Labels::Classes(names) => {
            let predicted: Vec<u32> = outputs.chunks(names.len().max(1)).map(likeliest).collect();
            let expected: Vec<u32> = expected.iter().map(|l| *l as u32).collect();
            metric.of_classes(&predicted, &expected)
        }
        Labels::Number | Labels::Several(_) => {
            let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
            metric.of_values(&wide(outputs), &wide(expected))
        }
    };
    metrics.iter().map(|m| (m.name().to_string(), value(m))).collect()
}

/// As [`score`], with the held-out file's name after each metric's if a task has several.
pub fn score_named(
    name: &str,
    labels: &Labels,
    metrics: &[Metric],
    outputs: &[f32],
    expected: &[f32],
) -> Vec<Score> {
    let scores = score(labels, metrics, outputs, expected).into_iter();
    scores.map(|(metric, v)| (metric_name(&metric, name), v)).collect()
}

/// A metric's name with that of the file that it is of, if there are several.
pub(crate) fn metric_name(metric: &str, file: &str) -> String {
    if file.is_empty() { metric.into() } else { format!("{metric}_{file}") }
}

/// The score that chooses an epoch or a seed: the mean of the metrics for which higher is better.
pub fn score_of(values: &[Score]) -> f64 {
    let scores: Vec<f64> =
        values.iter().filter(|(name, _)| is_score(name)).map(|(_, value)| *value).collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

/// Whether more of a metric is better.
pub(crate) fn is_score(name: &str) -> bool {
    name != "dev_loss" && !Metric::ERRORS.iter().any(|error| name.starts_with(error.name()))
}
