//! Cosines of weighted words: what vectors of texts have to beat.

use std::collections::HashMap;

use crate::data::alike::{Kind, Rows};
use crate::data::tasks::metrics::{Metric, Ranks};

/// How rare each word is in some texts.
pub struct Rarity {
    texts: f64,
    counts: HashMap<String, f64>,
}

/// A text's words, by name, of length one.
type Words = HashMap<String, f64>;

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(String::from).collect()
}

impl Rarity {
    /// In the texts of these rows.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Rows>) -> Self {
        let mut rarity = Self { texts: 0.0, counts: HashMap::new() };
        for text in all.into_iter().flat_map(|rows| &rows.texts).flatten() {
            rarity.texts += 1.0;
            let mut own = words(text);
            own.sort_unstable();
            own.dedup();
            own.into_iter().for_each(|word| *rarity.counts.entry(word).or_insert(0.0) += 1.0);
        }
        rarity
    }

    fn vector(&self, text: &str) -> Words {
        let mut vector = Words::new();
        for word in words(text) {
            let known = self.counts.get(&word).copied().unwrap_or(0.0);
            *vector.entry(word).or_insert(0.0) += ((1.0 + self.texts) / (1.0 + known)).ln() + 1.0;
        }
        let mut values: Vec<f64> = vector.values().copied().collect();
        values.sort_unstable_by(f64::total_cmp); // the order in a map is another one each time
        let length = values.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        vector.values_mut().for_each(|v| *v /= length);
        vector
    }

    /// The metrics of some rows, by name.
    pub fn judge(&self, rows: &Rows) -> Vec<(&'static str, f64)> {
        let vector =
            |texts: &Vec<String>, i: usize| texts.get(i).map(|text| self.vector(text)).unwrap_or_default();
        let all = |i: usize| rows.texts.iter().map(|texts| vector(texts, i)).collect::<Vec<Words>>();
        match rows.kind {
            Kind::Texts => Vec::new(),
            Kind::Scored => {
                let found: Vec<f64> = all(0).iter().zip(&all(1)).map(|(a, b)| dot(a, b)).collect();
                let scores: Vec<f64> = rows.scores.iter().map(|s| f64::from(*s)).collect();
                let value = |metric: Metric| (metric.name(), metric.of_values(&found, &scores));
                [Metric::Spearman, Metric::Pearson].map(value).into()
            }
            Kind::Pairs | Kind::Triplets => self.ranks(rows).named(),
        }
    }

    fn ranks(&self, rows: &Rows) -> Ranks {
        let candidates: Vec<&String> =
            (1..rows.kind.texts()).flat_map(|t| rows.texts.iter().map(move |row| &row[t])).collect();
        let mut holds: HashMap<String, Vec<(usize, f64)>> = HashMap::new();
        for (j, text) in candidates.iter().enumerate() {
            for (word, value) in self.vector(text) {
                holds.entry(word).or_default().push((j, value));
            }
        }
        let rank = |(i, row): (usize, &Vec<String>)| {
            let mut alike = vec![0.0; candidates.len()];
            let mut own: Vec<(String, f64)> = self.vector(&row[0]).into_iter().collect();
            own.sort_by(|a, b| a.0.cmp(&b.0));
            for (word, value) in own {
                holds.get(&word).into_iter().flatten().for_each(|(j, other)| alike[*j] += value * other);
            }
            Ranks::of(i, candidates.len(), |j| candidates[j] == candidates[i], |j| alike[j])
        };
        Ranks(rows.texts.iter().enumerate().map(rank).collect())
    }
}

fn dot(a: &Words, b: &Words) -> f64 {
    let mut common: Vec<(&String, f64)> =
        a.iter().filter_map(|(word, v)| Some((word, v * b.get(word)?))).collect();
    common.sort_unstable_by(|a, b| a.0.cmp(b.0));
    common.iter().map(|(_, v)| v).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(kind: Kind, texts: &[[&str; 2]], scores: &[f32]) -> Rows {
        let texts = texts.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        Rows { kind, texts, scores: scores.to_vec() }
    }

    #[test]
    fn common_words_say_less() {
        let rows = pairs(
            Kind::Scored,
            &[["the cat", "The cat!"], ["the cat", "the dog"], ["a cat", "the dog"], ["the tree", "the cat"]],
            &[3.0, 1.0, 0.0, 1.0],
        );
        let rarity = Rarity::of([&rows]);
        let spearman = rarity.judge(&rows)[0];
        assert!(spearman.0 == "spearman" && spearman.1 > 0.9, "{spearman:?}");
        let (cat, the) = (rarity.vector("the cat")["cat"], rarity.vector("the cat")["the"]);
        assert!(cat > the && (cat * cat + the * the - 1.0).abs() < 1e-12);
    }

    #[test]
    fn partners_are_found_by_their_words() {
        let rows =
            pairs(Kind::Pairs, &[["red house", "a house"], ["green tree", "the tree"], ["cat", "dog"]], &[]);
        assert_eq!(Rarity::of([&rows]).ranks(&rows).0, [1, 1, 3]);
    }
}
