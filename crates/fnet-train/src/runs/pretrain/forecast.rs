//! How a run's speed grows with processes: a model of compute, bytes and latency.

use crate::error::Result;
use crate::runs::pretrain::Need;
use crate::runs::pretrain::need::model_of;
use crate::runs::pretrain::settings::PretrainSettings;
use crate::runs::report::bytes_of;
use crate::speed::TimedStep;
use crate::train::leaves::{Exchange, shortest};

/// A step on one process, and what travels on several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Seconds of a step of this process.
    pub step: f64,
    /// Batches of a step, of which the last one's backward pass hides what travels.
    pub accumulate: usize,
    /// Trained values.
    pub values: usize,
    /// Layers.
    pub layers: usize,
    /// Bytes of the trained values' gradient as it travels.
    pub bytes: f64,
    /// The share of them that belongs to layers, and may travel while the backward pass still runs.
    pub in_layers: f64,
    /// Parts that a batch is cut into.
    pub leaves: usize,
}

/// Seconds that a message needs beside its bytes.
const LATENCY: f64 = 50e-6;
/// How much of a step is its backward pass.
const BACKWARD: f64 = 2.0 / 3.0;
/// How much of what could travel during the last leaf's backward pass does: measured for mini and base on cores that
/// compute and run the network's software, too.
const HIDDEN: f64 = 0.4;

impl Forecast {
    /// Measures two steps of a run with these settings, on random tokens; `None` where memory is short.
    ///
    /// # Errors
    /// As [`need`](super::need).
    pub fn measure(settings: &PretrainSettings, need: &Need) -> Result<Option<Self>> {
        let free = bytes_of("/proc/meminfo", "MemAvailable:");
        if free.is_some_and(|free| (need.weights + need.activations + need.plans) as u64 > free) {
            return Ok(None);
        }
        let model = model_of(settings)?;
        let trained = model.parameters().trainable_len();
        let starts = model.layer_starts();
        let (layers, first) = (starts.len(), starts.last().copied().unwrap_or(0));
        let of_layers = model.parameters().table().iter().filter(|t| t.trainable && t.range().start >= first);
        let in_layers = of_layers.map(|t| t.range().len()).sum::<usize>() as f64 / trained.max(1) as f64;
        let longest = settings.longest(model.config());
        let mut step =
            TimedStep::new(model, (need.batch_tokens / longest).max(1), longest, settings.mask_rate);
        step.dropout = settings.training.dropout;
        step.run()?;
        let accumulate = settings.training.accumulate.max(1);
        let seconds = step.run()?.step.as_secs_f64() * accumulate as f64;
        let value = if settings.training.exchange == Exchange::Bf16 { 2 } else { 4 };
        let bytes = (trained * value) as f64;
        let leaves = settings.training.leaves;
        Ok(Some(Self { step: seconds, accumulate, values: trained, layers, bytes, in_layers, leaves }))
    }

    /// Seconds of a step on so many processes, each as fast as this one, over links of so many bits a second.
    ///
    /// The slowest process has `ceil(leaves / processes)` leaves. Of the gradient each process sends and receives all but
    /// its own slice, twice: to be added, and as the sum. Both take a message to each other process for each stretch of
    /// layers that travels on its own. A part of it is hidden behind the last leaf's last backward pass.
    pub fn seconds(&self, processes: usize, bits_per_second: f64) -> f64 {
        let leaves = self.leaves.max(processes.next_power_of_two());
        let share = leaves.div_ceil(processes) as f64 / leaves as f64;
        let others = (processes - 1) as f64;
        let travel = 2.0 * 8.0 * self.bytes * others / processes as f64 / bits_per_second;
        let parts = (self.values / shortest(processes)).clamp(1, self.layers + 1);
        let backward = BACKWARD * self.step / (leaves * self.accumulate) as f64;
        let hidden = if parts == 1 { 0.0 } else { HIDDEN * (travel * self.in_layers).min(backward) };
        self.step * share + travel - hidden + 2.0 * LATENCY * others * parts as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_grows_as_far_as_the_network_lets_it() {
        let forecast = Forecast {
            step: 1.0,
            accumulate: 1,
            values: 4_500_000,
            layers: 0,
            bytes: 18e6,
            in_layers: 0.5,
            leaves: 8,
        };
        assert_eq!(forecast.seconds(1, 1e9), 1.0);
        // Half of the work, and twice half of 18 MB at 1 Gbit/s.
        assert!((forecast.seconds(2, 1e9) - (0.5 + 0.144 + 1e-4)).abs() < 1e-9);
        // Eight leaves on three processes: one has three.
        assert!((forecast.seconds(3, 1e12) - 0.375).abs() < 1e-3);
        assert!(forecast.seconds(64, 1e11) < forecast.seconds(8, 1e11));
        // Half of what travels belongs to layers, and 0.4 of that is hidden; but no more than of an eighth's backward pass.
        // Each of four layers and what is below them takes its own messages.
        let forecast = Forecast { layers: 4, ..forecast };
        assert!((forecast.seconds(2, 1e9) - (0.5 + 0.144 * 0.8 + 5e-4)).abs() < 1e-9);
        assert!((forecast.seconds(2, 1e8) - (0.5 + 1.44 - 0.4 / 12.0 + 5e-4)).abs() < 1e-9);
        let forecast = Forecast { accumulate: 2, ..forecast };
        assert!((forecast.seconds(2, 1e8) - (0.5 + 1.44 - 0.4 / 24.0 + 5e-4)).abs() < 1e-9);
    }
}
