//! The vector of a text: what is read of it, through dense layers.

use serde::{Deserialize, Serialize};

use super::Back;
use crate::EncoderError;
use crate::gemm::{Matrix, Out, Stored};
use crate::modules::{Builder, Linear, Pass};
use crate::ops::activation::{self, Activation};
use crate::parameters::Tensor;
use crate::pooling::{Pool, Pooling};
use crate::readout::Readout;
use crate::workspace::{HeadActivations, set_len};

/// How a model makes the vector of a text: `sentence` in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentenceConfig {
    /// The vectors of the text that are read, side by side.
    pub pooling: Pooling,
    /// Dense layers on them, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<SentenceDense>,
    /// Whether the vector is scaled to length one wherever it is used. The model itself does not: cosines need not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub normalize: bool,
}

/// A dense layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentenceDense {
    /// Number of outputs.
    pub outputs: usize,
    /// What follows it, by its name in Transformers: `linear`, `tanh`, `relu`, `gelu` and more.
    #[serde(default = "linear", skip_serializing_if = "is_linear")]
    pub activation: String,
}

fn linear() -> String {
    "linear".into()
}

fn is_linear(activation: &str) -> bool {
    activation == "linear"
}

/// More outputs of a dense layer than anyone has.
const MOST_OUTPUTS: usize = 1 << 16;
/// More dense layers than anyone has.
const MOST_DENSE: usize = 16;

impl SentenceConfig {
    /// What is read, through one square matrix and a bias, scaled to length one.
    pub fn square(pooling: Pooling, width: usize) -> Self {
        Self { pooling, dense: vec![SentenceDense { outputs: width, activation: linear() }], normalize: true }
    }

    /// Refuses what cannot be built. `read` is the number of values that are read.
    pub(crate) fn check(&self, read: u128, most_values: u128) -> Result<(), String> {
        if self.pooling.pools().contains(&Pool::Input) {
            return Err("sentence: a text has no input vectors to read".into());
        }
        if self.dense.len() > MOST_DENSE {
            return Err(format!("sentence: {} dense layers are more than {MOST_DENSE}", self.dense.len()));
        }
        let mut inputs = read;
        for dense in &self.dense {
            if !(1..=MOST_OUTPUTS).contains(&dense.outputs) {
                let outputs = dense.outputs;
                return Err(format!("sentence: {outputs} outputs; there may be from 1 to {MOST_OUTPUTS}"));
            }
            if inputs * dense.outputs as u128 > most_values {
                return Err("sentence: a dense layer is larger than this program will allocate".into());
            }
            let name = &dense.activation;
            if matches!(Activation::from_name(name), None | Some(Activation::Prelu | Activation::Xielu)) {
                return Err(format!("sentence: the activation `{name}` is unknown here"));
            }
            inputs = dense.outputs as u128;
        }
        Ok(())
    }
}

/// What makes the vectors.
pub(crate) struct Sentence {
    pub readout: Readout,
    dense: Vec<Dense>,
}

struct Dense {
    linear: Linear,
    activation: Activation,
}

impl Sentence {
    pub fn new(b: &mut Builder, words: Tensor, config: &SentenceConfig) -> Result<Self, EncoderError> {
        let name = format!("{}.sentence", b.config.prefix());
        let readout = Readout::new(b, &name, &config.pooling, words);
        let (mut inputs, mut dense) = (readout.width(), Vec::new());
        for (i, layer) in config.dense.iter().enumerate() {
            let unknown =
                || EncoderError::Config(format!("the activation `{}` is unknown", layer.activation));
            let activation = Activation::from_name(&layer.activation).ok_or_else(unknown)?;
            dense.push(Dense { linear: b.linear(&format!("{name}.{i}"), inputs, layer.outputs), activation });
            inputs = layer.outputs;
        }
        Ok(Self { readout, dense })
    }

    /// Number of values of a vector.
    pub fn outputs(&self) -> usize {
        self.dense.last().map_or(self.readout.width(), |dense| dense.linear.outputs())
    }

    /// Makes `[texts, outputs]` from `rows` of the last layer.
    pub fn forward<'a>(&self, p: Pass, rows: &[f32], head: &'a mut HeadActivations) -> &'a [f32] {
        let p = p.without_int8();
        self.readout.forward(p, rows, &mut head.readout);
        head.before.resize_with(self.dense.len(), Vec::new);
        head.after.resize_with(self.dense.len(), Vec::new);
        for (i, Dense { linear, activation }) in self.dense.iter().enumerate() {
            let (done, rest) = head.after.split_at_mut(i);
            let x = done.last().unwrap_or(&head.readout.read);
            let (before, after) = (&mut head.before[i], &mut rest[0]);
            set_len(before, p.batch.texts() * linear.outputs());
            set_len(after, before.len());
            linear.forward_without_bias(p, Matrix::new(x, linear.inputs()), before);
            activation::forward(
                (*activation).into(),
                before,
                linear.bias.of(p.values),
                Stored::Floats,
                after,
            );
        }
        self.made(head)
    }

    /// What `forward` has made.
    pub fn made<'a>(&self, head: &'a HeadActivations) -> &'a [f32] {
        if self.dense.is_empty() { &head.readout.read } else { &head.after[self.dense.len() - 1] }
    }

    /// From `d`, the gradient of the vectors, to that of `rows`.
    pub fn backward(&self, p: Pass, rows: &[f32], d: &[f32], head: &mut HeadActivations, back: Back) {
        let Back { gradients, d_rows, partial, .. } = back;
        let HeadActivations { readout: kept, before, after, d_dense: dy, d_active: dx, .. } = head;
        dy.clear();
        dy.extend_from_slice(d);
        for (i, Dense { linear, activation }) in self.dense.iter().enumerate().rev() {
            let x = if i == 0 { &kept.read } else { &after[i - 1] };
            let (bias, d_bias) = (linear.bias.of(p.values), gradients.of(linear.bias));
            activation::backward(
                (*activation).into(),
                &mut before[i],
                bias,
                Stored::Floats,
                dy,
                d_bias,
                partial,
            );
            let (d, inputs) = (Matrix::new(dy, linear.outputs()), linear.inputs());
            linear.backward_weight(p, gradients, d, Matrix::new(x, inputs));
            set_len(dx, x.len());
            linear.backward_input(p, d, dx, Out::Set);
            std::mem::swap(dx, dy);
        }
        set_len(&mut kept.d_read, kept.read.len());
        kept.d_read.copy_from_slice(dy);
        self.readout.backward(p, gradients, rows, kept, d_rows);
    }
}
