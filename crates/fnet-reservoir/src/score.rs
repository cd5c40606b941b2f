//! How good a forecast is.

use ndarray::{ArrayView2, Axis};

/// The variance of each channel, averaged: what the mean alone would miss.
fn variance(truth: ArrayView2<f64>) -> f64 {
    truth.var_axis(Axis(0), 0.0).mean().unwrap_or(f64::NAN)
}

fn mean_square(truth: ArrayView2<f64>, said: ArrayView2<f64>) -> f64 {
    truth.iter().zip(said).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / truth.len() as f64
}

/// Root mean square error in units of the truth's deviation: 0 is perfect, 1 is what its mean would get. Both are `[steps,
/// channels]`. NaN for a constant truth.
pub fn nrmse(truth: ArrayView2<f64>, said: ArrayView2<f64>) -> f64 {
    (mean_square(truth, said) / variance(truth)).sqrt()
}

/// The part of the variance that is explained: `1 - nrmse²`.
pub fn r2(truth: ArrayView2<f64>, said: ArrayView2<f64>) -> f64 {
    1.0 - mean_square(truth, said) / variance(truth)
}

/// Steps before the error of a step, in units of `deviation`, the root mean square over channels, first exceeds `most`
/// (Pathak et al. 2018 take 0.4); all of them if it never does.
pub fn valid_steps(truth: ArrayView2<f64>, said: ArrayView2<f64>, deviation: f64, most: f64) -> usize {
    let is_off = |t: &usize| {
        let off = mean_square(truth.slice(ndarray::s![*t..=*t, ..]), said.slice(ndarray::s![*t..=*t, ..]));
        off.is_nan() || off.sqrt() > most * deviation
    };
    (0..truth.nrows()).find(is_off).unwrap_or(truth.nrows())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn of_small_series() {
        let (truth, said) = (array![[1.0], [3.0], [5.0]], array![[1.0], [3.0], [6.0]]);
        assert!((nrmse(truth.view(), said.view()) - (1.0_f64 / 8.0).sqrt()).abs() < 1e-12);
        assert!((r2(truth.view(), said.view()) - 0.875).abs() < 1e-12);
        assert_eq!(valid_steps(truth.view(), said.view(), 1.0, 0.4), 2);
        assert_eq!(valid_steps(truth.view(), said.view(), 5.0, 0.4), 3);
        assert_eq!(valid_steps(truth.view(), array![[f64::NAN], [0.0], [0.0]].view(), 1.0, 0.4), 0);
    }
}
