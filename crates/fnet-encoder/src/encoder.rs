//! Embeddings and encoder layers, as in Transformers' `FNetEmbeddings` and `FNetLayer`.

use crate::config::ModelConfig;
use crate::gemm::Out;
use crate::mixers::Mixer;
use crate::ops::dropout::Dropout;
use crate::ops::{self, embedding, gelu, layer_norm, linear};
use crate::parameters::{Init, Parameters, Tensor, pair_mut};
use crate::workspace::{LayerActivations, Workspace, set_len};
use crate::{Batch, EncoderError};

/// A linear layer's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// A layer norm's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub gamma: Tensor,
    pub beta: Tensor,
    pub eps: f32,
}

/// Adds tensors by name, with one configuration and one seed.
pub(crate) struct Builder<'a> {
    pub parameters: &'a mut Parameters,
    pub config: &'a ModelConfig,
    pub seed: u64,
}

impl Builder<'_> {
    pub fn table(&mut self, name: &str, rows: usize, width: usize) -> Tensor {
        let init = Init::Normal(self.config.initializer_range);
        self.parameters.add(name, &[rows, width], init, self.seed)
    }

    pub fn zeros(&mut self, name: &str, len: usize) -> Tensor {
        self.parameters.add(name, &[len], Init::Zeros, self.seed)
    }

    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Linear {
        Linear {
            weight: self.table(&format!("{name}.weight"), outputs, inputs),
            bias: self.zeros(&format!("{name}.bias"), outputs),
        }
    }

    pub fn norm(&mut self, name: &str) -> Norm {
        let width = self.config.hidden_size;
        Norm {
            gamma: self.parameters.add(&format!("{name}.weight"), &[width], Init::Ones, self.seed),
            beta: self.zeros(&format!("{name}.bias"), width),
            eps: self.config.layer_norm_eps,
        }
    }
}

impl Linear {
    pub fn forward(self, values: &[f32], x: &[f32], y: &mut [f32]) {
        linear::forward(x, self.weight.of(values), self.bias.of(values), y);
    }

    pub fn backward_input(self, values: &[f32], dy: &[f32], dx: &mut [f32], out: Out) {
        linear::backward_input(dy, self.weight.of(values), self.bias.of(values).len(), dx, out);
    }

    pub fn backward_parameters(self, gradients: &mut [f32], dy: &[f32], x: &[f32]) {
        let (d_weight, d_bias) = pair_mut(gradients, self.weight, self.bias);
        linear::backward_parameters(dy, x, d_weight, d_bias);
    }
}

impl Norm {
    pub fn forward(self, values: &[f32], x: &[f32], y: &mut [f32], stats: &mut [layer_norm::Stats]) {
        layer_norm::forward(x, self.gamma.of(values), self.beta.of(values), self.eps, y, stats);
    }

    /// Adds the parameters' gradient, and fills `dx`.
    pub fn backward(
        self,
        values: &[f32],
        gradients: &mut [f32],
        dy: &[f32],
        x: &[f32],
        stats: &[layer_norm::Stats],
        dx: &mut [f32],
    ) {
        let (d_gamma, d_beta) = pair_mut(gradients, self.gamma, self.beta);
        layer_norm::backward_parameters(dy, x, stats, d_gamma, d_beta);
        layer_norm::backward_input(dy, x, stats, self.gamma.of(values), dx);
    }
}

/// Word, position and segment embeddings, layer norm, projection, dropout.
pub(crate) struct Embeddings {
    pub words: Tensor,
    positions: Tensor,
    segments: Tensor,
    norm: Norm,
    projection: Linear,
    width: usize,
    pad: Option<u32>,
}

/// Dropout sites: the embeddings are 0, layer `i` is `i + 1`, the classifier is this.
pub(crate) const CLASSIFIER_SITE: u32 = u32::MAX;

impl Embeddings {
    pub fn new(b: &mut Builder) -> Self {
        let (c, name) = (b.config, "fnet.embeddings");
        let width = c.hidden_size;
        let words = b.table(&format!("{name}.word_embeddings.weight"), c.vocab_size, width);
        let pad = c.pad_token_id.filter(|pad| (*pad as usize) < c.vocab_size);
        if let Some(pad) = pad {
            let start = pad as usize * width;
            words.of_mut(b.parameters.values_mut())[start..start + width].fill(0.0);
        }
        let positions = c.max_position_embeddings;
        Self {
            words,
            positions: b.table(&format!("{name}.position_embeddings.weight"), positions, width),
            segments: b.table(&format!("{name}.token_type_embeddings.weight"), c.type_vocab_size, width),
            norm: b.norm(&format!("{name}.LayerNorm")),
            projection: b.linear(&format!("{name}.projection"), width, width),
            width,
            pad,
        }
    }

    pub fn forward(&self, values: &[f32], batch: &Batch, dropout: Option<Dropout>, w: &mut Workspace) {
        let tokens = batch.tokens().len();
        w.embedded.set_len(tokens, self.width);
        set_len(&mut w.hidden, tokens * self.width);
        let tables = embedding::Tables {
            words: self.words.of(values),
            positions: self.positions.of(values),
            segments: self.segments.of(values),
        };
        embedding::forward(batch, tables, self.width, &mut w.embedded.input);
        let e = &mut w.embedded;
        self.norm.forward(values, &e.input, &mut e.output, &mut e.stats);
        self.projection.forward(values, &e.output, &mut w.hidden);
        if let Some(dropout) = dropout {
            dropout.apply(0, &mut w.hidden);
        }
    }

    /// From `w.d_hidden`, which it uses up.
    pub fn backward(
        &self,
        values: &[f32],
        gradients: &mut [f32],
        batch: &Batch,
        dropout: Option<Dropout>,
        w: &mut Workspace,
    ) {
        if let Some(dropout) = dropout {
            dropout.apply(0, &mut w.d_hidden);
        }
        set_len(&mut w.row_scratch, w.d_hidden.len());
        let e = &w.embedded;
        self.projection.backward_parameters(gradients, &w.d_hidden, &e.output);
        self.projection.backward_input(values, &w.d_hidden, &mut w.row_scratch, Out::Set);
        self.norm.backward(values, gradients, &w.row_scratch, &e.input, &e.stats, &mut w.d_hidden);
        for (table, index, skip) in [
            (self.words, batch.tokens(), self.pad),
            (self.positions, batch.positions(), None),
            (self.segments, batch.segments(), None),
        ] {
            embedding::backward(index, &w.d_hidden, self.width, skip, table.of_mut(gradients));
        }
    }
}

/// One encoder layer: `a = norm(x + mix(x))`, `y = norm(a + dropout(feed_forward(a)))`.
pub(crate) struct Layer {
    mixer: Box<dyn Mixer>,
    mixing_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
    hidden: usize,
    wide: usize,
    site: u32,
}

impl Layer {
    pub fn new(b: &mut Builder, index: usize) -> Self {
        let c = b.config;
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let name = format!("fnet.encoder.layer.{index}");
        Self {
            mixer: c.layer_mixers()[index].build(hidden),
            mixing_norm: b.norm(&format!("{name}.fourier.output.LayerNorm")),
            intermediate: b.linear(&format!("{name}.intermediate.dense"), hidden, wide),
            output: b.linear(&format!("{name}.output.dense"), wide, hidden),
            output_norm: b.norm(&format!("{name}.output.LayerNorm")),
            hidden,
            wide,
            site: index as u32 + 1,
        }
    }

    /// Replaces `w.hidden`, and leaves in `w.layers[slot]` what the backward pass needs.
    pub fn forward(
        &self,
        values: &[f32],
        batch: &Batch,
        dropout: Option<Dropout>,
        w: &mut Workspace,
        slot: usize,
    ) -> Result<(), EncoderError> {
        let tokens = batch.tokens().len();
        if w.layers.len() <= slot {
            w.layers.resize_with(slot + 1, LayerActivations::default);
        }
        let kept = &mut w.layers[slot];
        kept.mixed.set_len(tokens, self.hidden);
        set_len(&mut kept.wide, tokens * self.wide);
        set_len(&mut kept.sum, tokens * self.hidden);
        set_len(&mut kept.sum_stats, tokens);
        set_len(&mut w.wide_scratch, tokens * self.wide);

        let mixed = &mut kept.mixed;
        mixed.input.copy_from_slice(&w.hidden);
        self.mixer.forward_add(batch, &w.hidden, &mut mixed.input)?;
        self.mixing_norm.forward(values, &mixed.input, &mut mixed.output, &mut mixed.stats);

        self.intermediate.forward(values, &mixed.output, &mut kept.wide);
        gelu::forward(&kept.wide, &mut w.wide_scratch);
        self.output.forward(values, &w.wide_scratch, &mut kept.sum);
        if let Some(dropout) = dropout {
            dropout.apply(self.site, &mut kept.sum);
        }
        ops::add(&mut kept.sum, &mixed.output);
        self.output_norm.forward(values, &kept.sum, &mut w.hidden, &mut kept.sum_stats);
        Ok(())
    }

    /// Replaces `w.d_hidden`, the gradient of the output, by that of the input.
    pub fn backward(
        &self,
        values: &[f32],
        gradients: &mut [f32],
        batch: &Batch,
        dropout: Option<Dropout>,
        w: &mut Workspace,
        slot: usize,
    ) -> Result<(), EncoderError> {
        let kept = &w.layers[slot];
        set_len(&mut w.row_scratch, w.d_hidden.len());
        set_len(&mut w.d_wide, kept.wide.len());
        let (d, d_sum) = (&mut w.d_hidden, &mut w.row_scratch);
        self.output_norm.backward(values, gradients, d, &kept.sum, &kept.sum_stats, d_sum);

        // d becomes the gradient of the feed-forward output, d_sum collects that of `mixed.output`.
        d.copy_from_slice(d_sum);
        if let Some(dropout) = dropout {
            dropout.apply(self.site, d);
        }
        self.output.backward_input(values, d, &mut w.d_wide, Out::Set);
        gelu::backward(&kept.wide, &mut w.d_wide, &mut w.wide_scratch);
        self.output.backward_parameters(gradients, d, &w.wide_scratch);
        self.intermediate.backward_parameters(gradients, &w.d_wide, &kept.mixed.output);
        self.intermediate.backward_input(values, &w.d_wide, d_sum, Out::Add);

        let mixed = &kept.mixed;
        self.mixing_norm.backward(values, gradients, d_sum, &mixed.input, &mixed.stats, d);
        d_sum.copy_from_slice(d);
        self.mixer.backward_add(batch, d_sum, d)
    }
}
