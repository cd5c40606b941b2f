//! A dense layer on what is pooled from each text.

use super::Back;
use crate::gemm::{Matrix, Out};
use crate::modules::{Builder, Linear, Pass};
use crate::ops::tanh;
use crate::parameters::{Init, Tensor};
use crate::pooling::Pairs;
use crate::readout::Readout;
use crate::workspace::{HeadActivations, set_len};

/// `tanh(W x + b)` of a text's pooled vectors. In towers, a square matrix without tanh: its outputs are compared,
/// and may start out whitened.
pub(crate) struct Pooler {
    pub readout: Readout,
    standard: Option<Standard>,
    /// None where the output layer reads the vectors themselves.
    dense: Option<Linear>,
    outputs: usize,
    has_tanh: bool,
}

/// Mean and deviation of each pooled value, measured instead of learnt by gradients: the mean of many tokens hardly
/// differs from one text to another, and a dense layer alone would not see by how much.
struct Standard {
    mean: Tensor,
    deviation: Tensor,
}

impl Standard {
    fn new(b: &mut Builder, width: usize) -> Option<Self> {
        let name = |what: &str| format!("{}.pooler.{what}", b.config.prefix());
        let (mean, deviation) = (name("mean"), name("deviation"));
        b.config.classifier_standardized.then(|| Self {
            mean: b.zeros(&mean, width),
            deviation: b.tensor(&deviation, &[width], Init::Ones),
        })
    }

    fn forward(&self, p: Pass, x: &[f32], y: &mut Vec<f32>) {
        let (mean, deviation) = (self.mean.of(p.values), self.deviation.of(p.values));
        y.clear();
        for x in x.chunks_exact(mean.len()) {
            y.extend(x.iter().zip(mean).zip(deviation).map(|((x, m), d)| (x - m) / d));
        }
    }

    fn backward(&self, p: Pass, dx: &mut [f32]) {
        let deviation = self.deviation.of(p.values);
        for dx in dx.chunks_exact_mut(deviation.len()) {
            dx.iter_mut().zip(deviation).for_each(|(dx, d)| *dx /= d);
        }
    }
}

impl Pooler {
    pub fn new(b: &mut Builder, words: Tensor) -> Self {
        let name = format!("{}.pooler", b.config.prefix());
        let readout = Readout::new(b, &name, &b.config.classifier_pooling.clone(), words);
        let standard = Standard::new(b, readout.width());
        let is_tower = b.config.classifier_pairs != Pairs::Together;
        let is_linear = b.config.classifier_linear;
        let outputs = if is_tower || is_linear { readout.width() } else { b.config.hidden_size };
        let name = format!("{}.pooler.dense", b.config.prefix());
        let dense = (!is_linear).then(|| b.linear(&name, readout.width(), outputs));
        Self { dense, outputs, readout, standard, has_tanh: !is_tower && !is_linear }
    }

    /// Number of outputs per text.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Fills `head.dense` with `[texts, outputs]`, from `rows` of the last layer.
    pub fn forward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations) {
        let p = p.without_int8();
        if !head.readout.given {
            self.readout.forward(p, rows, &mut head.readout);
        }
        set_len(&mut head.dense, p.batch.texts() * self.outputs());
        let seen = match &self.standard {
            Some(standard) => {
                standard.forward(p, &head.readout.read, &mut head.standard);
                &head.standard
            }
            None => &head.readout.read,
        };
        match self.dense {
            Some(dense) => dense.forward(p, seen, &mut head.dense),
            None => head.dense.copy_from_slice(seen),
        }
        if self.has_tanh {
            tanh::forward(&mut head.dense);
        }
    }

    /// From `head.d_dense`, the gradient of `head.dense`, to that of `rows`.
    pub fn backward(&self, p: Pass, rows: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        let HeadActivations { readout: kept, standard: seen, dense, d_dense, .. } = head;
        if self.has_tanh {
            tanh::backward(dense, d_dense);
        }
        let seen = if self.standard.is_some() { seen } else { &kept.read };
        if let Some(dense) = self.dense {
            dense.backward_parameters(p, gradients, d_dense, seen, partial);
        }
        if kept.given {
            return; // nothing below is trained
        }
        set_len(&mut kept.d_read, kept.read.len());
        match self.dense {
            Some(dense) => {
                let dy = Matrix::new(d_dense, self.outputs);
                dense.backward_input(p, dy, &mut kept.d_read, Out::Set);
            }
            None => kept.d_read.copy_from_slice(d_dense),
        }
        if let Some(standard) = &self.standard {
            standard.backward(p, &mut kept.d_read);
        }
        self.readout.backward(p, gradients, rows, kept, d_rows);
    }
}
