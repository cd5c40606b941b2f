//! A readout on dynamics: fitted in one pass, followed along a series, or run freely on its own outputs.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::dynamics::Dynamics;
use crate::error::{ReservoirError, Result};
use crate::real::Real;
use crate::ridge::{Penalty, Ridge, Sums};

/// Steps whose features are in memory at once.
const CHUNK: usize = 512;
/// As many of wide features: adding to the sums costs as much as some of their products.
const WIDE_CHUNK: usize = 2_048;
/// Series that are followed side by side: the same at any number of threads, for it is the order of the sums.
const SIDE_BY_SIDE: usize = 16;
/// Features from which on they are wide.
const WIDE: usize = 2_048;

/// A series to learn from: inputs `[steps, inputs]` and targets `[steps, outputs]`, what is known at a step and what should
/// be said there.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// `[steps, inputs]`.
    pub inputs: ArrayView2<'a, f64>,
    /// `[steps, outputs]`.
    pub targets: ArrayView2<'a, f64>,
}

/// How a readout is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Steps at the start of each series that are not learnt from: the state still depends on where it started.
    pub washout: usize,
    /// The penalty of the readout's weights.
    pub penalty: Penalty,
    /// Whether products are summed in float32 first: faster with thousands of units, see [`Sums::in_single`].
    pub single: bool,
}

impl Default for Fit {
    fn default() -> Self {
        Self { washout: 100, penalty: Penalty::Raw(1e-6), single: false }
    }
}

/// Dynamics with a fitted linear readout.
///
/// ```
/// use fnet_reservoir::{EchoState, EchoStateSettings, Example, Fit, Forecaster, systems};
/// use ndarray::s;
///
/// let series = systems::mackey_glass(1_200, 17.0);
/// let network = EchoState::<f64>::random(&EchoStateSettings::default(), 1, 1)?;
/// // Say at each step what comes next.
/// let known = Example { inputs: series.slice(s![..999, ..]), targets: series.slice(s![1..1_000, ..]) };
/// let mut forecaster = Forecaster::fit(network, &[known], Fit::default())?;
/// let mut running = forecaster.start();
/// forecaster.teach(&mut running, known);
/// let future = forecaster.free_run(&mut running, 50)?;
/// assert!((future[[49, 0]] - series[[1_048, 0]]).abs() < 0.05);
/// # Ok::<(), fnet_reservoir::ReservoirError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Forecaster<D> {
    dynamics: D,
    readout: Ridge,
}

/// Where a forecaster is in a series.
#[derive(Debug, Clone)]
pub struct Running<S> {
    state: S,
    /// The last output, said or taught.
    output: Vec<f64>,
}

impl<S> Running<S> {
    /// Puts something in the place of the last output: the truth, or what should be taken for it.
    pub fn set_output(&mut self, output: Vec<f64>) {
        self.output = output;
    }
}

impl<D: Dynamics> Forecaster<D> {
    /// Fits the readout to all series, each from the start; feedback is what should have been said. The same bytes at any
    /// number of threads, and memory that does not grow with the length of a series.
    ///
    /// # Errors
    /// If a series is shorter than the washout, does not fit, or has a value that is not finite; if the equations are
    /// singular.
    pub fn fit(dynamics: D, examples: &[Example], fit: Fit) -> Result<Self> {
        let outputs = check(&dynamics, examples, fit.washout)?;
        let features = dynamics.features();
        let mut sums =
            if fit.single { Sums::in_single(features, outputs) } else { Sums::new(features, outputs) };
        if let [one] = examples {
            let (mut source, mut next) = (Source::new(&dynamics, *one, fit.washout), Chunk::default());
            let mut chunk = Chunk::default();
            source.fill(&mut chunk);
            // While products are summed, the next states are computed.
            while !chunk.targets.is_empty() {
                rayon::join(|| sums.add(&chunk.features, &chunk.targets), || source.fill(&mut next));
                std::mem::swap(&mut chunk, &mut next);
            }
        } else {
            for group in examples.chunks(SIDE_BY_SIDE) {
                // A chunk of each at a time, so that no series is in memory as a whole.
                let mut all: Vec<_> = group
                    .iter()
                    .map(|example| (Source::new(&dynamics, *example, fit.washout), Chunk::default()))
                    .collect();
                while !all.is_empty() {
                    all.par_iter_mut().for_each(|(source, chunk)| source.fill(chunk));
                    all.retain(|(_, chunk)| !chunk.targets.is_empty());
                    all.iter().for_each(|(_, chunk)| sums.add(&chunk.features, &chunk.targets));
                }
            }
        }
        if !sums.are_finite() {
            return Err(ReservoirError::Series("the states are not finite: make the inputs smaller".into()));
        }
        let readout = sums.into_solution(fit.penalty).ok_or_else(|| {
            ReservoirError::Singular(match fit.penalty {
                Penalty::Raw(penalty) | Penalty::Standardized(penalty) => format!("penalty {penalty}"),
                Penalty::CrossValidation => "any penalty".into(),
            })
        })?;
        Ok(Self { dynamics, readout })
    }

    /// With a given readout.
    ///
    /// # Errors
    /// If it does not fit the dynamics.
    pub fn with_readout(dynamics: D, readout: Ridge) -> Result<Self> {
        let (outputs, features) = readout.weight.dim();
        if features != dynamics.features() || ![0, outputs].contains(&dynamics.feedback()) {
            let message = format!("a readout of {features} features for {}", dynamics.features());
            return Err(ReservoirError::Series(message));
        }
        let weight = readout.weight.as_standard_layout().into_owned();
        Ok(Self { dynamics, readout: Ridge { weight, ..readout } })
    }

    /// The readout.
    pub fn readout(&self) -> &Ridge {
        &self.readout
    }

    /// The dynamics.
    pub fn dynamics(&self) -> &D {
        &self.dynamics
    }

    /// The start of a series.
    pub fn start(&self) -> Running<D::State> {
        Running { state: self.dynamics.start(), output: vec![0.0; self.outputs()] }
    }

    fn outputs(&self) -> usize {
        self.readout.bias.len()
    }

    /// Follows a series whose targets are known, and says the same as [`follow`](Self::follow) about it, but feeds back
    /// the targets.
    pub fn teach(&self, running: &mut Running<D::State>, known: Example) -> Array2<f64> {
        self.run(running, known.inputs, Some(known.targets))
    }

    /// Follows a series `[steps, inputs]`; returns what it says at each step, `[steps, outputs]`.
    pub fn follow(&self, running: &mut Running<D::State>, inputs: ArrayView2<f64>) -> Array2<f64> {
        self.run(running, inputs, None)
    }

    /// Goes on alone: at each step the last output is the input. The first row is what comes after that output.
    ///
    /// # Errors
    /// If there are not as many outputs as inputs.
    pub fn free_run(&self, running: &mut Running<D::State>, steps: usize) -> Result<Array2<f64>> {
        let (inputs, outputs) = (self.dynamics.inputs(), self.outputs());
        if inputs != outputs {
            let message = format!("{outputs} outputs cannot take the place of {inputs} inputs");
            return Err(ReservoirError::Series(message));
        }
        let mut said = Array2::zeros((steps, outputs));
        let mut features = vec![D::Value::default(); self.dynamics.features()];
        for mut row in said.rows_mut() {
            let input = running.output.clone();
            self.step(running, &input, &mut features);
            row.iter_mut().zip(&running.output).for_each(|(said, output)| *said = *output);
        }
        Ok(said)
    }

    fn run(
        &self,
        running: &mut Running<D::State>,
        inputs: ArrayView2<f64>,
        targets: Option<ArrayView2<f64>>,
    ) -> Array2<f64> {
        let mut said = Array2::zeros((inputs.nrows(), self.outputs()));
        let mut features = vec![D::Value::default(); self.dynamics.features()];
        let mut input = vec![0.0; self.dynamics.inputs()];
        for (t, mut row) in said.rows_mut().into_iter().enumerate() {
            input.iter_mut().zip(inputs.row(t)).for_each(|(own, value)| *own = *value);
            self.step(running, &input, &mut features);
            row.iter_mut().zip(&running.output).for_each(|(said, output)| *said = *output);
            if let Some(targets) = targets.filter(|_| self.dynamics.feedback() > 0) {
                running.output.iter_mut().zip(targets.row(t)).for_each(|(own, target)| *own = *target);
            }
        }
        said
    }

    fn step(&self, running: &mut Running<D::State>, input: &[f64], features: &mut [D::Value]) {
        self.dynamics.step(&mut running.state, input, &running.output, features);
        let outputs = self.readout.weight.rows().into_iter().zip(&self.readout.bias);
        for (output, (weight, bias)) in running.output.iter_mut().zip(outputs) {
            *output = bias + weight.as_slice().map_or(0.0, |weight| dot(weight, features));
        }
    }
}

/// In eight sums, so that the CPU can add them side by side.
fn dot<T: Real>(weights: &[f64], features: &[T]) -> f64 {
    let mut sums = [0.0; 8];
    let (weights, last_weights) = weights.as_chunks::<8>();
    let (features, last) = features.as_chunks::<8>();
    for (weights, features) in weights.iter().zip(features) {
        (0..8).for_each(|k| sums[k] += weights[k] * features[k].to_f64());
    }
    sums.iter().sum::<f64>() + last_weights.iter().zip(last).map(|(w, x)| w * x.to_f64()).sum::<f64>()
}

/// Features of some steps with what should be said there.
#[derive(Default)]
struct Chunk<T> {
    features: Vec<T>,
    targets: Vec<f64>,
}

/// A series that is being followed.
struct Source<'d, 'e, D: Dynamics> {
    dynamics: &'d D,
    example: Example<'e>,
    state: D::State,
    washout: usize,
    t: usize,
}

impl<'d, 'e, D: Dynamics> Source<'d, 'e, D> {
    fn new(dynamics: &'d D, example: Example<'e>, washout: usize) -> Self {
        Self { dynamics, example, state: dynamics.start(), washout, t: 0 }
    }

    /// Replaces the chunk by the next steps; by none at the end.
    fn fill(&mut self, chunk: &mut Chunk<D::Value>) {
        let Example { inputs, targets } = self.example;
        let (steps, width) = (inputs.nrows(), self.dynamics.features());
        chunk.targets.clear();
        let most = if width < WIDE { CHUNK } else { WIDE_CHUNK };
        chunk.features.resize(most * width, D::Value::default());
        let mut input = vec![0.0; inputs.ncols()];
        let mut before = vec![0.0; self.dynamics.feedback()];
        let mut filled = 0;
        while self.t < steps && filled < most {
            input.iter_mut().zip(inputs.row(self.t)).for_each(|(own, value)| *own = *value);
            if let Some(last) = self.t.checked_sub(1) {
                before.iter_mut().zip(targets.row(last)).for_each(|(own, target)| *own = *target);
            }
            let features = &mut chunk.features[filled * width..][..width];
            self.dynamics.step(&mut self.state, &input, &before, features);
            if self.t >= self.washout {
                chunk.targets.extend(targets.row(self.t));
                filled += 1;
            }
            self.t += 1;
        }
        chunk.features.truncate(filled * width);
    }
}

/// The number of outputs.
fn check(dynamics: &impl Dynamics, examples: &[Example], washout: usize) -> Result<usize> {
    let fail = |message: String| Err(ReservoirError::Series(message));
    let Some(outputs) = examples.first().map(|first| first.targets.ncols()).filter(|outputs| *outputs > 0)
    else {
        return fail("there is no series with something to say".into());
    };
    let feedback = dynamics.feedback();
    for (i, Example { inputs, targets }) in examples.iter().enumerate() {
        let (steps, width) = inputs.dim();
        if width != dynamics.inputs()
            || targets.dim() != (steps, outputs)
            || ![0, outputs].contains(&feedback)
        {
            let (wanted, shape) = (dynamics.inputs(), targets.dim());
            return fail(format!(
                "series {i} has {steps} steps of {width} inputs and targets {shape:?}; {wanted} inputs are read"
            ));
        }
        if steps <= washout {
            return fail(format!(
                "series {i} has {steps} steps, and the first {washout} are left out (washout)"
            ));
        }
        for (what, values) in [("inputs", inputs), ("targets", targets)] {
            if let Some(((t, channel), value)) = values.indexed_iter().find(|(_, value)| !value.is_finite()) {
                return fail(format!("series {i}: the {what} at step {t}, channel {channel}, are {value}"));
            }
        }
    }
    Ok(outputs)
}
