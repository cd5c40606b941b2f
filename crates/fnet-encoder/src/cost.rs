//! The cost of a model: work per token, and memory of a training step.

use crate::heads::LOGIT_ROWS;
use crate::ops::SUM_ROWS;
use crate::{Head, Model};

impl Model {
    /// Floating-point operations per token of a forward pass through the encoder, with every layer run for every
    /// token: two per matrix weight, plus each mixer's own.
    pub fn flops_per_token(&self, seq_len: usize) -> f64 {
        let c = self.config();
        let [hidden, wide] = [c.hidden_size, c.intermediate_size].map(|n| n as f64);
        let projection = if c.has_projection() { hidden * hidden } else { 0.0 };
        let layers = self.mixers().map(|mixer| 4.0 * hidden * wide + mixer.flops_per_token(seq_len));
        2.0 * projection + layers.sum::<f64>()
    }

    /// Bytes of all weights, plus gradients and AdamW's two moments of the trained ones.
    pub fn parameter_bytes(&self) -> usize {
        size_of::<f32>() * (self.parameters().len() + 3 * self.parameters().trainable_len())
    }

    /// Bytes of mixing plans, at most, for sequences up to the model's length.
    pub fn plan_bytes(&self) -> usize {
        let longest = self.config().max_position_embeddings;
        self.mixers().map(|mixer| mixer.plan_bytes(longest)).max().unwrap_or(0)
    }

    /// Bytes of activations and temporary values in training steps of `tokens` tokens in `sequences`, of which
    /// `masked` are predicted: the size that a [`Workspace`](crate::Workspace) grows to.
    pub fn workspace_bytes(&self, tokens: usize, sequences: usize, masked: usize) -> usize {
        let c = self.config();
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let kept_wide = if self.recompute() { 0 } else { wide };
        let full_layers = c.num_hidden_layers - 1;
        // A layer norm keeps two statistics per row.
        let layer = 2 * (hidden + 2) + kept_wide;
        let again = if self.recompute() { wide } else { 0 };
        // Embeddings, hidden, its gradient and its sum's, a norm's output, the last mixing.
        let passing = (hidden + 2) + 5 * hidden;
        let reads_texts = self.head().reads_texts() || self.head() == Head::Sentence;
        let read = if reads_texts { self.rows_read(tokens, sequences) } else { 0 };
        let each = if matches!(self.head(), Head::Tokens { .. }) { tokens } else { 0 };
        let rows = masked + read + each;
        let wide_rows = if full_layers > 0 { tokens } else { rows };
        let (mut heads, mut logit_sums) = (0, 0);
        if masked > 0 {
            let block = LOGIT_ROWS.min(masked);
            heads += masked * (5 * hidden + 4) + block * (c.vocab_size + 2);
            logit_sums = block.div_ceil(SUM_ROWS) * c.vocab_size;
        }
        if reads_texts {
            // Read, its gradient, the query's, then the pooler's output and what the output layer sees, with gradients.
            let standard = if c.classifier_standardized { self.pooled_width() } else { 0 };
            let seen = if c.classifier_linear { self.pooled_width() } else { hidden };
            heads += sequences * (2 * self.pooled_width() + standard + hidden + 4 * seen);
            heads += sequences * (self.head().outputs() + 4) + read;
        }
        heads += each * (hidden + self.head().outputs() + 1);
        heads += if c.input_width.is_some() { tokens * hidden } else { 0 };
        let sums = (tokens.div_ceil(SUM_ROWS) * (3 * hidden).max(wide)).max(logit_sums);
        let seq_len = tokens.div_ceil(sequences.max(1));
        let kept = self.mixers().map(|mixer| mixer.kept_values(sequences, seq_len)).sum::<usize>();
        let scratch = self.mixers().map(|mixer| mixer.scratch_values(sequences, seq_len)).max();
        let values = kept
            + scratch.unwrap_or(0)
            + tokens * (full_layers * layer + passing)
            + wide_rows * (wide + again)
            + rows * (layer + 2 * hidden)
            + sums
            + heads
            + rows;
        size_of::<f32>() * values
    }
}
