//! A table and a plot of what `cargo bench -p fnet-mixing` has measured:
//! `cargo run --release -p xtask --bin mixing_report -- docs/mixing.svg`.

use std::error::Error;
use std::path::Path;

use fnet_mixing::Simd;
use plotters::prelude::*;

const WAYS: [&str; 5] =
    ["fnet-mixing", "realfft + rustfft", "rustfft, complex", "matrix products", "softmax attention"];
const LENGTHS: [usize; 9] = [64, 128, 256, 512, 1000, 1024, 2048, 4096, 8192];
/// As in the bench.
const HIDDEN: usize = 768;
const TOKENS: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let to = std::env::args().nth(1).ok_or("name the SVG file to write")?;
    let folder = Path::new("target/criterion");
    let times: Vec<Vec<Option<f64>>> =
        WAYS.iter().map(|way| LENGTHS.iter().map(|len| seconds(folder, *len, way)).collect()).collect();
    if times[0].iter().all(Option::is_none) {
        return Err(
            "nothing is measured in target/criterion: run `cargo bench -p fnet-mixing` here first".into()
        );
    }
    println!(
        "One thread, {}, hidden size {HIDDEN}. Milliseconds for {TOKENS} tokens.\n",
        Simd::default_level()?
    );
    println!("| sequence length | {} | GB/s | Gflop/s |", WAYS.join(" | "));
    println!("|{}", "---|".repeat(WAYS.len() + 3));
    for (i, len) in LENGTHS.iter().enumerate() {
        let cell = |t: Option<f64>| {
            t.map_or(String::new(), |t| format!("{:.2}", t * 1e3 * TOKENS as f64 / tokens(*len)))
        };
        let cells: Vec<String> = times.iter().map(|way| cell(way[i])).collect();
        let values = tokens(*len) * HIDDEN as f64;
        let own = times[0][i].unwrap_or(f64::NAN);
        // Each value is read once and written once; 1.25 N log2 N flops per sample.
        let flops = 1.25 * values * ((len * HIDDEN) as f64).log2();
        println!(
            "| {len} | {} | {:.1} | {:.1} |",
            cells.join(" | "),
            8e-9 * values / own,
            1e-9 * flops / own
        );
    }
    draw(&to, &times)
}

/// Tokens per call of the bench.
fn tokens(len: usize) -> f64 {
    ((TOKENS / len).max(1) * len) as f64
}

/// Criterion's median.
fn seconds(folder: &Path, len: usize, way: &str) -> Option<f64> {
    let file = folder.join(format!("seq_len {len}")).join(way).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? * 1e-9)
}

fn draw(to: &str, times: &[Vec<Option<f64>>]) -> Result<(), Box<dyn Error>> {
    let lines: Vec<Vec<(f64, f64)>> = times
        .iter()
        .map(|way| {
            let points = LENGTHS
                .iter()
                .zip(way)
                .filter_map(|(len, t)| Some((*len as f64, (*t)? * 1e6 / tokens(*len))));
            points.collect()
        })
        .collect();
    let all = || lines.iter().flatten().map(|p| p.1);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let area = SVGBackend::new(to, (860, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .margin_right(150)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d((64.0..8192.0).log_scale(), (low * 0.7..high * 1.4).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("sequence length (tokens)")
        .y_desc("microseconds a token")
        .x_label_formatter(&|v| format!("{v:.0}"))
        .y_label_formatter(&|v| format!("{v:.2}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (i, (way, line)) in WAYS.iter().zip(&lines).enumerate() {
        // Readable without colour: our own line is thick, and each has its name at its end.
        chart.draw_series(LineSeries::new(
            line.iter().copied(),
            BLACK.stroke_width(if i == 0 { 4 } else { 1 }),
        ))?;
        if let Some(end) = line.last() {
            let style = ("sans-serif", 14).into_font().into_text_style(&area);
            chart.draw_series([EmptyElement::at(*end) + Text::new(way.to_string(), (8, -7), style)])?;
        }
    }
    area.present()?;
    Ok(())
}
