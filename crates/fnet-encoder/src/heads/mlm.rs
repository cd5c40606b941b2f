//! The MLM head: predicts masked tokens.

use super::Back;
use crate::EncoderError;
use crate::activated::Activated;
use crate::gemm::{Matrix, Out, Stored};
use crate::loss::Loss;
use crate::modules::{Before, Builder, Linear, Norm, Pass};
use crate::ops::{layer_norm, linear, softmax_cross_entropy};
use crate::parameters::Tensor;
use crate::workspace::{HeadActivations, set_len};

/// Most masked tokens whose logits are held at once: with fewer, the vocabulary's matrix would be read more often.
pub(crate) const LOGIT_ROWS: usize = 512;

/// The MLM head's bias if its matrix is its own.
pub(crate) const UNTIED_BIAS: &str = "cls.predictions.decoder.bias";

/// Dense, activation, layer norm, then an output matrix over the vocabulary with a bias.
pub(crate) struct MlmHead {
    transform: Linear,
    activation: Activated,
    norm: Norm,
    bias: Tensor,
    /// The word embeddings, if they are tied.
    output: Tensor,
}

impl MlmHead {
    pub fn new(b: &mut Builder, words: Tensor) -> Result<Self, EncoderError> {
        let (c, hidden) = (b.config, b.config.hidden_size);
        // Transformers computes with the decoder's own bias, which is the other one where embeddings are tied.
        let bias = if c.tie_word_embeddings { "cls.predictions.bias" } else { UNTIED_BIAS };
        Ok(Self {
            bias: b.zeros(bias, c.vocab_size),
            transform: b.linear("cls.predictions.transform.dense", hidden, hidden),
            activation: Activated::new(b, "cls.predictions.transform.transform_act_fn")?,
            norm: b.norm("cls.predictions.transform.LayerNorm"),
            output: if c.tie_word_embeddings {
                words
            } else {
                b.table("cls.predictions.decoder.weight", c.vocab_size, hidden)
            },
        })
    }

    /// Fills `head.active` from `rows`.
    fn transform(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        let (len, hidden) = (rows.len(), self.transform.outputs());
        head.activated.set_len(len / hidden, hidden);
        set_len(&mut head.active, len);
        set_len(&mut head.dense, len);
        self.transform.forward_without_bias(p, Matrix::new(rows, hidden), &mut head.dense);
        let activated = &mut head.activated;
        self.activation.forward(p, &head.dense, self.transform.bias, Stored::Floats, &mut activated.input);
        let scale = self.norm.scale(p.values);
        layer_norm::forward(&activated.input, scale, &mut head.active, &mut activated.stats);
    }

    /// Logits `[rows, vocabulary]` of `rows`.
    pub fn logits<'w>(&self, p: Pass, rows: &[f32], head: &'w mut HeadActivations) -> &'w [f32] {
        self.transform(p, rows, head);
        let bias = self.bias.of(p.values);
        let HeadActivations { active, logits, .. } = head;
        set_len(logits, active.len() / self.transform.outputs() * bias.len());
        linear::forward(p.products, active, self.output.of(p.values), bias, logits);
        logits
    }

    /// Cross-entropy of `rows`. With `back`, also the gradient of `scale` times the summed loss.
    pub fn loss(
        &self,
        p: Pass,
        rows: &[f32],
        labels: &[u32],
        head: &mut HeadActivations,
        mut back: Option<Back>,
    ) -> Loss {
        let (bias, table) = (self.bias.of(p.values), self.output.of(p.values));
        let (vocab, hidden) = (bias.len(), table.len() / bias.len());
        let scale = back.as_ref().map_or(1.0, |back| back.scale);
        self.transform(p, rows, head);
        set_len(&mut head.d_active, head.active.len());
        let mut total = Loss::default();
        let blocks = labels.len().div_ceil(LOGIT_ROWS).max(1);
        let block_rows = labels.len().div_ceil(blocks).max(1);
        for (block, labels) in labels.chunks(block_rows).enumerate() {
            let (rows, first) = (labels.len(), block * block_rows * hidden);
            let active = &head.active[first..][..rows * hidden];
            set_len(&mut head.logits, rows * vocab);
            set_len(&mut head.losses, rows);
            let logits = &mut head.logits;
            let active = Matrix::new(active, hidden);
            linear::forward_without_bias(p.products, active, table, vocab, logits);
            softmax_cross_entropy::forward_backward(logits, bias, labels, scale, &mut head.losses);
            total.add_rows(&head.losses);
            if let Some(Back { gradients, partial, .. }) = &mut back {
                let d_active = &mut head.d_active[first..][..rows * hidden];
                let d_logits = Matrix::new(logits, vocab);
                linear::backward_input(p.products, d_logits, table, vocab, d_active, Out::Set);
                if let Some(d_output) = gradients.of(self.output) {
                    linear::backward_weight(p.products, d_logits, active, vocab, d_output);
                }
                if let Some(d_bias) = gradients.of(self.bias) {
                    linear::backward_bias(logits, d_bias, partial);
                }
            }
        }
        if let Some(back) = back {
            self.backward(p, rows, head, back);
        }
        total
    }

    fn backward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        set_len(&mut head.scratch, head.d_active.len());
        let d_dense = &mut head.scratch;
        let before = Before::default();
        self.norm.backward(p, gradients, before, &mut head.d_active, &head.activated, d_dense, partial);
        let bias = self.transform.bias;
        self.activation.backward(p, gradients, &mut head.dense, bias, Stored::Floats, d_dense, partial);
        let hidden = self.transform.outputs();
        let (d_dense, rows) = (Matrix::new(d_dense, hidden), Matrix::new(rows, hidden));
        self.transform.backward_weight(p, gradients, d_dense, rows);
        self.transform.backward_input(p, d_dense, d_rows, Out::Set);
    }
}
