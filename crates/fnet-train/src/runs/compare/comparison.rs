//! What a comparison of mixers came to: a table, `results.json`, `results.csv` and one page with plots.

use std::collections::BTreeMap;
use std::path::Path;

use fnet_encoder::whole_file::write_whole;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::progress::duration;
use crate::runs::mean::mean;
use crate::runs::pareto::front;
use crate::runs::plot::{self, Axis, Series, Style};
use crate::runs::report::{escape, grouped, html_page, html_table};
use crate::speed::Speed;

/// One mixer under one recipe, over all seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Mixer, and recipe where it is not `full`.
    pub name: String,
    /// Finished pretrainings, as in their `results.json`, one a seed.
    pub pretraining: Vec<Value>,
    /// Validation loss over the first seed's run.
    pub curve: Vec<Point>,
    /// Each task's score of each seed: the mean of the task's metrics.
    pub tasks: BTreeMap<String, Vec<f64>>,
    /// What failed, each in one line.
    pub failures: Vec<String>,
}

/// A point of a validation curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Optimiser steps so far.
    pub step: f64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Floating-point operations so far: three times the forward pass's.
    pub flops: f64,
    /// Validation loss.
    pub loss: f64,
}

/// Everything that a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// In the order that was asked for.
    pub entries: Vec<Entry>,
    /// By entry and length.
    pub speed: Vec<Speed>,
}

impl Entry {
    /// A value of the pretrainings, by its place in `results.json`.
    pub(super) fn values(&self, pointer: &str) -> Vec<f64> {
        self.pretraining.iter().filter_map(|run| run.pointer(pointer)?.as_f64()).collect()
    }

    pub(super) fn mean(&self, pointer: &str) -> Option<f64> {
        Some(mean(&self.values(pointer))?.0)
    }

    /// Mean over tasks of their mean scores; `None` before every one of `tasks` has a score.
    pub fn average(&self, tasks: &[&str]) -> Option<f64> {
        let scores: Option<Vec<f64>> = tasks.iter().map(|t| Some(mean(self.tasks.get(*t)?)?.0)).collect();
        Some(mean(&scores?)?.0)
    }

    /// Floating-point operations of a pretraining.
    fn flops(&self) -> Option<f64> {
        Some(3.0 * self.mean("/flops_per_token")? * self.mean("/tokens")?)
    }
}

pub(super) const VALIDATION_LOSS: &str = "/values/validation_loss";

impl Comparison {
    /// Names of all tasks that any entry has.
    pub fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> =
            self.entries.iter().flat_map(|e| e.tasks.keys().map(String::as_str)).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// The table: a header and a row an entry.
    pub fn table(&self) -> Vec<Vec<String>> {
        let tasks = self.tasks();
        let mut header: Vec<String> = [
            "mixer",
            "parameters",
            "trained",
            "Mflops/token",
            "tokens/s",
            "peak MB",
            "time",
            "steps",
            "validation loss",
        ]
        .map(String::from)
        .to_vec();
        header.extend(tasks.iter().map(ToString::to_string));
        header.push("average".into());
        let mut rows = vec![header];
        let spread = |values: &[f64], digits: usize| match mean(values) {
            None => "–".to_string(),
            Some((mean, None)) => format!("{mean:.digits$}"),
            Some((mean, Some(deviation))) => format!("{mean:.digits$} ± {deviation:.digits$}"),
        };
        for entry in &self.entries {
            let whole = |pointer: &str, scale: f64| {
                entry.mean(pointer).map_or("–".to_string(), |v| grouped(v * scale))
            };
            let mflops = entry.mean("/flops_per_token").map_or("–".into(), |v| format!("{:.2}", v * 1e-6));
            let time = entry.mean("/seconds").map_or("–".into(), duration);
            let mut row = vec![
                entry.name.clone(),
                whole("/parameters", 1.0),
                whole("/trained_parameters", 1.0),
                mflops,
                whole("/tokens_per_second", 1.0),
                whole("/peak_memory_bytes", 1e-6),
                time,
                whole("/steps", 1.0),
                spread(&entry.values(VALIDATION_LOSS), 3),
            ];
            let none = Vec::new();
            row.extend(tasks.iter().map(|t| spread(entry.tasks.get(*t).unwrap_or(&none), 3)));
            row.push(entry.average(&tasks).map_or("–".into(), |v| format!("{v:.3}")));
            rows.push(row);
        }
        rows
    }

    /// Writes `results.json`, `results.csv` and `report.html`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path, settings: &str) -> Result<()> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        write_whole(&folder.join("results.json"), json.as_bytes())?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        let rows = self.table();
        // Into memory: nothing can fail.
        rows.iter().for_each(|row| drop(csv.write_record(row)));
        write_whole(&folder.join("results.csv"), &csv.into_inner().unwrap_or_default())?;
        Ok(write_whole(&folder.join("report.html"), self.page(settings).as_bytes())?)
    }

    fn curves(&self, title: &str, label: &str, of: fn(&Point) -> f64) -> String {
        let series: Vec<Series> = self
            .entries
            .iter()
            .map(|e| {
                let points = e.curve.iter().map(|p| (of(p), p.loss)).collect();
                Series { name: e.name.clone(), points, style: Style::Marked }
            })
            .collect();
        let [x, y] = [label, "validation loss (nats)"].map(|label| Axis { label, log: false });
        plot::svg(title, x, y, &series)
    }

    /// Quality over a cost, with the entries that no other beats in both joined.
    fn quality(&self, title: &str, label: &str, cost: impl Fn(&Entry) -> Option<f64>) -> String {
        let tasks = self.tasks();
        // Without tasks, quality is how well masked tokens are predicted.
        let quality =
            |e: &Entry| if tasks.is_empty() { e.mean("/values/masked_accuracy") } else { e.average(&tasks) };
        let places: Vec<(String, (f64, f64))> =
            self.entries.iter().filter_map(|e| Some((e.name.clone(), (cost(e)?, quality(e)?)))).collect();
        let points: Vec<(f64, f64)> = places.iter().map(|p| p.1).collect();
        let mut series: Vec<Series> = places
            .into_iter()
            .map(|(name, p)| Series { name, points: vec![p], style: Style::Marked })
            .collect();
        if series.is_empty() {
            return String::new();
        }
        series.push(Series { name: "Pareto front".into(), points: front(&points), style: Style::Line });
        let y = if tasks.is_empty() { "masked accuracy" } else { "average of the tasks" };
        let [x, y] = [label, y].map(|label| Axis { label, log: false });
        plot::svg(title, x, y, &series)
    }

    fn page(&self, settings: &str) -> String {
        let verdict = self.verdict().into_iter().map(|line| format!("<li>{}</li>\n", escape(&line)));
        let mut body = format!("<ul>\n{}</ul>\n{}", verdict.collect::<String>(), html_table(&self.table()));
        body += "<p>Flops count a forward pass at the longest sequence; training takes three times as \
                 many. ± is the standard deviation over seeds. A task's score is the mean of its metrics.</p>\n";
        let failures: Vec<String> = self
            .entries
            .iter()
            .flat_map(|e| {
                e.failures.iter().map(move |f| format!("<li>{}: {}</li>", escape(&e.name), escape(f)))
            })
            .collect();
        if !failures.is_empty() {
            body += &format!("<h2>Failed</h2>\n<ul>{}</ul>\n", failures.join("\n"));
        }
        body += &self.curves("Validation loss over steps", "optimiser steps", |p| p.step);
        body += &self.curves("Validation loss over time", "seconds of training", |p| p.seconds);
        body += &self.curves("Validation loss over work", "floating-point operations", |p| p.flops);
        body += &self.quality("Quality over time", "seconds of pretraining", |e| e.mean("/seconds"));
        body += &self.quality("Quality over work", "floating-point operations of pretraining", Entry::flops);
        body += &self.quality("Quality over memory", "peak memory of pretraining (bytes)", |e| {
            e.mean("/peak_memory_bytes")
        });
        body += &speed_plots(&self.speed).concat();
        body += &format!("<h2>Settings</h2>\n<pre>{}</pre>\n", escape(settings));
        html_page("Comparison of mixers", &body)
    }
}

/// Training speed over sequence length, inference speed, and memory.
pub fn speed_plots(speeds: &[Speed]) -> [String; 3] {
    let lines = |of: fn(&Speed) -> f64| -> Vec<Series> {
        let mut lines: Vec<Series> = Vec::new();
        for speed in speeds {
            let point = (speed.seq_len as f64, of(speed));
            match lines.iter_mut().find(|line| line.name == speed.name) {
                Some(line) => line.points.push(point),
                None => {
                    lines.push(Series { name: speed.name.clone(), points: vec![point], style: Style::Marked })
                }
            }
        }
        lines
    };
    let axis = |label| Axis { label, log: true };
    let (x, rate) = (axis("tokens in a sequence"), axis("tokens a second"));
    [
        plot::svg("Training speed", x, rate, &lines(|s| s.training)),
        plot::svg("Inference speed", x, rate, &lines(|s| s.inference)),
        plot::svg("Memory of a training step", x, axis("bytes"), &lines(|s| s.bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_and_pages_hold_every_entry() {
        let run = |loss: f64| {
            json!({"parameters": 10, "trained_parameters": 7, "tokens": 100, "seconds": 2.0,
            "flops_per_token": 2e6, "peak_memory_bytes": 5e6, "tokens_per_second": 50, "steps": 4,
            "values": {"validation_loss": loss, "masked_accuracy": 0.5}})
        };
        let full = Entry {
            name: "fourier".into(),
            pretraining: vec![run(4.0), run(5.0)],
            curve: vec![Point { step: 4.0, seconds: 2.0, flops: 6e8, loss: 4.0 }],
            tasks: [("cola".into(), vec![0.5, 0.7]), ("sst2".into(), vec![0.8])].into(),
            failures: Vec::new(),
        };
        let failed = Entry { name: "a<b".into(), failures: vec!["diverged".into()], ..Entry::default() };
        let comparison = Comparison { entries: vec![full, failed], speed: Vec::new() };
        let table = comparison.table();
        let expected = [
            "fourier",
            "10",
            "7",
            "2.00",
            "50",
            "5",
            "2 s",
            "4",
            "4.500 ± 0.707",
            "0.600 ± 0.141",
            "0.800",
            "0.700",
        ];
        assert_eq!(table[1], expected);
        assert!(table[2][1..].iter().all(|cell| cell == "–"));
        let page = comparison.page("steps = 4");
        assert!(page.contains("a&lt;b: diverged") && page.contains("steps = 4"));
        assert_eq!(page.matches("<svg").count(), 6);
    }
}
