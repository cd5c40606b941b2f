//! Values of mean 0 and deviation 1.

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Mean and standard deviation of each channel, of the training half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Of each channel.
    pub mean: Vec<f32>,
    /// Of each channel; 1 where all values are the same.
    pub deviation: Vec<f32>,
}

impl Scale {
    /// That of values whose channels take turns.
    pub fn of(values: impl Iterator<Item = f32> + Clone, channels: usize) -> Self {
        let pass = |take: &mut dyn FnMut(f32)| {
            values.clone().for_each(take);
            Ok(())
        };
        Self::over(channels, pass).unwrap_or_else(|_| Self { mean: Vec::new(), deviation: Vec::new() })
    }

    /// As [`of`](Self::of), of values that `pass` hands over, the same in each of two passes.
    ///
    /// # Errors
    /// What `pass` returns.
    pub(super) fn over(
        channels: usize,
        mut pass: impl FnMut(&mut dyn FnMut(f32)) -> Result<()>,
    ) -> Result<Self> {
        let mut means = |of: &dyn Fn(usize, f64) -> f64| -> Result<Vec<f64>> {
            let (mut sums, mut count, mut channel) = (vec![0.0; channels], 0_usize, 0);
            pass(&mut |value| {
                sums[channel] += of(channel, f64::from(value));
                count += 1;
                channel = if channel + 1 == channels { 0 } else { channel + 1 };
            })?;
            let steps = (count / channels.max(1)).max(1) as f64;
            Ok(sums.iter().map(|sum| sum / steps).collect())
        };
        let mean = means(&|_, value| value)?;
        let variance = means(&|channel, value| (value - mean[channel]).powi(2))?;
        // What differs by rounding alone is constant.
        let deviation = variance.iter().zip(&mean).map(|(variance, mean)| {
            let deviation = variance.sqrt() as f32;
            if f64::from(deviation) > 1e-6 * mean.abs() && deviation > 0.0 { deviation } else { 1.0 }
        });
        Ok(Self { deviation: deviation.collect(), mean: mean.iter().map(|mean| *mean as f32).collect() })
    }

    /// The value that a scaled one stands for.
    pub fn invert(&self, channel: usize, scaled: f32) -> f32 {
        scaled * self.deviation[channel] + self.mean[channel]
    }

    /// Refuses what is not a scale of so many channels.
    pub(super) fn check(&self, channels: usize) -> std::result::Result<(), String> {
        let finite = self.mean.iter().chain(&self.deviation).all(|value| value.is_finite());
        let positive = self.deviation.iter().all(|deviation| *deviation > 0.0);
        if self.mean.len() == channels && self.deviation.len() == channels && finite && positive {
            return Ok(());
        }
        Err(format!("a scale that is not of {channels} channels"))
    }

    /// A value of a channel, scaled.
    pub fn apply(&self, channel: usize, value: f32) -> f32 {
        (value - self.mean[channel]) / self.deviation[channel]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_count_and_constants_do_not() {
        let values = [1e-7, 1000.1, 3e-7, 1000.1, 5e-7, 1000.1];
        let scale = Scale::of(values.into_iter(), 2);
        assert!((scale.apply(0, 5e-7) - 1.5_f32.sqrt()).abs() < 1e-3, "{scale:?}");
        assert_eq!(scale.deviation[1], 1.0);
        assert!(scale.check(2).is_ok() && scale.check(1).is_err());
        let broken = Scale { deviation: vec![0.0, 1.0], ..scale };
        assert!(broken.check(2).is_err());
    }
}
