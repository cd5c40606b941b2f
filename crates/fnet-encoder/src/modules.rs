//! What layers are built from: named tensors, linear layers, layer norms, and what a pass reads.

use std::collections::HashSet;

use crate::gemm::{Matrix, Out, Products};
use crate::ops::dropout::Dropout;
use crate::ops::layer_norm::{self, Scale};
use crate::ops::linear;
use crate::parameters::{Gradients, Init, Parameters, Tensor, TensorInfo, Values};
use crate::plans::SharedPlans;
use crate::workspace::Normed;
use crate::{Batch, ModelConfig};

/// Adds tensors by name to a model that is being built.
pub struct Builder<'a> {
    pub(crate) parameters: &'a mut Parameters,
    pub(crate) config: &'a ModelConfig,
    /// What layers share beside weights.
    pub(crate) plans: SharedPlans,
    /// Tensors that are there already.
    pub(crate) trunk: Option<OnTrunk<'a>>,
}

/// A trunk that a model is built on.
#[derive(Clone, Copy)]
pub(crate) struct OnTrunk<'a> {
    pub table: &'a [TensorInfo],
    /// Tensors that the model has of its own.
    pub own: &'a HashSet<String>,
}

impl Builder<'_> {
    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        self.config
    }

    /// A tensor of any shape. Its initial values depend on its name and the model's seed alone.
    pub fn tensor(&mut self, name: &str, shape: &[usize], init: Init) -> Tensor {
        if let Some(OnTrunk { table, own }) = self.trunk
            && !own.contains(name)
            && let Some(info) = table.iter().find(|info| info.name == name && info.shape == shape)
        {
            return Tensor::of_trunk(info);
        }
        self.parameters.add(name, shape, init)
    }

    pub(crate) fn table(&mut self, name: &str, rows: usize, width: usize) -> Tensor {
        self.tensor(name, &[rows, width], Init::Normal(self.config.initializer_range))
    }

    pub(crate) fn zeros(&mut self, name: &str, len: usize) -> Tensor {
        self.tensor(name, &[len], Init::Zeros)
    }

    pub(crate) fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Linear {
        Linear {
            weight: self.table(&format!("{name}.weight"), outputs, inputs),
            bias: self.zeros(&format!("{name}.bias"), outputs),
        }
    }

    pub(crate) fn norm(&mut self, name: &str) -> Norm {
        let width = self.config.hidden_size;
        Norm {
            gamma: self.tensor(&format!("{name}.weight"), &[width], Init::Ones),
            beta: self.zeros(&format!("{name}.bias"), width),
            eps: self.config.layer_norm_eps,
        }
    }
}

/// What every layer of a pass reads.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Pass<'a> {
    /// All weights.
    pub values: Values<'a>,
    /// How matrix products are computed.
    pub products: Products,
    /// The sequences.
    pub batch: &'a Batch,
    /// In a training step.
    pub dropout: Option<Dropout>,
    /// That of what the classifier reads.
    pub(crate) head_dropout: Option<Dropout>,
    /// Whether the feed-forward layer is recomputed in the backward pass instead of being kept.
    pub(crate) recompute: bool,
}

impl Pass<'_> {
    /// For heads, which read pooled vectors: whitening and classes are sensitive, and little work. Also for gradients.
    pub(crate) fn without_int8(self) -> Self {
        Self { products: self.products.without_int8(), ..self }
    }

    pub(crate) fn dropout_at(&self, site: u32) -> Option<(Dropout, u32)> {
        self.dropout.map(|dropout| (dropout, site))
    }
}

/// A linear layer's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    pub fn outputs(self) -> usize {
        self.bias.len()
    }

    pub fn inputs(self) -> usize {
        self.weight.len() / self.outputs()
    }

    pub fn forward(self, p: Pass, x: &[f32], y: &mut [f32]) {
        linear::forward(p.products, x, self.weight.of(p.values), self.bias.of(p.values), y);
    }

    pub fn forward_without_bias(self, p: Pass, x: Matrix, y: &mut [f32]) {
        linear::forward_without_bias(p.products, x, self.weight.of(p.values), self.outputs(), y);
    }

    pub fn backward_input(self, p: Pass, dy: Matrix, dx: &mut [f32], out: Out) {
        linear::backward_input(p.products, dy, self.weight.of(p.values), self.outputs(), dx, out);
    }

    pub fn backward_weight(self, p: Pass, gradients: &mut Gradients, dy: Matrix, x: Matrix) {
        if let Some(d_weight) = gradients.of(self.weight) {
            linear::backward_weight(p.products, dy, x, self.outputs(), d_weight);
        }
    }

    pub fn backward_parameters(
        self,
        p: Pass,
        gradients: &mut Gradients,
        dy: &[f32],
        x: &[f32],
        partial: &mut Vec<f32>,
    ) {
        let (dy_rows, x) = (Matrix::new(dy, self.outputs()), Matrix::new(x, self.inputs()));
        self.backward_weight(p, gradients, dy_rows, x);
        if let Some(d_bias) = gradients.of(self.bias) {
            linear::backward_bias(dy, d_bias, partial);
        }
    }
}

/// A layer norm's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    pub gamma: Tensor,
    pub beta: Tensor,
    pub eps: f32,
}

/// Parts of the sum before a norm: the bias of a linear layer, and dropout at a site.
#[derive(Clone, Copy, Default)]
pub(crate) struct Before {
    pub bias: Option<Tensor>,
    pub dropout: Option<(Dropout, u32)>,
}

impl Norm {
    pub fn scale(self, values: Values<'_>) -> Scale<'_> {
        Scale { gamma: self.gamma.of(values), beta: self.beta.of(values), eps: self.eps }
    }

    /// Adds the parameters' gradient, fills `dx`, and leaves it in `dy` too, with dropout if any.
    #[allow(clippy::too_many_arguments)] // values and gradients, each in its buffer
    pub fn backward(
        self,
        p: Pass,
        gradients: &mut Gradients,
        before: Before,
        dy: &mut [f32],
        kept: &Normed,
        dx: &mut [f32],
        partial: &mut Vec<f32>,
    ) {
        let sums = match before.bias {
            Some(bias) => {
                let [gamma, beta, bias] = gradients.all_of([self.gamma, self.beta, bias]);
                layer_norm::ScaleGradients { gamma, beta, bias }
            }
            None => {
                let [gamma, beta] = gradients.all_of([self.gamma, self.beta]);
                layer_norm::ScaleGradients { gamma, beta, bias: None }
            }
        };
        let gamma = self.gamma.of(p.values);
        layer_norm::backward(dy, &kept.input, &kept.stats, gamma, before.dropout, dx, sums, partial);
    }
}
