//! A readout that learns from step to step.

use ndarray::{Array1, Array2};

use crate::error::{ReservoirError, Result};

/// Recursive least squares (Haykin 2002, section 9.3): after each step the weights are those of ridge regression over all
/// steps so far, the older ones counted less if there is forgetting.
///
/// ```
/// use fnet_reservoir::RecursiveLeastSquares;
///
/// let mut readout = RecursiveLeastSquares::new(1, 1, 1.0, 1e-6)?;
/// for t in 0..20 {
///     let x = f64::from(t).sin();
///     readout.update(&[x], &[3.0 * x - 1.0]);
/// }
/// assert!((readout.predict(&[0.5])[0] - 0.5).abs() < 1e-4);
/// # Ok::<(), fnet_reservoir::ReservoirError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecursiveLeastSquares {
    /// `[outputs, inputs + 1]`, the last for the constant.
    weight: Array2<f64>,
    /// The inverse of the weighted sum of `x xᵀ`.
    inverse: Array2<f64>,
    forgetting: f64,
    x: Array1<f64>,
}

impl RecursiveLeastSquares {
    /// For `inputs` features and `outputs` targets. Steps count `forgetting` times as much, from 0 to 1, with each step that
    /// follows; `penalty` is that of the weights' squares before the first step.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(inputs: usize, outputs: usize, forgetting: f64, penalty: f64) -> Result<Self> {
        if !(forgetting > 0.0 && forgetting <= 1.0) {
            return Err(ReservoirError::setting("forgetting", forgetting, "must be above 0 and at most 1"));
        }
        if !(penalty > 0.0 && penalty.is_finite()) {
            return Err(ReservoirError::setting("penalty", penalty, "must be above 0"));
        }
        Ok(Self {
            weight: Array2::zeros((outputs, inputs + 1)),
            inverse: Array2::eye(inputs + 1) / penalty,
            forgetting,
            x: Array1::ones(inputs + 1),
        })
    }

    /// The outputs for features `[inputs]`.
    pub fn predict(&self, x: &[f64]) -> Vec<f64> {
        let output = |weight: ndarray::ArrayView1<f64>| -> f64 {
            weight.iter().zip(x.iter().chain([&1.0])).map(|(w, x)| w * x).sum()
        };
        self.weight.rows().into_iter().map(output).collect()
    }

    /// Learns from one step; returns what was predicted before.
    pub fn update(&mut self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let before = self.predict(x);
        self.x.iter_mut().zip(x).for_each(|(own, x)| *own = *x);
        let along = self.inverse.dot(&self.x);
        let gain = &along / (self.forgetting + self.x.dot(&along));
        for (i, mut row) in self.inverse.rows_mut().into_iter().enumerate() {
            row.zip_mut_with(&along, |v, a| *v = (*v - gain[i] * a) / self.forgetting);
        }
        for ((mut weight, y), before) in self.weight.rows_mut().into_iter().zip(y).zip(&before) {
            weight.scaled_add(y - before, &gain);
        }
        before
    }

    /// `[outputs, inputs]`.
    pub fn weight(&self) -> ndarray::ArrayView2<'_, f64> {
        let inputs = self.x.len() - 1;
        self.weight.slice(ndarray::s![.., ..inputs])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_those_of_ridge_regression() {
        let row = |t: usize| [(t as f64 * 0.7).sin(), (t * t % 7) as f64, 1.0];
        let y = |t: usize| (t as f64 * 0.3).cos() + (t % 3) as f64;
        let mut own = RecursiveLeastSquares::new(3, 1, 1.0, 0.5).unwrap();
        // The constant as a feature of its own, for ridge does not penalise its bias.
        let mut sums = Array2::<f64>::eye(4) * 0.5;
        let mut xy = Array1::<f64>::zeros(4);
        for t in 0..30 {
            own.update(&row(t), &[y(t)]);
            let x: Array1<f64> = row(t).into_iter().chain([1.0]).collect();
            for i in 0..4 {
                for j in 0..4 {
                    sums[[i, j]] += x[i] * x[j];
                }
                xy[i] += x[i] * y(t);
            }
        }
        let left = sums.dot(&own.weight.row(0)) - xy;
        assert!(left.iter().all(|v| v.abs() < 1e-9), "{left}");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let run = |forgetting| {
            let mut own = RecursiveLeastSquares::new(1, 1, forgetting, 1e-3).unwrap();
            for t in 0..200 {
                let x = (t as f64 * 0.7).sin();
                own.update(&[x], &[if t < 100 { x } else { -x }]);
            }
            own.weight()[[0, 0]]
        };
        assert!(run(0.9) < -0.99 && run(1.0).abs() < 0.2);
        assert!(RecursiveLeastSquares::new(1, 1, 0.0, 1.0).is_err());
    }
}
