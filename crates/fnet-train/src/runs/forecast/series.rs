//! The series of a forecast: read or generated, and scaled.

use std::path::Path;

use fnet_reservoir::systems;
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use super::ForecastSettings;
use crate::data::signals::series::read_numbers;
use crate::data::tasks::rows::quoted_names;
use crate::data::text::{self, format_ending};
use crate::error::{Error, Result};
use crate::settings::setting;

/// A system that is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Mackey-Glass, one value a unit of time
    MackeyGlass,
    /// Lorenz, three values every 0.02
    Lorenz,
    /// Rössler, three values every 0.1
    Rossler,
    /// Hénon's map, two values
    Henon,
    /// NARMA-10, driven by a random input
    #[serde(rename = "narma-10")]
    #[cfg_attr(feature = "clap", value(name = "narma-10"))]
    Narma10,
}

impl System {
    /// Whether inputs drive it.
    pub fn is_driven(self) -> bool {
        self == Self::Narma10
    }

    /// The largest Lyapunov exponent for each step, where it is known.
    fn lyapunov(self, tau: f64) -> Option<f64> {
        match self {
            Self::MackeyGlass => (tau == 17.0).then_some(0.0058),
            Self::Lorenz => Some(0.906 * LORENZ_STEP),
            Self::Rossler => Some(0.0714 * ROSSLER_STEP),
            Self::Henon => Some(0.419),
            Self::Narma10 => None,
        }
    }
}

const LORENZ_STEP: f64 = 0.02;
const ROSSLER_STEP: f64 = 0.1;

/// A generated series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generated {
    pub system: System,
    pub steps: usize,
    pub tau: f64,
    pub seed: u64,
}

/// One series: what is known at each step, `[steps, inputs]`, and what is forecast, `[steps, channels]`.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub inputs: Array2<f64>,
    pub targets: Array2<f64>,
}

/// All series of a forecast.
#[derive(Debug, Clone)]
pub(super) struct AllSeries {
    pub name: String,
    /// Names of what is forecast.
    pub channels: Vec<String>,
    pub all: Vec<One>,
    /// Whether other inputs than the series itself drive it.
    pub is_driven: bool,
    pub lyapunov: Option<f64>,
}

impl AllSeries {
    /// Reads or generates them.
    pub fn of(settings: &ForecastSettings, quiet: bool) -> Result<Self> {
        let own = match (settings.generated(), &settings.series) {
            (Some(generated), _) => Self::generate(generated),
            (None, Some(path)) => Self::read(path, settings, quiet)?,
            (None, None) => return Err(Error::usage(format!("give {}", setting("series")))),
        };
        for (i, one) in own.all.iter().enumerate() {
            let still = |column: ndarray::ArrayView1<f64>| column.iter().all(|value| *value == column[0]);
            if let Some(channel) = one.targets.columns().into_iter().position(still) {
                let name = &own.channels[channel];
                let which = if own.all.len() > 1 { format!("series {}: ", i + 1) } else { String::new() };
                let message = format!("{which}`{name}` is constant: there is nothing to forecast");
                return Err(Error::file(Path::new(&own.name), message));
            }
        }
        Ok(own)
    }

    fn generate(Generated { system, steps, tau, seed }: Generated) -> Self {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let alone = |series: Array2<f64>| One { inputs: series.clone(), targets: series };
        let (one, channels) = match system {
            System::MackeyGlass => (alone(systems::mackey_glass(steps, tau)), names(&["x"])),
            System::Lorenz => (alone(systems::lorenz(steps, LORENZ_STEP)), names(&["x", "y", "z"])),
            System::Rossler => (alone(systems::rossler(steps, ROSSLER_STEP)), names(&["x", "y", "z"])),
            System::Henon => (alone(systems::henon(steps)), names(&["x", "y"])),
            System::Narma10 => {
                let (inputs, targets) = systems::narma10(steps, seed);
                (One { inputs, targets }, names(&["y"]))
            }
        };
        let name = serde_json::to_value(system).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().to_string();
        let (is_driven, lyapunov) = (system.is_driven(), system.lyapunov(tau));
        Self { name, channels, all: vec![one], is_driven, lyapunov }
    }

    fn read(path: &Path, settings: &ForecastSettings, quiet: bool) -> Result<Self> {
        let name = path.display().to_string();
        let is_table = ["csv", "tsv"].contains(&format_ending(path).as_str());
        if !is_table {
            if let Some(field) = [("columns", &settings.columns), ("inputs", &settings.inputs)]
                .into_iter()
                .find_map(|(field, given)| (!given.is_empty()).then_some(field))
            {
                return Err(Error::usage(format!("{}: only tables have named columns", setting(field))));
            }
            let (channels, all) = read_numbers(path)?;
            let all = all.into_iter().map(|series| One { inputs: series.clone(), targets: series }).collect();
            let channels = (0..channels).map(|channel| format!("channel {channel}")).collect();
            return Ok(Self { name, channels, all, is_driven: false, lyapunov: None });
        }
        let table = Table::read(path)?;
        let chosen =
            if settings.columns.is_empty() { table.numeric(path, quiet)? } else { settings.columns.clone() };
        let targets = table.columns(path, &chosen)?;
        let is_driven = !settings.inputs.is_empty();
        let inputs = if is_driven { table.columns(path, &settings.inputs)? } else { targets.clone() };
        Ok(Self { name, channels: chosen, all: vec![One { inputs, targets }], is_driven, lyapunov: None })
    }
}

/// A CSV or TSV file.
struct Table {
    header: Vec<String>,
    rows: Vec<csv::StringRecord>,
    lines: Vec<u64>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let separator = if format_ending(path) == "tsv" { b'\t' } else { b',' };
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text::open(path)?);
        let broken = |e: csv::Error| {
            let line = e.position().map_or(1, |position| position.line() as usize);
            Error::line(path, line, e.to_string())
        };
        let header = reader.headers().map_err(broken)?;
        let header =
            header.iter().map(|name| name.trim_start_matches('\u{FEFF}').trim().to_string()).collect();
        let (mut rows, mut lines) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(broken)?;
            lines.push(record.position().map_or(0, csv::Position::line));
            rows.push(record);
        }
        if rows.is_empty() {
            return Err(Error::file(path, "holds no rows"));
        }
        Ok(Self { header, rows, lines })
    }

    /// Columns whose first value is a number.
    fn numeric(&self, path: &Path, quiet: bool) -> Result<Vec<String>> {
        let is_number = |(i, _): &(usize, &String)| {
            self.rows
                .first()
                .and_then(|row| row.get(*i))
                .is_some_and(|value| value.trim().parse::<f64>().is_ok())
        };
        let (numbers, others): (Vec<_>, Vec<_>) = self.header.iter().enumerate().partition(is_number);
        let names = |columns: &[(usize, &String)]| -> Vec<String> {
            columns.iter().map(|(_, name)| (*name).clone()).collect()
        };
        if numbers.is_empty() {
            return Err(Error::line(path, 2, "has no number"));
        }
        if !others.is_empty() && !quiet {
            let left = names(&others);
            eprintln!(
                "{}: {} are no numbers and left out",
                path.display(),
                quoted_names(left.iter().map(String::as_str))
            );
        }
        Ok(names(&numbers))
    }

    fn columns(&self, path: &Path, names: &[String]) -> Result<Array2<f64>> {
        let place = |name: &String| {
            self.header.iter().position(|own| own == name).ok_or_else(|| {
                let known = quoted_names(self.header.iter().map(String::as_str));
                Error::line(path, 1, format!("has no column `{name}`; its columns are {known}"))
            })
        };
        for name in names {
            if self.header.iter().filter(|own| *own == name).count() > 1 {
                return Err(Error::line(path, 1, format!("has several columns `{name}`")));
            }
        }
        let places = names.iter().map(place).collect::<Result<Vec<_>>>()?;
        let mut all = Array2::zeros((self.rows.len(), names.len()));
        for ((mut values, row), line) in all.rows_mut().into_iter().zip(&self.rows).zip(&self.lines) {
            for (value, place) in values.iter_mut().zip(&places) {
                let text = row.get(*place).unwrap_or("").trim();
                *value = text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| {
                    let shown: String = text.chars().take(40).collect();
                    Error::line(path, *line as usize, format!("`{shown}` is no number"))
                })?;
            }
        }
        Ok(all)
    }
}

/// Mean and deviation of each channel of some series.
#[derive(Debug, Clone)]
pub(super) struct Units {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Units {
    /// Those of all series together.
    pub fn of<'a>(all: impl Iterator<Item = ArrayView2<'a, f64>>) -> Self {
        let views: Vec<ArrayView2<f64>> = all.collect();
        let whole = ndarray::concatenate(Axis(0), &views).unwrap_or_default();
        let mean = whole.mean_axis(Axis(0)).map_or_else(Vec::new, |mean| mean.to_vec());
        let usual = |deviation: &f64| if *deviation > 0.0 { *deviation } else { 1.0 };
        Self { mean, deviation: whole.std_axis(Axis(0), 0.0).iter().map(usual).collect() }
    }

    /// In units of them.
    pub fn scaled(&self, series: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn(series.dim(), |(t, c)| (series[[t, c]] - self.mean[c]) / self.deviation[c])
    }

    /// The reverse.
    pub fn restored(&self, series: ArrayView2<f64>) -> Array2<f64> {
        Array2::from_shape_fn(series.dim(), |(t, c)| series[[t, c]] * self.deviation[c] + self.mean[c])
    }
}

/// A series cut into what is learnt from and what is held out.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub inputs: Array2<f64>,
    pub targets: Array2<f64>,
    /// Where the held-out part begins.
    pub from: usize,
}

impl Cut {
    /// What is learnt from: inputs, and the targets `horizon` steps later.
    pub fn known(&self, horizon: usize) -> fnet_reservoir::Example<'_> {
        let end = self.from.saturating_sub(horizon);
        fnet_reservoir::Example {
            inputs: self.inputs.slice(s![..end, ..]),
            targets: self.targets.slice(s![horizon.min(self.from)..self.from, ..]),
        }
    }
}
