//! GLUE's metrics (Wang et al. 2019), in float64.

use serde::{Deserialize, Serialize};

/// A metric of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction of correct rows.
    Accuracy,
    /// Harmonic mean of precision and recall of class 1.
    F1,
    /// Harmonic mean of precision and recall over all labels, where examples have several.
    MicroF1,
    /// Mean F1 of the classes that occur: each counts the same, however many rows it has.
    MacroF1,
    /// Matthews correlation, also for more than two classes (Gorodkin 2004).
    Matthews,
    /// Pearson correlation.
    Pearson,
    /// Spearman rank correlation, ties sharing their mean rank.
    Spearman,
    /// Mean absolute error of the predictions.
    MeanAbsoluteError,
    /// Mean squared error of the predictions.
    MeanSquaredError,
}

impl Metric {
    /// Those for which lower is better: they are reported, but choose nothing.
    pub const ERRORS: [Self; 2] = [Self::MeanAbsoluteError, Self::MeanSquaredError];

    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::MicroF1 => "micro_f1",
            Self::MacroF1 => "macro_f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
            Self::MeanAbsoluteError => "mean_absolute_error",
            Self::MeanSquaredError => "mean_squared_error",
        }
    }

    /// The metric of class predictions; NaN for a correlation of numbers.
    pub fn of_classes(self, predicted: &[u32], labels: &[u32]) -> f64 {
        match self {
            Self::Accuracy => {
                let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
                right as f64 / labels.len() as f64
            }
            Self::F1 => f1(predicted, labels, 1),
            Self::MacroF1 => macro_f1(predicted, labels),
            Self::Matthews => matthews(predicted, labels),
            _ => f64::NAN,
        }
    }

    /// The metric of predicted numbers; NaN for metrics of classes.
    pub fn of_values(self, predicted: &[f64], labels: &[f64]) -> f64 {
        match self {
            Self::Pearson => pearson(predicted, labels),
            Self::Spearman => pearson(&ranks(predicted), &ranks(labels)),
            Self::MeanAbsoluteError => mean_over(predicted, labels, f64::abs),
            Self::MeanSquaredError => mean_over(predicted, labels, |off| off * off),
            _ => f64::NAN,
        }
    }
}

/// The rank at which each of several searches finds what it should, from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranks(pub Vec<usize>);

impl Ranks {
    /// The rank of `own` among so many candidates, by how alike they are to what is looked for: behind all that are as alike,
    /// but for those that are the same text.
    pub fn of<T: PartialOrd>(
        own: usize,
        candidates: usize,
        is_same: impl Fn(usize) -> bool,
        alike: impl Fn(usize) -> T,
    ) -> usize {
        let others = (0..candidates).filter(|other| *other != own && !is_same(*other));
        1 + others.filter(|other| alike(*other) >= alike(own)).count()
    }

    /// Found first, found among the first ten, and the mean of one over the rank.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let n = self.0.len() as f64;
        let within = |most: usize| self.0.iter().filter(|rank| **rank <= most).count() as f64 / n;
        let reciprocal = self.0.iter().map(|rank| 1.0 / *rank as f64).sum::<f64>() / n;
        vec![("recall_1", within(1)), ("recall_10", within(10)), ("mrr", reciprocal)]
    }
}

fn f1(predicted: &[u32], labels: &[u32], class: u32) -> f64 {
    let count = |is_predicted: bool, is_label: bool| {
        let pairs = predicted.iter().zip(labels);
        pairs.filter(|(p, l)| (**p == class) == is_predicted && (**l == class) == is_label).count() as f64
    };
    let (hits, false_alarms, misses) = (count(true, true), count(true, false), count(false, true));
    if hits == 0.0 { 0.0 } else { 2.0 * hits / (2.0 * hits + false_alarms + misses) }
}

fn macro_f1(predicted: &[u32], labels: &[u32]) -> f64 {
    let classes: std::collections::BTreeSet<u32> = predicted.iter().chain(labels).copied().collect();
    classes.iter().map(|class| f1(predicted, labels, *class)).sum::<f64>() / classes.len() as f64
}

fn mean_over(predicted: &[f64], labels: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    predicted.iter().zip(labels).map(|(p, l)| of(p - l)).sum::<f64>() / labels.len() as f64
}

fn matthews(predicted: &[u32], labels: &[u32]) -> f64 {
    let classes = predicted.iter().chain(labels).max().map_or(0, |m| *m as usize + 1);
    let (mut of_predicted, mut of_labels) = (vec![0.0; classes], vec![0.0; classes]);
    let mut right = 0.0;
    for (p, l) in predicted.iter().zip(labels) {
        of_predicted[*p as usize] += 1.0;
        of_labels[*l as usize] += 1.0;
        right += f64::from(u8::from(p == l));
    }
    let n = labels.len() as f64;
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let covariance = right * n - dot(&of_predicted, &of_labels);
    let spread = (n * n - dot(&of_predicted, &of_predicted)) * (n * n - dot(&of_labels, &of_labels));
    if spread <= 0.0 { 0.0 } else { covariance / spread.sqrt() }
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a) * (a - mean_a);
        bb += (b - mean_b) * (b - mean_b);
    }
    // A constant side has no correlation; counting it as zero keeps tables readable.
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |i: &&usize| values[**i] == values[order[start]];
        let end = start + order[start..].iter().take_while(same).count().max(1);
        for i in &order[start..end] {
            ranks[*i] = (start + end - 1) as f64 / 2.0;
        }
        start = end;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    // Expected values: scikit-learn 1.x and scipy.stats.
    #[test]
    fn known_values() {
        let (p, l) = ([1, 0, 1, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0, 1]);
        close(Metric::Accuracy.of_classes(&p, &l), 5.0 / 7.0);
        close(Metric::F1.of_classes(&p, &l), 0.75);
        close(Metric::MacroF1.of_classes(&p, &l), 0.5 * (0.75 + 2.0 / 3.0));
        close(Metric::MacroF1.of_classes(&[0, 1, 2, 2], &[0, 1, 2, 1]), (1.0 + 2.0 / 3.0 + 2.0 / 3.0) / 3.0);
        close(Metric::Matthews.of_classes(&p, &l), 5.0 / 12.0);
        close(Metric::Matthews.of_classes(&[0, 1, 2, 2], &[0, 1, 2, 1]), 0.7);
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 9.0]);
        close(Metric::Pearson.of_values(&a, &b), 11.5 / (5.0_f64 * 38.75).sqrt());
        close(Metric::Spearman.of_values(&a, &b), 0.8);
        close(Metric::MeanAbsoluteError.of_values(&a, &b), 1.75);
        close(Metric::MeanSquaredError.of_values(&a, &b), 6.75);
        close(Metric::Spearman.of_values(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]), 0.866_025_403_784_438_6);
    }

    #[test]
    fn edge_cases() {
        close(Metric::Matthews.of_classes(&[1, 1], &[0, 1]), 0.0);
        close(Metric::F1.of_classes(&[0, 0], &[0, 0]), 0.0);
        close(Metric::Pearson.of_values(&[1.0, 1.0], &[0.0, 1.0]), 0.0);
        let _ = Metric::Spearman.of_values(&[f64::NAN, 1.0], &[0.0, 1.0]);
        assert!(Metric::Accuracy.of_classes(&[], &[]).is_nan());
    }
}
