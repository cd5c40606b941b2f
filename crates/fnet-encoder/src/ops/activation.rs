//! Activations after a linear layer's bias, by their names in Transformers' `hidden_act`.
//!
//! GELU (Hendrycks and Gimpel 2016) is `x Φ(x)`; its tanh form, `gelu_new`, is `x/2 (1 + tanh(u))` with
//! `u = sqrt(2/pi) (x + 0.044715 x³)`, which is `x sigmoid(2u)`.

use std::f32::consts::LOG2_E;

use rayon::prelude::*;

use super::{SUM_ROWS, add_partial, clear_partial};
use crate::arch::{exp, exp2, multiversion, normal_cdf, tanh};
use crate::gemm::{BLOCK, Stored};

/// `2u` of tanh-GELU is `x` times a polynomial in `x²` with these coefficients.
const TWICE_U: [f32; 2] = [1.595_769, 1.595_769 * 0.044_715];
const SQRT_2_PI: f32 = 2.506_628_3;

/// What a feed-forward layer does to each of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the field's standard names
pub enum Activation {
    Gelu,
    GeluTanh,
    /// GELU between -10 and 10.
    Gelu10,
    QuickGelu,
    HardSwish,
    Laplace,
    LeakyRelu,
    Linear,
    Mish,
    /// With a learnt slope below zero: He et al. 2015, equation 1.
    Prelu,
    Relu,
    ReluSquared,
    Relu6,
    Sigmoid,
    Silu,
    SqrtSoftplus,
    Tanh,
    /// A parabola above zero, an exponential below, each with a learnt factor: Huang and Schlag 2024.
    Xielu,
}

/// All names, as in Transformers' `ACT2FN`.
const NAMES: [(&str, Activation); 24] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_10", Activation::Gelu10),
    ("quick_gelu", Activation::QuickGelu),
    ("hardswish", Activation::HardSwish),
    ("laplace", Activation::Laplace),
    ("leaky_relu", Activation::LeakyRelu),
    ("linear", Activation::Linear),
    ("mish", Activation::Mish),
    ("prelu", Activation::Prelu),
    ("relu", Activation::Relu),
    ("relu2", Activation::ReluSquared),
    ("relu6", Activation::Relu6),
    ("sigmoid", Activation::Sigmoid),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("sqrtsoftplus", Activation::SqrtSoftplus),
    ("tanh", Activation::Tanh),
    ("xielu", Activation::Xielu),
];

impl Activation {
    /// By its name in `hidden_act`.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|known| known.0 == name).map(|known| known.1)
    }

    /// All known names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|known| known.0)
    }
}

/// An activation, with the factors of those that have some.
#[derive(Debug, Clone, Copy)]
pub struct Formula {
    /// Which.
    pub kind: Activation,
    /// PReLU: the slope below zero. xIELU: the factors above and below zero, the slope at zero (beta), and
    /// the largest argument of the exponential (eps).
    pub factors: [f32; 4],
}

impl From<Activation> for Formula {
    /// For an activation without factors.
    fn from(kind: Activation) -> Self {
        Self { kind, factors: [0.0; 4] }
    }
}

/// Evaluates `$run` with `$f`, from a value to the activation and its slope there, for the kind at hand: one
/// loop each, so that every one is vectorised.
macro_rules! with_formula {
    ($formula:expr, $f:ident => $run:expr) => {
        match $formula.kind {
            Activation::Gelu => {
                let $f = gelu;
                $run
            }
            Activation::GeluTanh => {
                let $f = gelu_tanh;
                $run
            }
            Activation::Gelu10 => {
                let $f = |x| clipped(gelu(x), -10.0, 10.0);
                $run
            }
            Activation::QuickGelu => {
                let $f = quick_gelu;
                $run
            }
            Activation::HardSwish => {
                let $f = hard_swish;
                $run
            }
            Activation::Laplace => {
                let $f = laplace;
                $run
            }
            Activation::LeakyRelu => {
                let $f = |x| if x > 0.0 { (x, 1.0) } else { (0.01 * x, 0.01) };
                $run
            }
            Activation::Linear => {
                let $f = |x| (x, 1.0);
                $run
            }
            Activation::Mish => {
                let $f = mish;
                $run
            }
            Activation::Prelu => {
                let slope = $formula.factors[0];
                let $f = |x| if x > 0.0 { (x, 1.0) } else { (slope * x, slope) };
                $run
            }
            Activation::Relu => {
                let $f = relu;
                $run
            }
            Activation::ReluSquared => {
                let $f = |x| (relu(x).0 * relu(x).0, 2.0 * relu(x).0);
                $run
            }
            Activation::Relu6 => {
                let $f = |x| clipped((x, 1.0), 0.0, 6.0);
                $run
            }
            Activation::Sigmoid => {
                let $f = |x| (sigmoid(x), sigmoid(x) * sigmoid(-x));
                $run
            }
            Activation::Silu => {
                let $f = |x| (x * sigmoid(x), sigmoid(x) * (1.0 + x * sigmoid(-x)));
                $run
            }
            Activation::SqrtSoftplus => {
                let $f = sqrt_softplus;
                $run
            }
            Activation::Tanh => {
                let $f = |x| (tanh(x), 1.0 - tanh(x) * tanh(x));
                $run
            }
            Activation::Xielu => {
                let factors = $formula.factors;
                let $f = |x| xielu(x, factors);
                $run
            }
        }
    };
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    let cdf = normal_cdf(x);
    (x * cdf, cdf + x * exp(-0.5 * x * x) / SQRT_2_PI)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let square = x * x;
    let (u, slope) = (TWICE_U[0] + TWICE_U[1] * square, TWICE_U[0] + 3.0 * TWICE_U[1] * square);
    let sigmoid = 1.0 / (1.0 + exp2(x * u * -LOG2_E));
    let y = x * sigmoid;
    (y, sigmoid + y * (1.0 - sigmoid) * slope)
}

#[inline(always)]
fn quick_gelu(x: f32) -> (f32, f32) {
    let s = sigmoid(1.702 * x);
    (x * s, s + 1.702 * x * s * (1.0 - s))
}

#[inline(always)]
fn hard_swish(x: f32) -> (f32, f32) {
    let (gate, slope) = clipped((x + 3.0, 1.0), 0.0, 6.0);
    (x * gate / 6.0, (gate + x * slope) / 6.0)
}

/// With the mean and deviation of Ma et al. 2022 (Mega), as Transformers rounds them.
#[allow(clippy::approx_constant)] // the root of a half, rounded
#[inline(always)]
fn laplace(x: f32) -> (f32, f32) {
    let z = (x - 0.707_107) / 0.282_095;
    (normal_cdf(z), exp(-0.5 * z * z) / SQRT_2_PI / 0.282_095)
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    // A NaN stays one, as in PyTorch.
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}

#[inline(always)]
fn softplus(x: f32) -> f32 {
    relu(x).0 + exp(-x.abs()).ln_1p()
}

#[inline(always)]
fn mish(x: f32) -> (f32, f32) {
    let t = tanh(softplus(x));
    (x * t, t + x * (1.0 - t * t) * sigmoid(x))
}

#[inline(always)]
fn sqrt_softplus(x: f32) -> (f32, f32) {
    let root = softplus(x).sqrt();
    (root, 0.5 * sigmoid(x) / root)
}

#[inline(always)]
fn xielu(x: f32, [above, below, beta, eps]: [f32; 4]) -> (f32, f32) {
    if x > 0.0 {
        (above * x * x + beta * x, 2.0 * above * x + beta)
    } else {
        (below * xielu_below(x, eps) + beta * x, below * (exp(x) - 1.0) + beta)
    }
}

#[inline(always)]
fn xielu_below(x: f32, eps: f32) -> f32 {
    exp(x.min(eps)) - 1.0 - x
}

/// Clamped between bounds, beyond which the slope is zero.
#[inline(always)]
fn clipped((y, slope): (f32, f32), low: f32, high: f32) -> (f32, f32) {
    if y <= low {
        (low, 0.0)
    } else if y >= high {
        (high, 0.0)
    } else {
        (y, slope)
    }
}

/// `y = activation(x + bias)`, with `x` `[rows, width]` before the bias of the linear layer. The caller says how
/// `y` is stored.
pub fn forward(formula: Formula, x: &[f32], bias: &[f32], stored: Stored, y: &mut [f32]) {
    let values = super::task_rows(bias.len()) * bias.len();
    y.par_chunks_mut(values)
        .zip(x.par_chunks(values))
        .for_each(|(y, x)| forward_rows(formula, x, bias, stored, y));
}

multiversion! {
    fn forward_rows(formula: Formula, x: &[f32], bias: &[f32], stored: Stored, y: &mut [f32]) {
        let width = bias.len();
        with_formula!(formula, f => {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for start in (0..width).step_by(BLOCK) {
                    let mut block = [0.0; BLOCK];
                    for ((y, x), bias) in block.iter_mut().zip(&x[start..]).zip(&bias[start..]) {
                        *y = f(x + bias).0;
                    }
                    stored.write(y, start, &block);
                }
            }
        });
    }
}

/// `dy = dy * activation'(x + bias)` in place, `d_bias += sum over rows of dy`, and `x = activation(x + bias)`
/// again, which need not be kept. The caller says how both are then stored.
#[allow(clippy::too_many_arguments)] // an operation's values and gradients, each in its buffer
pub fn backward(
    formula: Formula,
    x: &mut [f32],
    bias: &[f32],
    stored: Stored,
    dy: &mut [f32],
    d_bias: Option<&mut [f32]>,
    partial: &mut Vec<f32>,
) {
    let width = bias.len();
    let values = SUM_ROWS * width;
    clear_partial(partial, x.len() / width, width);
    (dy.par_chunks_mut(values), x.par_chunks_mut(values), partial.par_chunks_mut(width))
        .into_par_iter()
        .for_each(|(dy, x, sums)| backward_rows(formula, x, bias, stored, dy, sums));
    add_partial(partial, &mut [(width, d_bias)]);
}

multiversion! {
    fn backward_rows(
        formula: Formula, x: &mut [f32], bias: &[f32], stored: Stored, dy: &mut [f32], sums: &mut [f32],
    ) {
        let width = bias.len();
        with_formula!(formula, f => {
            for (dy, x) in dy.chunks_exact_mut(width).zip(x.chunks_exact_mut(width)) {
                for start in (0..width).step_by(BLOCK) {
                    let (mut y, mut dx) = ([0.0; BLOCK], [0.0; BLOCK]);
                    let from = x[start..].iter().zip(&bias[start..]).zip(&dy[start..]);
                    let to = y.iter_mut().zip(&mut dx).zip(&mut sums[start..]);
                    for (((x, bias), dy), ((y, dx), sum)) in from.zip(to) {
                        let slope;
                        (*y, slope) = f(x + bias);
                        *dx = dy * slope;
                        *sum += *dx;
                    }
                    stored.write(x, start, &y);
                    stored.write(dy, start, &dx);
                }
            }
        });
    }
}

/// The gradients of the learnt factors, from `x` and `dy` as they are before [`backward`].
pub fn backward_factors(
    formula: Formula,
    x: &[f32],
    bias: &[f32],
    dy: &[f32],
    partial: &mut Vec<f32>,
) -> [f32; 2] {
    let mut sums = [0.0; 2];
    let values = SUM_ROWS * bias.len();
    clear_partial(partial, x.len() / bias.len(), 2);
    (dy.par_chunks(values), x.par_chunks(values), partial.par_chunks_mut(2))
        .into_par_iter()
        .for_each(|(dy, x, sums)| factors_rows(formula, x, bias, dy, sums));
    add_partial(partial, &mut [(2, Some(&mut sums))]);
    sums
}

multiversion! {
    fn factors_rows(formula: Formula, x: &[f32], bias: &[f32], dy: &[f32], sums: &mut [f32]) {
        for (dy, x) in dy.chunks_exact(bias.len()).zip(x.chunks_exact(bias.len())) {
            for ((dy, x), bias) in dy.iter().zip(x).zip(bias) {
                let x = x + bias;
                match formula.kind {
                    Activation::Prelu => sums[0] += dy * x.min(0.0),
                    Activation::Xielu if x > 0.0 => sums[0] += dy * x * x,
                    Activation::Xielu => sums[1] += dy * xielu_below(x, formula.factors[3]),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    /// With factors, for those that have some.
    fn formula(name: &str) -> Formula {
        let kind = Activation::from_name(name).unwrap();
        Formula { kind, factors: [0.25, 1.5, 0.5, -1e-6] }
    }

    #[test]
    fn matches_the_formula() {
        for i in -2000..=2000 {
            let x = i as f32 * 0.01;
            let mut y = [0.0];
            forward(Activation::GeluTanh.into(), &[x - 1.0], &[1.0], Stored::Floats, &mut y);
            let exact = f64::from(x - 1.0) + 1.0;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
            let exact = 0.5 * exact * (1.0 + u.tanh());
            assert!((f64::from(y[0]) - exact).abs() < 2e-6 * (1.0 + exact.abs()), "gelu({x})");
        }
    }

    /// Values of PyTorch 2.9's float64 functions at -3, -0.7, 0.3 and 4, as Transformers names them.
    const STORED: [(&str, [f64; 4]); 18] = [
        ("gelu", [-0.004049694, -0.169374557, 0.185373427, 3.999873315]),
        ("gelu_new", [-0.003637392, -0.169429865, 0.185370924, 3.999929754]),
        ("gelu_10", [-0.004049694, -0.169374557, 0.185373427, 3.999873315]),
        ("quick_gelu", [-0.018071310, -0.163106048, 0.187484135, 3.995585276]),
        ("hardswish", [-0.000000000, -0.268333333, 0.165000000, 4.000000000]),
        ("laplace", [0.000000000, 0.000000305, 0.074488311, 1.000000000]),
        ("leaky_relu", [-0.030000000, -0.007000000, 0.300000000, 4.000000000]),
        ("linear", [-3.000000000, -0.700000000, 0.300000000, 4.000000000]),
        ("mish", [-0.145647461, -0.267870235, 0.208001372, 3.997412807]),
        ("prelu", [-0.750000000, -0.175000000, 0.300000000, 4.000000000]),
        ("relu", [0.000000000, 0.000000000, 0.300000000, 4.000000000]),
        ("relu2", [0.000000000, 0.000000000, 0.090000000, 16.000000000]),
        ("relu6", [0.000000000, 0.000000000, 0.300000000, 4.000000000]),
        ("sigmoid", [0.047425873, 0.331812228, 0.574442517, 0.982013790]),
        ("silu", [-0.142277620, -0.232268559, 0.172332755, 3.928055160]),
        ("sqrtsoftplus", [0.220425388, 0.634969329, 0.924313391, 2.004532346]),
        ("tanh", [-0.995054754, -0.604367777, 0.291312612, 0.999329300]),
        ("xielu", [1.574680603, -0.055122044, 0.172500000, 6.000000000]),
    ];

    #[test]
    fn values_are_those_of_pytorch() {
        let x = [-3.0, -0.7, 0.3, 4.0];
        for (name, exact) in STORED {
            let mut y = [0.0; 4];
            forward(formula(name), &x, &[0.0; 4], Stored::Floats, &mut y);
            for (y, exact) in y.iter().zip(exact) {
                assert!((f64::from(*y) - exact).abs() < 1e-6 * (1.0 + exact.abs()), "{name}: {y} {exact}");
            }
        }
    }

    #[test]
    fn gradients() {
        for name in Activation::names() {
            let formula = formula(name);
            for (rows, width) in [(1, 37), (150, 7)] {
                // Away from the kinks of those that have some.
                let off = |v: &f32| {
                    if formula.kind == Activation::Gelu10 { 3.0 * v } else { 3.0 * v + 0.3 * v.signum() }
                };
                let x: Vec<f32> = noise(rows * width, 1).iter().map(off).collect();
                let (bias, dy) = (vec![0.0; width], noise(rows * width, 2));
                let (mut dx, mut y, mut d_bias) = (dy.clone(), x.clone(), vec![0.0; width]);
                backward(formula, &mut y, &bias, Stored::Floats, &mut dx, Some(&mut d_bias), &mut Vec::new());
                let run = |x: &[f32], bias: &[f32]| {
                    let mut y = vec![0.0; x.len()];
                    forward(formula, x, bias, Stored::Floats, &mut y);
                    y
                };
                assert!(y == run(&x, &bias), "{name}");
                check_gradient(&format!("{name} input"), &x, &dx, &dy, |x| run(x, &bias));
                check_gradient(&format!("{name} bias"), &bias, &d_bias, &dy, |bias| run(&x, bias));
            }
        }
    }
    #[test]
    fn gradients_of_factors() {
        let (x, dy, bias) = (noise(150 * 7, 1), noise(150 * 7, 2), noise(7, 3));
        for (name, count) in [("prelu", 1), ("xielu", 2)] {
            let formula = formula(name);
            let d_factors = backward_factors(formula, &x, &bias, &dy, &mut Vec::new());
            check_gradient(name, &formula.factors[..count], &d_factors[..count], &dy, |factors| {
                let mut changed = formula;
                changed.factors[..count].copy_from_slice(factors);
                let mut y = vec![0.0; x.len()];
                forward(changed, &x, &bias, Stored::Floats, &mut y);
                y
            });
        }
    }
}
