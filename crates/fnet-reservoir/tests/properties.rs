//! What holds for every network and series.

use fnet_reservoir::{
    Arrangement, Dynamics, EchoState, EchoStateSettings, Example, Fit, Forecaster, Nvar, NvarSettings,
    Penalty, ReservoirError, ReservoirSettings,
};
use ndarray::{Array2, s};
use proptest::prelude::*;

fn series(steps: usize, channels: usize, phase: f64) -> Array2<f64> {
    Array2::from_shape_fn((steps, channels), |(t, c)| (t as f64 * (0.2 + 0.1 * c as f64) + phase).sin())
}

fn settings(units: usize, radius: f64, leak: f64, layers: usize, seed: u64) -> EchoStateSettings {
    let reservoir = ReservoirSettings {
        units,
        connections: units.min(10),
        radius,
        leak,
        seed,
        ..ReservoirSettings::default()
    };
    let arrangement = if seed.is_multiple_of(2) { Arrangement::Row } else { Arrangement::Parallel };
    EchoStateSettings { reservoir, layers, arrangement, ..EchoStateSettings::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The echo state property (Jaeger 2001): below radius 1 two starts end in the same states.
    #[test]
    fn starts_are_forgotten(units in 2_usize..80, radius in 0.1_f64..0.7, leak in 0.3_f64..1.0, layers in 1_usize..4, seed in 0_u64..100) {
        let network = EchoState::<f64>::random(&settings(units, radius, leak, layers, seed), 1, 0).unwrap();
        let (mut a, mut b) = (network.start(), network.start());
        let mut features = [vec![0.0; network.features()], vec![0.0; network.features()]];
        for t in 0..30 {
            // Another past.
            network.step(&mut b, &[(t as f64).cos() * 5.0], &[], &mut features[1]);
        }
        for t in 0..600 {
            network.step(&mut a, &[(t as f64 * 0.3).sin()], &[], &mut features[0]);
            network.step(&mut b, &[(t as f64 * 0.3).sin()], &[], &mut features[1]);
        }
        let far = features[0].iter().zip(&features[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        prop_assert!(far < 1e-6, "{far}");
    }

    /// Series of any lengths, learnt together, are each learnt from its own start, at any number of threads.
    #[test]
    fn ragged_series_are_learnt_together(lens in prop::collection::vec(12_usize..700, 1..6), threads in 1_usize..4) {
        let all: Vec<Array2<f64>> = lens.iter().enumerate().map(|(i, len)| series(len + 1, 1, i as f64)).collect();
        let examples: Vec<Example> = all.iter().map(|one| {
            let steps = one.nrows() - 1;
            Example { inputs: one.slice(s![..steps, ..]), targets: one.slice(s![1.., ..]) }
        }).collect();
        let fit = Fit { washout: 10, penalty: Penalty::Raw(1e-3), single: false };
        let network = EchoState::<f64>::random(&settings(20, 0.8, 0.7, 1, 1), 1, 0).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Forecaster::fit(network.clone(), &examples, fit).unwrap())
        };
        let own = run(threads);
        let alone = run(1);
        prop_assert_eq!(own.readout(), alone.readout());
        // A series on its own says the same wherever it stands.
        let said = own.follow(&mut own.start(), examples[0].inputs);
        let mut running = own.start();
        let half = said.nrows() / 2;
        let first = own.follow(&mut running, examples[0].inputs.slice(s![..half, ..]));
        let second = own.follow(&mut running, examples[0].inputs.slice(s![half.., ..]));
        prop_assert_eq!(ndarray::concatenate![ndarray::Axis(0), first, second], said);
    }
}

#[test]
fn sines_are_continued_by_every_kind() {
    let all = series(700, 1, 0.0);
    let known = Example { inputs: all.slice(s![..599, ..]), targets: all.slice(s![1..600, ..]) };
    let truth = all.slice(s![599..699, ..]);
    fn continued<D: Dynamics>(dynamics: D, known: Example, steps: usize) -> Array2<f64> {
        let fit = Fit { washout: 50, penalty: Penalty::Raw(1e-9), single: false };
        let forecaster = Forecaster::fit(dynamics, &[known], fit).unwrap();
        let mut running = forecaster.start();
        let last = forecaster.teach(&mut running, known);
        // The last thing said is the first step after what is known; free running goes on from there.
        let rest = forecaster.free_run(&mut running, steps - 1).unwrap();
        ndarray::concatenate![ndarray::Axis(0), last.slice(s![-1.., ..]), rest]
    }
    let feedback = ReservoirSettings { units: 100, feedback: 0.5, ..ReservoirSettings::default() };
    let networks = [
        settings(100, 0.8, 0.8, 1, 1),
        settings(60, 0.8, 0.8, 2, 2),
        settings(60, 0.8, 0.8, 2, 3),
        EchoStateSettings { squares: true, ..settings(100, 0.8, 0.8, 1, 4) },
        EchoStateSettings { reservoir: feedback, ..EchoStateSettings::default() },
    ];
    for settings in networks {
        let said = continued(EchoState::<f64>::random(&settings, 1, 1).unwrap(), known, 100);
        let off = fnet_reservoir::score::nrmse(truth, said.view());
        assert!(off < 0.05, "{settings:?}: {off}");
    }
    let nvar = Nvar::new(&NvarSettings { delays: 2, stride: 1, order: 1 }, 1).unwrap();
    assert!(fnet_reservoir::score::nrmse(truth, continued(nvar, known, 100).view()) < 1e-3);
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    let network = || EchoState::<f64>::random(&settings(20, 0.8, 0.7, 1, 1), 1, 1).unwrap();
    let all = series(60, 1, 0.0);
    let fit = Fit { washout: 100, penalty: Penalty::Raw(1e-6), single: false };
    let known = Example { inputs: all.slice(s![..59, ..]), targets: all.slice(s![1.., ..]) };
    let says = |examples: &[Example], fit: Fit, text: &str| {
        let error = Forecaster::fit(network(), examples, fit).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    };
    says(&[known], fit, "series 0 has 59 steps, and the first 100 are left out (washout)");
    says(&[], fit, "there is no series");
    let fit = Fit { washout: 10, ..fit };
    let mut broken = all.clone();
    broken[[30, 0]] = f64::NAN;
    says(
        &[Example { inputs: broken.slice(s![..59, ..]), ..known }],
        fit,
        "the inputs at step 30, channel 0, are NaN",
    );
    let two = series(59, 2, 0.0);
    says(&[Example { inputs: two.view(), ..known }], fit, "59 steps of 2 inputs");
    let still = Array2::from_elem((59, 1), 0.5);
    let still = Example { inputs: still.view(), targets: still.view() };
    // A constant series is continued; without a penalty its equations say nothing.
    let forecaster = Forecaster::fit(network(), &[still], fit).unwrap();
    let mut running = forecaster.start();
    forecaster.teach(&mut running, still);
    assert!((forecaster.free_run(&mut running, 5).unwrap()[[4, 0]] - 0.5).abs() < 1e-3);
    let few = Example { inputs: all.slice(s![..15, ..]), targets: all.slice(s![1..16, ..]) };
    let error = Forecaster::fit(network(), &[few], Fit { penalty: Penalty::Raw(0.0), ..fit });
    assert!(matches!(error, Err(ReservoirError::Singular(_))), "fewer steps than features");
}
