//! What a model costs: work a token, and memory of a training step.

use crate::heads::LOGIT_ROWS;
use crate::ops::SUM_ROWS;
use crate::{Model, ModelConfig};

impl ModelConfig {
    /// Floating-point operations a token of a forward pass through the encoder, all of them for every
    /// token: two for each weight of a matrix, and `1.25 N log2 N / seq_len` for mixing `N` values.
    pub fn flops_per_token(&self, seq_len: usize) -> f64 {
        let [hidden, wide, layers] =
            [self.hidden_size, self.intermediate_size, self.num_hidden_layers].map(|n| n as f64);
        let fourier = self.layer_mixers().iter().filter(|m| **m == crate::mixers::MixerKind::Fourier).count();
        let mixing = 1.25 * hidden * (seq_len as f64 * hidden).log2();
        2.0 * (hidden * hidden + layers * 2.0 * hidden * wide) + fourier as f64 * mixing
    }
}

impl Model {
    /// Bytes of weights, gradients and AdamW's two moments.
    pub fn parameter_bytes(&self) -> usize {
        4 * size_of::<f32>() * self.parameters().len()
    }

    /// Bytes of activations and passing values in training steps of `tokens` tokens in `sequences`, of
    /// which `masked` are predicted: what a [`Workspace`](crate::Workspace) grows to.
    pub fn workspace_bytes(&self, tokens: usize, sequences: usize, masked: usize) -> usize {
        let c = self.config();
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let kept_wide = if self.recompute() { 0 } else { wide };
        let full_layers = c.num_hidden_layers - 1;
        // A layer norm keeps two statistics a row.
        let layer = 2 * (hidden + 2) + kept_wide;
        let again = if self.recompute() { wide } else { 0 };
        // Embeddings, hidden, its gradient and its sum's, a norm's output, the last mixing.
        let passing = (hidden + 2) + 5 * hidden;
        let rows = masked + if self.head().outputs() > 0 { sequences } else { 0 };
        let wide_rows = if full_layers > 0 { tokens } else { rows };
        let (mut heads, mut logit_sums) = (0, 0);
        if masked > 0 {
            let block = LOGIT_ROWS.min(masked);
            heads += masked * (5 * hidden + 4) + block * (c.vocab_size + 2);
            logit_sums = block.div_ceil(SUM_ROWS) * c.vocab_size;
        }
        if self.head().outputs() > 0 {
            heads += sequences * (3 * hidden + self.head().outputs() + 2);
        }
        let sums = (tokens.div_ceil(SUM_ROWS) * (3 * hidden).max(wide)).max(logit_sums);
        let values = tokens * (full_layers * layer + passing)
            + wide_rows * (wide + again)
            + rows * (layer + 2 * hidden)
            + sums
            + heads
            + rows;
        size_of::<f32>() * values
    }
}
