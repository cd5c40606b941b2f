//! What a comparison comes to, in words.

use super::comparison::{Comparison, Entry, VALIDATION_LOSS};
use crate::runs::mean::mean;
use crate::runs::report::grouped;

/// A value of an entry with its spread over seeds.
struct Score<'a> {
    name: &'a str,
    mean: f64,
    deviation: Option<f64>,
}

impl Score<'_> {
    fn of<'a>(entry: &'a Entry, values: &[f64]) -> Option<Score<'a>> {
        let (mean, deviation) = mean(values)?;
        Some(Score { name: &entry.name, mean, deviation })
    }

    /// `4.826 ± 0.014`.
    fn value(&self) -> String {
        let spread = self.deviation.map_or_else(String::new, |d| format!(" ± {d:.3}"));
        format!("{:.3}{spread}", self.mean)
    }

    /// Whether two values are as near as their spreads.
    fn is_near(&self, other: &Self) -> bool {
        let spread = self.deviation.zip(other.deviation).map(|(a, b)| a + b);
        spread.is_some_and(|spread| (self.mean - other.mean).abs() <= spread)
    }
}

impl Comparison {
    /// What the comparison shows, a sentence or two each: quality, speed, memory, and how far to trust it.
    pub fn verdict(&self) -> Vec<String> {
        let losses = self.entries.iter().filter_map(|e| Score::of(e, &e.values(VALIDATION_LOSS)));
        let mut lines = Vec::from_iter(ranking("the lowest validation loss", losses, -1.0));
        for task in self.tasks() {
            let scores = self.entries.iter().filter_map(|e| Score::of(e, e.tasks.get(task)?));
            lines.extend(ranking(&format!("the highest score on {task}"), scores, 1.0));
        }
        let of = |pointer: &'static str| {
            let values = move |e: &Entry| Some((e.name.clone(), e.mean(pointer)?));
            let mut all: Vec<(String, f64)> = self.entries.iter().filter_map(values).collect();
            all.sort_by(|a, b| a.1.total_cmp(&b.1));
            all
        };
        if let [(slowest, slow), .., (fastest, fast)] = of("/tokens_per_second").as_slice() {
            let (rate, ratio) = (grouped(*fast), fast / slow);
            lines.push(format!("{fastest} trains fastest: {rate} tokens/s, {ratio:.1} times {slowest}."));
        }
        if let [(least, little), .., (most, much)] = of("/peak_memory_bytes").as_slice() {
            let (little, much) = (grouped(little / 1e6), grouped(much / 1e6));
            lines.push(format!("{least} needs the least memory, {little} MB; {most} the most, {much} MB."));
        }
        let seeds = self.entries.iter().map(|e| e.pretraining.len()).max().unwrap_or(0);
        if seeds == 1 {
            lines.push("One seed each: small differences may be chance.".into());
        }
        let failures = self.entries.iter().map(|e| e.failures.len()).sum::<usize>();
        if failures > 0 {
            lines.push(format!("{failures} runs failed, see below."));
        }
        lines
    }
}

/// Which entry is best, and which are as good within the spread, or the next; the highest is best with a `sign` of 1, the
/// lowest with -1.
fn ranking<'a>(what: &str, scores: impl Iterator<Item = Score<'a>>, sign: f64) -> Option<String> {
    let mut scores: Vec<Score> = scores.filter(|score| score.mean.is_finite()).collect();
    scores.sort_by(|a, b| (sign * b.mean).total_cmp(&(sign * a.mean)));
    let (best, others) = scores.split_first()?;
    let near: Vec<&str> = others.iter().filter(|other| best.is_near(other)).map(|other| other.name).collect();
    let rest = match (near.as_slice(), others) {
        ([], []) => String::new(),
        ([], [next, ..]) => format!("; next is {} with {}", next.name, next.value()),
        ([one], _) => format!("; {one} is as good within the spread"),
        (many, _) => format!("; as good within the spread are {}", many.join(", ")),
    };
    Some(format!("{} has {what}, {}{rest}.", best.name, best.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(name: &str, losses: &[f64], speed: f64) -> Entry {
        let run = |loss: &f64| json!({"tokens_per_second": speed, "peak_memory_bytes": 5e6 * speed, "values": {"validation_loss": loss}});
        Entry { name: name.into(), pretraining: losses.iter().map(run).collect(), ..Entry::default() }
    }

    #[test]
    fn says_who_wins_and_by_how_much() {
        let entries = vec![
            entry("attention", &[5.0, 5.2], 1_000.0),
            entry("fourier", &[4.2, 4.3], 3_000.0),
            entry("shift", &[4.1, 4.3], 2_000.0),
        ];
        let lines = Comparison { entries, speed: Vec::new() }.verdict();
        assert_eq!(
            lines,
            [
                "shift has the lowest validation loss, 4.200 ± 0.141; fourier is as good within the spread.",
                "fourier trains fastest: 3,000 tokens/s, 3.0 times attention.",
                "attention needs the least memory, 5,000 MB; fourier the most, 15,000 MB.",
            ]
        );
        let one =
            Comparison { entries: vec![entry("a", &[1.0], 5.0), entry("b", &[2.0], 5.0)], speed: Vec::new() };
        let lines = one.verdict();
        assert_eq!(lines[0], "a has the lowest validation loss, 1.000; next is b with 2.000.");
        assert!(lines.last().unwrap().starts_with("One seed"));
        assert!(Comparison::default().verdict().is_empty());
    }
}
