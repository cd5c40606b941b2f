use std::cell::Cell;

use rayon::prelude::*;

use super::{Mixer, MixerBackward, sequences};
use crate::dropout_sites;
use crate::gemm::{Matrix, Out, matmul_nn, matmul_tn};
use crate::modules::{Builder, Linear, Pass};
use crate::ops::attention::{self, Rows, Scores};
use crate::ops::linear;
use crate::parameters::{Init, Tensor};
use crate::workspace::Buffers;
use crate::{Batch, EncoderError};

/// Multi-head softmax attention with its output layer and dropout, as in BERT (Devlin et al. 2019), without
/// dropout of the attention weights. Scores are float32 in either precision.
///
/// Queries, keys and values come from one product: their weights are adjacent.
pub struct Attention {
    /// Query, key, value.
    weights: [Tensor; 3],
    biases: [Tensor; 3],
    output: Linear,
    heads: usize,
    hidden: usize,
    site: u32,
}

thread_local! {
    static SCORES: Cell<Scores> = Cell::default();
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Task {
    start: usize,
    len: usize,
    head: usize,
}

impl Attention {
    pub(crate) fn new(b: &mut Builder, layer: usize) -> Self {
        let (hidden, init) = (b.config.hidden_size, Init::Normal(b.config.initializer_range));
        let name = format!("{}.attention", b.config.layer_name(layer));
        let parts = ["query", "key", "value"].map(|part| format!("{name}.self.{part}"));
        Self {
            weights: parts
                .each_ref()
                .map(|part| b.tensor(&format!("{part}.weight"), &[hidden, hidden], init)),
            biases: parts.each_ref().map(|part| b.zeros(&format!("{part}.bias"), hidden)),
            output: b.linear(&format!("{name}.output.dense"), hidden, hidden),
            heads: b.config.attention_heads(),
            hidden,
            site: dropout_sites::mixing(layer),
        }
    }

    fn tasks(&self, batch: &Batch) -> Vec<Task> {
        let of = |range: std::ops::Range<usize>| {
            (0..self.heads).map(move |head| Task { start: range.start, len: range.len(), head })
        };
        batch.ranges().flat_map(of).collect()
    }

    /// Values of a head in a row.
    fn width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Part `part` (query, key, value) of a task in `[tokens, 3 hidden]`.
    fn rows<'a>(&self, all: &'a [f32], parts: usize, part: usize, task: Task) -> Rows<'a> {
        let (stride, width) = (parts * self.hidden, self.width());
        let first = task.start * stride + part * self.hidden + task.head * width;
        Rows { values: &all[first..], stride, len: task.len, width }
    }

    /// Splits a buffer with `width` values per token and head, head by head, in the order of tasks.
    fn cut<'a>(&self, mut buffer: &'a mut [f32], tasks: &[Task], width: usize) -> Vec<&'a mut [f32]> {
        let mut parts = Vec::with_capacity(tasks.len());
        for task in tasks {
            let (part, rest) = buffer.split_at_mut(task.len * width);
            parts.push(part);
            buffer = rest;
        }
        parts
    }

    /// Copies a head-by-head buffer into columns of `y`, `[tokens, parts hidden]`.
    fn join(&self, batch: &Batch, by_head: &[f32], parts: usize, part: usize, y: &mut [f32]) {
        let (width, hidden, stride) = (self.width(), self.hidden, parts * self.hidden);
        sequences::for_each(batch, stride, y, |i, y| {
            let range = batch.range(i);
            let from = &by_head[range.start * hidden..range.end * hidden];
            for (head, from) in from.chunks_exact(range.len() * width).enumerate() {
                for (y, from) in y.chunks_exact_mut(stride).zip(from.chunks_exact(width)) {
                    y[part * hidden + head * width..][..width].copy_from_slice(from);
                }
            }
        });
    }
}

impl Mixer for Attention {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError> {
        let tokens = p.batch.tokens().len();
        let [kept_x, all, context, sums, by_head] =
            kept.get([x.len(), 3 * x.len(), x.len(), tokens * self.heads, x.len()]);
        kept_x.copy_from_slice(x);
        let (weight, bias) =
            (Tensor::join(self.weights).of(p.values), Tensor::join(self.biases).of(p.values));
        linear::forward(p.products, x, weight, bias, all);
        let (all, tasks) = (&*all, self.tasks(p.batch));
        let results = self.cut(by_head, &tasks, self.width()).into_par_iter();
        let sums = self.cut(sums, &tasks, 1).into_par_iter();
        tasks.par_iter().zip(results).zip(sums).for_each(|((task, o), sums)| {
            let mut scores = SCORES.take();
            let [q, k, v] = [0, 1, 2].map(|part| self.rows(all, 3, part, *task));
            attention::forward(q, k, v, o, sums, &mut scores);
            SCORES.set(scores);
        });
        self.join(p.batch, by_head, 1, 0, context);
        self.output.forward(p, context, y);
        if let Some(dropout) = p.dropout {
            dropout.apply(self.site, y);
        }
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass: p, gradients, dy, dx, kept, scratch } = back;
        let (hidden, tokens) = (self.hidden, p.batch.tokens().len());
        let [x, all, context, sums] = kept.get([dy.len(), 3 * dy.len(), dy.len(), tokens * self.heads]);
        let (all, context, partial) = (&*all, &*context, &mut scratch.partial);
        if let Some(dropout) = p.dropout {
            dropout.apply(self.site, dy);
        }
        self.output.backward_parameters(p, gradients, dy, context, partial);
        let [d_context, dq, dk, dv, d_all] =
            scratch.buffers.get([dy.len(), dy.len(), dy.len(), dy.len(), 3 * dy.len()]);
        self.output.backward_input(p, Matrix::new(dy, hidden), d_context, Out::Set);
        let (d_context, tasks) = (&*d_context, self.tasks(p.batch));
        let sums = self.cut(sums, &tasks, 1).into_par_iter();
        let [d_q, d_k, d_v] =
            [&mut *dq, &mut *dk, &mut *dv].map(|d| self.cut(d, &tasks, self.width()).into_par_iter());
        tasks.par_iter().zip(sums).zip(d_q.zip(d_k).zip(d_v)).for_each(|((task, sums), ((dq, dk), dv))| {
            let mut scores = SCORES.take();
            let inputs = [0, 1, 2].map(|part| self.rows(all, 3, part, *task));
            let outputs = [context, d_context].map(|o| self.rows(o, 1, 0, *task));
            attention::backward(inputs, outputs, sums, [dq, dk, dv], &mut scores);
            SCORES.set(scores);
        });
        for (part, d) in [dq, dk, dv].into_iter().enumerate() {
            self.join(p.batch, d, 3, part, d_all);
        }
        let d_all = &*d_all;
        let shape = [3 * hidden, hidden, tokens];
        if let Some(d_weights) = gradients.of_joined(self.weights) {
            matmul_tn(p.products, shape, d_all, x, d_weights, Out::Add);
        }
        if let Some(d_biases) = gradients.of_joined(self.biases) {
            linear::backward_bias(d_all, d_biases, partial);
        }
        let weight = Tensor::join(self.weights).of(p.values);
        matmul_nn(p.products, [tokens, hidden, 3 * hidden], d_all, weight, dx, Out::Add);
        Ok(())
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        let hidden = self.hidden as f64;
        8.0 * hidden * hidden + 4.0 * hidden * seq_len as f64
    }

    fn kept_values(&self, sequences: usize, seq_len: usize) -> usize {
        sequences * seq_len * (6 * self.hidden + self.heads)
    }

    fn scratch_values(&self, sequences: usize, seq_len: usize) -> usize {
        7 * sequences * seq_len * self.hidden
    }
}
