//! An activation as a layer of the model, with the weights of `prelu` and `xielu`.

use half::bf16;

use crate::EncoderError;
use crate::gemm::Stored;
use crate::modules::{Builder, Pass};
use crate::ops::activation::{self, Activation, Formula};
use crate::parameters::{Gradients, Init, Tensor};

pub(crate) struct Activated {
    kind: Activation,
    /// The learnt ones come first.
    weights: Vec<Tensor>,
}

impl Activated {
    /// The configuration's activation; the names of its weights, if any, begin with `name`.
    pub fn new(b: &mut Builder, name: &str) -> Result<Self, EncoderError> {
        let kind = b.config.activation()?;
        let mut weight =
            |part: &str, shape: &[usize], start| b.tensor(&format!("{name}.{part}"), shape, Init::All(start));
        let mut weights = vec![];
        match kind {
            Activation::Prelu => weights.push(weight("weight", &[1], 0.25)),
            Activation::Xielu => {
                // Both factors start at 0.8; the one below zero is never less than beta.
                weights.push(weight("alpha_p", &[1], 0.8_f32.exp_m1().ln()));
                weights.push(weight("alpha_n", &[1], 0.3_f32.exp_m1().ln()));
                // Constants, which Transformers keeps among the weights.
                weights.push(weight("beta", &[], 0.5));
                weights.push(weight("eps", &[], -1e-6));
                b.parameters.freeze(&format!("{name}.beta"));
                b.parameters.freeze(&format!("{name}.eps"));
            }
            _ => {}
        }
        Ok(Self { kind, weights })
    }

    fn formula(&self, p: Pass) -> Formula {
        let mut factors = [0.0; 4];
        for (factor, weight) in factors.iter_mut().zip(&self.weights) {
            *factor = weight.of(p.values)[0];
        }
        if self.kind == Activation::Xielu {
            factors = xielu_factors(factors);
        }
        Formula { kind: self.kind, factors }
    }

    /// `y = activation(x + bias)`.
    pub fn forward(&self, p: Pass, x: &[f32], bias: Tensor, stored: Stored, y: &mut [f32]) {
        activation::forward(self.formula(p), x, bias.of(p.values), stored, y);
    }

    /// As [`activation::backward`], with the gradients of the bias and of the activation's weights.
    #[allow(clippy::too_many_arguments)] // values and gradients, each in its buffer
    pub fn backward(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        x: &mut [f32],
        bias: Tensor,
        stored: Stored,
        dy: &mut [f32],
        partial: &mut Vec<f32>,
    ) {
        let (formula, values) = (self.formula(p), bias.of(p.values));
        if !self.weights.is_empty() {
            let d_factors = activation::backward_factors(formula, x, values, dy, partial);
            for (weight, d_factor) in self.weights.iter().zip(d_factors) {
                let slope = match self.kind {
                    Activation::Xielu => 1.0 / (1.0 + (-weight.of(p.values)[0]).exp()), // softplus'
                    _ => 1.0,
                };
                if let Some(d_weight) = gradients.of(*weight) {
                    d_weight[0] += slope * d_factor;
                }
            }
        }
        activation::backward(formula, x, values, stored, dy, gradients.of(bias), partial);
    }
}

/// xIELU's factors from its weights (`alpha_p`, `alpha_n`, `beta`, `eps`): above zero, below zero, the slope at zero, and
/// where the curve ends (Huang and Schlag 2024, section 3.2). Transformers keeps them in bfloat16 in every model, so each is
/// rounded here in the same way.
pub fn xielu_factors([above, below, beta, eps]: [f32; 4]) -> [f32; 4] {
    let round = |x: f32| bf16::from_f32(x).to_f32();
    let softplus = |x: f32| round(x.max(0.0) + (-x.abs()).exp().ln_1p());
    let (above, below, beta, eps) = (round(above), round(below), round(beta), round(eps));
    [softplus(above), round(beta + softplus(below)), beta, eps]
}
