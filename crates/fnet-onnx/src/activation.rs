//! Activations, by their names in Transformers.

use crate::OnnxError;
use crate::graph::{Graph, Value, float};

/// `x` after an activation; `factors` are those of the learnt ones.
pub fn activation(g: &mut Graph, name: &str, x: &Value, factors: [f32; 4]) -> Result<Value, OnnxError> {
    let softplus = |g: &mut Graph, x: &Value| g.one("Softplus", x);
    let gate = |g: &mut Graph, x: &Value, factor: f32| {
        let inner = g.scaled(x, factor);
        let gate = g.one("Sigmoid", &inner);
        g.mul(x, &gate)
    };
    // The normal distribution's.
    let share_below = |g: &mut Graph, x: &Value| {
        let inner = g.scaled(x, std::f32::consts::FRAC_1_SQRT_2);
        let (inner, one) = (g.one("Erf", &inner), g.float(1.0));
        let twice = g.add(&inner, &one);
        g.scaled(&twice, 0.5)
    };
    let clip = |g: &mut Graph, x: &Value, low: f32, high: f32| {
        let (low, high) = (g.float(low), g.float(high));
        g.op("Clip", &[x, &low, &high], vec![])
    };
    Ok(match name {
        "linear" => x.clone(),
        "gelu" | "gelu_python" => {
            let share = share_below(g, x);
            g.mul(x, &share)
        }
        "gelu_10" => {
            let share = share_below(g, x);
            let y = g.mul(x, &share);
            clip(g, &y, -10.0, 10.0)
        }
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate" => {
            let square = g.mul(x, x);
            let (factor, one) = (g.scaled(&square, 0.044_715), g.float(1.0));
            let factor = g.add(&factor, &one);
            let inner = g.mul(x, &factor);
            let inner = g.scaled(&inner, std::f64::consts::FRAC_2_PI.sqrt() as f32);
            let tanh = g.one("Tanh", &inner);
            let gate = g.add(&tanh, &one);
            let half = g.scaled(x, 0.5);
            g.mul(&half, &gate)
        }
        "quick_gelu" => gate(g, x, 1.702),
        "silu" | "swish" => gate(g, x, 1.0),
        "relu" => g.one("Relu", x),
        "relu2" => {
            let y = g.one("Relu", x);
            g.mul(&y, &y)
        }
        "relu6" => clip(g, x, 0.0, 6.0),
        "hardswish" => g.one("HardSwish", x),
        "sigmoid" => g.one("Sigmoid", x),
        "tanh" => g.one("Tanh", x),
        "leaky_relu" => g.op("LeakyRelu", &[x], vec![float("alpha", 0.01)]),
        "prelu" => g.op("LeakyRelu", &[x], vec![float("alpha", factors[0])]),
        "mish" => {
            let inner = softplus(g, x);
            let tanh = g.one("Tanh", &inner);
            g.mul(x, &tanh)
        }
        "sqrtsoftplus" => {
            let inner = softplus(g, x);
            g.one("Sqrt", &inner)
        }
        // With the constants as Transformers rounds them (Ma et al. 2022).
        "laplace" => {
            #[allow(clippy::approx_constant)]
            let middle = g.float(0.707_107);
            let x = g.sub(x, &middle);
            let z = g.scaled(&x, 1.0 / 0.282_095);
            share_below(g, &z)
        }
        // Huang and Schlag 2024, section 3.2.
        "xielu" => {
            let [above, below, beta, eps] = factors;
            let zero = g.float(0.0);
            let is_above = g.op("Greater", &[x, &zero], vec![]);
            let square = g.mul(x, x);
            let square = g.scaled(&square, above);
            // ONNX has no expm1, and neither does the encoder use one here.
            let (least, one) = (g.float(eps), g.float(1.0));
            let low = g.op("Min", &[x, &least], vec![]);
            let low = g.one("Exp", &low);
            let low = g.sub(&low, &one);
            let low = g.sub(&low, x);
            let low = g.scaled(&low, below);
            let curve = g.op("Where", &[&is_above, &square, &low], vec![]);
            let line = g.scaled(x, beta);
            g.add(&curve, &line)
        }
        other => return Err(OnnxError::Unsupported(format!("the activation `{other}`"))),
    })
}
