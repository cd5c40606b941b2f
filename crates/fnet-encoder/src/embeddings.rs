use crate::ModelConfig;
use crate::dropout_sites;
use crate::gemm::{Matrix, Out};
use crate::modules::{Before, Builder, Linear, Norm, Pass};
use crate::ops::{embedding, layer_norm};
use crate::parameters::{Gradients, Tensor};
use crate::workspace::{Workspace, set_len};

/// Name of the projection of vectors.
pub(crate) const INPUT: &str = "input_projection";

/// Name of the word embeddings' tensor.
pub(crate) fn words_name(config: &ModelConfig) -> String {
    format!("{}.embeddings.word_embeddings.weight", config.prefix())
}

/// Word, position and segment embeddings, layer norm, dropout; in FNet a projection before dropout. Vectors are projected
/// where tokens have words.
pub(crate) struct Embeddings {
    pub words: Tensor,
    vectors: Option<Linear>,
    positions: Tensor,
    segments: Tensor,
    norm: Norm,
    projection: Option<Linear>,
    width: usize,
    pad: Option<u32>,
}

impl Embeddings {
    pub fn new(b: &mut Builder) -> Self {
        let (c, name) = (b.config, format!("{}.embeddings", b.config.prefix()));
        let width = c.hidden_size;
        let words = b.table(&words_name(c), c.vocab_size, width);
        let pad = c.pad_token_id.filter(|pad| (*pad as usize) < c.vocab_size);
        if let Some(pad) = pad {
            b.parameters.start_row_at_zero(words, pad as usize);
        }
        let positions = c.max_position_embeddings;
        let vectors = c.input_width.map(|inputs| b.linear(&format!("{name}.{INPUT}"), inputs, width));
        Self {
            words,
            vectors,
            positions: b.table(&format!("{name}.position_embeddings.weight"), positions, width),
            segments: b.table(&format!("{name}.token_type_embeddings.weight"), c.type_vocab_size, width),
            norm: b.norm(&format!("{name}.LayerNorm")),
            projection: c.has_projection().then(|| b.linear(&format!("{name}.projection"), width, width)),
            width,
            pad,
        }
    }

    pub fn forward(&self, p: Pass, w: &mut Workspace) {
        let tokens = p.batch.tokens().len();
        w.embedded.set_len(tokens, self.width);
        set_len(&mut w.hidden, tokens * self.width);
        set_len(&mut w.normed, tokens * self.width);
        if let Some(projection) = self.vectors {
            set_len(&mut w.projected, p.batch.vectors().len() / projection.inputs() * self.width);
            projection.forward(p, p.batch.vectors(), &mut w.projected);
        }
        let tables = embedding::Tables {
            words: self.words.of(p.values),
            vectors: &w.projected,
            positions: self.positions.of(p.values),
            segments: self.segments.of(p.values),
        };
        let e = &mut w.embedded;
        let scale = self.norm.scale(p.values);
        let y = if self.projection.is_some() { &mut w.normed } else { &mut w.hidden };
        embedding::forward(p.batch, tables, scale, &mut e.input, y, &mut e.stats);
        if let Some(projection) = self.projection {
            projection.forward(p, &w.normed, &mut w.hidden);
        }
        if let Some(dropout) = p.dropout {
            dropout.apply(dropout_sites::EMBEDDINGS, &mut w.hidden);
        }
    }

    /// From `w.d_hidden`, which it overwrites.
    pub fn backward(&self, p: Pass, gradients: &mut Gradients, w: &mut Workspace) {
        let (batch, partial) = (p.batch, &mut w.scratch.partial);
        if let Some(dropout) = p.dropout {
            dropout.apply(dropout_sites::EMBEDDINGS, &mut w.d_hidden);
        }
        set_len(&mut w.d_sum, w.d_hidden.len());
        let e = &w.embedded;
        if let Some(projection) = self.projection {
            set_len(&mut w.normed, w.d_hidden.len());
            layer_norm::forward_again(&e.input, &e.stats, self.norm.scale(p.values), &mut w.normed);
            projection.backward_parameters(p, gradients, &w.d_hidden, &w.normed, partial);
            projection.backward_input(
                p,
                Matrix::new(&w.d_hidden, projection.outputs()),
                &mut w.d_sum,
                Out::Set,
            );
            std::mem::swap(&mut w.d_sum, &mut w.d_hidden);
        }
        self.norm.backward(p, gradients, Before::default(), &mut w.d_hidden, e, &mut w.d_sum, partial);
        if let Some(projection) = self.vectors {
            w.projected.clear();
            for place in batch.vector_places() {
                w.projected.extend_from_slice(&w.d_sum[place * self.width..][..self.width]);
            }
            projection.backward_parameters(p, gradients, &w.projected, batch.vectors(), partial);
        }
        for (table, index, skip) in [
            (self.words, batch.tokens(), self.pad),
            (self.positions, batch.positions(), None),
            (self.segments, batch.segments(), None),
        ] {
            if let Some(d_table) = gradients.of(table) {
                embedding::backward(index, &w.d_sum, self.width, skip, d_table);
            }
        }
    }
}
