//! Settings of a forecast.

use std::path::PathBuf;

use fnet_reservoir::{Arrangement, EchoStateSettings, NvarSettings, Penalty, ReservoirSettings};
use serde::{Deserialize, Serialize};

use super::series::{Generated, System};
use crate::error::{Error, Result};
use crate::settings::{in_range, refused, setting};

/// What turns a series into features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// An echo state network: a random reservoir
    #[default]
    EchoState,
    /// Nonlinear vector autoregression: products of delayed values
    Nvar,
}

/// How several reservoirs are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// Each is driven by the one before
    #[default]
    Row,
    /// Each is driven by the series
    Parallel,
}

/// The numbers that states are computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum StatePrecision {
    /// Float64
    #[default]
    F64,
    /// Float32: faster with thousands of units
    F32,
}

/// All settings of a forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForecastSettings {
    /// File of series.
    pub series: Option<PathBuf>,
    /// Instead: a generated system.
    pub system: Option<System>,
    /// Steps of a generated series.
    pub steps: usize,
    /// Delay of Mackey-Glass.
    pub tau: f64,
    /// Columns that are forecast; by default all that hold numbers.
    pub columns: Vec<String>,
    /// Columns that drive the others, and are known when they are forecast.
    pub inputs: Vec<String>,
    /// Steps ahead that are forecast.
    pub horizon: Option<usize>,
    /// Steps at the end that are held out; by default a fifth.
    pub test: Option<usize>,
    /// Steps of free runs over the held-out part.
    pub free: Option<usize>,
    /// Steps after the end of the series that are forecast.
    pub ahead: usize,
    /// What turns a series into features.
    pub method: Method,
    /// Units of each reservoir.
    pub units: usize,
    /// Connections of each unit.
    pub connections: usize,
    /// Spectral radius.
    pub radius: f64,
    /// The part of a state that is new in each step.
    pub leak: f64,
    /// Size of input weights, for series of mean 0 and deviation 1.
    pub input_scale: f64,
    /// The part of all connections from the series to units that there are.
    pub input_connectivity: f64,
    /// Size of biases.
    pub bias: f64,
    /// Size of feedback weights.
    pub feedback: f64,
    /// Number of reservoirs.
    pub layers: usize,
    /// How they are put together.
    pub arrangement: Layers,
    /// Whether the readout sees squares of every other state.
    pub squares: bool,
    /// Steps that an autoregression reads.
    pub delays: usize,
    /// From one to the next.
    pub stride: usize,
    /// Products of so many values.
    pub order: usize,
    /// Steps that are not learnt from at the start of each series.
    pub washout: usize,
    /// Penalty of the readout's weights, for series of deviation 1.
    pub penalty: f64,
    /// The readout goes on learning while it forecasts; older steps count so many times as much with each step.
    pub online: Option<f64>,
    /// The numbers that states are computed in.
    pub precision: StatePrecision,
    /// Settings that are tried on a validation part before.
    pub search: usize,
    /// Networks, each from its own seed.
    pub seeds: usize,
    /// The first seed.
    pub seed: u64,
}

impl Default for ForecastSettings {
    fn default() -> Self {
        let ReservoirSettings { units, connections, bias, feedback, seed, .. } = ReservoirSettings::default();
        let NvarSettings { delays, stride, order } = NvarSettings::default();
        Self {
            series: None,
            system: None,
            steps: 5_000,
            tau: 17.0,
            columns: Vec::new(),
            inputs: Vec::new(),
            horizon: None,
            test: None,
            free: None,
            ahead: 0,
            method: Method::EchoState,
            units,
            connections,
            radius: 0.9,
            leak: 0.7,
            input_scale: 0.3,
            input_connectivity: 1.0,
            bias,
            feedback,
            layers: 1,
            arrangement: Layers::Row,
            squares: false,
            delays,
            stride,
            order,
            washout: 100,
            penalty: 1e-6,
            online: None,
            precision: StatePrecision::F64,
            search: 0,
            seeds: 1,
            seed,
        }
    }
}

impl crate::settings::Settings for ForecastSettings {
    const RIVALS: &[&[&[&str]]] = &[&[&["series", "columns", "inputs"], &["system", "steps", "tau"]]];

    fn defaults(_: &toml::Table) -> Self {
        Self::default()
    }
}

impl ForecastSettings {
    /// Settles what follows from other settings, and refuses what cannot be.
    ///
    /// # Errors
    /// Names the setting.
    pub fn resolve(&mut self) -> Result<()> {
        match (&mut self.series, self.system) {
            (Some(path), None) => *path = crate::settings::absolute(path)?,
            (None, Some(_)) => {}
            (None, None) => {
                let [series, system] = ["series", "system"].map(setting);
                return Err(Error::usage(format!("give {series}, a file of series, or {system}")));
            }
            (Some(_), Some(_)) => return Err(refused("series, system", "one or the other is forecast")),
        }
        let is_driven = !self.inputs.is_empty() || self.system.is_some_and(System::is_driven);
        let horizon = *self.horizon.get_or_insert(usize::from(!is_driven));
        in_range("horizon", horizon as f64, if is_driven { 0.0 } else { 1.0 }, 1e6)?;
        if is_driven && (self.free.is_some() || self.ahead > 0) {
            let field = if self.free.is_some() { "free" } else { "ahead" };
            return Err(refused(field, "the inputs that drive the series are not known ahead"));
        }
        if self.online.is_some() && (self.free.is_some() || self.ahead > 0) {
            return Err(refused("online", "a readout that goes on learning needs the truth"));
        }
        if self.online.is_some() && self.feedback > 0.0 {
            return Err(refused("online, feedback", "choose one"));
        }
        if self.feedback > 0.0 && horizon != 1 {
            return Err(refused(
                "feedback",
                "is of forecasts one step ahead: what was said is known by the next",
            ));
        }
        if self.system.is_some() && !(self.columns.is_empty() && self.inputs.is_empty()) {
            return Err(refused("columns, inputs", "are of files"));
        }
        if let Some(both) = self.columns.iter().find(|column| self.inputs.contains(column)) {
            return Err(refused(
                &format!("columns, inputs {both}"),
                "drives itself: it would be known when it is forecast",
            ));
        }
        if self.tau != Self::default().tau && self.system != Some(System::MackeyGlass) {
            return Err(refused("tau", "is of mackey-glass"));
        }
        if self.series.is_some() && !self.inputs.is_empty() && self.columns.is_empty() {
            return Err(refused("columns", format!("name what is forecast from {}", setting("inputs"))));
        }
        for (field, value, low) in [
            ("steps", Some(self.steps), 50),
            ("test", self.test, 1),
            ("free", self.free, 1),
            ("ahead", Some(self.ahead), 0),
            ("washout", Some(self.washout), 0),
            ("search", Some(self.search), 0),
            ("seeds", Some(self.seeds), 1),
        ] {
            in_range(field, value.map(|value| value as f64), low as f64, 1e8)?;
        }
        in_range("tau", self.tau, 0.0, 1e4)?;
        in_range("penalty", self.penalty, 0.0, f64::MAX)?;
        if self.online.is_some_and(|forgetting| !(forgetting > 0.0 && forgetting <= 1.0)) {
            return Err(refused("online", "must be above 0 and at most 1"));
        }
        if self.method == Method::Nvar {
            let own = Self::default();
            let of_networks = [
                ("units", self.units != own.units),
                ("connections", self.connections != own.connections),
                ("radius", self.radius != own.radius),
                ("leak", self.leak != own.leak),
                ("input_scale", self.input_scale != own.input_scale),
                ("input_connectivity", self.input_connectivity != own.input_connectivity),
                ("bias", self.bias != own.bias),
                ("feedback", self.feedback != own.feedback),
                ("layers", self.layers != own.layers),
                ("squares", self.squares),
                ("seeds", self.seeds > 1),
            ];
            if let Some((field, _)) = of_networks.into_iter().find(|(_, is_given)| *is_given) {
                return Err(refused(
                    field,
                    "is of echo state networks; an autoregression has nothing random",
                ));
            }
            for (field, value) in [("delays", self.delays), ("stride", self.stride), ("order", self.order)] {
                in_range(field, value as f64, 1.0, 10_000.0)?;
            }
            // Before them all, it reads zeros.
            self.washout = self.washout.max((self.delays - 1) * self.stride);
            in_range("washout", self.washout as f64, 0.0, 1e6)?;
        }
        self.connections = self.connections.min(self.units.max(1));
        Ok(())
    }

    /// The generated series that the settings name.
    pub(super) fn generated(&self) -> Option<Generated> {
        let system = self.system?;
        Some(Generated { system, steps: self.steps, tau: self.tau, seed: self.seed })
    }

    /// An echo state network of a seed.
    pub(super) fn network(&self, seed: u64) -> EchoStateSettings {
        EchoStateSettings {
            reservoir: ReservoirSettings {
                units: self.units,
                connections: self.connections.min(self.units),
                radius: self.radius,
                leak: self.leak,
                input_scale: self.input_scale,
                input_connectivity: self.input_connectivity,
                bias: self.bias,
                feedback: self.feedback,
                seed,
            },
            layers: self.layers,
            arrangement: match self.arrangement {
                Layers::Row => Arrangement::Row,
                Layers::Parallel => Arrangement::Parallel,
            },
            reads_input: true,
            squares: self.squares,
        }
    }

    /// The autoregression.
    pub(super) fn nvar(&self) -> NvarSettings {
        NvarSettings { delays: self.delays, stride: self.stride, order: self.order }
    }

    /// The penalty of the readout.
    pub(super) fn readout_penalty(&self) -> Penalty {
        Penalty::Raw(self.penalty)
    }
}
