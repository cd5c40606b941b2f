//! Examples with any number of labels: how they are written, and how well they are predicted.

use std::collections::BTreeSet;
use std::path::Path;

use super::rows::{self, Columns};
use crate::error::Error;

/// What stands between labels.
pub const SEPARATOR: char = '|';
/// More labels than this are a mistake.
const MOST_LABELS: usize = 10_000;

/// The labels of an example as they are written: `a|b`; of an empty text none.
pub fn split(written: &str) -> impl Iterator<Item = &str> {
    written.split(SEPARATOR).map(str::trim).filter(|label| !label.is_empty())
}

/// All labels of a file's examples, in order.
pub(crate) fn all<'a>(written: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let all: BTreeSet<&str> = written.into_iter().flat_map(split).collect();
    all.into_iter().map(String::from).collect()
}

/// The labels of a labelled file.
///
/// # Errors
/// If the file cannot be read, or no row of it has a label.
pub(crate) fn find(path: &Path, columns: &Columns) -> crate::error::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    rows::read(path, columns, true, |row| {
        let label = row.label.unwrap_or_default();
        for label in split(&label).filter(|label| !names.contains(*label)).collect::<Vec<_>>() {
            names.insert(label.to_string());
        }
        Ok(())
    })?;
    check(path, &names.into_iter().collect::<Vec<_>>())
}

/// Refuses labels that are too few or too many.
pub(crate) fn check(path: &Path, names: &[String]) -> crate::error::Result<Vec<String>> {
    match names.len() {
        0 => Err(Error::file(path, "has no row with a label: there is nothing to learn")),
        1..=MOST_LABELS => Ok(names.to_vec()),
        more => Err(Error::file(path, format!("has {more} different labels, more than {MOST_LABELS}"))),
    }
}

/// For each of all labels 1 if an example has it, and 0 if not.
///
/// # Errors
/// Gives a label that is none of them.
pub(crate) fn targets(names: &[String], written: &str) -> Result<Vec<f32>, String> {
    let mut targets = vec![0.0; names.len()];
    for label in split(written) {
        let at = names.iter().position(|name| name == label).ok_or(label)?;
        targets[at] = 1.0;
    }
    Ok(targets)
}

/// The labels that hold, by logits: those whose probability is above a half.
pub fn spell(names: &[String], logits: &[f32]) -> Vec<String> {
    names.iter().zip(logits).filter(|(_, logit)| **logit > 0.0).map(|(name, _)| name.clone()).collect()
}

/// The probability of each label on its own.
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()
}

/// How often each label was predicted and right.
#[derive(Debug, Clone, Default)]
pub(crate) struct LabelCounts {
    /// Of each label: predicted and right, predicted and wrong, missed.
    counts: Vec<[u64; 3]>,
    right: u64,
}

impl LabelCounts {
    /// Counts logits `[examples, labels]` against targets of 1 and 0.
    pub fn of(labels: usize, logits: &[f32], targets: &[f32]) -> Self {
        let mut own = Self { counts: vec![[0; 3]; labels], right: 0 };
        for (i, (logit, target)) in logits.iter().zip(targets).enumerate() {
            let [hits, false_alarms, misses] = &mut own.counts[i % labels];
            match (*logit > 0.0, *target > 0.5) {
                (true, true) => *hits += 1,
                (true, false) => *false_alarms += 1,
                (false, true) => *misses += 1,
                (false, false) => {}
            }
            own.right += u64::from((*logit > 0.0) == (*target > 0.5));
        }
        own
    }

    /// Harmonic mean of precision and recall over all labels of all examples.
    pub fn micro_f1(&self) -> f64 {
        let sum = |which: usize| self.counts.iter().map(|counts| counts[which]).sum();
        f1([sum(0), sum(1), sum(2)])
    }

    /// The mean over labels of their F1.
    pub fn macro_f1(&self) -> f64 {
        self.counts.iter().map(|counts| f1(*counts)).sum::<f64>() / self.counts.len().max(1) as f64
    }

    /// Fraction of labels that were rightly predicted or left out.
    pub fn accuracy(&self, predictions: usize) -> f64 {
        self.right as f64 / predictions as f64
    }
}

fn f1([hits, false_alarms, misses]: [u64; 3]) -> f64 {
    if hits == 0 { 0.0 } else { 2.0 * hits as f64 / (2 * hits + false_alarms + misses) as f64 }
}

/// The labels that are predicted of every example for the best F1 over these targets, as logits: the commonest ones.
pub(crate) fn commonest(labels: usize, targets: &[f32]) -> Vec<f32> {
    let mut held = vec![0_u64; labels];
    targets.iter().enumerate().for_each(|(i, target)| held[i % labels] += u64::from(*target > 0.5));
    let (all, examples) = (held.iter().sum::<u64>(), (targets.len() / labels) as u64);
    let mut order: Vec<usize> = (0..labels).collect();
    order.sort_by_key(|label| std::cmp::Reverse(held[*label]));
    let f1_of = |most: usize| {
        let hits: u64 = order[..most].iter().map(|label| held[*label]).sum();
        f1([hits, most as u64 * examples - hits, all - hits])
    };
    let most = (1..=labels).rev().max_by(|a, b| f1_of(*a).total_cmp(&f1_of(*b))).unwrap_or(0);
    let mut logits = vec![-1.0; labels];
    order[..most].iter().for_each(|label| logits[*label] = 1.0);
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_split_and_counted() {
        let names = all(["b| a", "", "c|a"]);
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(targets(&names, "c | a|").unwrap(), [1.0, 0.0, 1.0]);
        assert_eq!(targets(&names, " ").unwrap(), [0.0; 3]);
        assert_eq!(targets(&names, "a|d").unwrap_err(), "d");
        assert_eq!(spell(&names, &[0.1, -0.1, 3.0]), ["a", "c"]);
    }

    // Expected values: sklearn.metrics.f1_score of the same indicator matrices, micro and macro.
    #[test]
    fn f1_as_in_scikit_learn() {
        let logits = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0];
        let targets = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let counts = LabelCounts::of(3, &logits, &targets);
        assert!((counts.micro_f1() - 0.6).abs() < 1e-12, "{}", counts.micro_f1());
        assert!((counts.macro_f1() - (0.8 + 0.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert!((counts.accuracy(12) - 8.0 / 12.0).abs() < 1e-12);
        assert_eq!(commonest(3, &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]), [1.0, -1.0, -1.0]);
    }
}
