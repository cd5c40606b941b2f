//! Learns the Mackey-Glass series and runs freely: 84 steps ahead (Jaeger and Haas 2004).

use fnet_reservoir::{
    EchoState, EchoStateSettings, Example, Fit, Forecaster, Penalty, ReservoirSettings, score, systems,
};
use ndarray::{Array2, s};

const LEARNT: usize = 3_000;
const STEPS: usize = 84;
const STARTS: usize = 50;

fn main() -> fnet_reservoir::Result<()> {
    let series = systems::mackey_glass(LEARNT + STARTS * 100 + STEPS + 1, 17.0) - 1.0;
    let reservoir = ReservoirSettings {
        units: 1_000,
        radius: 1.0,
        leak: 0.7,
        input_scale: 0.5,
        ..ReservoirSettings::default()
    };
    let settings = EchoStateSettings { reservoir, ..EchoStateSettings::default() };
    let network = EchoState::<f64>::random(&settings, 1, 1)?;
    let at = |from: usize, to: usize| Example {
        inputs: series.slice(s![from..to, ..]),
        targets: series.slice(s![from + 1..to + 1, ..]),
    };
    let fit = Fit { washout: 1_000, penalty: Penalty::Raw(1e-12), single: false };
    let forecaster = Forecaster::fit(network, &[at(0, LEARNT)], fit)?;
    // From many places after what was learnt, what is said 84 steps later.
    let mut running = forecaster.start();
    forecaster.teach(&mut running, at(0, LEARNT));
    let (mut truth, mut said) = (Array2::zeros((STARTS, 1)), Array2::zeros((STARTS, 1)));
    for i in 0..STARTS {
        let now = LEARNT + 100 * i;
        let ahead = forecaster.free_run(&mut running.clone(), STEPS - 1)?;
        truth[[i, 0]] = series[[now + STEPS - 1, 0]];
        said[[i, 0]] = ahead[[STEPS - 2, 0]];
        forecaster.teach(&mut running, at(now, now + 100));
    }
    println!("NRMSE {STEPS} steps ahead: {:.2e}", score::nrmse(truth.view(), said.view()));
    Ok(())
}
