//! Mixing against the other ways to compute Re(FFT2(x)): `cargo bench --bench mixing`.

#![allow(missing_docs)] // the macros below make public functions

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fnet_mixing::FourierMixer;
use rustfft::{FftPlanner, num_complex::Complex32};

const SHAPES: [(usize, usize, usize); 4] = [(8, 512, 768), (32, 128, 256), (1, 4096, 768), (8, 509, 768)];

fn mixing(c: &mut Criterion) {
    let mut group = c.benchmark_group("mixing");
    group.sample_size(10);
    for (batch, seq_len, hidden) in SHAPES {
        let len = batch * seq_len * hidden;
        let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut y = vec![0.0; len];
        let name = format!("{batch}x{seq_len}x{hidden}");
        group.throughput(Throughput::Elements(len as u64));
        let mixer = FourierMixer::new(seq_len, hidden).unwrap();
        group.bench_function(BenchmarkId::new("mix", &name), |b| b.iter(|| mixer.mix(&x, &mut y).unwrap()));
        group.bench_function(BenchmarkId::new("complex_2d_rustfft", &name), |b| {
            b.iter(|| complex_2d(&x, &mut y, seq_len, hidden))
        });
    }
    group.finish();
}

/// The naive use of rustfft: complex FFTs along both axes, the imaginary part thrown away.
fn complex_2d(x: &[f32], y: &mut [f32], seq_len: usize, hidden: usize) {
    let mut planner = FftPlanner::new();
    let (rows, columns) = (planner.plan_fft_forward(hidden), planner.plan_fft_forward(seq_len));
    let sample = seq_len * hidden;
    let mut transposed = vec![Complex32::default(); sample];
    for (x, y) in x.chunks_exact(sample).zip(y.chunks_exact_mut(sample)) {
        let mut z: Vec<_> = x.iter().map(|v| Complex32::new(*v, 0.0)).collect();
        rows.process(&mut z);
        for n in 0..seq_len {
            for j in 0..hidden {
                transposed[j * seq_len + n] = z[n * hidden + j];
            }
        }
        columns.process(&mut transposed);
        for n in 0..seq_len {
            for j in 0..hidden {
                y[n * hidden + j] = transposed[j * seq_len + n].re;
            }
        }
    }
}

criterion_group!(benches, mixing);
criterion_main!(benches);
