//! The nine GLUE tasks (Wang et al. 2019) in one table: files, columns, labels, metrics.

use std::path::Path;

use super::dataset::Labels;
use super::files::TaskFiles;
use super::metrics::Metric;
use super::rows::{Column, Columns};
use crate::error::{Error, Result};
use crate::settings::setting;

/// What is known of a GLUE task. File names are below the task's folder.
#[derive(Debug)]
pub struct GlueTask {
    /// Name on the command line.
    pub name: &'static str,
    /// Training file.
    pub train: &'static str,
    /// Development files; MNLI has two.
    pub dev: &'static [&'static str],
    /// Text columns in the training and development files.
    pub text: &'static [&'static str],
    /// Label column.
    pub label: &'static str,
    /// Class names in the order of their ids; empty for regression.
    pub labels: &'static [&'static str],
    /// Metrics; their mean chooses the best epoch.
    pub metrics: &'static [Metric],
    /// Whether a pair means the same with its texts swapped.
    pub symmetric: bool,
    /// Fraction of a training example's tokens that is hidden: it helps where single words mean much.
    pub hide_rate: f64,
}

use Metric::{Accuracy, F1, Matthews, Pearson, Spearman};

const BINARY: &[&str] = &["0", "1"];
const ENTAILMENT: &[&str] = &["entailment", "not_entailment"];
const SENTENCES: &[&str] = &["sentence1", "sentence2"];

/// A task with the file names that most tasks have.
const USUAL: GlueTask = GlueTask {
    name: "",
    train: "train.tsv",
    dev: &["dev.tsv"],
    text: SENTENCES,
    label: "label",
    labels: BINARY,
    metrics: &[Accuracy],
    symmetric: false,
    hide_rate: 0.0,
};

/// All tasks.
pub const TASKS: [GlueTask; 9] = [
    // CoLA's training and development files have no header: source, label, mark, sentence.
    GlueTask { name: "cola", text: &["sentence"], metrics: &[Matthews], ..USUAL },
    GlueTask { name: "sst2", text: &["sentence"], hide_rate: 0.15, ..USUAL },
    GlueTask {
        name: "mrpc",
        text: &["#1 String", "#2 String"],
        label: "Quality",
        metrics: &[Accuracy, F1],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "stsb",
        label: "score",
        labels: &[],
        metrics: &[Pearson, Spearman],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "qqp",
        text: &["question1", "question2"],
        label: "is_duplicate",
        metrics: &[Accuracy, F1],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "mnli",
        dev: &["dev_matched.tsv", "dev_mismatched.tsv"],
        label: "gold_label",
        labels: &["entailment", "neutral", "contradiction"],
        ..USUAL
    },
    GlueTask { name: "qnli", text: &["question", "sentence"], labels: ENTAILMENT, ..USUAL },
    GlueTask { name: "rte", labels: ENTAILMENT, ..USUAL },
    GlueTask { name: "wnli", ..USUAL },
];

impl GlueTask {
    /// A task by name.
    ///
    /// # Errors
    /// If there is no such task; names those that there are.
    pub fn named(name: &str) -> Result<&'static Self> {
        TASKS.iter().find(|t| t.name == name).ok_or_else(|| {
            let names: Vec<_> = TASKS.iter().map(|t| t.name).collect();
            let known = names.join(", ");
            Error::usage(format!("{} {name}: known tasks are {known}", setting("task")))
        })
    }

    /// The task's files below its folder.
    pub fn files(&self, folder: &Path) -> TaskFiles {
        let dev = self.dev.iter().map(|file| {
            let name = match self.dev {
                [_] => "",
                _ => file.trim_start_matches("dev_").trim_end_matches(".tsv"),
            };
            (name.to_string(), folder.join(file), self.columns(file))
        });
        TaskFiles {
            train: folder.join(self.train),
            train_columns: self.columns(self.train),
            dev: dev.collect(),
            labels: self.class_labels(),
            metrics: self.metrics.to_vec(),
        }
    }

    /// What is predicted.
    pub fn class_labels(&self) -> Labels {
        if self.is_regression() {
            return Labels::Number;
        }
        Labels::Classes(self.labels.iter().map(|l| (*l).to_string()).collect())
    }

    /// The columns of a file of this task.
    pub fn columns(&self, file_name: &str) -> Columns {
        if self.name == "cola" && !file_name.starts_with("test") {
            return Columns {
                text: vec![Column::Number(3)],
                label: Some(Column::Number(1)),
                header: false,
                skip_ragged: false,
                several_labels: false,
            };
        }
        Columns {
            text: self.text.iter().map(|t| Column::name(t)).collect(),
            label: Some(Column::name(self.label)),
            header: true,
            skip_ragged: self.name == "qqp",
            several_labels: false,
        }
    }

    /// Whether training should count its classes alike, as its metric does.
    pub fn balances(&self) -> bool {
        self.metrics == [Matthews]
    }

    /// Whether the label is a number.
    pub fn is_regression(&self) -> bool {
        self.labels.is_empty()
    }
}
