//! How much of each text of a pair is found in the other, word by word: two values next to those of the texts'
//! vectors. Each word is matched with the nearest one in the other text, and a text's matches are averaged,
//! weighted by how informative its words are.

use rayon::prelude::*;

use super::Back;
use crate::gemm::{Matrix, Out};
use crate::modules::{Builder, Linear, Pass};
use crate::ops::matching::{self, Match};
use crate::parameters::{Init, Tensor};
use crate::readout::own_tokens;
use crate::workspace::{MatchingActivations, set_len};

/// How informative each word of the vocabulary is; not trained.
const MATCHING_WEIGHT: &str = "classifier.matching.weight";

/// Values per pair.
pub(super) const VALUES: usize = 2;
/// A text of uninformative words has no mean.
const LEAST: f32 = 1e-8;

/// Word vectors, transformed by a square matrix and compared across a pair.
pub(super) struct Matching {
    words: Tensor,
    dense: Linear,
    weight: Tensor,
    hidden: usize,
    pad: Option<u32>,
    /// Whether both values stay the same when the texts are swapped.
    is_symmetric: bool,
}

impl Matching {
    pub fn new(b: &mut Builder, words: Tensor, is_symmetric: bool) -> Self {
        let (hidden, pad) = (b.config.hidden_size, b.config.pad_token_id);
        let dense = b.linear("classifier.matching.dense", hidden, hidden);
        let weight = b.tensor(MATCHING_WEIGHT, &[b.config.vocab_size], Init::Ones);
        b.parameters.freeze(MATCHING_WEIGHT);
        Self { words, dense, weight, hidden, pad, is_symmetric }
    }

    /// Fills `kept.values` with `[examples, VALUES]`.
    pub fn forward(&self, p: Pass, kept: &mut MatchingActivations) {
        let MatchingActivations { ids, ends, words, units, lengths, best, means, values, .. } = kept;
        ids.clear();
        ends.clear();
        for text in p.batch.text_ranges() {
            ids.extend(own_tokens(p.batch, self.pad, text).map(|t| p.batch.tokens()[t]));
            ends.push(ids.len());
        }
        words.clear();
        let table = self.words.of(p.values);
        ids.iter()
            .for_each(|id| words.extend_from_slice(&table[*id as usize * self.hidden..][..self.hidden]));
        set_len(units, words.len());
        self.dense.forward(p, words, units);
        set_len(lengths, ids.len());
        best.resize(ids.len(), Match::default());
        set_len(means, ends.len());
        set_len(values, ends.len() / 2 * VALUES);
        let weights = self.weight.of(p.values);
        let pairs: Vec<Pair> = pairs(self.hidden, ends, units, lengths, best).collect();
        let outputs = means.par_chunks_exact_mut(2).zip(values.par_chunks_exact_mut(VALUES));
        pairs.into_par_iter().zip(outputs).for_each(|(pair, (means, values))| {
            matching::normalise(pair.units, self.hidden, pair.lengths);
            matching::forward(pair.units, self.hidden, pair.split, pair.best);
            let ids = &ids[pair.first..][..pair.best.len()];
            for (mean, words) in means.iter_mut().zip([0..pair.split, pair.split..ids.len()]) {
                let (ids, best) = (&ids[words.clone()], &pair.best[words]);
                let told: f32 = ids.iter().zip(best).map(|(id, m)| weights[*id as usize] * m.cosine).sum();
                *mean = told / self.told_by(ids, weights);
            }
            values.copy_from_slice(means);
            if self.is_symmetric && values[0] > values[1] {
                values.swap(0, 1);
            }
        });
    }

    /// From `kept.d_values`, adds the gradients of the matrix and of the words.
    pub fn backward(&self, p: Pass, kept: &mut MatchingActivations, back: &mut Back) {
        let MatchingActivations {
            ids,
            ends,
            words,
            units,
            lengths,
            best,
            means,
            d_values,
            d_words,
            d_units,
            ..
        } = kept;
        let weights = self.weight.of(p.values);
        d_units.clear();
        d_units.resize(units.len(), 0.0);
        let mut rest = d_units.as_mut_slice();
        let parts: Vec<_> = pairs(self.hidden, ends, units, lengths, best)
            .map(|pair| {
                let (part, after) = std::mem::take(&mut rest).split_at_mut(pair.units.len());
                rest = after;
                (pair, part)
            })
            .collect();
        let outputs = means.par_chunks_exact(2).zip(d_values.par_chunks_exact(VALUES));
        parts.into_par_iter().zip(outputs).for_each(|((pair, dx), (means, dy))| {
            let swapped = self.is_symmetric && means[0] > means[1];
            let ids = &ids[pair.first..][..pair.best.len()];
            let mut d_best = vec![0.0; ids.len()];
            for (k, words) in [0..pair.split, pair.split..ids.len()].into_iter().enumerate() {
                let d_mean = dy[if swapped { 1 - k } else { k }];
                let share = d_mean / self.told_by(&ids[words.clone()], weights);
                for (d, id) in d_best[words.clone()].iter_mut().zip(&ids[words]) {
                    *d = share * weights[*id as usize];
                }
            }
            matching::backward(pair.units, self.hidden, pair.split, pair.best, &d_best, dx);
            matching::normalise_backward(pair.units, pair.lengths, self.hidden, dx);
        });
        self.dense.backward_parameters(p, back.gradients, d_units, words, back.partial);
        set_len(d_words, words.len());
        self.dense.backward_input(p, Matrix::new(d_units, self.hidden), d_words, Out::Set);
        if let Some(d_table) = back.gradients.of(self.words) {
            let rows = ids.iter().zip(d_words.chunks_exact(self.hidden));
            // A padding token's word embedding is not trained, as in PyTorch.
            for (id, d) in rows.filter(|(id, _)| Some(**id) != self.pad) {
                crate::ops::add(&mut d_table[*id as usize * self.hidden..][..self.hidden], d);
            }
        }
    }

    fn told_by(&self, ids: &[u32], weights: &[f32]) -> f32 {
        ids.iter().map(|id| weights[*id as usize]).sum::<f32>().max(LEAST)
    }
}

/// The words of one pair.
struct Pair<'a> {
    /// Index of the first one.
    first: usize,
    /// Words of the first text.
    split: usize,
    units: &'a mut [f32],
    lengths: &'a mut [f32],
    best: &'a mut [Match],
}

/// Splits what is kept of all words into pairs of texts, which end at `ends`.
fn pairs<'a>(
    hidden: usize,
    ends: &'a [usize],
    mut units: &'a mut [f32],
    mut lengths: &'a mut [f32],
    mut best: &'a mut [Match],
) -> impl Iterator<Item = Pair<'a>> {
    let mut first = 0;
    ends.chunks_exact(2).map(move |ends| {
        let (start, words) = (first, ends[1] - first);
        first = ends[1];
        Pair {
            first: start,
            split: ends[0] - start,
            units: cut(&mut units, words * hidden),
            lengths: cut(&mut lengths, words),
            best: cut(&mut best, words),
        }
    })
}

fn cut<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (part, after) = std::mem::take(rest).split_at_mut(len);
    *rest = after;
    part
}
