//! Echo state networks: a step, and fitting.
#![allow(missing_docs)] // of what criterion makes

use criterion::{Criterion, criterion_group, criterion_main};
use fnet_reservoir::{
    Dynamics, EchoState, EchoStateSettings, Example, Fit, Forecaster, Real, ReservoirSettings, systems,
};
use ndarray::s;

fn network<T: Real>(units: usize, connections: usize) -> EchoState<T> {
    let reservoir = ReservoirSettings { units, connections, ..ReservoirSettings::default() };
    EchoState::random(&EchoStateSettings { reservoir, ..EchoStateSettings::default() }, 1, 1).unwrap()
}

fn step<T: Real>(c: &mut Criterion, units: usize, connections: usize) {
    let network = network::<T>(units, connections);
    let (mut state, mut features) = (network.start(), vec![T::default(); network.features()]);
    let name = format!("step/{}/{units} units/{connections} connections", std::any::type_name::<T>());
    c.bench_function(&name, |b| b.iter(|| network.step(&mut state, &[0.5], &[], &mut features)));
}

fn all(c: &mut Criterion) {
    step::<f64>(c, 1_000, 100);
    step::<f32>(c, 1_000, 100);
    step::<f64>(c, 10_000, 100);
    step::<f32>(c, 10_000, 100);
    let series = systems::mackey_glass(5_001, 17.0);
    let known = Example { inputs: series.slice(s![..5_000, ..]), targets: series.slice(s![1.., ..]) };
    let network = network::<f64>(1_000, 100);
    c.bench_function("fit/1000 units/5000 steps", |b| {
        b.iter(|| Forecaster::fit(network.clone(), &[known], Fit::default()).unwrap());
    });
}

criterion_group! { name = benches; config = Criterion::default().sample_size(10); targets = all }
criterion_main!(benches);
