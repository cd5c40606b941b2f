//! The nine GLUE tasks (Wang et al. 2019) in one table: files, columns, labels, metrics, and the
//! files that the GLUE server takes.

use super::metrics::Metric;
use super::rows::{Column, Columns};

/// What is known of a GLUE task. File names are below the task's folder.
#[derive(Debug)]
pub struct GlueTask {
    /// Name on the command line.
    pub name: &'static str,
    /// Training file.
    pub train: &'static str,
    /// Development files; MNLI has two.
    pub dev: &'static [&'static str],
    /// Test files, in the order of `submissions`.
    pub test: &'static [&'static str],
    /// What the GLUE server calls the predictions for each test file.
    pub submissions: &'static [&'static str],
    /// Text columns in the training and development files.
    pub text: &'static [&'static str],
    /// Label column.
    pub label: &'static str,
    /// Class names in the order of their ids; empty for regression.
    pub labels: &'static [&'static str],
    /// Metrics; their mean chooses the best epoch.
    pub metrics: &'static [Metric],
    /// Whether a pair means the same with its texts exchanged.
    pub symmetric: bool,
    /// Part of a training example's tokens that is hidden: it helps where single words mean much.
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
    test: &["test.tsv"],
    submissions: &[],
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
    GlueTask { name: "cola", submissions: &["CoLA.tsv"], text: &["sentence"], metrics: &[Matthews], ..USUAL },
    GlueTask { name: "sst2", submissions: &["SST-2.tsv"], text: &["sentence"], hide_rate: 0.15, ..USUAL },
    GlueTask {
        name: "mrpc",
        submissions: &["MRPC.tsv"],
        text: &["#1 String", "#2 String"],
        label: "Quality",
        metrics: &[Accuracy, F1],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "stsb",
        submissions: &["STS-B.tsv"],
        label: "score",
        labels: &[],
        metrics: &[Pearson, Spearman],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "qqp",
        submissions: &["QQP.tsv"],
        text: &["question1", "question2"],
        label: "is_duplicate",
        metrics: &[Accuracy, F1],
        symmetric: true,
        ..USUAL
    },
    GlueTask {
        name: "mnli",
        dev: &["dev_matched.tsv", "dev_mismatched.tsv"],
        test: &["test_matched.tsv", "test_mismatched.tsv"],
        submissions: &["MNLI-m.tsv", "MNLI-mm.tsv"],
        label: "gold_label",
        labels: &["entailment", "neutral", "contradiction"],
        ..USUAL
    },
    GlueTask {
        name: "qnli",
        submissions: &["QNLI.tsv"],
        text: &["question", "sentence"],
        labels: ENTAILMENT,
        ..USUAL
    },
    GlueTask { name: "rte", submissions: &["RTE.tsv"], labels: ENTAILMENT, ..USUAL },
    GlueTask { name: "wnli", submissions: &["WNLI.tsv"], ..USUAL },
];

impl GlueTask {
    /// A task by its name on the command line.
    pub fn find(name: &str) -> Option<&'static Self> {
        TASKS.iter().find(|t| t.name == name)
    }

    /// The columns of a file of this task.
    pub fn columns(&self, file_name: &str) -> Columns {
        if self.name == "cola" && !file_name.starts_with("test") {
            return Columns {
                text: vec![Column::Number(3)],
                label: Some(Column::Number(1)),
                header: false,
                skip_ragged: false,
            };
        }
        Columns {
            text: self.text.iter().map(|t| Column::name(t)).collect(),
            label: Some(Column::name(self.label)),
            header: true,
            skip_ragged: self.name == "qqp",
        }
    }

    /// Whether the label is a number.
    pub fn is_regression(&self) -> bool {
        self.labels.is_empty()
    }
}

/// The text of a GLUE submission file.
pub fn submission(predictions: impl Iterator<Item = String>) -> String {
    let rows = predictions.enumerate().map(|(i, p)| format!("{i}\t{p}\n"));
    std::iter::once("index\tprediction\n".to_string()).chain(rows).collect()
}
