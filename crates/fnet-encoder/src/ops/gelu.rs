//! GELU in its tanh form (Hendrycks and Gimpel 2016; `gelu_new` in Transformers):
//! `y = x/2 (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x³)`, which is `x sigmoid(2u)`.

use rayon::prelude::*;

use crate::arch::{exp, multiversion};

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `y = gelu(x)`
pub fn forward(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(super::TASK_VALUES)
        .zip(x.par_chunks(super::TASK_VALUES))
        .for_each(|(y, x)| forward_chunk(x, y));
}

multiversion! {
    fn forward_chunk(x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
            *y = x * (1.0 / (1.0 + exp(-2.0 * u)));
        }
    }
}

/// `dy = dy * gelu'(x)` in place, and `y = gelu(x)` again, which saves keeping it.
pub fn backward(x: &[f32], dy: &mut [f32], y: &mut [f32]) {
    (
        dy.par_chunks_mut(super::TASK_VALUES),
        y.par_chunks_mut(super::TASK_VALUES),
        x.par_chunks(super::TASK_VALUES),
    )
        .into_par_iter()
        .for_each(|(dy, y, x)| backward_chunk(x, dy, y));
}

multiversion! {
    fn backward_chunk(x: &[f32], dy: &mut [f32], y: &mut [f32]) {
        for ((dy, y), &x) in dy.iter_mut().zip(y).zip(x) {
            let u = SQRT_2_OVER_PI * (x + CUBIC * x * x * x);
            let sigmoid = 1.0 / (1.0 + exp(-2.0 * u));
            let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x);
            *y = x * sigmoid;
            *dy *= sigmoid + 2.0 * x * sigmoid * (1.0 - sigmoid) * slope;
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
            forward(&[x], &mut y);
            let exact = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
            let exact = 0.5 * exact * (1.0 + u.tanh());
            assert!((f64::from(y[0]) - exact).abs() < 1e-6 * (1.0 + exact.abs()), "gelu({x})");
        }
    }

    #[test]
    fn gradient() {
        let x: Vec<f32> = noise(1037, 1).iter().map(|v| 3.0 * v).collect();
        let dy = noise(1037, 2);
        let (mut dx, mut y) = (dy.clone(), vec![0.0; x.len()]);
        backward(&x, &mut dx, &mut y);
        let run = |x: &[f32]| {
            let mut y = vec![0.0; x.len()];
            forward(x, &mut y);
            y
        };
        assert!(y == run(&x));
        check_gradient("input", &x, &dx, &dy, run);
    }
}
