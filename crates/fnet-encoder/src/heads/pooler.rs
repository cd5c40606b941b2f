//! A dense layer on what is pooled from each text.

use super::Back;
use crate::gemm::{Matrix, Out};
use crate::modules::{Builder, Linear, Pass};
use crate::ops::tanh;
use crate::parameters::Tensor;
use crate::pooling::Pairs;
use crate::readout::Readout;
use crate::workspace::{HeadActivations, set_len};

/// `tanh(W x + b)` of a text's pooled vectors. In towers, a square matrix without tanh: its outputs are compared,
/// and may start out whitened.
pub(crate) struct Pooler {
    pub readout: Readout,
    dense: Linear,
    has_tanh: bool,
}

impl Pooler {
    pub fn new(b: &mut Builder, words: Tensor) -> Self {
        let readout = Readout::new(b, words);
        let is_tower = b.config.classifier_pairs != Pairs::Together;
        let outputs = if is_tower { readout.width() } else { b.config.hidden_size };
        let name = format!("{}.pooler.dense", b.config.prefix());
        Self { dense: b.linear(&name, readout.width(), outputs), readout, has_tanh: !is_tower }
    }

    /// Number of outputs per text.
    pub fn outputs(&self) -> usize {
        self.dense.outputs()
    }

    /// Fills `head.dense` with `[texts, outputs]`, from `rows` of the last layer.
    pub fn forward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        if !head.readout.given {
            self.readout.forward(p, rows, &mut head.readout);
        }
        set_len(&mut head.dense, p.batch.texts() * self.outputs());
        self.dense.forward(p, &head.readout.read, &mut head.dense);
        if self.has_tanh {
            tanh::forward(&mut head.dense);
        }
    }

    /// From `head.d_dense`, the gradient of `head.dense`, to that of `rows`.
    pub fn backward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        let HeadActivations { readout: kept, dense, d_dense, .. } = head;
        if self.has_tanh {
            tanh::backward(dense, d_dense);
        }
        self.dense.backward_parameters(p, gradients, d_dense, &kept.read, partial);
        if kept.given {
            return; // nothing below is trained
        }
        set_len(&mut kept.d_read, kept.read.len());
        self.dense.backward_input(p, Matrix::new(d_dense, self.outputs()), &mut kept.d_read, Out::Set);
        self.readout.backward(p, gradients, rows, kept, d_rows);
    }
}
