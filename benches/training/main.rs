//! Matrix products, training steps and inference: `cargo bench -p fnet-train`, on two threads.
//!
//! `cargo run --release -p fnet-train --example bench_table` prints all that the benches have measured.

#![allow(missing_docs)] // the macros below make public functions

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use fnet_encoder::gemm::{Out, matmul_nn, matmul_nt, matmul_tn};
use fnet_encoder::{Batch, Dropout, Head, MlmTargets, Model, ModelConfig, Precision, Products, Workspace};
use fnet_train::optimizer::{AdamW, Moments, gradient_norm};

const SEQUENCES: usize = 32;
const SEQ_LEN: usize = 128;
const VOCAB: usize = 8_192;

fn all(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(2).build_global().expect("no pool is there yet");
    products(c);
    for precision in [Precision::F32, Precision::Bf16] {
        model(c, precision);
    }
}

fn few_samples(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
}

/// The products of mini's feed-forward layer, forward and backward, in flops.
fn products(c: &mut Criterion) {
    let (tokens, hidden, wide) = (SEQUENCES * SEQ_LEN, 256, 1_024);
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

/// A whole MLM step, and a classifier's outputs, at preset mini.
fn model(c: &mut Criterion, precision: Precision) {
    let mut batch = Batch::new();
    for i in 0..SEQUENCES {
        let tokens: Vec<u32> =
            (0..SEQ_LEN).map(|j| (5 + (i * 7_919 + j * 104_729) % (VOCAB - 5)) as u32).collect();
        batch.push(&tokens, &[]);
    }
    let places: Vec<u32> = (0..batch.tokens().len() as u32).filter(|i| i % 20 < 3).collect();
    let labels = places.iter().map(|p| batch.tokens()[*p as usize]).collect();
    let targets = MlmTargets { places, labels };
    let config =
        || ModelConfig { vocab_size: VOCAB, ..ModelConfig::preset("mini").expect("a preset's name") };
    let open = |head| {
        let mut model = Model::new(config(), head, 1).expect("a preset can be built");
        model.set_products(Products::new(precision));
        model
    };
    let mut group = c.benchmark_group(format!("mini {}", precision.name()));
    few_samples(&mut group);
    group.throughput(Throughput::Elements(batch.tokens().len() as u64));

    let mut trained = open(Head::MaskedLm);
    let len = trained.parameters().len();
    let (mut gradients, mut moments, mut w) = (vec![0.0; len], Moments::new(len), Workspace::new());
    let (scale, dropout) = (1.0 / targets.places.len() as f32, Dropout { rate: 0.1, key: 1 });
    let mut step = 0;
    for recompute in [false, true] {
        trained.set_recompute(recompute);
        let name = if recompute { "training step, recomputing" } else { "training step" };
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                step += 1;
                gradients.fill(0.0);
                trained.forward(&batch, Some(dropout), &mut w).expect("the batch fits");
                trained
                    .mlm_loss(&batch, &targets, scale, dropout, &mut gradients, &mut w)
                    .expect("the targets fit");
                let clip = (1.0 / gradient_norm(trained.parameters(), &gradients)).min(1.0) as f32;
                AdamW::default().step(trained.parameters_mut(), &gradients, &mut moments, step, 1e-4, clip);
            });
        });
    }
    let classifier = open(Head::Classification { labels: 2 });
    group.bench_function(BenchmarkId::from_parameter("inference"), |b| {
        b.iter(|| {
            classifier.forward(&batch, None, &mut w).expect("the batch fits");
            classifier.classify(&batch, None, &mut w)[0]
        });
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
