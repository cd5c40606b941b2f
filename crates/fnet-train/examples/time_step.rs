//! Times one MLM training step (forward, backward, clipping, AdamW) on random tokens:
//! `cargo run --release -p fnet-train --example time_step -- --preset mini --vocab-size 8192 --batch-size 32
//! --seq-len 128 --threads 2`. Prints one JSON object.

use std::error::Error;
use std::time::Instant;

use fnet_encoder::{Batch, Dropout, Head, MlmTargets, Model, ModelConfig, Precision, Products, Workspace};
use fnet_train::optimizer::{AdamW, Moments, gradient_norm};
use rand::Rng;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str, usual: &str| {
        let at = arguments.iter().position(|a| a == flag);
        at.and_then(|at| arguments.get(at + 1)).map_or(usual.to_string(), Clone::clone)
    };
    let preset = value("--preset", "mini");
    let vocab_size: usize = value("--vocab-size", "8192").parse()?;
    let batch_size: usize = value("--batch-size", "32").parse()?;
    let seq_len: usize = value("--seq-len", "128").parse()?;
    let seconds: f64 = value("--seconds", "8").parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(value("--threads", "2").parse()?).build_global()?;

    let config = ModelConfig { vocab_size, ..ModelConfig::preset(&preset).ok_or("--preset: unknown")? };
    let mut model = Model::new(config, Head::MaskedLm, 1)?;
    match value("--precision", "f32").as_str() {
        "f32" => {}
        "bf16" => model.set_products(Products::new(Precision::Bf16)),
        other => return Err(format!("--precision {other}: f32 or bf16").into()),
    }
    model.set_recompute(arguments.iter().any(|a| a == "--recompute"));
    let mut random = fnet_train::random::generator(1, "tokens", 0);
    let mut batch = Batch::new();
    let mut targets = MlmTargets::default();
    for _ in 0..batch_size {
        let tokens: Vec<u32> = (0..seq_len).map(|_| random.random_range(5..vocab_size as u32)).collect();
        batch.push(&tokens, &[]);
    }
    for (place, token) in batch.tokens().iter().enumerate() {
        if random.random_bool(0.15) {
            targets.places.push(place as u32);
            targets.labels.push(*token);
        }
    }
    let len = model.parameters().len();
    let (mut gradients, mut moments, mut w) = (vec![0.0; len], Moments::new(len), Workspace::new());
    let scale = 1.0 / targets.places.len().max(1) as f32;
    let mut times = Vec::new();
    let started = Instant::now();
    let mut step = 0;
    while step < 5 || started.elapsed().as_secs_f64() < seconds {
        let begun = Instant::now();
        step += 1;
        let dropout = Dropout { rate: 0.1, key: step };
        gradients.fill(0.0);
        model.forward(&batch, Some(dropout), &mut w)?;
        model.mlm_loss(&batch, &targets, scale, dropout, &mut gradients, &mut w)?;
        let norm = gradient_norm(model.parameters(), &gradients);
        let clip = (1.0 / norm).min(1.0) as f32;
        AdamW::default().step(model.parameters_mut(), &gradients, &mut moments, step, 1e-4, clip);
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let tokens = batch.tokens().len() as f64;
    println!(
        "{}",
        serde_json::json!({
            "preset": preset, "tokens": tokens, "steps": step,
            "tokens_per_second": (tokens / times[0]).round(),
            "median_tokens_per_second": (tokens / times[times.len() / 2]).round(),
        })
    );
    Ok(())
}
