//! Against reservoirpy 0.4.2 with the same matrices; `tests/parity/reservoirpy_example.py` wrote the example.

use fnet_reservoir::{
    Dynamics, EchoState, Example, Fit, Forecaster, Nvar, NvarSettings, Penalty, Real, Reservoir,
};
use ndarray::{Array1, Array2};
use serde_json::Value;

fn example() -> Value {
    serde_json::from_str(include_str!("reservoirpy.json")).unwrap()
}

fn matrix(example: &Value, name: &str) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(example[name].clone()).unwrap();
    let width = rows[0].len();
    Array2::from_shape_vec((rows.len(), width), rows.concat()).unwrap()
}

fn vector(example: &Value, name: &str) -> Array1<f64> {
    serde_json::from_value::<Vec<f64>>(example[name].clone()).unwrap().into()
}

fn network<T: Real>(example: &Value) -> EchoState<T> {
    let [recurrent, input] = ["recurrent", "input"].map(|name| matrix(example, name));
    let (bias, leak) = (vector(example, "bias"), example["leak"].as_f64().unwrap());
    let reservoir = Reservoir::from_matrices(recurrent.view(), input.view(), None, bias.view(), leak);
    EchoState::of(reservoir.unwrap(), 0)
}

fn features<D: Dynamics>(dynamics: &D, inputs: &Array2<f64>) -> Array2<f64> {
    let (mut state, mut row) = (dynamics.start(), vec![D::Value::default(); dynamics.features()]);
    let mut all = Array2::zeros((inputs.nrows(), row.len()));
    for (input, mut features) in inputs.rows().into_iter().zip(all.rows_mut()) {
        dynamics.step(&mut state, &input.to_vec(), &[], &mut row);
        features.iter_mut().zip(&row).for_each(|(own, value)| *own = value.to_f64());
    }
    all
}

fn largest(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn states_are_the_same() {
    let example = example();
    let (inputs, states) = (matrix(&example, "inputs"), matrix(&example, "states"));
    assert!(largest(&features(&network::<f64>(&example), &inputs), &states) < 1e-12);
    assert!(largest(&features(&network::<f32>(&example), &inputs), &states) < 1e-5);
}

#[test]
fn readouts_are_the_same() {
    let example = example();
    let (inputs, targets) = (matrix(&example, "inputs"), matrix(&example, "targets"));
    let washout = example["washout"].as_u64().unwrap() as usize;
    let fit = Fit { washout, penalty: Penalty::Raw(example["penalty"].as_f64().unwrap()), single: false };
    let known = Example { inputs: inputs.view(), targets: targets.view() };
    let forecaster = Forecaster::fit(network::<f64>(&example), &[known], fit).unwrap();
    assert!(largest(&forecaster.readout().weight, &matrix(&example, "weight")) < 1e-8);
    let bias = vector(&example, "readout_bias");
    assert!((&forecaster.readout().bias - &bias).iter().all(|off| off.abs() < 1e-8));
    let said = forecaster.follow(&mut forecaster.start(), inputs.view());
    assert!(largest(&said, &matrix(&example, "outputs")) < 1e-8);
}

#[test]
fn nvar_features_are_the_same() {
    let example = example();
    let nvar = Nvar::new(&NvarSettings { delays: 3, stride: 2, order: 2 }, 2).unwrap();
    let (own, theirs) = (features(&nvar, &matrix(&example, "inputs")), matrix(&example, "nvar"));
    // Theirs are in another order of products; a row has the same numbers.
    let sorted = |row: ndarray::ArrayView1<f64>| {
        let mut row = row.to_vec();
        row.sort_by(f64::total_cmp);
        row
    };
    for (own, theirs) in own.rows().into_iter().zip(theirs.rows()) {
        let (own, theirs) = (sorted(own), sorted(theirs));
        assert!(own.len() == theirs.len());
        assert!(own.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-12), "{own:?} {theirs:?}");
    }
}
