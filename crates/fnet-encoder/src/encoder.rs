//! One encoder layer: mixing, then feed-forward, each with its residual and norm.

use std::ops::Range;
use std::sync::Arc;

use crate::EncoderError;
use crate::activated::Activated;
use crate::dropout_sites;
use crate::gemm::{Matrix, Out};
use crate::mixers::{Mixer, MixerBackward, MixerKind};
use crate::modules::{Before, Builder, Linear, Norm, Pass};
use crate::ops;
use crate::ops::layer_norm::{self, Sum};
use crate::parameters::{Gradients, Values};
use crate::workspace::{LayerActivations, Normed, Workspace, set_len};

/// `a = norm(x + mix(x))`, `y = norm(a + dropout(feed_forward(a)))`.
pub(crate) struct Layer {
    pub mixer: Arc<dyn Mixer>,
    mixing_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
    activation: Activated,
    hidden: usize,
    wide: usize,
    site: u32,
    /// Its tensors in the parameters' table.
    pub tensors: Range<usize>,
}

impl Layer {
    /// Layer `index` with a mixer from `make`.
    pub fn new(
        b: &mut Builder,
        index: usize,
        make: impl FnOnce(&mut Builder, usize) -> Result<Arc<dyn Mixer>, EncoderError>,
    ) -> Result<Self, EncoderError> {
        let c = b.config;
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let first = b.parameters.table().len();
        let mixer = make(b, index)?;
        let name = c.layer_name(index);
        let mixing = if c.layer_mixers()[index] == MixerKind::Attention { "attention" } else { "fourier" };
        let mut layer = Self {
            mixer,
            mixing_norm: b.norm(&format!("{name}.{mixing}.output.LayerNorm")),
            intermediate: b.linear(&format!("{name}.intermediate.dense"), hidden, wide),
            activation: Activated::new(b, &format!("{name}.intermediate.intermediate_act_fn"))?,
            output: b.linear(&format!("{name}.output.dense"), wide, hidden),
            output_norm: b.norm(&format!("{name}.output.LayerNorm")),
            hidden,
            wide,
            site: dropout_sites::feed_forward(index),
            tensors: 0..0,
        };
        layer.tensors = first..b.parameters.table().len();
        Ok(layer)
    }

    /// All rows, with this layer's norms.
    fn whole<'a>(&'a self, p: Pass<'a>, rows: usize) -> [Part<'a>; 1] {
        [Part { rows, layer: self, values: p.values }]
    }

    /// Replaces `w.hidden`, and leaves in `w.layers[slot]` what the backward pass needs.
    pub fn forward(&self, p: Pass, w: &mut Workspace, slot: usize) -> Result<(), EncoderError> {
        self.forward_parts(p, w, slot, &self.whole(p, p.batch.tokens().len()))
    }

    /// As [`forward`](Self::forward), with norms of several models.
    pub fn forward_parts(
        &self,
        p: Pass,
        w: &mut Workspace,
        slot: usize,
        parts: &[Part],
    ) -> Result<(), EncoderError> {
        let mut hidden = std::mem::take(&mut w.hidden);
        let LayerActivations { mixed, mixer, .. } = w.kept(slot);
        mixed.set_len(p.batch.tokens().len(), self.hidden);
        let done = self.mixer.forward(p, &hidden, &mut mixed.input, mixer);
        if done.is_ok() {
            self.feed_forward(p, &mut hidden, w, slot, parts);
        }
        w.hidden = hidden;
        done
    }

    /// Mixes `w.hidden` into `w.mixing`: the only part of the last layer that must run for every token.
    pub fn forward_mixing(&self, p: Pass, w: &mut Workspace, slot: usize) -> Result<(), EncoderError> {
        set_len(&mut w.mixing, w.hidden.len());
        w.kept(slot);
        self.mixer.forward(p, &w.hidden, &mut w.mixing, &mut w.layers[slot].mixer)
    }

    /// After `forward_mixing`, fills `w.rows` with the layer's output for the tokens at `places`.
    pub fn forward_rows(&self, p: Pass, w: &mut Workspace, slot: usize, places: &[u32]) {
        self.forward_rows_parts(p, w, slot, places, &self.whole(p, places.len()));
    }

    /// As [`forward_rows`](Self::forward_rows), with norms of several models.
    pub fn forward_rows_parts(
        &self,
        p: Pass,
        w: &mut Workspace,
        slot: usize,
        places: &[u32],
        parts: &[Part],
    ) {
        let mut rows = std::mem::take(&mut w.rows);
        gather(&w.hidden, places, self.hidden, &mut rows);
        let mut mixed = std::mem::take(&mut w.kept(slot).mixed);
        mixed.set_len(places.len(), self.hidden);
        gather(&w.mixing, places, self.hidden, &mut mixed.input);
        w.layers[slot].mixed = mixed;
        self.feed_forward(p, &mut rows, w, slot, parts);
        w.rows = rows;
    }

    /// Everything after mixing, for any rows: `x`, the layer's input, becomes its output, and
    /// `mixed.input`, mix(x), becomes x + mix(x).
    fn feed_forward(&self, p: Pass, x: &mut [f32], w: &mut Workspace, slot: usize, parts: &[Part]) {
        let rows = x.len() / self.hidden;
        let LayerActivations { mixed, wide, sum, .. } = &mut w.layers[slot];
        // Before its activation, the feed-forward layer is kept or goes through `again`.
        let wide = if p.recompute { &mut w.again } else { wide };
        sum.set_len(rows, self.hidden);
        set_len(wide, rows * self.wide);
        set_len(&mut w.wide, rows * self.wide);
        set_len(&mut w.normed, rows * self.hidden);

        let mixing = Sum { bias: &[], dropout: None, residual: x };
        norm(parts, |layer| layer.mixing_norm, mixing, mixed, &mut w.normed);

        // After its activation, only products read the feed-forward layer.
        let stored = p.products.stored();
        self.intermediate.forward_without_bias(p, Matrix::new(&w.normed, self.hidden), wide);
        self.activation.forward(p, wide, self.intermediate.bias, stored, &mut w.wide);
        self.output.forward_without_bias(p, Matrix::stored(stored, &w.wide, self.wide), &mut sum.input);
        let feed_forward = Sum {
            bias: self.output.bias.of(p.values),
            dropout: p.dropout_at(self.site),
            residual: &w.normed,
        };
        norm(parts, |layer| layer.output_norm, feed_forward, sum, x);
    }

    /// Replaces `w.d_hidden`, the gradient of the output, by that of the input.
    pub fn backward(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        w: &mut Workspace,
        slot: usize,
    ) -> Result<(), EncoderError> {
        let mut d = std::mem::take(&mut w.d_hidden);
        self.feed_forward_backward(p, gradients, &mut d, w, slot);
        w.d_hidden = d;
        self.mixing_backward(p, gradients, w, slot)
    }

    /// Fills `w.d_hidden`, the gradient of the last layer's input, from `w.d_rows`, that of its output
    /// at `places`.
    pub fn backward_rows(
        &self,
        p: Pass,
        gradients: &mut Gradients,
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
        self.mixing_backward(p, gradients, w, slot)
    }

    /// Adds the gradient through mixing, from `w.d_sum`, to that through the residual, `w.d_hidden`.
    fn mixing_backward(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        w: &mut Workspace,
        slot: usize,
    ) -> Result<(), EncoderError> {
        let Workspace { d_sum, d_hidden, layers, scratch, .. } = w;
        self.mixer.backward_add(MixerBackward {
            pass: p,
            gradients,
            dy: d_sum,
            dx: d_hidden,
            kept: &mut layers[slot].mixer,
            scratch,
        })
    }

    /// Turns `d`, the gradient of the rows' output, into that of x + mix(x), and fills `w.d_sum` with it too.
    fn feed_forward_backward(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        d: &mut [f32],
        w: &mut Workspace,
        slot: usize,
    ) {
        let LayerActivations { mixed, wide, sum, .. } = &mut w.layers[slot];
        let (d_sum, d_wide, partial) = (&mut w.d_sum, &mut w.wide, &mut w.scratch.partial);
        set_len(d_sum, d.len());
        set_len(d_wide, d.len() / self.hidden * self.wide);
        set_len(&mut w.normed, d.len());
        let before = Before { bias: Some(self.output.bias), dropout: p.dropout_at(self.site) };
        self.output_norm.backward(p, gradients, before, d, sum, d_sum, partial);

        // d is now the gradient of the feed-forward output, d_sum collects that of its input.
        let scale = self.mixing_norm.scale(p.values);
        layer_norm::forward_again(&mixed.input, &mixed.stats, scale, &mut w.normed);
        let normed = Matrix::new(&w.normed, self.hidden);
        let wide = if p.recompute {
            set_len(&mut w.again, d_wide.len());
            self.intermediate.forward_without_bias(p, normed, &mut w.again);
            &mut w.again
        } else {
            wide
        };
        let dy = Matrix::new(d, self.hidden);
        let stored = p.products.stored();
        self.output.backward_input(p, dy, d_wide, Out::Set);
        self.activation.backward(p, gradients, wide, self.intermediate.bias, stored, d_wide, partial);
        let (activated, d_wide) =
            (Matrix::stored(stored, wide, self.wide), Matrix::stored(stored, d_wide, self.wide));
        self.output.backward_weight(p, gradients, dy, activated);
        self.intermediate.backward_weight(p, gradients, d_wide, normed);
        self.intermediate.backward_input(p, d_wide, d_sum, Out::Add);
        self.mixing_norm.backward(p, gradients, Before::default(), d_sum, mixed, d, partial);
    }
}

/// The rows that one model's norms are applied to: all of them, or those of an adapter.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub rows: usize,
    pub layer: &'a Layer,
    pub values: Values<'a>,
}

/// Normalises each part's rows of `kept.input` plus the sum's other parts, by its model's norm, into `y`.
fn norm(parts: &[Part], of: impl Fn(&Layer) -> Norm, mut sum: Sum, kept: &mut Normed, y: &mut [f32]) {
    let (mut input, mut stats, mut y) = (kept.input.as_mut_slice(), kept.stats.as_mut_slice(), y);
    for part in parts {
        let values = part.rows * part.layer.hidden;
        let (own_input, own_y, own_stats);
        (own_input, input) = std::mem::take(&mut input).split_at_mut(values);
        (own_y, y) = std::mem::take(&mut y).split_at_mut(values);
        (own_stats, stats) = std::mem::take(&mut stats).split_at_mut(part.rows);
        let (residual, rest) = sum.residual.split_at(values);
        let own = Sum { residual, ..sum };
        sum.residual = rest;
        layer_norm::forward_sum(own_input, own, of(part.layer).scale(part.values), own_y, own_stats);
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
