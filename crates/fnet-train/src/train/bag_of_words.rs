//! A bag of words and word pairs with a linear model: what a trained encoder has to beat.
//!
//! Features are hashed one- and two-word counts of each text, weighted by inverse document
//! frequency; the model is logistic or linear regression with a small L2 penalty, fitted by
//! AdaGrad (Duchi et al. 2011).

use std::collections::HashMap;

use rand::seq::SliceRandom;

use crate::data::tasks::dataset::{Labels, Score, score_named};
use crate::data::tasks::files::TaskFiles;
use crate::data::tasks::rows::Row;
use crate::error::Result;
use crate::random::{fingerprint, generator};

const BUCKETS: usize = 1 << 16;
const PASSES: u64 = 20;
const RATE: f32 = 0.2;
const PENALTY: f32 = 1e-5;

/// A fitted linear model.
pub struct BagOfWords {
    outputs: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    rarity: Vec<f32>,
    scale: (f32, f32),
}

type Features = Vec<(usize, f32)>;

/// Hashed words and neighbouring pairs of a row; the second text's are kept separate from the first's.
fn counts(row: &Row) -> HashMap<usize, f32> {
    let mut counts = HashMap::new();
    for (side, text) in [Some(&row.first), row.second.as_ref()].into_iter().flatten().enumerate() {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        let pairs = words.windows(2).map(|w| w.join(" "));
        for feature in words.iter().map(ToString::to_string).chain(pairs) {
            let hash = fingerprint(format!("{side} {feature}").as_bytes());
            *counts.entry(hash as usize % BUCKETS).or_insert(0.0) += 1.0;
        }
    }
    counts
}

impl BagOfWords {
    /// Fits rows with class ids or numbers.
    pub fn fit(rows: &[(Row, Vec<f32>)], labels: &Labels, seed: u64) -> Self {
        let outputs = labels.head().outputs();
        let all: Vec<_> = rows.iter().map(|(row, _)| counts(row)).collect();
        let mut rarity = vec![0.0_f32; BUCKETS];
        for feature in all.iter().flat_map(HashMap::keys) {
            rarity[*feature] += 1.0;
        }
        for r in &mut rarity {
            *r = ((1.0 + rows.len() as f32) / (1.0 + *r)).ln() + 1.0;
        }
        let n = rows.len().max(1) as f32;
        let scale = if *labels == Labels::Number {
            let mean = rows.iter().map(|r| r.1[0]).sum::<f32>() / n;
            let deviation = (rows.iter().map(|r| (r.1[0] - mean).powi(2)).sum::<f32>() / n).sqrt();
            (mean, deviation.max(1e-6))
        } else {
            (0.0, 1.0)
        };
        let mut model =
            Self { outputs, weights: vec![0.0; BUCKETS * outputs], bias: vec![0.0; outputs], rarity, scale };
        let features: Vec<Features> = all.into_iter().map(|c| model.weigh(c)).collect();
        let mut squares = vec![1e-6_f32; model.weights.len()];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        for pass in 0..PASSES {
            order.shuffle(&mut generator(seed, "bag of words", pass));
            for i in &order {
                model.update(&features[*i], &rows[*i].1, labels, &mut squares);
            }
        }
        model
    }

    fn weigh(&self, counts: HashMap<usize, f32>) -> Features {
        let mut features: Features =
            counts.into_iter().map(|(f, count)| (f, count * self.rarity[f])).collect();
        features.sort_unstable_by_key(|f| f.0);
        let norm = features.iter().map(|f| f.1 * f.1).sum::<f32>().sqrt().max(1e-6);
        features.iter_mut().for_each(|f| f.1 /= norm);
        features
    }

    fn raw(&self, features: &Features) -> Vec<f32> {
        let mut y = self.bias.clone();
        for (f, x) in features {
            for (y, w) in y.iter_mut().zip(&self.weights[f * self.outputs..]) {
                *y += w * x;
            }
        }
        y
    }

    fn update(&mut self, features: &Features, target: &[f32], labels: &Labels, squares: &mut [f32]) {
        let mut slopes = self.raw(features);
        match labels {
            Labels::Number => slopes[0] -= (target[0] - self.scale.0) / self.scale.1,
            Labels::Several(_) => {
                let shares = labels.probabilities(&slopes);
                slopes.iter_mut().zip(shares).zip(target).for_each(|((s, share), t)| *s = share - t);
            }
            Labels::Classes(_) => {
                slopes = labels.probabilities(&slopes);
                slopes[target[0] as usize] -= 1.0;
            }
        }
        for (f, x) in features {
            let range = f * self.outputs..(f + 1) * self.outputs;
            let (weights, squares) = (&mut self.weights[range.clone()], &mut squares[range]);
            for ((w, square), slope) in weights.iter_mut().zip(squares).zip(&slopes) {
                let g = slope * x + PENALTY * *w;
                *square += g * g;
                *w -= RATE * g / square.sqrt();
            }
        }
        for (bias, slope) in self.bias.iter_mut().zip(&slopes) {
            *bias -= 0.01 * slope;
        }
    }

    /// Class scores or the number for a row.
    pub fn predict(&self, row: &Row) -> Vec<f32> {
        let y = self.raw(&self.weigh(counts(row)));
        y.iter().map(|y| y * self.scale.1 + self.scale.0).collect()
    }
}

/// The scores on a task's held-out rows of a bag of words fitted to its training rows, by metric.
///
/// # Errors
/// If a file cannot be read.
pub fn scores(files: &TaskFiles) -> Result<Vec<Score>> {
    let mut found = Vec::new();
    if files.dev.is_empty() {
        return Ok(found);
    }
    let model = BagOfWords::fit(&files.rows(&files.train, &files.train_columns)?, &files.labels, 1);
    for (name, path, columns) in &files.dev {
        let dev = files.rows(path, columns)?;
        let outputs: Vec<f32> = dev.iter().flat_map(|(row, _)| model.predict(row)).collect();
        let expected: Vec<f32> = dev.iter().flat_map(|row| row.1.clone()).collect();
        found.extend(score_named(name, &files.labels, &files.metrics, &outputs, &expected));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_words_but_not_their_order() {
        let row =
            |text: &str, label| (Row { line: 1, first: text.into(), second: None, label: None }, vec![label]);
        let rows: Vec<_> = (0..50)
            .flat_map(|_| [row("a good day", 1.0), row("a bad day", 0.0), row("good night", 1.0)])
            .collect();
        let classes = Labels::Classes(vec!["0".into(), "1".into()]);
        let model = BagOfWords::fit(&rows, &classes, 1);
        let y = model.predict(&row("one good thing", 0.0).0);
        assert!(y[1] > y[0]);
        let numbers = BagOfWords::fit(&rows, &Labels::Number, 1);
        let y = numbers.predict(&row("a bad day", 0.0).0);
        assert!(y[0].abs() < 0.3, "{}", y[0]);
    }
}
