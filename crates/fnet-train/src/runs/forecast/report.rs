//! The files of a forecast: `forecast.csv`, `free-runs.csv`, `future.csv`, `search.csv`, `results.json`, `report.html`.

use std::path::Path;

use fnet_encoder::whole_file::write_whole;
use ndarray::Array2;

use super::{Forecast, Spread};
use crate::data::text::quoted;
use crate::error::{Error, Result};
use crate::folder::{REPORT_FILE, RESULTS_FILE};
use crate::runs::plot::{Axis, Series, Style, svg};
use crate::runs::report::{escape, grouped, html_page};

/// The settings of a forecast.
pub const SETTINGS_FILE: &str = "forecast.toml";
/// The files that make a folder a forecast.
const FILES: [&str; 4] = [SETTINGS_FILE, "forecast.csv", "free-runs.csv", "future.csv"];
/// Steps of a series that a plot shows.
const SHOWN: usize = 600;

/// Whether a folder holds a forecast.
pub fn is_forecast(folder: &Path) -> bool {
    FILES.iter().any(|name| folder.join(name).exists())
}

/// Writes all files.
///
/// # Errors
/// If the folder cannot be written.
pub fn write(forecast: &Forecast, folder: &Path) -> Result<()> {
    for name in ["free-runs.csv", "future.csv", "search.csv"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(&folder.join(name))(e));
            }
            _ => {} // an earlier forecast's
        }
    }
    let put =
        |name: &str, text: String| write_whole(&folder.join(name), text.as_bytes()).map_err(Error::from);
    let lines = &forecast.lines;
    let names =
        |start: &str| forecast.channels.iter().map(|c| quoted(&format!("{start}{c}"))).collect::<Vec<_>>();
    let both = [names("truth_"), names("forecast_")].concat().join(",");
    let mut rows = format!("series,step,{both}\n");
    for (i, (truth, said)) in lines.truth.iter().zip(&lines.said).enumerate() {
        for (t, (truth, said)) in truth.rows().into_iter().zip(said.rows()).enumerate() {
            rows += &format!("{i},{},{}\n", lines.from[i] + t, joined(truth.iter().chain(said)));
        }
    }
    put("forecast.csv", rows)?;
    if !lines.free.is_empty() {
        let mut rows = format!("series,start,step,{both}\n");
        for (i, start, said) in &lines.free {
            for (t, said) in said.rows().into_iter().enumerate() {
                let truth = lines.truth[*i].row(start - lines.from[*i] + t);
                rows += &format!("{i},{start},{},{}\n", start + t, joined(truth.iter().chain(said)));
            }
        }
        put("free-runs.csv", rows)?;
    }
    if !lines.future.is_empty() {
        let mut rows = format!("series,step,{}\n", names("forecast_").join(","));
        for (i, future) in lines.future.iter().enumerate() {
            let end = lines.from[i] + lines.truth[i].nrows();
            for (t, said) in future.rows().into_iter().enumerate() {
                rows += &format!("{i},{},{}\n", end + t, joined(said.iter()));
            }
        }
        put("future.csv", rows)?;
    }
    if let Some(first) = forecast.trials.first() {
        let names: Vec<&str> = first.settings.iter().map(|(name, _)| *name).collect();
        let mut rows = format!("{},nrmse\n", names.join(","));
        for trial in &forecast.trials {
            let nrmse = trial.nrmse.map_or(String::new(), |nrmse| nrmse.to_string());
            rows += &format!("{},{nrmse}\n", joined(trial.settings.iter().map(|(_, value)| value)));
        }
        put("search.csv", rows)?;
    }
    put(RESULTS_FILE, serde_json::to_string_pretty(forecast).unwrap_or_default() + "\n")?;
    put(REPORT_FILE, page(forecast))?;
    let settings = toml::to_string(&forecast.settings).map_err(|e| Error::usage(e.to_string()))?;
    put(SETTINGS_FILE, settings)
}

fn joined<'a>(values: impl Iterator<Item = &'a f64>) -> String {
    values.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Spread {
    fn spelled(self) -> String {
        let number =
            |value: f64| if value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.4}") };
        match self.deviation {
            Some(deviation) => format!("{} ± {}", number(self.mean), number(deviation)),
            None => number(self.mean),
        }
    }
}

impl Forecast {
    /// What it came to: names and values.
    pub fn rows(&self) -> Vec<(String, String)> {
        let one = |value: f64| Spread { mean: value, deviation: None }.spelled();
        let [learnt, held_out] = self.steps.map(|steps| grouped(steps as f64));
        let mut rows = vec![
            ("series".to_string(), self.series.clone()),
            ("steps".into(), format!("{learnt} learnt from, {held_out} held out")),
            ("features".into(), grouped(self.features as f64)),
            ("fitting; running".into(), self.seconds.map(|seconds| format!("{seconds:.2} s")).join("; ")),
        ];
        let beside = self.nrmse_of_last_value.map(|last| format!("  (the last value {})", one(last)));
        let ahead = match self.horizon {
            0 => "NRMSE".to_string(),
            1 => "NRMSE one step ahead".into(),
            steps => format!("NRMSE {steps} steps ahead"),
        };
        rows.push((ahead, self.nrmse.spelled() + &beside.unwrap_or_default()));
        rows.push(("R²".into(), format!("{:.8}", self.r2.mean)));
        if self.settings.seeds > 1 {
            rows.push((format!("NRMSE of all {} together", self.settings.seeds), one(self.nrmse_together)));
        }
        if let Some(free) = self.free {
            let [runs, steps] = free.runs;
            rows.push((format!("NRMSE after {steps} steps freely run"), free.nrmse_at_last.spelled()));
            rows.push((format!("NRMSE over {runs} free runs"), free.nrmse.spelled()));
            let times = free.lyapunov_times.map(|times| format!("  ({times:.1} Lyapunov times)"));
            let valid = free.valid_steps.mean;
            rows.push(("valid steps".into(), format!("{valid:.1} of {steps}{}", times.unwrap_or_default())));
        }
        rows
    }
}

fn page(forecast: &Forecast) -> String {
    let mut body = String::from("<table>\n");
    for (name, value) in forecast.rows() {
        body += &format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&name), escape(&value));
    }
    body += "</table>\n";
    let lines = &forecast.lines;
    let line = |name: &str, values: &Array2<f64>, from: usize, channel: usize| Series {
        name: name.into(),
        points: values
            .column(channel)
            .iter()
            .take(SHOWN)
            .enumerate()
            .map(|(t, v)| ((from + t) as f64, *v))
            .collect(),
        style: Style::Line,
    };
    let plot = |title: &str, series: &[Series]| {
        let axis = |label| Axis { label, log: false };
        svg(title, axis("step"), axis("value"), series)
    };
    for (channel, name) in forecast.channels.iter().enumerate() {
        let from = lines.from[0];
        let both =
            [line("truth", &lines.truth[0], from, channel), line("forecast", &lines.said[0], from, channel)];
        let ahead = if forecast.horizon == 1 { "step" } else { "steps" };
        body += &plot(&format!("{name}, {} {ahead} ahead", forecast.horizon), &both);
        if let Some((i, start, said)) = lines.free.first() {
            let truth = lines.truth[*i].slice(ndarray::s![start - lines.from[*i].., ..]).to_owned();
            let truth = truth.slice(ndarray::s![..said.nrows(), ..]).to_owned();
            let both = [line("truth", &truth, *start, channel), line("freely run", said, *start, channel)];
            body += &plot(&format!("{name}, freely run"), &both);
        }
        if let Some(future) = lines.future.first() {
            let end = from + lines.truth[0].nrows();
            let past = lines.truth[0].slice(ndarray::s![-(SHOWN.min(lines.truth[0].nrows()) as isize).., ..]);
            let past = past.to_owned();
            let both =
                [line("known", &past, end - past.nrows(), channel), line("after", future, end, channel)];
            body += &plot(&format!("{name}, after its end"), &both);
        }
    }
    let settings = toml::to_string(&forecast.settings).unwrap_or_default();
    body += &format!("<details><summary>Settings</summary>\n<pre>{}</pre></details>\n", escape(&settings));
    html_page(&format!("Forecast of {}", forecast.series), &body)
}
