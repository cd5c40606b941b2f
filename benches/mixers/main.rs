//! Mixers against attention, in one layer and in whole encoders, over sequence lengths, with memory:
//! `cargo bench -p fnet-train --bench mixers [-- PRESET .. PLOT.svg]`, on two threads; mini and base where no preset is
//! named. A step of a long sequence takes many seconds, so each measurement is the best of a few, not a criterion bench.

#![allow(missing_docs)] // a program

use std::error::Error;

use fnet_encoder::ModelConfig;
use fnet_train::runs::compare::speed_plots;
use fnet_train::speed::{LENGTHS, Speed};

const MIXERS: [&str; 5] = ["fourier", "attention", "linear", "mlp", "none"];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    rayon::ThreadPoolBuilder::new().num_threads(2).use_current_thread().build_global()?;
    println!("Tokens a second forward, tokens a second of a training step, and its memory.\n");
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (plots, named): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|a| a.ends_with(".svg"));
    for preset in if named.is_empty() { vec!["mini", "base"] } else { named } {
        let config = ModelConfig::preset(preset).ok_or("a preset's name")?;
        let config = ModelConfig { vocab_size: 8_192, ..config };
        let one_layer = ModelConfig { num_hidden_layers: 1, ..config.clone() };
        let two_layers = ModelConfig { num_hidden_layers: 2, ..config.clone() };
        let mut all = Vec::new();
        for (what, config) in [("one layer", None), ("encoder", Some(&config))] {
            println!("| {preset}, {what} | {} |", LENGTHS.map(|n| n.to_string()).join(" | "));
            println!("|---|{}", "---|".repeat(LENGTHS.len()));
            for mixer in MIXERS {
                let mut cells = Vec::new();
                for seq_len in LENGTHS {
                    let speed = match config {
                        Some(config) => Speed::measure(config, mixer, seq_len, 1.0)?,
                        None => {
                            let one = Speed::measure(&one_layer, mixer, seq_len, 1.0)?;
                            let two = Speed::measure(&two_layers, mixer, seq_len, 1.0)?;
                            one.zip(two).map(|(one, two)| difference(&one, &two))
                        }
                    };
                    cells.push(speed.as_ref().map_or("too large".into(), |s| {
                        format!("{:.0}, {:.0}, {:.0} MB", s.inference, s.training, s.bytes / 1e6)
                    }));
                    all.extend(speed.filter(|_| config.is_some()));
                }
                println!("| {mixer} | {} |", cells.join(" | "));
            }
            println!();
        }
        if let Some(path) = plots.first() {
            // Benches run in their crate's folder.
            let path = std::path::Path::new("../..").join(path.replace(".svg", &format!("-{preset}.svg")));
            std::fs::write(path, &speed_plots(&all)[0])?;
        }
    }
    Ok(())
}

/// What a second layer costs beside the first: one layer alone.
fn difference(one: &Speed, two: &Speed) -> Speed {
    let rate = |one: f64, two: f64| 1.0 / (1.0 / two - 1.0 / one);
    Speed {
        training: rate(one.training, two.training),
        inference: rate(one.inference, two.inference),
        bytes: two.bytes - one.bytes,
        ..two.clone()
    }
}
