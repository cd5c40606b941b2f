//! One network on all series: fitted, followed, run freely, carried on.

use std::time::Instant;

use fnet_reservoir::{
    Dynamics, EchoState, Fit, Forecaster, Nvar, Real, RecursiveLeastSquares, ReservoirError, score,
};
use ndarray::{Array2, ArrayView2, Axis, s};

use super::series::Cut;
use super::{ForecastSettings, Method, StatePrecision};
use crate::error::{Error, Result};
use crate::settings::setting;

/// What a network says, in the units of the scaled series.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Of each series, what is said of the held-out steps, `[steps, channels]`.
    pub held_out: Vec<Array2<f64>>,
    /// Free runs over the held-out part: `[steps, channels]` each, with the series and the step where it begins.
    pub free: Vec<(usize, usize, Array2<f64>)>,
    /// Of each series, what comes after its end.
    pub future: Vec<Array2<f64>>,
    /// Seconds of fitting and of running.
    pub seconds: [f64; 2],
    /// Features of a step.
    pub features: usize,
}

/// How a part of the series is used.
pub(super) struct Use<'a> {
    pub settings: &'a ForecastSettings,
    pub horizon: usize,
    pub free: Option<usize>,
    /// Steps after the end.
    pub ahead: usize,
}

/// Fits a network of this seed and runs it.
pub(super) fn run(own: &Use, cuts: &[Cut], seed: u64) -> Result<Said> {
    let settings = own.settings;
    let [inputs, outputs] = [cuts[0].inputs.ncols(), cuts[0].targets.ncols()];
    match (settings.method, settings.precision) {
        (Method::Nvar, _) => own.run(Nvar::new(&settings.nvar(), inputs).map_err(named)?, cuts),
        (Method::EchoState, StatePrecision::F64) => {
            own.run(own.echo_state::<f64>(inputs, outputs, seed)?, cuts)
        }
        (Method::EchoState, StatePrecision::F32) => {
            own.run(own.echo_state::<f32>(inputs, outputs, seed)?, cuts)
        }
    }
}

/// Number of features, before anything is made.
pub(super) fn features(settings: &ForecastSettings, inputs: usize) -> Result<usize> {
    match settings.method {
        Method::Nvar => Ok(Nvar::new(&settings.nvar(), inputs).map_err(named)?.features()),
        Method::EchoState => Ok(settings.units.saturating_mul(settings.layers).saturating_add(inputs)),
    }
}

/// A setting of the networks by its name here.
fn named(error: ReservoirError) -> Error {
    match error {
        ReservoirError::Setting { field, value, message } => {
            Error::usage(format!("{} {value}: {message}", setting(field)))
        }
        ReservoirError::Singular(_) => Error::usage(format!("{error}, as {} says", setting("penalty"))),
        other => Error::usage(other.to_string()),
    }
}

impl Use<'_> {
    fn echo_state<T: Real>(&self, inputs: usize, outputs: usize, seed: u64) -> Result<EchoState<T>> {
        EchoState::random(&self.settings.network(seed), inputs, outputs).map_err(named)
    }

    fn run<D: Dynamics + Clone>(&self, dynamics: D, cuts: &[Cut]) -> Result<Said> {
        let features = dynamics.features();
        let began = Instant::now();
        if let Some(forgetting) = self.settings.online {
            let held_out =
                cuts.iter().map(|cut| self.online(&dynamics, cut, forgetting)).collect::<Result<_>>()?;
            let seconds = [began.elapsed().as_secs_f64(), 0.0];
            return Ok(Said { held_out, free: Vec::new(), future: Vec::new(), seconds, features });
        }
        let single = self.settings.precision == StatePrecision::F32;
        let fit = Fit { washout: self.settings.washout, penalty: self.settings.readout_penalty(), single };
        let fitted = |dynamics: D, horizon: usize, cuts: &[Cut]| {
            let known: Vec<_> = cuts.iter().map(|cut| cut.known(horizon)).collect();
            Forecaster::fit(dynamics, &known, fit).map_err(named)
        };
        let forecaster = fitted(dynamics.clone(), self.horizon, cuts)?;
        let next = match self.free {
            Some(_) if self.horizon != 1 => Some(fitted(dynamics.clone(), 1, cuts)?),
            _ => None,
        };
        let fitting = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let held_out = cuts.iter().map(|cut| self.follow(&forecaster, cut)).collect();
        let mut free = Vec::new();
        if let Some(steps) = self.free {
            for (i, cut) in cuts.iter().enumerate() {
                let runs = free_runs(next.as_ref().unwrap_or(&forecaster), cut, steps)?;
                free.extend(runs.into_iter().map(|(start, said)| (i, start, said)));
            }
        }
        let mut future = Vec::new();
        if self.ahead > 0 {
            // What comes after the end is said by what has learnt from everything.
            let whole: Vec<Cut> =
                cuts.iter().map(|cut| Cut { from: cut.targets.nrows(), ..cut.clone() }).collect();
            let forecaster = fitted(dynamics, 1, &whole)?;
            for cut in &whole {
                future.push(go_on(&forecaster, cut, self.ahead)?);
            }
        }
        let seconds = [fitting, began.elapsed().as_secs_f64()];
        Ok(Said { held_out, free, future, seconds, features })
    }

    /// What is said of each held-out step, so many steps before it.
    fn follow<D: Dynamics>(&self, forecaster: &Forecaster<D>, cut: &Cut) -> Array2<f64> {
        let (steps, mut running) = (cut.targets.nrows(), forecaster.start());
        let all = Cut { from: steps, ..cut.clone() };
        let said = forecaster.teach(&mut running, all.known(self.horizon));
        said.slice(s![cut.from - self.horizon.min(cut.from).., ..]).to_owned()
    }

    /// As [`follow`](Self::follow), by a readout that learns from every step as soon as its truth is known.
    fn online<D: Dynamics>(&self, dynamics: &D, cut: &Cut, forgetting: f64) -> Result<Array2<f64>> {
        let (steps, outputs) = cut.targets.dim();
        let penalty = self.settings.penalty.max(1e-12);
        let mut readout =
            RecursiveLeastSquares::new(dynamics.features(), outputs, forgetting, penalty).map_err(named)?;
        let mut state = dynamics.start();
        // What was seen in the last steps, the oldest of which is learnt from next.
        let mut seen: std::collections::VecDeque<Vec<f64>> = std::collections::VecDeque::new();
        let mut said = Array2::zeros((steps - cut.from, outputs));
        let mut features = vec![D::Value::default(); dynamics.features()];
        for t in 0..steps {
            dynamics.step(&mut state, &cut.inputs.row(t).to_vec(), &[], &mut features);
            let own: Vec<f64> = features.iter().map(|value| value.to_f64()).collect();
            if let Some(row) = (t + self.horizon).checked_sub(cut.from).filter(|row| *row < said.nrows()) {
                said.row_mut(row)
                    .iter_mut()
                    .zip(readout.predict(&own))
                    .for_each(|(said, value)| *said = value);
            }
            seen.push_back(own);
            if seen.len() > self.horizon
                && let Some(then) = seen.pop_front()
                && t >= self.settings.washout + self.horizon
            {
                readout.update(&then, &cut.targets.row(t).to_vec());
            }
        }
        Ok(said)
    }
}

/// Free runs of so many steps, one after another over the held-out part, each from what is known before it: where each
/// begins, and what is said from there.
fn free_runs<D: Dynamics>(
    forecaster: &Forecaster<D>,
    cut: &Cut,
    steps: usize,
) -> Result<Vec<(usize, Array2<f64>)>> {
    let end = cut.targets.nrows();
    let (mut running, mut runs) = (forecaster.start(), Vec::new());
    let part = |from: usize, to: usize| fnet_reservoir::Example {
        inputs: cut.inputs.slice(s![from..to, ..]),
        targets: cut.targets.slice(s![from + 1..to + 1, ..]),
    };
    let mut at = 0;
    let mut start = cut.from;
    while start + steps <= end {
        // The last thing said of the known part is the first step of the run.
        let said = forecaster.teach(&mut running, part(at, start));
        at = start;
        let mut alone = running.clone();
        let first = said.slice(s![-1.., ..]);
        alone.set_output(first.row(0).to_vec());
        let rest = forecaster.free_run(&mut alone, steps - 1).map_err(named)?;
        runs.push((start, ndarray::concatenate![Axis(0), first, rest]));
        start += steps;
    }
    Ok(runs)
}

/// The steps after the end of a series.
fn go_on<D: Dynamics>(forecaster: &Forecaster<D>, cut: &Cut, steps: usize) -> Result<Array2<f64>> {
    let (end, mut running) = (cut.targets.nrows(), forecaster.start());
    forecaster.teach(&mut running, cut.known(1));
    let last = forecaster.follow(&mut running, cut.inputs.slice(s![end - 1.., ..]));
    let rest = forecaster.free_run(&mut running, steps - 1).map_err(named)?;
    Ok(ndarray::concatenate![Axis(0), last, rest])
}

/// How good what is said is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scores {
    pub nrmse: f64,
    pub r2: f64,
    /// Of free runs: at their last step, over all steps, and the steps before the error exceeds 0.4 deviations.
    pub free: Option<[f64; 3]>,
}

/// All of what is held out, or all starts of free runs, as one.
fn joined(parts: impl Iterator<Item = Array2<f64>>) -> Array2<f64> {
    let parts: Vec<Array2<f64>> = parts.collect();
    let views: Vec<ArrayView2<f64>> = parts.iter().map(|part| part.view()).collect();
    ndarray::concatenate(Axis(0), &views).unwrap_or_default()
}

/// The scores of what was said, of series in units of their deviation.
pub(super) fn scores(cuts: &[Cut], said: &Said) -> Scores {
    let truth = joined(cuts.iter().map(|cut| cut.targets.slice(s![cut.from.., ..]).to_owned()));
    let all = joined(said.held_out.iter().cloned());
    let free = (!said.free.is_empty()).then(|| {
        let of = |(series, start, own): &(usize, usize, Array2<f64>)| {
            cuts[*series].targets.slice(s![*start..start + own.nrows(), ..]).to_owned()
        };
        let truths: Vec<Array2<f64>> = said.free.iter().map(of).collect();
        let last = |own: &Array2<f64>| own.slice(s![-1.., ..]).to_owned();
        // A free run is judged by the deviation of the series, which is 1, for a few steps have none of their own.
        let error = |a: Array2<f64>, b: Array2<f64>| {
            (a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len().max(1) as f64).sqrt()
        };
        let steps =
            |truth: &Array2<f64>, own: &Array2<f64>| score::valid_steps(truth.view(), own.view(), 1.0, 0.4);
        let runs = || truths.iter().zip(said.free.iter().map(|(_, _, own)| own));
        let valid = runs().map(|(truth, own)| steps(truth, own) as f64).sum::<f64>() / truths.len() as f64;
        let at_last =
            error(joined(truths.iter().map(last)), joined(said.free.iter().map(|run| last(&run.2))));
        let over_all =
            error(joined(truths.iter().cloned()), joined(said.free.iter().map(|run| run.2.clone())));
        [at_last, over_all, valid]
    });
    Scores { nrmse: score::nrmse(truth.view(), all.view()), r2: score::r2(truth.view(), all.view()), free }
}

/// The mean of what several networks say.
pub(super) fn mean(all: &[Said]) -> Said {
    let mut own = all[0].clone();
    let count = all.len() as f64;
    let averaged = |own: &mut Array2<f64>, of: &dyn Fn(&Said) -> &Array2<f64>| {
        own.fill(0.0);
        all.iter().for_each(|said| *own += of(said));
        *own /= count;
    };
    for i in 0..own.held_out.len() {
        averaged(&mut own.held_out[i], &|said| &said.held_out[i]);
    }
    for i in 0..own.free.len() {
        averaged(&mut own.free[i].2, &|said| &said.free[i].2);
    }
    for i in 0..own.future.len() {
        averaged(&mut own.future[i], &|said| &said.future[i]);
    }
    own
}
