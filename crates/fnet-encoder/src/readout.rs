//! What heads read of each text of a batch: one row per text, from the last layer's rows and the word embeddings.

use std::ops::Range;

use rayon::prelude::*;

use crate::modules::{Builder, Pass};
use crate::ops::{self, pooling};
use crate::parameters::{Gradients, Init, Tensor};
use crate::pooling::{Pool, Pooling};
use crate::workspace::{ReadoutActivations, set_len};
use crate::{Batch, ModelConfig};

/// The vectors that a head reads, concatenated.
pub(crate) struct Readout {
    pools: Vec<Pool>,
    query: Option<Tensor>,
    /// How much each word of the vocabulary counts, where that is not the same for all.
    word_weights: Option<Tensor>,
    words: Tensor,
    hidden: usize,
    layers: usize,
    /// Width of the vectors that are read; 0 where there are none.
    inputs: usize,
    pad: Option<u32>,
    /// Whether words are weighted by the root of their number.
    is_bag: bool,
}

impl Readout {
    /// Of these vectors; the names of its own tensors begin with `name`.
    pub fn new(b: &mut Builder, name: &str, pooling: &Pooling, words: Tensor) -> Self {
        let (pools, hidden) = (pooling.pools().to_vec(), b.config.hidden_size);
        let query = pools.contains(&Pool::Query).then(|| b.table(&format!("{name}.query"), 1, hidden));
        let word_weights = pools.contains(&Pool::Weighted).then(|| {
            let vocabulary = b.config.vocab_size;
            b.tensor(&format!("{name}.{WORD_WEIGHTS}"), &[vocabulary], Init::Ones)
        });
        let (inputs, pad) = (b.config.input_width.unwrap_or(0), b.config.pad_token_id);
        let layers = b.config.num_hidden_layers;
        Self { pools, query, word_weights, words, hidden, layers, inputs, pad, is_bag: false }
    }

    /// The sum of word vectors from a separate table, divided by the root of their number.
    pub fn of_words(config: &ModelConfig, words: Tensor) -> Self {
        let (pools, hidden, pad) = (vec![Pool::Embeddings], config.hidden_size, config.pad_token_id);
        let (query, word_weights) = (None, None);
        Self { pools, query, word_weights, words, hidden, layers: 0, inputs: 0, pad, is_bag: true }
    }

    /// Whether a learnt query reads the rows.
    pub fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// Number of values per text.
    pub fn width(&self) -> usize {
        self.pools.iter().map(|pool| self.width_of(*pool)).sum()
    }

    fn width_of(&self, pool: Pool) -> usize {
        match pool {
            Pool::Input => self.inputs,
            Pool::Layers => (self.layers + 1) * self.hidden,
            _ => self.hidden,
        }
    }

    /// Each pool with its range of the values of a text.
    fn parts(&self) -> impl Iterator<Item = (Pool, Range<usize>)> + '_ {
        let mut end = 0;
        self.pools.iter().map(move |pool| {
            end += self.width_of(*pool);
            (*pool, end - self.width_of(*pool)..end)
        })
    }

    /// Most rows of the last layer that are read per text; `None` if every token is.
    pub fn rows_of_a_text(&self) -> Option<usize> {
        let reads = |pool| usize::from(self.pools.contains(&pool));
        let all = self.pools.iter().any(|pool| pool.reads_all());
        (!all).then(|| reads(Pool::First) + reads(Pool::Last))
    }

    fn own<'a>(&self, p: Pass<'a>, text: Range<usize>) -> impl Iterator<Item = usize> + Clone + 'a {
        own_tokens(p.batch, self.pad, text)
    }

    /// Appends the tokens whose rows are read, and notes where each text's rows end.
    pub fn places(&self, p: Pass, kept: &mut ReadoutActivations, places: &mut Vec<u32>) {
        kept.ends.clear();
        let first = places.len();
        for text in p.batch.text_ranges() {
            let mut own = self.own(p, text).map(|t| t as u32);
            if self.rows_of_a_text().is_none() {
                places.extend(own);
            } else {
                let (start, end) = (own.clone().next(), own.by_ref().last());
                places.extend(start.filter(|_| self.pools.contains(&Pool::First)));
                places.extend(end.filter(|_| self.pools.contains(&Pool::Last)));
            }
            kept.ends.push(places.len() - first);
        }
    }

    /// Keeps the means of a layer's input, `[tokens, hidden]`, if they are read.
    pub fn keep(&self, p: Pass, layer: usize, input: &[f32], kept: &mut ReadoutActivations) {
        if !self.pools.contains(&Pool::Layers) {
            return;
        }
        let (hidden, width) = (self.hidden, self.layers * self.hidden);
        set_len(&mut kept.below, p.batch.texts() * width);
        let texts: Vec<_> = p.batch.text_ranges().zip(kept.below.chunks_exact_mut(width)).collect();
        texts.into_par_iter().for_each(|(text, means)| {
            let y = &mut means[layer * hidden..][..hidden];
            y.fill(0.0);
            let own = self.own(p, text);
            let share = self.share(own.clone().count());
            own.for_each(|t| ops::add(y, &input[t * hidden..][..hidden]));
            y.iter_mut().for_each(|y| *y *= share);
        });
    }

    /// Adds to `d`, the gradient of a layer's input, what comes from its means.
    pub fn keep_backward(&self, p: Pass, layer: usize, kept: &ReadoutActivations, d: &mut [f32]) {
        let Some((_, part)) = self.parts().find(|(pool, _)| *pool == Pool::Layers) else { return };
        let (hidden, width) = (self.hidden, self.width());
        for (text, d_read) in p.batch.text_ranges().zip(kept.d_read.chunks_exact(width)) {
            let dy = &d_read[part.start + layer * hidden..][..hidden];
            let own = self.own(p, text);
            let share = self.share(own.clone().count());
            for t in own {
                let dx = &mut d[t * hidden..][..hidden];
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += share * dy);
            }
        }
    }

    /// Fills `kept.read` with `[texts, width]` from the `rows` at the places.
    pub fn forward(&self, p: Pass, rows: &[f32], kept: &mut ReadoutActivations) {
        let (hidden, width) = (self.hidden, self.width());
        let ReadoutActivations { ends, below, read, attention, .. } = kept;
        let below = &*below;
        set_len(read, p.batch.texts() * width);
        set_len(attention, rows.len() / hidden);
        let mut attention = attention.as_mut_slice();
        let texts: Vec<_> = (p.batch.text_ranges().zip(ranges(ends)).zip(read.chunks_exact_mut(width)))
            .map(|((text, rows), read)| {
                let (own, rest) = std::mem::take(&mut attention).split_at_mut(rows.len());
                attention = rest;
                (text, rows, read, own)
            })
            .collect();
        texts.into_par_iter().enumerate().for_each(|(i, (text, range, read, attention))| {
            let x = &rows[range.start * hidden..range.end * hidden];
            for (pool, part) in self.parts() {
                let y = &mut read[part];
                match pool {
                    Pool::First => y.copy_from_slice(&x[..hidden]),
                    Pool::Last => y.copy_from_slice(&x[x.len() - hidden..]),
                    Pool::Mean => pooling::mean(x, y),
                    Pool::Max => pooling::max(x, y),
                    Pool::SqrtMean => pooling::sqrt_mean(x, y),
                    Pool::PositionMean => pooling::position_mean(x, y),
                    Pool::Query => pooling::query(x, self.query_of(p), attention, y),
                    Pool::Embeddings => self.sum_of_words(p, text.clone(), y),
                    Pool::Weighted => self.weighted_words(p, text.clone(), y),
                    Pool::Input => mean_of_vectors(p.batch, &text, y),
                    Pool::Layers => {
                        let (inputs, last) = y.split_at_mut(self.layers * hidden);
                        inputs.copy_from_slice(&below[i * inputs.len()..][..inputs.len()]);
                        pooling::mean(x, last);
                    }
                }
            }
        });
    }

    /// From `d_read`, fills `d_rows` and adds the gradients of the learnt weights.
    pub fn backward(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        rows: &[f32],
        kept: &mut ReadoutActivations,
        d_rows: &mut [f32],
    ) {
        let (hidden, width) = (self.hidden, self.width());
        let ReadoutActivations { ends, read, attention, d_read, d_query, .. } = kept;
        let (read, attention) = (&*read, &*attention);
        d_rows.fill(0.0);
        set_len(d_query, ends.len() * hidden);
        let mut rest = d_rows;
        let parts: Vec<_> = ranges(ends)
            .map(|range| {
                let (part, after) = std::mem::take(&mut rest).split_at_mut(range.len() * hidden);
                rest = after;
                (range, part)
            })
            .collect();
        let texts = parts.into_par_iter().zip(d_query.par_chunks_exact_mut(hidden));
        let texts = texts.zip(read.par_chunks_exact(width).zip(d_read.par_chunks_exact(width)));
        texts.for_each(|(((range, dx), dq), (read, d_read))| {
            let (x, a) = (&rows[range.start * hidden..range.end * hidden], &attention[range]);
            for (pool, part) in self.parts() {
                let (y, dy) = (&read[part.clone()], &d_read[part]);
                match pool {
                    Pool::First => ops::add(&mut dx[..hidden], dy),
                    Pool::Last => {
                        let last = dx.len() - hidden;
                        ops::add(&mut dx[last..], dy);
                    }
                    Pool::Mean => pooling::mean_backward(dy, dx),
                    Pool::Max => pooling::max_backward(x, dy, dx),
                    Pool::SqrtMean => pooling::sqrt_mean_backward(dy, dx),
                    Pool::PositionMean => pooling::position_mean_backward(dy, dx),
                    Pool::Query => pooling::query_backward(x, self.query_of(p), a, y, dy, dx, dq),
                    Pool::Layers => pooling::mean_backward(&dy[self.layers * hidden..], dx),
                    Pool::Embeddings | Pool::Weighted | Pool::Input => {}
                }
            }
        });
        if let Some(d) = self.query.and_then(|query| gradients.of(query)) {
            d_query.chunks_exact(hidden).for_each(|dq| ops::add(d, dq));
        }
        for (pool, part) in self.parts().filter(|(pool, _)| pool.reads_words()) {
            if pool == Pool::Weighted {
                self.word_weights_backward(p, gradients, d_read, &part);
            }
            let Some(d_words) = gradients.of(self.words) else { continue };
            for (text, d_read) in p.batch.text_ranges().zip(d_read.chunks_exact(width)) {
                let dy = &d_read[part.clone()];
                match pool {
                    Pool::Weighted => self.weighted_words_backward(p, text, dy, d_words),
                    _ => self.sum_of_words_backward(p, text, dy, d_words),
                }
            }
        }
    }

    /// The weight of each of a text's words: a bag's sum is as large for long texts as for short ones.
    fn share(&self, tokens: usize) -> f32 {
        let tokens = tokens.max(1) as f32;
        1.0 / if self.is_bag { tokens.sqrt() } else { tokens }
    }

    fn query_of<'a>(&self, p: Pass<'a>) -> &'a [f32] {
        self.query.map_or(&[], |query| query.of(p.values))
    }

    fn sum_of_words(&self, p: Pass, text: Range<usize>, y: &mut [f32]) {
        let words = self.words.of(p.values);
        let own = self.own(p, text);
        let share = self.share(own.clone().count());
        y.fill(0.0);
        for t in own {
            ops::add(y, &words[p.batch.tokens()[t] as usize * self.hidden..][..self.hidden]);
        }
        y.iter_mut().for_each(|y| *y *= share);
    }

    fn sum_of_words_backward(&self, p: Pass, text: Range<usize>, dy: &[f32], d_words: &mut [f32]) {
        let own = self.own(p, text);
        let share = self.share(own.clone().count());
        // A padding token's word embedding is not trained, as in PyTorch.
        for id in own.map(|t| p.batch.tokens()[t]).filter(|id| Some(*id) != self.pad) {
            let row = &mut d_words[id as usize * self.hidden..][..self.hidden];
            row.iter_mut().zip(dy).for_each(|(d, dy)| *d += share * dy);
        }
    }

    /// A text's words with their shares of the weighted mean.
    fn shares_of_words<'a>(
        &self,
        p: Pass<'a>,
        text: Range<usize>,
    ) -> impl Iterator<Item = (usize, f32)> + Clone + use<'a> {
        let weights = self.word_weights.map_or(&[][..], |weights| weights.of(p.values));
        let words = own_tokens(p.batch, self.pad, text).map(|t| p.batch.tokens()[t] as usize);
        let words = words.map(|id| (id, weights[id])).filter(|(_, weight)| *weight != 0.0);
        let share = 1.0 / words.clone().count().max(1) as f32;
        words.map(move |(id, weight)| (id, share * weight))
    }

    fn weighted_words(&self, p: Pass, text: Range<usize>, y: &mut [f32]) {
        let words = self.words.of(p.values);
        y.fill(0.0);
        for (id, share) in self.shares_of_words(p, text) {
            let row = &words[id * self.hidden..][..self.hidden];
            y.iter_mut().zip(row).for_each(|(y, x)| *y += share * x);
        }
    }

    /// The gradient of words' weights.
    fn word_weights_backward(&self, p: Pass, gradients: &mut Gradients, d_read: &[f32], part: &Range<usize>) {
        let (words, weights) =
            (self.words.of(p.values), self.word_weights.map(|weights| weights.of(p.values)));
        let (Some(weights), Some(d)) = (weights, self.word_weights.and_then(|weights| gradients.of(weights)))
        else {
            return;
        };
        for (text, d_read) in p.batch.text_ranges().zip(d_read.chunks_exact(self.width())) {
            let dy = &d_read[part.clone()];
            for (id, share) in self.shares_of_words(p, text) {
                let word = &words[id * self.hidden..][..self.hidden];
                d[id] += share / weights[id] * ops::dot(dy, word);
            }
        }
    }

    fn weighted_words_backward(&self, p: Pass, text: Range<usize>, dy: &[f32], d_words: &mut [f32]) {
        for (id, share) in self.shares_of_words(p, text).filter(|(id, _)| Some(*id as u32) != self.pad) {
            let row = &mut d_words[id * self.hidden..][..self.hidden];
            row.iter_mut().zip(dy).for_each(|(d, dy)| *d += share * dy);
        }
    }
}

/// The tensor of words' weights, after the name of what reads them.
const WORD_WEIGHTS: &str = "word_weights";

/// The mean of the vectors at a text's positions; zeros if it has none.
fn mean_of_vectors(batch: &Batch, text: &Range<usize>, y: &mut [f32]) {
    y.fill(0.0);
    let (width, mut count) = (y.len(), 0);
    for id in &batch.tokens()[text.clone()] {
        let vector = id.checked_sub(Batch::FIRST_VECTOR).map(|row| row as usize * width);
        if let Some(vector) = vector.and_then(|first| batch.vectors().get(first..first + width)) {
            ops::add(y, vector);
            count += 1;
        }
    }
    let share = 1.0 / count.max(1) as f32;
    y.iter_mut().for_each(|y| *y *= share);
}

/// A text's tokens without padding; all of them if there is nothing else.
pub(crate) fn own_tokens(
    batch: &Batch,
    pad: Option<u32>,
    text: Range<usize>,
) -> impl Iterator<Item = usize> + Clone + '_ {
    let fills = move |t: usize| Some(batch.tokens()[t]) == pad;
    let only_pads = text.clone().all(fills);
    text.filter(move |t| only_pads || !fills(*t))
}

/// Where each text's rows lie.
fn ranges(ends: &[usize]) -> impl Iterator<Item = Range<usize>> + '_ {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| start..*end)
}
