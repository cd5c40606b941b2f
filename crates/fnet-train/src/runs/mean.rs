//! Values of several seeds in two numbers.

/// Mean and, of several values, standard deviation.
pub fn mean(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (n > 0.0).then(|| (mean, (n > 1.0).then(|| (square / (n - 1.0)).sqrt())))
}
