//! The summary of a run: a table on the terminal, `results.json`, and `report.html`, one page that
//! needs no other file.

use fnet_encoder::Model;
use fnet_encoder::whole_file::write_whole;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::folder::state::State;
pub use crate::folder::{REPORT_FILE, RESULTS_FILE};
use crate::folder::{RunFolder, SETTINGS_FILE};
use crate::progress::duration;
use crate::runs::plot::{self, Axis, Series, Style};

/// What a finished run came to, as it stands in `results.json`.
pub fn results(state: &State, model: &Model) -> Value {
    let values: serde_json::Map<String, Value> =
        state.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "steps": state.step,
        "epochs": state.position.epoch,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "tokens_per_second": (state.tokens as f64 / state.seconds.max(1e-9)).round(),
        "parameters": model.parameters().len(),
        "trained_parameters": model.parameters().trainable_len(),
        "flops_per_token": model.flops_per_token(model.config().max_position_embeddings),
        "peak_memory_bytes": peak_memory(),
        "best_step": state.best.map(|(step, _)| step),
        "values": values,
    })
}

/// The most memory that this process has held so far, in bytes; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    bytes_of("/proc/self/status", "VmHWM:")
}

/// Bytes that a line of a file of the system names; `None` where there is no such file or line.
pub(crate) fn bytes_of(file: &str, name: &str) -> Option<u64> {
    let all = std::fs::read_to_string(file).ok()?;
    let line = all.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Rows of the summary table: name and value.
pub fn rows(results: &Value) -> Vec<(String, String)> {
    let number = |key: &str| results[key].as_f64().unwrap_or(f64::NAN);
    let count = |key: &str| grouped(number(key));
    let mut rows = vec![
        ("parameters".into(), count("parameters")),
        ("steps".into(), count("steps")),
        ("tokens".into(), count("tokens")),
        ("training time".into(), duration(number("seconds"))),
        ("speed".into(), format!("{} tokens/s", count("tokens_per_second"))),
    ];
    if results["trained_parameters"] != results["parameters"] && !results["trained_parameters"].is_null() {
        rows.insert(1, ("trained parameters".into(), count("trained_parameters")));
    }
    if let Some(bytes) = results["peak_memory_bytes"].as_f64() {
        rows.push(("peak memory".into(), format!("{} MB", grouped(bytes / 1e6))));
    }
    for (name, value) in results["values"].as_object().into_iter().flatten() {
        let beside = [("bag_of_words", "bag of words"), ("floor", "without learning")].into_iter();
        let beside = beside.filter_map(|(key, what)| Some((what, results[key][name].as_f64()?)));
        let beside: String = beside.map(|(what, value)| format!("  ({what} {value:.4})")).collect();
        rows.push((name.replace('_', " "), format!("{:.4}{beside}", value.as_f64().unwrap_or(f64::NAN))));
    }
    if let Some(step) = results["best_step"].as_u64() {
        rows.push(("best at step".into(), grouped(step as f64)));
    }
    rows
}

/// A whole number with its thousands apart: `1,234,567`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    if !value.is_finite() {
        return format!("{value}");
    }
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().flat_map(|c| std::str::from_utf8(c)).collect();
    let sign = if value <= -0.5 { "-" } else { "" };
    format!("{sign}{}", groups.join(","))
}

/// A table of two columns, aligned.
pub fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

/// Writes `results.json` and `report.html` into a run's folder.
///
/// # Errors
/// If the folder cannot be read or written.
pub fn write(folder: &RunFolder, title: &str, results: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(results).unwrap_or_default() + "\n";
    write_whole(&folder.file(RESULTS_FILE), text.as_bytes())?;
    let page = html_page(title, &section(folder, results)?);
    Ok(write_whole(&folder.file(REPORT_FILE), page.as_bytes())?)
}

/// What a page says of a finished run: its table, its curves and its settings.
///
/// # Errors
/// If the folder cannot be read.
pub fn section(folder: &RunFolder, results: &Value) -> Result<String> {
    let path = folder.file(SETTINGS_FILE);
    let settings = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    Ok(section_of(results, &folder.read_metrics()?, &settings))
}

fn section_of(results: &Value, metrics: &[Value], settings: &str) -> String {
    let mut body = String::new();
    for (name, value) in rows(results) {
        body += &format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&name), escape(&value));
    }
    let series = |key: &str| -> Vec<(f64, f64)> {
        metrics.iter().filter_map(|m| Some((m["step"].as_f64()?, m[key].as_f64()?))).collect()
    };
    let mut plots = plot("training loss", smoothed(&series("loss")));
    for name in results["values"].as_object().into_iter().flat_map(|v| v.keys()) {
        plots += &plot(&name.replace('_', " "), series(name));
    }
    plots += &plot("learning rate", series("learning_rate"));
    format!(
        "<table>\n{body}</table>\n{plots}\n<details><summary>Settings</summary>\n<pre>{}</pre></details>\n",
        escape(settings)
    )
}

/// One self-contained page.
pub fn html_page(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}\
         td,th{{padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}}\
         table.wide{{font-size:.8rem;line-height:1.3}}\
         .wide td+td,.wide th+th{{padding:.2rem 0 .2rem .6rem;text-align:right}}\
         svg{{max-width:100%;height:auto;margin:1rem 0}}pre{{background:#f4f4f4;padding:1rem;overflow:auto}}\
         </style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n",
        title = escape(title),
    )
}

/// A wide table of a page; the first row is its header.
pub(crate) fn html_table(rows: &[Vec<String>]) -> String {
    let mut html = String::from("<table class=\"wide\">\n");
    for (i, row) in rows.iter().enumerate() {
        let cell = if i == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escape(text))).collect();
        html += &format!("<tr>{cells}</tr>\n");
    }
    html + "</table>\n"
}

/// Text that is safe in HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// Points averaged down to at most a few hundred, so that the page stays small.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(400).max(1);
    points
        .chunks(group)
        .map(|g| {
            let n = g.len() as f64;
            (g.iter().map(|p| p.0).sum::<f64>() / n, g.iter().map(|p| p.1).sum::<f64>() / n)
        })
        .collect()
}

/// A plot over steps.
fn plot(name: &str, points: Vec<(f64, f64)>) -> String {
    let [x, y] = ["optimiser steps", name].map(|label| Axis { label, log: false });
    plot::svg(name, x, y, &[Series { name: String::new(), points, style: Style::Line }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let all = [0.0, 7.4, 999.6, 1_000.0, 1_234_567.0, -1_234.0, f64::NAN].map(grouped);
        assert_eq!(all, ["0", "7", "1,000", "1,000", "1,234,567", "-1,234", "NaN"]);
    }

    #[test]
    fn the_page_is_whole_and_safe() {
        let state = State { values: vec![("f1".into(), 0.5)], step: 3, ..State::default() };
        let metrics: Vec<Value> =
            (1..4).map(|i| json!({"step": i, "loss": 1.0 / f64::from(i), "f1": 0.5})).collect();
        let config = fnet_encoder::ModelConfig::preset("tiny").unwrap();
        let model = Model::new(config, fnet_encoder::Head::Regression, 1).unwrap();
        let mut results = results(&state, &model);
        results["bag_of_words"] = json!({"f1": 0.25});
        let page = html_page("a <b>", &section_of(&results, &metrics, "x = \"<script>\""));
        assert!(page.contains("0.5000  (bag of words 0.2500)"));
        assert!(page.contains("a &lt;b&gt;") && page.contains("&lt;script&gt;"));
        assert!(!page.contains("<script"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.ends_with("</html>\n"));
    }
}
