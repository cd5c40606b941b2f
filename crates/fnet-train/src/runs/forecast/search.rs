//! Settings found by random search (Bergstra and Bengio 2012) on a validation part.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::network::{self, Use, scores};
use super::series::Cut;
use super::{ForecastSettings, Method};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::random::generator;
use crate::settings::setting;

/// What a trial tried, and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// What was searched for.
    pub settings: Vec<(&'static str, f64)>,
    /// The error on the validation part; `None` where it could not be run.
    pub nrmse: Option<f64>,
}

/// Settings that differ from `base` in what is searched for.
fn draw(base: &ForecastSettings, trial: usize) -> (ForecastSettings, Vec<(&'static str, f64)>) {
    let mut random = generator(base.seed, "search", trial as u64);
    let mut own = base.clone();
    let mut log = |low: f64, high: f64| (low.ln() + random.random::<f64>() * (high / low).ln()).exp();
    // Four digits are enough, and are what is printed.
    let rounded = |value: f64| format!("{value:.3e}").parse().unwrap_or(value);
    own.penalty = rounded(log(1e-12, 1e1));
    let mut tried = vec![("penalty", own.penalty)];
    match base.method {
        Method::EchoState => {
            own.radius = rounded(log(0.1, 1.6));
            own.leak = rounded(log(0.05, 1.0)).min(1.0);
            own.input_scale = rounded(log(0.02, 3.0));
            own.bias = rounded(log(0.01, 1.0));
            tried.extend([
                ("radius", own.radius),
                ("leak", own.leak),
                ("input_scale", own.input_scale),
                ("bias", own.bias),
            ]);
        }
        Method::Nvar => {
            own.delays = random.random_range(1..=8);
            own.stride = random.random_range(1..=4);
            own.order = random.random_range(1..=3);
            own.washout = own.washout.max((own.delays - 1) * own.stride);
            let numbers = [("delays", own.delays), ("stride", own.stride), ("order", own.order)];
            tried.extend(numbers.map(|(name, value)| (name, value as f64)));
        }
    }
    (own, tried)
}

/// The best of several draws, and all of them. What is learnt from is cut once more for it: its last fifth judges.
pub(super) fn search(
    settings: &ForecastSettings,
    cuts: &[Cut],
    quiet: bool,
) -> Result<(ForecastSettings, Vec<Trial>)> {
    let horizon = settings.horizon.unwrap_or(1);
    let cuts: Vec<Cut> = cuts
        .iter()
        .map(|cut| {
            let part = |series: &ndarray::Array2<f64>| series.slice(ndarray::s![..cut.from, ..]).to_owned();
            Cut {
                inputs: part(&cut.inputs),
                targets: part(&cut.targets),
                from: cut.from - (cut.from / 5).max(1),
            }
        })
        .collect();
    let features = network::features(settings, cuts[0].inputs.ncols())?;
    crate::runs::memory::check("units", features, rayon::current_num_threads().min(settings.search))?;
    let free = settings.free.filter(|steps| cuts.iter().all(|cut| cut.from + steps <= cut.targets.nrows()));
    let progress = Mutex::new(Progress::new("searching", quiet));
    let (done, mut best) = (AtomicUsize::new(0), f64::INFINITY);
    let trial = |i: usize| {
        let (own, tried) = draw(settings, i);
        let width = network::features(&own, cuts[0].inputs.ncols());
        let at_once = rayon::current_num_threads().min(settings.search);
        let fits = width.is_ok_and(|features| crate::runs::memory::check("units", features, at_once).is_ok());
        let own_use = Use { settings: &own, horizon, free, ahead: 0 };
        let said = fits.then(|| network::run(&own_use, &cuts, settings.seed).ok()).flatten();
        let nrmse = said.map(|said| {
            let scores = scores(&cuts, &said);
            scores.free.map_or(scores.nrmse, |free| free[1])
        });
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(mut progress) = progress.lock() {
            progress.update(Some(count as f64 / settings.search as f64), &format!("{count} settings"));
        }
        (own, Trial { settings: tried, nrmse: nrmse.filter(|nrmse| nrmse.is_finite()) })
    };
    let all: Vec<_> = (0..settings.search).into_par_iter().map(trial).collect();
    let mut found = None;
    for (own, trial) in &all {
        if let Some(nrmse) = trial.nrmse.filter(|nrmse| *nrmse < best) {
            (best, found) = (nrmse, Some(own.clone()));
        }
    }
    let found = found.ok_or_else(|| {
        let [search, washout] = ["search", "washout"].map(setting);
        Error::usage(format!(
            "{search}: no settings that were tried could be fitted; give a shorter {washout}"
        ))
    })?;
    Ok((found, all.into_iter().map(|(_, trial)| trial).collect()))
}
