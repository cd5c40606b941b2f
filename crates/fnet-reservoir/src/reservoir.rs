//! A pool of leaky-integrator units with random connections.

use ndarray::{ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::arch::{Drive, Level, Units, step};
use crate::connections::Connections;
use crate::error::{ReservoirError, Result};
use crate::radius::spectral_radius;
use crate::real::Real;

/// Most units of a reservoir.
pub const MOST_UNITS: usize = 1 << 20;

/// What a random reservoir is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReservoirSettings {
    /// Number of units.
    pub units: usize,
    /// Connections of each unit with others; at most `units`.
    pub connections: usize,
    /// Spectral radius of the recurrent weights. Below 1, states forget where they started.
    pub radius: f64,
    /// The part of a state that is new in each step, in (0, 1]: `a` in the equation of [`Reservoir`].
    pub leak: f64,
    /// Input weights are drawn evenly from `-input_scale` to `input_scale`.
    pub input_scale: f64,
    /// The part of all connections from inputs to units that there are, in (0, 1].
    pub input_connectivity: f64,
    /// Biases are drawn evenly from `-bias` to `bias`.
    pub bias: f64,
    /// Weights of the previous output are drawn evenly from `-feedback` to `feedback`; 0 for no feedback.
    pub feedback: f64,
    /// All weights follow from it.
    pub seed: u64,
}

impl Default for ReservoirSettings {
    fn default() -> Self {
        Self {
            units: 500,
            connections: 10,
            radius: 0.9,
            leak: 1.0,
            input_scale: 1.0,
            input_connectivity: 1.0,
            bias: 0.2,
            feedback: 0.0,
            seed: 1,
        }
    }
}

impl ReservoirSettings {
    /// Refuses what makes no reservoir.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        if !(1..=MOST_UNITS).contains(&self.units) {
            return Err(ReservoirError::setting(
                "units",
                self.units,
                format!("must be from 1 to {MOST_UNITS}"),
            ));
        }
        if !(1..=self.units).contains(&self.connections) {
            let message = format!("must be from 1 to the number of units, {}", self.units);
            return Err(ReservoirError::setting("connections", self.connections, message));
        }
        for (field, value) in [("leak", self.leak), ("input_connectivity", self.input_connectivity)] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(ReservoirError::setting(field, value, "must be above 0 and at most 1"));
            }
        }
        let sizes = [
            ("radius", self.radius),
            ("input_scale", self.input_scale),
            ("bias", self.bias),
            ("feedback", self.feedback),
        ];
        match sizes.into_iter().find(|(_, value)| !(0.0..=1e6).contains(value)) {
            Some((field, value)) => Err(ReservoirError::setting(field, value, "must be from 0 to 1000000")),
            None => Ok(()),
        }
    }
}

/// Leaky-integrator units (Jaeger, Lukoševičius, Popovici and Siewert 2007; Lukoševičius 2012, equations 2 and 3):
///
/// `x(t) = (1 - a) x(t-1) + a tanh(W x(t-1) + W_in u(t) + W_fb y(t-1) + b)`
///
/// with states `x` `[units]`, inputs `u` `[inputs]`, and outputs `y` `[outputs]` where there is feedback.
#[derive(Debug, Clone)]
pub struct Reservoir<T> {
    recurrent: Connections<T>,
    input: Connections<T>,
    feedback: Option<Connections<T>>,
    /// Padded to whole blocks.
    bias: Vec<T>,
    leak: T,
}

/// The state of a reservoir, and room for a step.
#[derive(Debug, Clone)]
pub struct ReservoirState<T> {
    /// Padded to whole blocks.
    state: Vec<T>,
    next: Vec<T>,
    recurrent: Vec<T>,
    input: Vec<T>,
    feedback: Vec<T>,
}

/// A part of the units: its number, the next states, the states and the biases.
type Part<'a, T> = (usize, (&'a mut [T], (&'a [T], &'a [T])));

/// Products of a step that are worth a second thread.
const MANY_PRODUCTS: usize = 250_000;

impl<T: Real> Reservoir<T> {
    /// A random reservoir with normally distributed recurrent weights, for `inputs` inputs and, where there is feedback,
    /// `outputs` outputs. `layer` tells reservoirs of one seed apart.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn random(settings: &ReservoirSettings, inputs: usize, outputs: usize, layer: u64) -> Result<Self> {
        settings.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(layer);
        let units = settings.units;
        let mut recurrent = Connections::random([units, units], settings.connections, &mut random, |r| {
            StandardNormal.sample(r)
        });
        let radius = spectral_radius(&recurrent);
        if radius <= 1e-6 {
            let message =
                "the recurrent weights have a spectral radius of 0; take more connections or another seed";
            return Err(ReservoirError::setting("connections", settings.connections, message));
        }
        recurrent.scale(settings.radius / radius);
        let evenly = |scale: f64| move |r: &mut ChaCha8Rng| (2.0 * r.random::<f64>() - 1.0) * scale;
        // So many inputs for each unit, of which some have a weight of 0 where the part is no whole number.
        let wanted = settings.input_connectivity * inputs as f64;
        let (seen, draw) = (wanted.ceil().max(1.0), evenly(settings.input_scale));
        let input = Connections::random([units, inputs], seen as usize, &mut random, |r| {
            let weight = draw(r);
            if seen == wanted || r.random_bool((wanted / seen).min(1.0)) { weight } else { 0.0 }
        });
        let feedback = (settings.feedback > 0.0 && outputs > 0)
            .then(|| Connections::random([units, outputs], outputs, &mut random, evenly(settings.feedback)));
        let draw = evenly(settings.bias);
        let bias: Vec<f64> = (0..units).map(|_| draw(&mut random)).collect();
        Ok(Self::of(recurrent, input, feedback, &bias, settings.leak))
    }

    /// A reservoir with given weights: `recurrent` `[units, units]`, `input` `[units, inputs]`, `feedback`
    /// `[units, outputs]`, `bias` `[units]`.
    ///
    /// # Errors
    /// If their sizes do not fit, a weight is not finite, or the leak is out of range.
    pub fn from_matrices(
        recurrent: ArrayView2<f64>,
        input: ArrayView2<f64>,
        feedback: Option<ArrayView2<f64>>,
        bias: ArrayView1<f64>,
        leak: f64,
    ) -> Result<Self> {
        let units = recurrent.nrows();
        ReservoirSettings { units, connections: 1, leak, ..ReservoirSettings::default() }.check()?;
        let rows =
            [Some(recurrent.ncols()), Some(input.nrows()), feedback.map(|f| f.nrows()), Some(bias.len())];
        if rows.into_iter().flatten().any(|n| n != units) {
            let message = format!("the matrices do not fit {units} units: {:?}", rows);
            return Err(ReservoirError::Series(message));
        }
        let all = recurrent.iter().chain(&input).chain(&bias).chain(feedback.iter().flatten());
        if all.into_iter().any(|weight| !weight.is_finite()) {
            return Err(ReservoirError::Series("a weight is not finite".into()));
        }
        let feedback = feedback.map(Connections::from_dense);
        let [recurrent, input] = [recurrent, input].map(Connections::from_dense);
        Ok(Self::of(recurrent, input, feedback, &bias.to_vec(), leak))
    }

    fn of(
        recurrent: Connections<T>,
        input: Connections<T>,
        feedback: Option<Connections<T>>,
        bias: &[f64],
        leak: f64,
    ) -> Self {
        let mut bias: Vec<T> = bias.iter().map(|b| T::of(*b)).collect();
        bias.resize(recurrent.padded(), T::default());
        Self { recurrent, input, feedback, bias, leak: T::of(leak) }
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.recurrent.units()
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.input.sources()
    }

    /// The recurrent weights.
    pub fn recurrent(&self) -> &Connections<T> {
        &self.recurrent
    }

    /// The state of zeros.
    pub fn start(&self) -> ReservoirState<T> {
        let zeros = |len: usize| vec![T::default(); len];
        let laid = |connections: &Connections<T>| zeros(connections.laid_out_len());
        ReservoirState {
            state: zeros(self.bias.len()),
            next: zeros(self.bias.len()),
            recurrent: laid(&self.recurrent),
            input: laid(&self.input),
            feedback: self.feedback.as_ref().map_or_else(Vec::new, laid),
        }
    }

    /// The next state, of inputs `[inputs]` and the previous outputs `[outputs]`, which count where there is feedback.
    pub fn step<'a>(&self, state: &'a mut ReservoirState<T>, input: &[T], output: &[T]) -> &'a [T] {
        self.step_at(Level::best(), state, input, output)
    }

    fn step_at<'a>(
        &self,
        level: Level,
        own: &'a mut ReservoirState<T>,
        input: &[T],
        output: &[T],
    ) -> &'a [T] {
        let units = self.units();
        self.recurrent.lay_out(&own.state[..units], &mut own.recurrent);
        self.input.lay_out(input, &mut own.input);
        let mut drives: Vec<Drive<T>> = vec![(&self.recurrent, &own.recurrent), (&self.input, &own.input)];
        if let Some(feedback) = &self.feedback {
            feedback.lay_out(output, &mut own.feedback);
            drives.push((feedback, &own.feedback));
        }
        let each: usize = drives.iter().map(|(connections, _)| connections.each()).sum();
        let block = self.recurrent.block();
        let blocks = self.bias.len() / block;
        let threads = if units * each > MANY_PRODUCTS { rayon::current_num_threads().min(blocks) } else { 1 };
        let part = blocks.div_ceil(threads) * block;
        let run = |(i, (next, (state, bias))): Part<T>| {
            let first_block = i * part / block;
            step(level, Units { first_block, leak: self.leak, bias, drives: &drives, state, next });
        };
        if threads == 1 {
            run((0, (&mut own.next, (&own.state, &self.bias))));
        } else {
            let own_parts = own.state.par_chunks(part).zip(self.bias.par_chunks(part));
            own.next.par_chunks_mut(part).zip(own_parts).enumerate().for_each(run);
        }
        std::mem::swap(&mut own.state, &mut own.next);
        &own.state[..units]
    }
}

impl<T: Real> ReservoirState<T> {
    /// Puts the units into this state, as far as there are values.
    pub fn set(&mut self, values: &[T]) {
        self.state.iter_mut().zip(values).for_each(|(own, value)| *own = *value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_change_a_bit() {
        let settings = ReservoirSettings { units: 1_000, connections: 300, ..ReservoirSettings::default() };
        let reservoir = Reservoir::<f64>::random(&settings, 2, 0, 0).unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut state = reservoir.start();
                (0..5).for_each(|t| {
                    reservoir.step(&mut state, &[(t as f64).sin(), 0.5], &[]);
                });
                state.state
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = ReservoirSettings::default();
        for (settings, says) in [
            (ReservoirSettings { units: 0, ..good.clone() }, "units 0: must be from 1"),
            (
                ReservoirSettings { units: 5, ..good.clone() },
                "connections 10: must be from 1 to the number of units, 5",
            ),
            (ReservoirSettings { leak: 0.0, ..good.clone() }, "leak 0: must be above 0"),
            (ReservoirSettings { radius: f64::NAN, ..good.clone() }, "radius NaN: must be from 0"),
            (ReservoirSettings { bias: -1.0, ..good.clone() }, "bias -1: must be from 0"),
            (ReservoirSettings { input_connectivity: 0.0, ..good }, "input_connectivity 0"),
        ] {
            let error = Reservoir::<f64>::random(&settings, 1, 0, 0).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
