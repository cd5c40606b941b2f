use super::{Mixer, MixerBackward, sequences};
use crate::gemm::{Matrix, Out, matmul_nn, matmul_nt, matmul_tn, multiply};
use crate::modules::{Builder, Pass};
use crate::parameters::{Init, Tensor, Values};
use crate::workspace::Buffers;
use crate::{EncoderError, ops};

/// `y = S x Hᵀ`: a matrix over the sequence and one over the hidden axis, trained or, as `random`, never
/// (the linear and random encoders of Lee-Thorp et al. 2021, section 3.3).
///
/// `S` is `[longest, longest]`; a sequence of n tokens uses its first n rows and columns, so late positions are
/// trained only by long sequences. Both start normal with a variance of one over their width, so that mixing
/// preserves the scale of values.
pub struct LinearMixing {
    over_sequence: Tensor,
    over_hidden: Tensor,
    hidden: usize,
    longest: usize,
}

impl LinearMixing {
    pub(crate) fn new(b: &mut Builder, layer: usize, trained: bool) -> Self {
        let (hidden, longest) = (b.config.hidden_size, b.config.max_position_embeddings);
        let name = format!("{}.mixing", b.config.layer_name(layer));
        let mut matrix = |axis: &str, size: usize| {
            let deviation = 1.0 / (size as f32).sqrt();
            b.tensor(&format!("{name}.{axis}.weight"), &[size, size], Init::Normal(deviation))
        };
        let (over_sequence, over_hidden) = (matrix("sequence", longest), matrix("hidden", hidden));
        if !trained {
            b.parameters.freeze(&format!("{name}.*"));
        }
        Self { over_sequence, over_hidden, hidden, longest }
    }

    fn leading<'a>(&self, values: Values<'a>) -> Matrix<'a> {
        Matrix::new(self.over_sequence.of(values), self.longest)
    }
}

impl Mixer for LinearMixing {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError> {
        let (width, tokens) = (self.hidden, p.batch.tokens().len());
        let [kept_x, inner] = kept.get([x.len(), x.len()]);
        kept_x.copy_from_slice(x);
        matmul_nt(p.products, [tokens, width, width], x, self.over_hidden.of(p.values), inner, Out::Set);
        let inner = &*inner;
        sequences::for_each(p.batch, width, y, |i, y| {
            let range = p.batch.range(i);
            let (n, inner) = (range.len(), &inner[range.start * width..range.end * width]);
            let shape = [n, width, n];
            multiply(p.products, shape, self.leading(p.values), Matrix::new(inner, width), y, Out::Set);
        });
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass, gradients, dy, dx, kept, scratch } = back;
        let p = pass.without_int8();
        let (width, tokens, longest) = (self.hidden, p.batch.tokens().len(), self.longest);
        let [x, inner] = kept.get([dy.len(), dy.len()]);
        let (inner, dy) = (&*inner, &*dy);
        if let Some(d_sequence) = gradients.of(self.over_sequence) {
            sequences::sum_over(p.batch, d_sequence, &mut scratch.partial, |i, sum| {
                let range = p.batch.range(i);
                let (n, of) = (range.len(), range.start * width..range.end * width);
                let (dy, inner) = (Matrix::new(&dy[of.clone()], width), Matrix::new(&inner[of], width));
                let mut product = vec![0.0; n * n];
                multiply(p.products, [n, n, width], dy, inner.transposed(), &mut product, Out::Set);
                for (sum, row) in sum.chunks_mut(longest).zip(product.chunks(n)) {
                    ops::add(sum, row);
                }
            });
        }
        let [d_inner] = scratch.buffers.get([dy.len()]);
        sequences::for_each(p.batch, width, d_inner, |i, d_inner| {
            let range = p.batch.range(i);
            let (n, dy) = (range.len(), &dy[range.start * width..range.end * width]);
            let transposed = self.leading(p.values).transposed();
            multiply(p.products, [n, width, n], transposed, Matrix::new(dy, width), d_inner, Out::Set);
        });
        if let Some(d_hidden) = gradients.of(self.over_hidden) {
            matmul_tn(p.products, [width, width, tokens], d_inner, x, d_hidden, Out::Add);
        }
        let weight = self.over_hidden.of(p.values);
        matmul_nn(p.products, [tokens, width, width], d_inner, weight, dx, Out::Add);
        Ok(())
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        2.0 * self.hidden as f64 * (self.hidden + seq_len) as f64
    }

    fn kept_values(&self, sequences: usize, seq_len: usize) -> usize {
        2 * sequences * seq_len * self.hidden
    }

    fn scratch_values(&self, sequences: usize, seq_len: usize) -> usize {
        sequences * seq_len * self.hidden
    }
}
