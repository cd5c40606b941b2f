//! Echo state networks: one reservoir, or several in a row or side by side.

use serde::{Deserialize, Serialize};

use crate::dynamics::Dynamics;
use crate::error::{ReservoirError, Result};
use crate::real::Real;
use crate::reservoir::{Reservoir, ReservoirSettings, ReservoirState};

/// How several reservoirs are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// Each after the first is driven by the states of the one before (Gallicchio, Micheli and Pedrelli 2017).
    #[default]
    Row,
    /// Each is driven by the input.
    Parallel,
}

/// What an echo state network is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EchoStateSettings {
    /// Each of its reservoirs.
    #[serde(flatten)]
    pub reservoir: ReservoirSettings,
    /// Number of reservoirs.
    pub layers: usize,
    /// How they are put together.
    pub arrangement: Arrangement,
    /// Whether the readout sees the input beside the states.
    pub reads_input: bool,
    /// Whether the readout sees the squares of every other state instead of the states (Pathak et al. 2018), which breaks
    /// the symmetry of tanh.
    pub squares: bool,
}

impl Default for EchoStateSettings {
    fn default() -> Self {
        Self {
            reservoir: ReservoirSettings::default(),
            layers: 1,
            arrangement: Arrangement::Row,
            reads_input: true,
            squares: false,
        }
    }
}

/// An echo state network (Jaeger 2001) without its readout. The features are the input, if it is read, and the states of
/// all reservoirs.
#[derive(Debug, Clone)]
pub struct EchoState<T> {
    reservoirs: Vec<Reservoir<T>>,
    arrangement: Arrangement,
    inputs: usize,
    feedback: usize,
    reads_input: bool,
    squares: bool,
}

impl<T: Real> EchoState<T> {
    /// A random one for `inputs` inputs and `outputs` outputs.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn random(settings: &EchoStateSettings, inputs: usize, outputs: usize) -> Result<Self> {
        let EchoStateSettings { reservoir, layers, arrangement, reads_input, squares } = settings;
        if !(1..=100).contains(layers) {
            return Err(ReservoirError::setting("layers", layers, "must be from 1 to 100"));
        }
        if inputs == 0 {
            return Err(ReservoirError::Series("a network needs at least one input".into()));
        }
        let layer = |layer: usize| {
            let is_driven = *arrangement == Arrangement::Row && layer > 0;
            let (width, mut own) = (if is_driven { reservoir.units } else { inputs }, reservoir.clone());
            if is_driven {
                // As many connections as within: the states of a whole layer would drown its own.
                own.input_connectivity = reservoir.connections as f64 / reservoir.units as f64;
                own.input_scale /= (reservoir.connections as f64).sqrt();
            }
            Reservoir::random(&own, width, outputs, layer as u64)
        };
        Ok(Self {
            reservoirs: (0..*layers).map(layer).collect::<Result<_>>()?,
            arrangement: *arrangement,
            inputs,
            feedback: if reservoir.feedback > 0.0 { outputs } else { 0 },
            reads_input: *reads_input,
            squares: *squares,
        })
    }

    /// Of one given reservoir, with `feedback` outputs that are fed back; the readout sees its states alone.
    pub fn of(reservoir: Reservoir<T>, feedback: usize) -> Self {
        let inputs = reservoir.inputs();
        let (reservoirs, arrangement) = (vec![reservoir], Arrangement::Row);
        Self { reservoirs, arrangement, inputs, feedback, reads_input: false, squares: false }
    }

    /// Its reservoirs.
    pub fn reservoirs(&self) -> &[Reservoir<T>] {
        &self.reservoirs
    }
}

/// The states of all reservoirs.
#[derive(Debug, Clone)]
pub struct EchoStates<T> {
    layers: Vec<ReservoirState<T>>,
    input: Vec<T>,
    output: Vec<T>,
}

impl<T: Real> Dynamics for EchoState<T> {
    type Value = T;
    type State = EchoStates<T>;

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn feedback(&self) -> usize {
        self.feedback
    }

    fn features(&self) -> usize {
        let units: usize = self.reservoirs.iter().map(Reservoir::units).sum();
        units + if self.reads_input { self.inputs } else { 0 }
    }

    fn start(&self) -> EchoStates<T> {
        EchoStates {
            layers: self.reservoirs.iter().map(Reservoir::start).collect(),
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    fn step(&self, own: &mut EchoStates<T>, input: &[f64], output: &[f64], features: &mut [T]) {
        let EchoStates { layers, input: own_input, output: own_output } = own;
        let as_values = |from: &[f64], into: &mut Vec<T>| {
            into.clear();
            into.extend(from.iter().map(|value| T::of(*value)));
        };
        as_values(input, own_input);
        as_values(output, own_output);
        let (of_input, mut rest) = features.split_at_mut(if self.reads_input { self.inputs } else { 0 });
        of_input.iter_mut().zip(&*own_input).for_each(|(feature, value)| *feature = *value);
        let (own_input, own_output): (&[T], &[T]) = (own_input, own_output);
        let mut before: &[T] = &[];
        for (layer, (reservoir, state)) in self.reservoirs.iter().zip(layers).enumerate() {
            let is_driven = self.arrangement == Arrangement::Row && layer > 0;
            let input = if is_driven { before } else { own_input };
            before = reservoir.step(state, input, own_output);
            let (features, others) = rest.split_at_mut(before.len());
            features.copy_from_slice(before);
            if self.squares {
                features.iter_mut().step_by(2).for_each(|x| *x = *x * *x);
            }
            rest = others;
        }
    }
}
