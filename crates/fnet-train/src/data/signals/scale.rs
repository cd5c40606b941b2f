//! Values of mean 0 and deviation 1.

use serde::{Deserialize, Serialize};

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
    pub fn of(values: impl Iterator<Item = f32>, channels: usize) -> Self {
        let (mut sums, mut squares, mut count) = (vec![0.0_f64; channels], vec![0.0_f64; channels], 0_usize);
        for value in values {
            let (channel, value) = (count % channels, f64::from(value));
            sums[channel] += value;
            squares[channel] += value * value;
            count += 1;
        }
        let n = (count / channels.max(1)).max(1) as f64;
        let mean: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
        let variance = squares.iter().zip(&mean).map(|(square, mean)| square / n - mean * mean);
        let deviation = variance.map(|v| if v > 1e-12 { v.sqrt() as f32 } else { 1.0 }).collect();
        Self { mean: mean.iter().map(|mean| *mean as f32).collect(), deviation }
    }

    /// A value of a channel, scaled.
    pub fn apply(&self, channel: usize, value: f32) -> f32 {
        (value - self.mean[channel]) / self.deviation[channel]
    }
}
