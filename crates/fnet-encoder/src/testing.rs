//! Helpers for this crate's tests.

/// Values in -1..1 that look random and depend only on the seed.
pub fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        })
        .collect()
}

/// Compares `gradient`, the gradient of `<f(x), dy>` with respect to `x`, with central differences
/// along random directions, summed in float64.
pub fn check_gradient(name: &str, x: &[f32], gradient: &[f32], dy: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) {
    const STEP: f32 = 1e-2;
    for seed in 100..104 {
        // Leaning towards the gradient keeps the expected slope away from zero.
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt().max(1e-12);
        let direction: Vec<f32> =
            noise(x.len(), seed).iter().zip(gradient).map(|(n, g)| 0.3 * n + g / norm).collect();
        let value = |sign: f32| -> f64 {
            let moved: Vec<f32> = x.iter().zip(&direction).map(|(x, d)| x + sign * STEP * d).collect();
            f(&moved).iter().zip(dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        };
        let measured = (value(1.0) - value(-1.0)) / f64::from(2.0 * STEP);
        let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let error = (measured - expected).abs() / expected.abs().max(1e-3);
        assert!(error < 1e-2, "{name}: measured {measured}, expected {expected}");
    }
}
