//! A whole pretraining run on the shipped sample, at the defaults: drawing, masking, logging and all.

use std::path::Path;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use fnet_encoder::Precision;
use fnet_train::folder::RunFolder;
use fnet_train::runs::pretrain::{self, PretrainSettings};
use fnet_train::runs::running::Running;
use fnet_train::runs::training::TrainingSettings;

/// Tokens that a measurement is given for, about as many as a step has.
const TOKENS: u64 = 1_000;
const STEPS: u64 = 40;

pub fn measure(c: &mut Criterion) {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/corpus");
    let place = std::env::temp_dir().join(format!("fnet-bench-{}", std::process::id()));
    let usual = PretrainSettings::default();
    for precision in [Precision::F32, Precision::Bf16] {
        let settings = PretrainSettings {
            corpus: vec![sample.join("train.txt")],
            valid: vec![sample.join("valid.txt")],
            training: TrainingSettings { steps: Some(STEPS), precision, ..usual.training.clone() },
            ..usual.clone()
        };
        let run = || {
            let folder = RunFolder::new(&place, true).expect("a folder for the run");
            let running = Running { quiet: true, ..Running::default() };
            let results = pretrain::run(&folder, &settings, &running).expect("the sample can be trained on");
            TOKENS as f64 / results["tokens_per_second"].as_f64().expect("a rate")
        };
        let mut group = c.benchmark_group(format!("mini {}", precision.name()));
        super::few_samples(&mut group);
        group.throughput(Throughput::Elements(TOKENS));
        group.bench_function(BenchmarkId::from_parameter("real pretraining"), |b| {
            b.iter_custom(|times| Duration::from_secs_f64(run() * times as f64));
        });
    }
    std::fs::remove_dir_all(&place).expect("the run's folder goes");
}
