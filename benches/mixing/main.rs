//! Mixing against other ways to do it, over sequence lengths: `cargo bench -p fnet-mixing`, on one thread.
//!
//! `cargo run --release -p xtask --bin mixing_report` makes a table and a plot of the results.

#![allow(missing_docs)] // the macros below make public functions

mod peers;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use fnet_mixing::FourierMixer;
use peers::{Complex2d, Products, RealThenComplex, attention};

const HIDDEN: usize = 768;
/// Tokens in all samples of a call, for sequences that are not longer.
const TOKENS: usize = 4096;
/// Beyond this, the products' tables are larger than what they mix.
const LONGEST_PRODUCTS: usize = 2048;

fn mixing(c: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("no pool is there yet");
    for seq_len in [64, 128, 256, 512, 1000, 1024, 2048, 4096, 8192] {
        lengths(&mut c.benchmark_group(format!("seq_len {seq_len}")), seq_len);
    }
}

fn lengths(group: &mut BenchmarkGroup<'_, WallTime>, seq_len: usize) {
    let len = (TOKENS / seq_len).max(1) * seq_len * HIDDEN;
    let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut y = vec![0.0; len];
    // Read once and written once.
    group.throughput(Throughput::Bytes(8 * len as u64));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let mut run = |name: &str, mix: &mut dyn FnMut(&[f32], &mut [f32])| {
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| mix(&x, &mut y)));
    };
    run("copying", &mut |x, y| y.copy_from_slice(x));
    let mixer = FourierMixer::new(seq_len, HIDDEN).expect("a shape that can be mixed");
    run("fnet-mixing", &mut |x, y| mixer.mix(x, y).expect("whole samples"));
    let peer = RealThenComplex::new(seq_len, HIDDEN);
    run("realfft + rustfft", &mut |x, y| peer.mix(x, y));
    let peer = Complex2d::new(seq_len, HIDDEN);
    run("rustfft, complex", &mut |x, y| peer.mix(x, y));
    if seq_len <= LONGEST_PRODUCTS {
        let products = Products::new(seq_len, HIDDEN);
        run("matrix products", &mut |x, y| products.mix(x, y));
    }
    run("softmax attention", &mut |x, y| attention(x, y, seq_len, HIDDEN));
}

criterion_group!(benches, mixing);
criterion_main!(benches);
