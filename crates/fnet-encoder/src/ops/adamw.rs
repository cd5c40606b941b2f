//! AdamW (Loshchilov and Hutter 2019, algorithm 2) in one sweep over weights, moments and gradients.

use crate::arch::multiversion;

/// What one update does to every value of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Factor of the gradient: clipping.
    pub gradient_scale: f32,
    /// Factor of the weight: decoupled weight decay.
    pub keep: f32,
    /// Learning rate, with the corrections of both moments.
    pub rate: f32,
    /// Added to the root of the second moment, including its correction.
    pub epsilon: f32,
}

multiversion! {
    /// Updates weights and moments, and leaves the gradients zero for the next step.
    pub fn update(weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradients: &mut [f32], by: Update) {
        for (((w, m), v), gradient) in weights.iter_mut().zip(first).zip(second).zip(gradients) {
            let g = std::mem::take(gradient) * by.gradient_scale;
            *m = by.beta1 * *m + (1.0 - by.beta1) * g;
            *v = by.beta2 * *v + (1.0 - by.beta2) * g * g;
            *w = *w * by.keep - by.rate * *m / (v.sqrt() + by.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn follows_the_algorithm() {
        let (beta1, beta2, rate, decay, epsilon, steps) = (0.9_f64, 0.999_f64, 1e-2, 0.1, 1e-8, 5);
        let start = noise(37, 1);
        let (mut w, mut m, mut v) = (start.clone(), vec![0.0; 37], vec![0.0; 37]);
        let mut exact: Vec<[f64; 3]> = start.iter().map(|w| [f64::from(*w), 0.0, 0.0]).collect();
        for step in 1..=steps {
            let mut gradients = noise(37, 1 + step as u32);
            let corrections = [1.0 - beta1.powi(step), (1.0 - beta2.powi(step)).sqrt()];
            for ([w, m, v], g) in exact.iter_mut().zip(&gradients) {
                let g = 0.5 * f64::from(*g);
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *w -= rate * (*m / corrections[0] / (v.sqrt() / corrections[1] + epsilon) + decay * *w);
            }
            let by = Update {
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                gradient_scale: 0.5,
                keep: (1.0 - rate * decay) as f32,
                rate: (rate * corrections[1] / corrections[0]) as f32,
                epsilon: (epsilon * corrections[1]) as f32,
            };
            update(&mut w, &mut m, &mut v, &mut gradients, by);
            assert!(gradients.iter().all(|g| *g == 0.0));
        }
        for (w, [exact, ..]) in w.iter().zip(&exact) {
            assert!((f64::from(*w) - exact).abs() < 1e-6, "{w} {exact}");
        }
    }
}
