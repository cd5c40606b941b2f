//! Embeddings and encoder layers, as in Transformers' `FNetEmbeddings` and `FNetLayer`.
//!
//! With a feed-forward width of 4 hidden sizes, a layer reads and writes 28 values a token and hidden
//! unit forward and 50 backward, 312 bytes, packing inside products not counted.

use crate::config::ModelConfig;
use crate::gemm::{Out, Products};
use crate::mixers::Mixer;
use crate::ops::dropout::Dropout;
use crate::ops::layer_norm::{Scale, Sum};
use crate::ops::{self, embedding, gelu, layer_norm, linear};
use crate::parameters::{Init, Parameters, Tensor, pair_mut};
use crate::workspace::{LayerActivations, Normed, Workspace, set_len};
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

/// What every layer of a pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub values: &'a [f32],
    pub products: Products,
    pub batch: &'a Batch,
    /// In a training step.
    pub dropout: Option<Dropout>,
    /// Whether the feed-forward layer is computed again in the backward pass instead of being kept.
    pub recompute: bool,
}

impl Pass<'_> {
    fn dropout_at(&self, site: u32) -> Option<(Dropout, u32)> {
        self.dropout.map(|dropout| (dropout, site))
    }
}

impl Linear {
    pub fn outputs(self) -> usize {
        self.bias.len()
    }

    pub fn forward(self, p: Pass, x: &[f32], y: &mut [f32]) {
        linear::forward(p.products, x, self.weight.of(p.values), self.bias.of(p.values), y);
    }

    pub fn forward_without_bias(self, p: Pass, x: &[f32], y: &mut [f32]) {
        linear::forward_without_bias(p.products, x, self.weight.of(p.values), self.outputs(), y);
    }

    pub fn backward_input(self, p: Pass, dy: &[f32], dx: &mut [f32], out: Out) {
        linear::backward_input(p.products, dy, self.weight.of(p.values), self.outputs(), dx, out);
    }

    pub fn backward_weight(self, p: Pass, gradients: &mut [f32], dy: &[f32], x: &[f32]) {
        linear::backward_weight(p.products, dy, x, self.outputs(), self.weight.of_mut(gradients));
    }

    pub fn backward_parameters(
        self,
        p: Pass,
        gradients: &mut [f32],
        dy: &[f32],
        x: &[f32],
        partial: &mut Vec<f32>,
    ) {
        self.backward_weight(p, gradients, dy, x);
        linear::backward_bias(dy, self.bias.of_mut(gradients), partial);
    }
}

impl Norm {
    pub fn scale(self, values: &[f32]) -> Scale<'_> {
        Scale { gamma: self.gamma.of(values), beta: self.beta.of(values), eps: self.eps }
    }

    /// Adds the parameters' gradient, fills `dx`, and leaves it in `dy` too, with `dropout` if any.
    /// `bias` is that of the linear layer before the norm's sum.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        self,
        p: Pass,
        gradients: &mut [f32],
        bias: Option<Tensor>,
        dropout: Option<(Dropout, u32)>,
        dy: &mut [f32],
        kept: &Normed,
        dx: &mut [f32],
        partial: &mut Vec<f32>,
    ) {
        let gamma = self.gamma.of(p.values);
        let (d_bias, (d_gamma, d_beta)) = match bias {
            Some(bias) => {
                let (before, after) = gradients.split_at_mut(self.gamma.start());
                (bias.of_mut(before), after.split_at_mut(gamma.len()))
            }
            None => (&mut [][..], pair_mut(gradients, self.gamma, self.beta)),
        };
        let d_beta = &mut d_beta[..gamma.len()];
        let sums = layer_norm::Gradients { gamma: d_gamma, beta: d_beta, bias: d_bias };
        layer_norm::backward(dy, &kept.input, &kept.stats, gamma, dropout, dx, sums, partial);
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

/// Dropout sites: layer `i` is `i + 1`.
const EMBEDDING_SITE: u32 = 0;
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

    pub fn forward(&self, p: Pass, w: &mut Workspace) {
        let tokens = p.batch.tokens().len();
        w.embedded.set_len(tokens, self.width);
        set_len(&mut w.hidden, tokens * self.width);
        set_len(&mut w.normed, tokens * self.width);
        let tables = embedding::Tables {
            words: self.words.of(p.values),
            positions: self.positions.of(p.values),
            segments: self.segments.of(p.values),
        };
        let e = &mut w.embedded;
        let scale = self.norm.scale(p.values);
        embedding::forward(p.batch, tables, scale, &mut e.input, &mut w.normed, &mut e.stats);
        self.projection.forward(p, &w.normed, &mut w.hidden);
        if let Some(dropout) = p.dropout {
            dropout.apply(EMBEDDING_SITE, &mut w.hidden);
        }
    }

    /// From `w.d_hidden`, which it uses up.
    pub fn backward(&self, p: Pass, gradients: &mut [f32], w: &mut Workspace) {
        let (batch, partial) = (p.batch, &mut w.partial);
        if let Some(dropout) = p.dropout {
            dropout.apply(EMBEDDING_SITE, &mut w.d_hidden);
        }
        set_len(&mut w.d_sum, w.d_hidden.len());
        set_len(&mut w.normed, w.d_hidden.len());
        let e = &w.embedded;
        layer_norm::forward_again(&e.input, &e.stats, self.norm.scale(p.values), &mut w.normed);
        self.projection.backward_parameters(p, gradients, &w.d_hidden, &w.normed, partial);
        self.projection.backward_input(p, &w.d_hidden, &mut w.d_sum, Out::Set);
        self.norm.backward(p, gradients, None, None, &mut w.d_sum, e, &mut w.d_hidden, partial);
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
    pub fn forward(&self, p: Pass, w: &mut Workspace, slot: usize) -> Result<(), EncoderError> {
        let kept = w.kept(slot);
        kept.mixed.set_len(p.batch.tokens().len(), self.hidden);
        let mut hidden = std::mem::take(&mut w.hidden);
        let mixed = self.mixer.forward(p.batch, &hidden, &mut w.layers[slot].mixed.input);
        self.feed_forward(p, &mut hidden, w, slot);
        w.hidden = hidden;
        mixed
    }

    /// Mixes `w.hidden` into `w.mixing`: all of the last layer that has to be done for every token.
    pub fn forward_mixing(&self, p: Pass, w: &mut Workspace) -> Result<(), EncoderError> {
        set_len(&mut w.mixing, w.hidden.len());
        self.mixer.forward(p.batch, &w.hidden, &mut w.mixing)
    }

    /// After `forward_mixing`, fills `w.rows` with the layer's output for the tokens at `places`.
    pub fn forward_rows(&self, p: Pass, w: &mut Workspace, slot: usize, places: &[u32]) {
        let mut rows = std::mem::take(&mut w.rows);
        gather(&w.hidden, places, self.hidden, &mut rows);
        let mut mixed = std::mem::take(&mut w.kept(slot).mixed);
        mixed.set_len(places.len(), self.hidden);
        gather(&w.mixing, places, self.hidden, &mut mixed.input);
        w.layers[slot].mixed = mixed;
        self.feed_forward(p, &mut rows, w, slot);
        w.rows = rows;
    }

    /// Everything after mixing, for any rows: `x`, the layer's input, becomes its output, and
    /// `mixed.input`, mix(x), becomes x + mix(x).
    fn feed_forward(&self, p: Pass, x: &mut [f32], w: &mut Workspace, slot: usize) {
        let rows = x.len() / self.hidden;
        let LayerActivations { mixed, wide, sum } = &mut w.layers[slot];
        // Before its activation the feed-forward layer is kept, or passes through `again`.
        let wide = if p.recompute { &mut w.again } else { wide };
        sum.set_len(rows, self.hidden);
        set_len(wide, rows * self.wide);
        set_len(&mut w.wide, rows * self.wide);
        set_len(&mut w.normed, rows * self.hidden);

        let mixing = Sum { bias: &[], dropout: None, residual: x };
        let scale = self.mixing_norm.scale(p.values);
        layer_norm::forward_sum(&mut mixed.input, mixing, scale, &mut w.normed, &mut mixed.stats);

        self.intermediate.forward_without_bias(p, &w.normed, wide);
        gelu::forward(wide, self.intermediate.bias.of(p.values), &mut w.wide);
        self.output.forward_without_bias(p, &w.wide, &mut sum.input);
        let feed_forward = Sum {
            bias: self.output.bias.of(p.values),
            dropout: p.dropout_at(self.site),
            residual: &w.normed,
        };
        let scale = self.output_norm.scale(p.values);
        layer_norm::forward_sum(&mut sum.input, feed_forward, scale, x, &mut sum.stats);
    }

    /// Replaces `w.d_hidden`, the gradient of the output, by that of the input.
    pub fn backward(
        &self,
        p: Pass,
        gradients: &mut [f32],
        w: &mut Workspace,
        slot: usize,
    ) -> Result<(), EncoderError> {
        let mut d = std::mem::take(&mut w.d_hidden);
        self.feed_forward_backward(p, gradients, &mut d, w, slot);
        w.d_hidden = d;
        self.mixer.backward_add(p.batch, &w.d_sum, &mut w.d_hidden)
    }

    /// Fills `w.d_hidden`, the gradient of the last layer's input, from `w.d_rows`, that of its output
    /// at `places`.
    pub fn backward_rows(
        &self,
        p: Pass,
        gradients: &mut [f32],
        w: &mut Workspace,
        slot: usize,
        places: &[u32],
    ) -> Result<(), EncoderError> {
        let mut d = std::mem::take(&mut w.d_rows);
        self.feed_forward_backward(p, gradients, &mut d, w, slot);
        set_len(&mut w.d_hidden, w.hidden.len());
        scatter(&d, places, self.hidden, &mut w.d_hidden);
        w.d_rows = d;
        w.d_sum.clone_from(&w.d_hidden);
        self.mixer.backward_add(p.batch, &w.d_sum, &mut w.d_hidden)
    }

    /// `d`, the gradient of the rows' output, becomes that of x + mix(x), and `w.d_sum` too.
    fn feed_forward_backward(
        &self,
        p: Pass,
        gradients: &mut [f32],
        d: &mut [f32],
        w: &mut Workspace,
        slot: usize,
    ) {
        let LayerActivations { mixed, wide, sum } = &mut w.layers[slot];
        let (d_sum, d_wide, partial) = (&mut w.d_sum, &mut w.wide, &mut w.partial);
        set_len(d_sum, d.len());
        set_len(d_wide, d.len() / self.hidden * self.wide);
        set_len(&mut w.normed, d.len());
        let (bias, dropout) = (Some(self.output.bias), p.dropout_at(self.site));
        self.output_norm.backward(p, gradients, bias, dropout, d, sum, d_sum, partial);

        // d is now the gradient of the feed-forward output, d_sum collects that of its input.
        let scale = self.mixing_norm.scale(p.values);
        layer_norm::forward_again(&mixed.input, &mixed.stats, scale, &mut w.normed);
        let wide = if p.recompute {
            set_len(&mut w.again, d_wide.len());
            self.intermediate.forward_without_bias(p, &w.normed, &mut w.again);
            &mut w.again
        } else {
            wide
        };
        self.output.backward_input(p, d, d_wide, Out::Set);
        let bias = self.intermediate.bias;
        gelu::backward(wide, bias.of(p.values), d_wide, bias.of_mut(gradients), partial);
        self.output.backward_weight(p, gradients, d, wide);
        self.intermediate.backward_weight(p, gradients, d_wide, &w.normed);
        self.intermediate.backward_input(p, d_wide, d_sum, Out::Add);
        self.mixing_norm.backward(p, gradients, None, None, d_sum, mixed, d, partial);
    }
}

/// Copies the rows at `places`.
fn gather(from: &[f32], places: &[u32], width: usize, to: &mut Vec<f32>) {
    to.clear();
    for place in places {
        to.extend_from_slice(&from[*place as usize * width..][..width]);
    }
}

/// Adds rows up at `places`; zero elsewhere.
fn scatter(rows: &[f32], places: &[u32], width: usize, to: &mut [f32]) {
    to.fill(0.0);
    for (row, place) in rows.chunks_exact(width).zip(places) {
        ops::add(&mut to[*place as usize * width..][..width], row);
    }
}
