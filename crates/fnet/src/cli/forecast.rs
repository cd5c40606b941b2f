use std::path::PathBuf;

use clap::Args as Group;
use fnet_train::folder::claim::Claim;
use fnet_train::runs::forecast::{
    self, ForecastSettings, Layers, Method, StatePrecision, System, is_forecast,
};
use fnet_train::runs::report::table;
use fnet_train::settings::{from_table, given, over_file};
use fnet_train::{Error, Result};
use serde::Serialize;

use super::common::{say, set_threads};

/// Forecast series by a reservoir or an autoregression, and say how good that is on a part held out
///
/// Only a linear readout is learnt, in closed form: seconds, not minutes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Settings file; flags win over it. A forecast's forecast.toml is one
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder of the forecast: tables, plots, settings
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the forecast that --out holds
    #[arg(long)]
    overwrite: bool,
    /// Threads; all cores by default. The result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// No progress
    #[arg(long)]
    quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Flags over the fields of `ForecastSettings`.
#[derive(Group, Serialize)]
struct Flags {
    /// Series: .csv or .tsv (a step a row), .npy ([steps], [steps, channels] or [series, steps, channels]) or .ts
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    series: Option<PathBuf>,
    /// Instead: a generated system
    #[arg(long, value_enum)]
    system: Option<System>,
    /// Steps of the generated series; 5000 by default
    #[arg(long, requires = "system")]
    steps: Option<usize>,
    /// Delay of mackey-glass; 17 by default, where chaos begins
    #[arg(long, requires = "system")]
    tau: Option<f64>,
    /// Columns that are forecast, with commas; by default all that hold numbers
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    columns: Vec<String>,
    /// Columns that drive them, and whose values are known when a step is forecast
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    inputs: Vec<String>,
    /// Steps ahead that are forecast; 1 by default, or 0 with --inputs
    #[arg(long, value_name = "STEPS")]
    horizon: Option<usize>,
    /// Steps held out at the end of each series; by default a fifth
    #[arg(long, value_name = "STEPS")]
    test: Option<usize>,
    /// Run freely for so many steps, again and again over the held-out part: each forecast is the next input
    #[arg(long, value_name = "STEPS")]
    free: Option<usize>,
    /// Forecast so many steps after the end of each series, having learnt from all of it
    #[arg(long, value_name = "STEPS")]
    ahead: Option<usize>,
    /// What turns a series into features
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Units of a reservoir; 500 by default
    #[arg(long)]
    units: Option<usize>,
    /// Connections of each unit with others; 10 by default
    #[arg(long)]
    connections: Option<usize>,
    /// Spectral radius of the recurrent weights; 0.9 by default
    #[arg(long)]
    radius: Option<f64>,
    /// The part of a state that is new in each step; 0.7 by default
    #[arg(long)]
    leak: Option<f64>,
    /// Size of input weights; 0.3 by default. Series have mean 0 and deviation 1
    #[arg(long)]
    input_scale: Option<f64>,
    /// The part of all connections from the series to units that there are; 1, all, by default
    #[arg(long)]
    input_connectivity: Option<f64>,
    /// Size of biases; 0.2 by default
    #[arg(long)]
    bias: Option<f64>,
    /// Size of the weights with which the last output is fed back; 0, none, by default
    #[arg(long)]
    feedback: Option<f64>,
    /// Number of reservoirs; 1 by default
    #[arg(long)]
    layers: Option<usize>,
    /// How several reservoirs are put together; in a row by default
    #[arg(long, value_enum)]
    arrangement: Option<Layers>,
    /// The readout sees squares of every other state
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    squares: bool,
    /// Steps that nvar reads; 2 by default
    #[arg(long)]
    delays: Option<usize>,
    /// Steps from one that nvar reads to the next; 1 by default
    #[arg(long)]
    stride: Option<usize>,
    /// Products of up to so many values in nvar; 2 by default
    #[arg(long)]
    order: Option<usize>,
    /// Steps at the start of each series that are not learnt from; 100 by default
    #[arg(long, value_name = "STEPS")]
    washout: Option<usize>,
    /// Penalty of the readout's weights; 1e-6 by default
    #[arg(long)]
    penalty: Option<f64>,
    /// The readout goes on learning as truth comes in (recursive least squares), and what is older counts so many times as
    /// much with each step: 1 for no forgetting
    #[arg(long, value_name = "FORGETTING")]
    online: Option<f64>,
    /// The numbers that states are computed in: f64, or f32, which is faster with thousands of units
    #[arg(long, value_enum)]
    precision: Option<StatePrecision>,
    /// Try so many settings at random on the last fifth of what is learnt from, and take the best
    #[arg(long, value_name = "SETTINGS")]
    search: Option<usize>,
    /// Networks, each from its own seed; their mean is the forecast
    #[arg(long)]
    seeds: Option<usize>,
    /// First seed; 1 by default
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs `fnet forecast`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let flags = given(&args.flags)?;
    let flags = match &args.config {
        Some(path) => over_file::<ForecastSettings>(path, flags)?,
        None => flags,
    };
    let mut settings: ForecastSettings = from_table(flags)?;
    settings.resolve()?;
    let claim = Claim::of(&args.out)?;
    let is_other = !is_forecast(&args.out) && !claim.is_empty()?;
    if is_other || is_forecast(&args.out) && !args.overwrite {
        let message = if is_other {
            "holds other files; choose another --out"
        } else {
            "holds another forecast; choose another --out, or give --overwrite to replace it"
        };
        return Err(Error::file(&args.out, message));
    }
    let forecast = forecast::forecast(&settings, args.quiet)?;
    forecast::write(&forecast, &args.out)?;
    if args.json {
        return say(serde_json::to_string(&forecast).unwrap_or_default());
    }
    if settings.search > 0 && !args.quiet {
        let trial = forecast.trials.iter().filter(|trial| trial.nrmse.is_some());
        let best = trial.min_by(|a, b| a.nrmse.unwrap_or(f64::NAN).total_cmp(&b.nrmse.unwrap_or(f64::NAN)));
        let flag = |(name, value): &(&str, f64)| format!("--{} {value}", name.replace('_', "-"));
        if let Some(best) = best {
            let flags: Vec<String> = best.settings.iter().map(flag).collect();
            eprintln!("the best of {}: {}", settings.search, flags.join(" "));
        }
    }
    say(table(&forecast.rows()).trim_end())?;
    if !args.quiet {
        eprintln!("report: {}", args.out.join("report.html").display());
    }
    Ok(())
}
