//! A table of everything that `cargo bench` has measured here, mixing and training:
//! `cargo run --release -p xtask --bin bench_table`.

use std::error::Error;
use std::path::Path;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    collect(Path::new("target/criterion"), &mut rows)?;
    if rows.is_empty() {
        return Err("nothing is measured in target/criterion: run `cargo bench` here first".into());
    }
    rows.sort();
    println!("| what | way | milliseconds | a second |\n|---|---|---|---|");
    for (group, way, milliseconds, rate) in rows {
        println!("| {group} | {way} | {milliseconds} | {rate} |");
    }
    Ok(())
}

/// Rows of all benches in a folder and below.
fn collect(folder: &Path, rows: &mut Vec<(String, String, String, String)>) -> Result<(), Box<dyn Error>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join("new").join(name)).ok()?).ok()
    };
    if let (Some(about), Some(times)) = (read("benchmark.json"), read("estimates.json")) {
        let seconds = times["median"]["point_estimate"].as_f64().unwrap_or(f64::NAN) * 1e-9;
        let rate = |kind: &str, unit: &str, scale: f64| {
            let amount = about["throughput"][kind].as_f64()?;
            Some(format!("{:.1} {unit}", amount / seconds * scale))
        };
        let text = |key: &str| about[key].as_str().unwrap_or_default().to_string();
        let group = text("group_id");
        let elements = if group.starts_with("products") || text("value_str").starts_with("products") {
            ("Gflop", 1e-9)
        } else {
            ("thousand tokens", 1e-3)
        };
        let rate = rate("Elements", elements.0, elements.1).or_else(|| rate("Bytes", "GB", 1e-9));
        rows.push((group, text("value_str"), format!("{:.3}", seconds * 1e3), rate.unwrap_or_default()));
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
