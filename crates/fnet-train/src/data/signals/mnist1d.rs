//! MNIST-1D (Greydanus 2020, section 2): ten digits drawn as curves of twelve points, each padded, scaled, moved, sheared
//! and covered with noise. A linear model has 0.32 of them, a convolution 0.94.

use std::f64::consts::TAU;

use fnet_encoder::Head;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::generated::Task;
use super::{Reading, Shape, Signal, Target};

/// Points of a digit's curve.
const POINTS: usize = 12;
/// The curves, before each is given mean 0 and deviation 1, and is moved to start at 0.
const DIGITS: [[f64; POINTS]; 10] = [
    [5.0, 6.0, 6.5, 6.75, 7.0, 7.0, 7.0, 7.0, 6.75, 6.5, 6.0, 5.0],
    [5.0, 3.0, 3.0, 3.4, 3.8, 4.2, 4.6, 5.0, 5.4, 5.8, 5.0, 5.0],
    [5.0, 6.0, 6.5, 6.5, 6.0, 5.25, 4.75, 4.0, 3.5, 3.5, 4.0, 5.0],
    [5.0, 6.0, 6.5, 6.5, 6.0, 5.0, 5.0, 6.0, 6.5, 6.5, 6.0, 5.0],
    [5.0, 4.4, 3.8, 3.2, 2.6, 2.6, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0],
    [5.0, 3.0, 3.0, 3.0, 3.0, 5.0, 6.0, 6.5, 6.5, 6.0, 4.5, 5.0],
    [5.0, 4.0, 3.5, 3.25, 3.0, 3.0, 3.0, 3.0, 3.25, 3.5, 4.0, 5.0],
    [5.0, 7.0, 7.0, 6.6, 6.2, 5.8, 5.4, 5.0, 4.6, 4.2, 5.0, 5.0],
    [5.0, 4.0, 3.5, 3.5, 4.0, 5.0, 5.0, 4.0, 3.5, 3.5, 4.0, 5.0],
    [5.0, 4.0, 3.5, 3.5, 4.0, 5.0, 5.0, 5.0, 5.0, 4.7, 4.3, 5.0],
];
/// Deviations of a curve after it is scaled down.
const SIZE: f64 = 1.0 / 6.0;
/// Fewest and most points of padding.
const PADDING: [usize; 2] = [36, 60];
/// Points of a padded curve.
const WIDE: usize = POINTS + PADDING[1];
/// Curves are moved by fewer points than this, around the end.
const MOVED: usize = 48;
/// The range of the factor of a curve's size, around 1.
const SCALED: f64 = 0.4;
/// The range of the slope that is added.
const SHEARED: f64 = 0.75;
/// Deviation of the noise where there is no curve, before it is smoothed by a bell of this deviation.
const NOISE: f64 = 0.25;
const SMOOTH: f64 = 2.0;
/// Deviation of the noise of every point.
const GRAIN: f64 = 0.02;

/// The size of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mnist1d {
    /// Steps of a series; 40 in the paper.
    pub length: usize,
}

impl Mnist1d {
    /// Refuses lengths that show nothing, or take no end.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<(), String> {
        if (2..=1_000_000).contains(&self.length) {
            return Ok(());
        }
        Err(format!("series of {} steps; there may be 2 to 1000000", self.length))
    }

    fn draw(self, random: &mut ChaCha8Rng, digit: usize) -> Vec<f32> {
        let mut curve = standard(&DIGITS[digit]);
        curve.resize(POINTS + random.random_range(PADDING[0]..=PADDING[1]), 0.0);
        let factor = 1.0 + SCALED * (random.random::<f64>() - 0.5);
        // A value of a curve is never quite 0, by which it is told from the padding.
        let mut x: Vec<f64> = resampled(&curve, WIDE).iter().map(|v| factor * v).collect();
        x.rotate_right(random.random_range(0..MOVED));
        let mut normal = |deviation: f64| -> f64 { deviation * random.sample::<f64, _>(StandardNormal) };
        let noise: Vec<f64> = (0..WIDE).map(|_| normal(NOISE)).collect();
        let smooth = smoothed(&noise);
        for (x, noise) in x.iter_mut().zip(smooth) {
            if *x == 0.0 {
                *x = noise;
            }
            *x += normal(GRAIN);
        }
        let slope = SHEARED * (random.random::<f64>() - 0.5);
        let along = |t: usize| t as f64 / (WIDE - 1) as f64 - 0.5;
        x.iter_mut().enumerate().for_each(|(t, x)| *x -= slope * along(t));
        resampled(&x, self.length).iter().map(|v| *v as f32).collect()
    }
}

/// A curve of mean 0 and deviation 1, moved to start at (nearly) 0, and scaled down.
fn standard(curve: &[f64; POINTS]) -> Vec<f64> {
    let mean = curve.iter().sum::<f64>() / POINTS as f64;
    let deviation = (curve.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / POINTS as f64).sqrt();
    curve.iter().map(|v| SIZE * (v - curve[0]) / deviation + 1e-8).collect()
}

/// The values at `count` points evenly along the whole, by straight lines between those that there are.
fn resampled(x: &[f64], count: usize) -> Vec<f64> {
    let at = |i: usize| {
        let place = i as f64 * (x.len() - 1) as f64 / (count - 1) as f64;
        let left = (place as usize).min(x.len() - 2);
        x[left] + (place - left as f64) * (x[left + 1] - x[left])
    };
    (0..count).map(at).collect()
}

/// Smoothed by a bell curve; values beyond the ends are those before them, mirrored.
fn smoothed(x: &[f64]) -> Vec<f64> {
    let reach = (4.0 * SMOOTH) as isize;
    let bell = |d: isize| (-0.5 * (d as f64 / SMOOTH).powi(2)).exp() / (TAU.sqrt() * SMOOTH);
    let whole: f64 = (-reach..=reach).map(bell).sum();
    let end = x.len() as isize;
    let mirrored = |t: isize| x[if t < 0 { -1 - t } else { t.min(2 * end - 1 - t) } as usize];
    let at = |t: isize| (-reach..=reach).map(|d| bell(d) / whole * mirrored(t + d)).sum();
    (0..end).map(at).collect()
}

impl Task for Mnist1d {
    const EXAMPLES: [usize; 2] = [4_000, 1_000];
    const PURPOSES: [&'static str; 2] = ["mnist1d", "valid mnist1d"];
    const VALIDATION_SEED: u64 = 20_201_129;
    const IS_FIXED: bool = true;

    fn shape(self) -> Shape {
        let classes: Vec<String> = (0..DIGITS.len()).map(|digit| digit.to_string()).collect();
        let head = Head::Classification { labels: DIGITS.len() };
        Shape { width: 1, longest: self.length, head, classes }
    }

    fn reading(self) -> Reading {
        Reading::Mnist1d(self)
    }

    fn example(self, random: &mut ChaCha8Rng, into: &mut Signal) {
        let digit = random.random_range(0..DIGITS.len());
        into.vectors.extend(self.draw(random, digit));
        into.target = Target::Class(digit as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::generator;

    #[test]
    fn lines_and_bells() {
        assert_eq!(resampled(&[0.0, 2.0, 4.0], 5), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(resampled(&[1.0, 3.0], 2), [1.0, 3.0]);
        // A constant stays, and the sum of a spike does.
        assert!(smoothed(&[3.0; 20]).iter().all(|v| (v - 3.0).abs() < 1e-12));
        let mut spike = [0.0; 40];
        spike[20] = 1.0;
        let bell = smoothed(&spike);
        assert!((bell.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((bell[20] - 0.199_5).abs() < 1e-3 && (bell[22] / bell[20] - (-0.5_f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn a_series_is_a_digit_in_noise() {
        let curve = standard(&DIGITS[4]);
        let mean = curve.iter().sum::<f64>() / 12.0;
        let deviation = (curve.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 12.0).sqrt();
        assert!(curve[0].abs() < 1e-7 && (deviation - 1.0 / 6.0).abs() < 1e-7);
        let draw = |seed| Mnist1d { length: 40 }.draw(&mut generator(seed, "test", 0), 7);
        let (one, other) = (draw(1), draw(2));
        assert_eq!((one.len(), draw(1)), (40, one.clone()));
        assert!(one != other && one.iter().all(|v| v.abs() < 1.5), "{one:?}");
        // The curve of a 7 is mostly above its start; the noise around it is not.
        let mean = |length| -> f64 {
            let all: Vec<f32> =
                (0..200).flat_map(|s| Mnist1d { length }.draw(&mut generator(s, "test", 0), 7)).collect();
            all.iter().map(|v| f64::from(*v)).sum::<f64>() / all.len() as f64
        };
        let area = standard(&DIGITS[7]).iter().sum::<f64>() / 60.0;
        assert!((mean(40) - area).abs() < 0.03, "{} {area}", mean(40));
        assert!(Mnist1d { length: 1 }.check().is_err());
    }
}
