//! A table of everything that `cargo bench` has measured here, mixing and training, and how far from the machine's limit
//! each figure is: `cargo run --release -p xtask --bin bench_table`.
//!
//! Mixing is limited by memory, and compared with a copy of the same values. Products and training steps are limited by
//! arithmetic, and compared with a plain kernel on registers.

use std::error::Error;
use std::path::Path;

use serde_json::Value;

/// The group of the plain kernels.
const PEAK: &str = "products at most";
/// The row that tells a training step's operations.
const STEP_PRODUCTS: &str = "products of a training step";

fn main() -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    collect(Path::new("target/criterion"), &mut rows)?;
    if rows.is_empty() {
        return Err("nothing is measured in target/criterion: run `cargo bench` here first".into());
    }
    rows.sort_by_key(|row| (row.group.clone(), row.way.clone()));
    println!("| what | way | milliseconds | a second | of the limit |\n|---|---|---|---|---|");
    for row in &rows {
        let limit =
            row.least_seconds(&rows).map_or(String::new(), |least| format!("{:.2}", least / row.seconds));
        let Row { group, way, seconds, .. } = row;
        println!("| {group} | {way} | {:.3} | {} | {limit} |", seconds * 1e3, row.rate());
    }
    Ok(())
}

/// What a row's amount counts.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Flops,
    Tokens,
    Bytes,
}

/// A measurement.
struct Row {
    group: String,
    way: String,
    seconds: f64,
    amount: f64,
    unit: Unit,
}

impl Row {
    fn rate(&self) -> String {
        let rate = self.amount / self.seconds;
        match self.unit {
            Unit::Flops => format!("{:.1} Gflop", rate * 1e-9),
            Unit::Tokens => format!("{:.1} thousand tokens", rate * 1e-3),
            Unit::Bytes => format!("{:.1} GB", rate * 1e-9),
        }
    }

    /// The least time in which the machine could do it, as far as it was measured.
    fn least_seconds(&self, all: &[Row]) -> Option<f64> {
        let of_group = |way: &str| all.iter().find(|row| row.group == self.group && row.way == way);
        let flops = match self.unit {
            Unit::Bytes => return of_group("copying").map(|row| row.seconds),
            Unit::Flops => self.amount,
            Unit::Tokens if self.way == "training step" => of_group(STEP_PRODUCTS)?.amount,
            Unit::Tokens => return None,
        };
        // Each way names its precision, or its group does.
        let precision =
            if self.group.ends_with(" bf16") || self.way.contains("bf16 by") { "bf16" } else { "f32" };
        let peaks = all.iter().filter(|row| row.group == PEAK && row.way.starts_with(precision));
        let least = peaks.map(|peak| flops / peak.amount * peak.seconds).fold(f64::INFINITY, f64::min);
        (self.group != PEAK && least.is_finite()).then_some(least)
    }
}

/// Rows of all benches in a folder and below.
fn collect(folder: &Path, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join("new").join(name)).ok()?).ok()
    };
    if let (Some(about), Some(times)) = (read("benchmark.json"), read("estimates.json")) {
        let seconds = times["median"]["point_estimate"].as_f64().unwrap_or(f64::NAN) * 1e-9;
        let text = |key: &str| about[key].as_str().unwrap_or_default().to_string();
        let (group, way) = (text("group_id"), text("value_str"));
        let throughput = &about["throughput"];
        let (amount, unit) = match throughput["Elements"].as_f64() {
            Some(flops) if group.starts_with("products") || way == STEP_PRODUCTS => (flops, Unit::Flops),
            Some(tokens) => (tokens, Unit::Tokens),
            None => (throughput["Bytes"].as_f64().unwrap_or(f64::NAN), Unit::Bytes),
        };
        rows.push(Row { group, way, seconds, amount, unit });
        return Ok(());
    }
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, rows)?;
        }
    }
    Ok(())
}
