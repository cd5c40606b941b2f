//! Forecasts of series by reservoirs.

mod network;
mod report;
mod search;
mod series;
mod settings;

use std::path::Path;

use ndarray::s;
use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::runs::mean::mean;
use crate::runs::memory;
use crate::settings::setting;
use network::{Scores, Use, scores};
pub use report::{SETTINGS_FILE, is_forecast, write};
pub use search::Trial;
pub use series::System;
use series::{AllSeries, Cut, Units};
pub use settings::{ForecastSettings, Layers, Method, StatePrecision};

/// A number of each seed, as mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Over seeds.
    pub mean: f64,
    /// Over seeds, if there are several.
    pub deviation: Option<f64>,
}

/// How good free runs are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FreeScores {
    /// Error at the last step of the runs, in deviations of the series.
    pub nrmse_at_last: Spread,
    /// Error over all steps.
    pub nrmse: Spread,
    /// Steps before the error exceeds 0.4 deviations, at most all of a run.
    pub valid_steps: Spread,
    /// The same in Lyapunov times, where the system's is known.
    pub lyapunov_times: Option<f64>,
    /// Number of runs, and their steps.
    pub runs: [usize; 2],
}

/// What a forecast came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The series.
    pub series: String,
    /// What is forecast.
    pub channels: Vec<String>,
    /// Steps that were learnt from, and steps held out, of all series.
    pub steps: [usize; 2],
    /// Steps ahead.
    pub horizon: usize,
    /// Features that the readout reads.
    pub features: usize,
    /// Root mean square error on the held-out part in units of its deviation.
    pub nrmse: Spread,
    /// The part of its variance that is explained.
    pub r2: Spread,
    /// The error of the mean of all seeds.
    pub nrmse_together: f64,
    /// The error of saying the last known value; `None` where other inputs drive the series.
    pub nrmse_of_last_value: Option<f64>,
    /// Free runs.
    pub free: Option<FreeScores>,
    /// Seconds of fitting one network, and of running it.
    pub seconds: [f64; 2],
    /// What the search tried.
    pub trials: Vec<Trial>,
    /// The settings, as they were used.
    pub settings: ForecastSettings,
    /// Truth and forecast of the held-out part, for files and plots.
    #[serde(skip)]
    pub(crate) lines: Lines,
}

/// Truth and forecasts in the units of the series.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lines {
    /// Of each series, where its held-out part begins.
    pub from: Vec<usize>,
    /// Of each series, `[steps, channels]`.
    pub truth: Vec<ndarray::Array2<f64>>,
    pub said: Vec<ndarray::Array2<f64>>,
    /// Free runs: series, first step, values.
    pub free: Vec<(usize, usize, ndarray::Array2<f64>)>,
    /// Of each series, what comes after its end.
    pub future: Vec<ndarray::Array2<f64>>,
}

/// Fits and judges a forecast.
///
/// # Errors
/// If a setting or the series is wrong, or there are too few steps.
pub fn forecast(settings: &ForecastSettings, quiet: bool) -> Result<Forecast> {
    let mut settings = settings.clone();
    settings.resolve()?;
    let series = AllSeries::of(&settings, quiet)?;
    let horizon = settings.horizon.unwrap_or(1);
    let (cuts, target_units) = cut(&series, &settings, horizon)?;
    let features = network::features(&settings, cuts[0].inputs.ncols())?;
    memory::check("units", features, 1)?;
    let mut trials = Vec::new();
    if settings.search > 0 {
        (settings, trials) = search::search(&settings, &cuts, quiet)?;
    }
    let mut progress = Progress::new("forecasting", quiet);
    progress.update(Some(0.0), &format!("{} networks of {features} features", settings.seeds));
    let own = Use { settings: &settings, horizon, free: settings.free, ahead: settings.ahead };
    let seeds: Vec<u64> = (0..settings.seeds as u64).map(|i| settings.seed.wrapping_add(i)).collect();
    let one = |seed: &u64| network::run(&own, &cuts, *seed);
    let at_once = memory::check("units", features, seeds.len().min(rayon::current_num_threads())).is_ok();
    let all: Vec<network::Said> = if at_once && features <= MOST_AT_ONCE {
        seeds.par_iter().map(one).collect::<Result<_>>()?
    } else {
        seeds.iter().map(one).collect::<Result<_>>()?
    };
    drop(progress);
    let each: Vec<Scores> = all.iter().map(|said| scores(&cuts, said)).collect();
    let together = network::mean(&all);
    let spread = |of: &dyn Fn(&Scores) -> f64| {
        let (mean, deviation) = mean(&each.iter().map(of).collect::<Vec<_>>()).unwrap_or((f64::NAN, None));
        Spread { mean, deviation }
    };
    let free = each[0].free.map(|_| {
        let of =
            |which: usize| spread(&move |scores: &Scores| scores.free.map_or(f64::NAN, |free| free[which]));
        let valid_steps = of(2);
        FreeScores {
            nrmse_at_last: of(0),
            nrmse: of(1),
            valid_steps,
            lyapunov_times: series.lyapunov.map(|exponent| exponent * valid_steps.mean),
            runs: [together.free.len(), together.free.first().map_or(0, |run| run.2.nrows())],
        }
    });
    let held_out: usize = cuts.iter().map(|cut| cut.targets.nrows() - cut.from).sum();
    let learnt: usize = cuts.iter().map(|cut| cut.from).sum();
    let restored = |values: &ndarray::Array2<f64>| target_units.restored(values.view());
    let lines = Lines {
        from: cuts.iter().map(|cut| cut.from).collect(),
        truth: cuts.iter().map(|cut| restored(&cut.targets.slice(s![cut.from.., ..]).to_owned())).collect(),
        said: together.held_out.iter().map(restored).collect(),
        free: together.free.iter().map(|(i, start, said)| (*i, *start, restored(said))).collect(),
        future: together.future.iter().map(restored).collect(),
    };
    Ok(Forecast {
        series: series.name.clone(),
        channels: series.channels.clone(),
        steps: [learnt, held_out],
        horizon,
        features: together.features,
        nrmse: spread(&|scores| scores.nrmse),
        r2: spread(&|scores| scores.r2),
        nrmse_together: scores(&cuts, &together).nrmse,
        nrmse_of_last_value: (!series.is_driven).then(|| of_last_value(&cuts, horizon)),
        free,
        seconds: together.seconds,
        trials,
        settings,
        lines,
    })
}

/// Features up to which networks of several seeds run at once.
const MOST_AT_ONCE: usize = 2_000;

/// Cuts each series, and scales it by what is learnt from.
fn cut(series: &AllSeries, settings: &ForecastSettings, horizon: usize) -> Result<(Vec<Cut>, Units)> {
    let mut places = Vec::new();
    for (i, one) in series.all.iter().enumerate() {
        let steps = one.targets.nrows();
        let held_out = settings.test.unwrap_or((steps / 5).max(1));
        let least = settings.washout + horizon + 2;
        let from = steps.checked_sub(held_out).filter(|from| *from >= least);
        places.push(from.ok_or_else(|| {
            let which = if series.all.len() > 1 { format!("series {}: ", i + 1) } else { String::new() };
            let [washout, test] = ["washout", "test"].map(setting);
            let message = format!(
                "{which}{steps} steps are too few: {held_out} are held out ({test}), {} are left out at the start \
                 ({washout}), and more than {horizon} are needed to learn from",
                settings.washout
            );
            Error::file(Path::new(&series.name), message)
        })?);
        if let Some(free) = settings.free.filter(|free| *free > held_out) {
            let message = format!("is more than the {held_out} steps held out ({})", setting("test"));
            return Err(Error::usage(format!("{} {free}: {message}", setting("free"))));
        }
    }
    let varies = |one: &series::One, from: usize| {
        one.targets.slice(s![from.., ..]).columns().into_iter().any(|c| c.iter().any(|v| *v != c[0]))
    };
    if !series.all.iter().zip(&places).any(|(one, from)| varies(one, *from)) {
        let message = format!("what is held out is constant: give more steps of it ({})", setting("test"));
        return Err(Error::file(Path::new(&series.name), message));
    }
    let known = |of: fn(&series::One) -> &ndarray::Array2<f64>| {
        let views = series.all.iter().zip(&places).map(move |(one, from)| of(one).slice(s![..*from, ..]));
        Units::of(views.map(|view| view.reborrow()).collect::<Vec<_>>().into_iter())
    };
    let (inputs, targets) = (known(|one| &one.inputs), known(|one| &one.targets));
    let cuts = series.all.iter().zip(&places).map(|(one, from)| Cut {
        inputs: inputs.scaled(one.inputs.view()),
        targets: targets.scaled(one.targets.view()),
        from: *from,
    });
    Ok((cuts.collect(), targets))
}

/// The error of saying that everything stays as it is.
fn of_last_value(cuts: &[Cut], horizon: usize) -> f64 {
    let held_out: Vec<ndarray::Array2<f64>> = cuts
        .iter()
        .map(|cut| {
            let end = cut.targets.nrows();
            cut.targets.slice(s![cut.from - horizon..end - horizon, ..]).to_owned()
        })
        .collect();
    let (free, future, seconds) = (Vec::new(), Vec::new(), [0.0; 2]);
    scores(cuts, &network::Said { held_out, free, future, seconds, features: 0 }).nrmse
}
