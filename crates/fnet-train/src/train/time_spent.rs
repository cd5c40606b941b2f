//! What the time of training steps goes into.

use std::time::{Duration, Instant};

use fnet_encoder::take_tally;
use serde_json::{Value, json};

use crate::train::trainer::StepOutcome;

/// Time of the steps since this process began or resumed a run.
#[derive(Default)]
pub(super) struct TimeSpent {
    steps: Duration,
    drawing: Duration,
    products: Duration,
    exchange: Duration,
    /// Processor time of all threads; `None` where the system does not tell.
    processors: Option<f64>,
}

/// A step that has begun.
pub(super) struct Begun {
    at: Instant,
    processors: Option<f64>,
}

impl TimeSpent {
    /// A step begins.
    pub fn begin() -> Begun {
        take_tally();
        Begun { processors: processor_seconds(), at: Instant::now() }
    }

    /// Adds a step. Returns how long it took.
    pub fn add(&mut self, begun: Begun, outcome: &StepOutcome) -> Duration {
        let step = begun.at.elapsed();
        self.steps += step;
        self.drawing += outcome.drawing;
        self.exchange += outcome.exchange;
        self.products += take_tally().time;
        let own = begun.processors.zip(processor_seconds()).map(|(before, after)| after - before);
        self.processors = own.map(|own| self.processors.unwrap_or_default() + own);
        step
    }

    /// Whether there was no step.
    pub fn is_empty(&self) -> bool {
        self.steps.is_zero()
    }

    /// Parts of the steps' time: drawing batches, products, exchange with other processes, and the rest; and the part of all
    /// threads' time in which they waited.
    fn parts(&self) -> [Option<f64>; 5] {
        let steps = self.steps.as_secs_f64();
        let part = |time: Duration| (steps > 0.0).then(|| time.as_secs_f64() / steps);
        let other = self.steps.saturating_sub(self.drawing + self.products + self.exchange);
        let of_threads = rayon::current_num_threads() as f64 * steps;
        let waiting = self.processors.filter(|_| steps > 0.0).map(|own| (1.0 - own / of_threads).max(0.0));
        [part(self.drawing), part(self.products), part(self.exchange), part(other), waiting]
    }

    /// As a line of the log.
    pub fn message(&self) -> String {
        let percent = |part: Option<f64>| part.map_or("?".into(), |part| format!("{:.1} %", 100.0 * part));
        let [drawing, products, exchange, other, waiting] = self.parts().map(percent);
        let exchange = if self.exchange.is_zero() { String::new() } else { format!("exchange {exchange}, ") };
        format!(
            "time: products {products}, {exchange}other work {other}, drawing batches {drawing}; threads waited {waiting}"
        )
    }

    /// As a row of `metrics.jsonl`.
    pub fn to_json(&self) -> Value {
        let [drawing, products, exchange, other, waiting] = self.parts();
        json!({"drawing": drawing, "products": products, "exchange": exchange, "other": other, "waiting": waiting})
    }
}

/// Processor time of this process, in seconds. The kernel counts in hundredths: exact over a run, not over a step.
fn processor_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let all = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may contain anything: utime and stime are fields 14 and 15 of all.
    let mut fields = all.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let spent = TimeSpent {
            steps: Duration::from_secs(8),
            drawing: Duration::from_secs(1),
            products: Duration::from_secs(4),
            exchange: Duration::from_secs(1),
            processors: Some(6.0 * rayon::current_num_threads() as f64),
        };
        assert_eq!(spent.parts(), [Some(0.125), Some(0.5), Some(0.125), Some(0.25), Some(0.25)]);
        assert_eq!(TimeSpent::default().parts(), [None; 5]);
        let mut run = TimeSpent::default();
        let begun = TimeSpent::begin();
        let took = run.add(begun, &StepOutcome::default());
        assert!(took == run.steps && run.parts()[3] == Some(1.0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_processor_time() {
        let before = processor_seconds().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(processor_seconds().unwrap() > before);
    }
}
