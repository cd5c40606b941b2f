use rayon::prelude::*;

use super::{Mixer, MixerBackward, sequences};
use crate::EncoderError;
use crate::gemm::{Matrix, Out, Stored, multiply};
use crate::modules::{Builder, Linear, Pass};
use crate::ops;
use crate::ops::activation::{self, Activation};
use crate::parameters::Init;
use crate::workspace::Buffers;

/// `y = W2 gelu(W1 x + b1) + b2` along the sequence, the same for every hidden unit: MLP-Mixer's token
/// mixing (Tolstikhin et al. 2021, equation 1), half as wide inside as the hidden size.
///
/// `W1` is `[width, longest]`, `W2` `[longest, width]`; a sequence of n tokens uses `W1`'s first n columns
/// and `W2`'s first n rows.
pub struct Mlp {
    into: Linear,
    out_of: Linear,
    inside: usize,
    hidden: usize,
    longest: usize,
    no_bias: Vec<f32>,
}

impl Mlp {
    pub(crate) fn new(b: &mut Builder, layer: usize) -> Self {
        let (hidden, longest) = (b.config.hidden_size, b.config.max_position_embeddings);
        let inside = hidden.div_ceil(2);
        let name = format!("{}.mixing", b.config.layer_name(layer));
        let mut linear = |which: &str, inputs: usize, outputs: usize| Linear {
            weight: b.tensor(
                &format!("{name}.{which}.weight"),
                &[outputs, inputs],
                Init::Normal(1.0 / (inputs as f32).sqrt()),
            ),
            bias: b.zeros(&format!("{name}.{which}.bias"), outputs),
        };
        let (into, out_of) = (linear("in", longest, inside), linear("out", inside, longest));
        Self { into, out_of, inside, hidden, longest, no_bias: vec![0.0; hidden] }
    }

    /// `[inside, hidden]` of sequence `i`.
    fn inner(&self, i: usize) -> std::ops::Range<usize> {
        let size = self.inside * self.hidden;
        i * size..(i + 1) * size
    }

    fn inner_len(&self, sequences: usize) -> usize {
        sequences * self.inside * self.hidden
    }
}

/// Sets each row of `width` to its bias.
fn fill_rows(rows: &mut [f32], bias: &[f32], width: usize) {
    rows.chunks_exact_mut(width).zip(bias).for_each(|(row, bias)| row.fill(*bias));
}

/// `sums += sum of each row of `width``
fn add_row_sums(rows: &[f32], width: usize, sums: &mut [f32]) {
    rows.chunks_exact(width).zip(sums).for_each(|(row, sum)| *sum += crate::arch::sum_by(width, |i| row[i]));
}

impl Mixer for Mlp {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError> {
        let (width, size) = (self.hidden, self.inside * self.hidden);
        let [kept_x, inner, active] =
            kept.get([x.len(), self.inner_len(p.batch.len()), self.inner_len(p.batch.len())]);
        kept_x.copy_from_slice(x);
        let [w1, b1, w2, b2] = [self.into.weight, self.into.bias, self.out_of.weight, self.out_of.bias]
            .map(|tensor| tensor.of(p.values));
        (inner.par_chunks_mut(size), active.par_chunks_mut(size)).into_par_iter().enumerate().for_each(
            |(i, (inner, active))| {
                let range = p.batch.range(i);
                let (n, x) = (range.len(), &x[range.start * width..range.end * width]);
                fill_rows(inner, b1, width);
                let (w1, x) = (Matrix::new(w1, self.longest), Matrix::new(x, width));
                multiply(p.products, [self.inside, width, n], w1, x, inner, Out::Add);
                activation::forward(
                    Activation::GeluTanh.into(),
                    inner,
                    &self.no_bias,
                    Stored::Floats,
                    active,
                );
            },
        );
        let active = &*active;
        sequences::for_each(p.batch, width, y, |i, y| {
            fill_rows(y, b2, width);
            let active = Matrix::new(&active[self.inner(i)], width);
            let shape = [y.len() / width, width, self.inside];
            multiply(p.products, shape, Matrix::new(w2, self.inside), active, y, Out::Add);
        });
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass, gradients, dy, dx, kept, scratch } = back;
        let p = pass.without_int8();
        let (width, size, inside) = (self.hidden, self.inside * self.hidden, self.inside);
        let inner_len = self.inner_len(p.batch.len());
        let [x, inner, active] = kept.get([dy.len(), inner_len, inner_len]);
        let (x, active, dy, partial) = (&*x, &*active, &*dy, &mut scratch.partial);
        let [w1, w2] = [self.into.weight, self.out_of.weight].map(|tensor| tensor.of(p.values));
        let tokens = |i: usize| {
            let range = p.batch.range(i);
            range.start * width..range.end * width
        };
        if let Some(d_w2) = gradients.of(self.out_of.weight) {
            sequences::sum_over(p.batch, d_w2, partial, |i, sum| {
                let (dy, active) = (&dy[tokens(i)], &active[self.inner(i)]);
                let n = dy.len() / width;
                let active = Matrix::new(active, width).transposed();
                let (shape, dy) = ([n, inside, width], Matrix::new(dy, width));
                multiply(p.products, shape, dy, active, &mut sum[..n * inside], Out::Add);
            });
        }
        if let Some(d_b2) = gradients.of(self.out_of.bias) {
            (0..p.batch.len()).for_each(|i| add_row_sums(&dy[tokens(i)], width, d_b2));
        }
        let [d_inner] = scratch.buffers.get([inner_len]);
        (d_inner.par_chunks_mut(size), inner.par_chunks_mut(size)).into_par_iter().enumerate().for_each(
            |(i, (d_inner, inner))| {
                let dy = &dy[tokens(i)];
                let shape = [inside, width, dy.len() / width];
                let (w2, dy) = (Matrix::new(w2, inside).transposed(), Matrix::new(dy, width));
                multiply(p.products, shape, w2, dy, d_inner, Out::Set);
                activation::backward(
                    Activation::GeluTanh.into(),
                    inner,
                    &self.no_bias,
                    Stored::Floats,
                    d_inner,
                    None,
                    &mut Vec::new(),
                );
            },
        );
        let d_inner = &*d_inner;
        if let Some(d_w1) = gradients.of(self.into.weight) {
            sequences::sum_over(p.batch, d_w1, partial, |i, sum| {
                let (x, d_inner) = (&x[tokens(i)], &d_inner[self.inner(i)]);
                let n = x.len() / width;
                let mut product = vec![0.0; inside * n];
                let (d_inner, x) = (Matrix::new(d_inner, width), Matrix::new(x, width).transposed());
                multiply(p.products, [inside, n, width], d_inner, x, &mut product, Out::Set);
                for (sum, row) in sum.chunks_mut(self.longest).zip(product.chunks(n)) {
                    ops::add(sum, row);
                }
            });
        }
        if let Some(d_b1) = gradients.of(self.into.bias) {
            (0..p.batch.len()).for_each(|i| add_row_sums(&d_inner[self.inner(i)], width, d_b1));
        }
        sequences::for_each(p.batch, width, dx, |i, dx| {
            let shape = [dx.len() / width, width, inside];
            let w1 = Matrix::new(w1, self.longest).transposed();
            let d_inner = Matrix::new(&d_inner[self.inner(i)], width);
            multiply(p.products, shape, w1, d_inner, dx, Out::Add);
        });
        Ok(())
    }

    fn flops_per_token(&self, _: usize) -> f64 {
        4.0 * (self.inside * self.hidden) as f64
    }

    fn kept_values(&self, sequences: usize, seq_len: usize) -> usize {
        sequences * seq_len * self.hidden + 2 * self.inner_len(sequences)
    }

    fn scratch_values(&self, sequences: usize, _: usize) -> usize {
        self.inner_len(sequences)
    }
}
