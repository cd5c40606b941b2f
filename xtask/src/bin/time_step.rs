//! Times one MLM training step (forward, backward, clipping, AdamW) on random tokens:
//! `cargo run --release -p xtask --bin time_step -- --preset mini --vocab-size 8192 --batch-size 32
//! --seq-len 128 --threads 2`. Prints one JSON object, with the share of the step spent in matrix products, their
//! rate, and the rate of a plain kernel on registers.

use std::error::Error;
use std::time::Instant;

use fnet_encoder::gemm::peak::flops_per_second;
use fnet_encoder::mixers::MixerKind;
use fnet_encoder::{Head, Model, ModelConfig, Precision, Products};
use fnet_train::speed::{TimedStep, Timing};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let threads = value("--threads", "2").parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()?;

    let config = ModelConfig::preset(&preset).ok_or("--preset: unknown")?;
    let longest = config.max_position_embeddings.max(seq_len);
    let mut config = ModelConfig { vocab_size, max_position_embeddings: longest, ..config };
    let mixer = value("--mixer", "fourier");
    config.set_mixers(MixerKind::layers(&mixer, config.num_hidden_layers)?);
    let mut model = Model::new(config, Head::MaskedLm, 1)?;
    let precision = value("--precision", "f32");
    let precision: Precision = serde_json::from_value(precision.as_str().into())?;
    model.set_products(Products::new(precision));
    model.set_recompute(arguments.iter().any(|a| a == "--recompute"));
    let products = model.products();
    let peak = flops_per_second(products, 0.5);
    let mut step = TimedStep::new(model, batch_size, seq_len, value("--mask-rate", "0.15").parse()?);
    step.dropout = value("--dropout", "0.1").parse()?;
    let mut timings: Vec<Timing> = Vec::new();
    let started = Instant::now();
    while timings.len() < 5 || started.elapsed().as_secs_f64() < seconds {
        timings.push(step.run()?);
    }
    timings.sort_by_key(|t| t.step);
    let tokens = step.batch.tokens().len() as f64;
    let (best, median) = (timings[0], timings[timings.len() / 2]);
    let inference = step.measure_inference(seconds / 4.0)?;
    let in_products = best.products.time.as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "preset": preset, "tokens": tokens, "steps": timings.len(),
            "products": format!("{} by {}", products.precision().name(), products.level().name()),
            "tokens_per_second": (tokens / best.step.as_secs_f64()).round(),
            "median_tokens_per_second": (tokens / median.step.as_secs_f64()).round(),
            "inference_tokens_per_second": (tokens / inference.as_secs_f64()).round(),
            "part_in_products": in_products / best.step.as_secs_f64(),
            "products_gflops": best.products.flops as f64 * 1e-9 / in_products,
            "peak_gflops": peak * 1e-9,
        })
    );
    Ok(())
}
