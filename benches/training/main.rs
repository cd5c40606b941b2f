//! Matrix products, training steps, inference and real runs: `cargo bench -p fnet-train`, on two threads.
//!
//! `cargo run --release -p xtask --bin bench_table` prints all that the benches have measured.

#![allow(missing_docs)] // the macros below make public functions

mod real_run;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use fnet_encoder::gemm::peak::flops_per_second;
use fnet_encoder::gemm::{Out, matmul_nn, matmul_nt, matmul_tn};
use fnet_encoder::{Head, Mode, Model, ModelConfig, Precision, Products, Workspace};
use fnet_train::speed::{MASKED, TimedStep};

#[derive(Clone, Copy)]
struct Size {
    preset: &'static str,
    vocab: usize,
    sequences: usize,
    seq_len: usize,
}

const MINI: Size = Size { preset: "mini", vocab: 8_192, sequences: 32, seq_len: 128 };
const BASE: Size = Size { preset: "base", vocab: 32_000, sequences: 4, seq_len: 512 };

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn all(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).use_current_thread();
    pool.build_global().expect("no pool is there yet");
    peak(c);
    products(c);
    for size in [MINI, BASE] {
        for precision in [Precision::F32, Precision::Bf16] {
            model(c, precision, size);
        }
    }
    real_run::measure(c);
}

/// A plain kernel on registers: the most that products could reach.
fn peak(c: &mut Criterion) {
    let mut group = c.benchmark_group("products at most");
    few_samples(&mut group);
    group.throughput(Throughput::Elements(1_000_000_000));
    for products in Products::all(Precision::F32).chain(Products::all(Precision::Bf16)) {
        let name = format!("{} by {}", products.precision().name(), products.level().name());
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|times| {
                Duration::from_secs_f64(times as f64 * 1e9 / flops_per_second(products, 0.1))
            });
        });
    }
}

fn few_samples(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
}

/// The products of mini's feed-forward layer, forward and backward, in flops.
fn products(c: &mut Criterion) {
    let (tokens, hidden, wide) = (MINI.sequences * MINI.seq_len, 256, 1_024);
    let values = |len: usize| (0..len).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let (x, w, dy) = (values(tokens * hidden), values(hidden * wide), values(tokens * wide));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let mut group = c.benchmark_group(format!("products {tokens} x {hidden} x {wide}"));
    few_samples(&mut group);
    group.throughput(Throughput::Elements(2 * (tokens * hidden * wide) as u64));
    for products in Products::all(Precision::F32).chain(Products::all(Precision::Bf16)) {
        let name = |what| format!("{what}, {} by {}", products.precision().name(), products.level().name());
        group.bench_function(BenchmarkId::from_parameter(name("forward")), |b| {
            b.iter(|| matmul_nt(products, [tokens, wide, hidden], &x, &w, &mut y, Out::Set));
        });
        group.bench_function(BenchmarkId::from_parameter(name("input")), |b| {
            b.iter(|| matmul_nn(products, [tokens, hidden, wide], &dy, &w, &mut dx, Out::Set));
        });
        group.bench_function(BenchmarkId::from_parameter(name("weight")), |b| {
            b.iter(|| matmul_tn(products, [wide, hidden, tokens], &dy, &x, &mut dw, Out::Set));
        });
    }
}

/// A whole MLM step, the products in it, and a classifier's outputs.
fn model(c: &mut Criterion, precision: Precision, size: Size) {
    let config = ModelConfig::preset(size.preset).expect("a preset's name");
    let config = ModelConfig { vocab_size: size.vocab, ..config };
    let open = |head| {
        let mut model = Model::new(config.clone(), head, 1).expect("a preset can be built");
        model.set_products(Products::new(precision));
        model
    };
    let mut group = c.benchmark_group(format!("{} {}", size.preset, precision.name()));
    few_samples(&mut group);
    let mut step = TimedStep::new(open(Head::MaskedLm), size.sequences, size.seq_len, MASKED);
    let tokens = Throughput::Elements(step.batch.tokens().len() as u64);
    for recompute in [false, true] {
        step.model.set_recompute(recompute);
        let name = if recompute { "training step, recomputing" } else { "training step" };
        group.throughput(tokens.clone());
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| step.run().expect("the batch fits"));
        });
    }
    step.model.set_recompute(false);
    let flops = step.run().expect("the batch fits").products.flops;
    group.throughput(Throughput::Elements(flops));
    group.bench_function(BenchmarkId::from_parameter("products of a training step"), |b| {
        b.iter_custom(|times| (0..times).map(|_| step.run().expect("the batch fits").products.time).sum());
    });
    let (classifier, mut w) = (open(Head::Classification { labels: 2 }), Workspace::new());
    group.throughput(tokens);
    group.bench_function(BenchmarkId::from_parameter("inference"), |b| {
        b.iter(|| {
            let mut forward = classifier.forward(&step.batch, Mode::Infer, &mut w).expect("the batch fits");
            forward.logits().expect("there is a classifier")[0]
        });
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
