//! GELU in its tanh form (Hendrycks and Gimpel 2016; `gelu_new` in Transformers):
//! `y = x/2 (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x³)`, which is `x sigmoid(2u)`.

use rayon::prelude::*;

use super::{SUM_ROWS, add_partial, clear_partial};
use crate::arch::{exp, multiversion};

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `y = gelu(x + bias)`, with `x` `[rows, width]` before the bias of the linear layer.
pub fn forward(x: &[f32], bias: &[f32], y: &mut [f32]) {
    let values = super::task_rows(bias.len()) * bias.len();
    y.par_chunks_mut(values).zip(x.par_chunks(values)).for_each(|(y, x)| forward_rows(x, bias, y));
}

multiversion! {
    fn forward_rows(x: &[f32], bias: &[f32], y: &mut [f32]) {
        for (y, x) in y.chunks_exact_mut(bias.len()).zip(x.chunks_exact(bias.len())) {
            for ((y, x), bias) in y.iter_mut().zip(x).zip(bias) {
                let x = x + bias;
                let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
                *y = x * (1.0 / (1.0 + exp(-2.0 * u)));
            }
        }
    }
}

/// `dy = dy * gelu'(x + bias)` in place, `d_bias += sum over rows of dy`, and `x = gelu(x + bias)`
/// again, which saves keeping it.
pub fn backward(
    x: &mut [f32],
    bias: &[f32],
    dy: &mut [f32],
    d_bias: Option<&mut [f32]>,
    partial: &mut Vec<f32>,
) {
    let width = bias.len();
    let values = SUM_ROWS * width;
    clear_partial(partial, x.len() / width, width);
    (dy.par_chunks_mut(values), x.par_chunks_mut(values), partial.par_chunks_mut(width))
        .into_par_iter()
        .for_each(|(dy, x, sums)| backward_rows(x, bias, dy, sums));
    add_partial(partial, &mut [(width, d_bias)]);
}

multiversion! {
    fn backward_rows(x: &mut [f32], bias: &[f32], dy: &mut [f32], sums: &mut [f32]) {
        let width = bias.len();
        for (dy, x) in dy.chunks_exact_mut(width).zip(x.chunks_exact_mut(width)) {
            for (((dy, y), bias), sum) in dy.iter_mut().zip(x).zip(bias).zip(sums.iter_mut()) {
                let x = *y + bias;
                let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
                let sigmoid = 1.0 / (1.0 + exp(-2.0 * u));
                let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
                *y = x * sigmoid;
                *dy *= sigmoid + 2.0 * x * sigmoid * (1.0 - sigmoid) * slope;
                *sum += *dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn matches_the_formula() {
        for i in -2000..=2000 {
            let x = i as f32 * 0.01;
            let mut y = [0.0];
            forward(&[x - 1.0], &[1.0], &mut y);
            let exact = f64::from(x - 1.0) + 1.0;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
            let exact = 0.5 * exact * (1.0 + u.tanh());
            assert!((f64::from(y[0]) - exact).abs() < 2e-6 * (1.0 + exact.abs()), "gelu({x})");
        }
    }

    #[test]
    fn gradients() {
        for (rows, width) in [(1, 1037), (150, 7), (64, 16)] {
            let x: Vec<f32> = noise(rows * width, 1).iter().map(|v| 3.0 * v).collect();
            let (bias, dy) = (noise(width, 3), noise(rows * width, 2));
            let (mut dx, mut y, mut d_bias) = (dy.clone(), x.clone(), vec![0.0; width]);
            backward(&mut y, &bias, &mut dx, Some(&mut d_bias), &mut Vec::new());
            let run = |x: &[f32], bias: &[f32]| {
                let mut y = vec![0.0; x.len()];
                forward(x, bias, &mut y);
                y
            };
            assert!(y == run(&x, &bias));
            check_gradient("input", &x, &dx, &dy, |x| run(x, &bias));
            check_gradient("bias", &bias, &d_bias, &dy, |bias| run(&x, bias));
        }
    }
}
