//! Series as points of a reservoir's model space: how each moves, by a regression of its own.

use fnet_reservoir::{ModelSpace, ReservoirSettings};
use serde::{Deserialize, Serialize};

use super::featured::Features;
use super::{Reading, Signal, Source};
use crate::error::Result;

/// Units of the reservoir, and what else it is like; found on four sets of series.
const UNITS: usize = 300;
const LEAK: f64 = 0.5;
const INPUT_SCALE: f64 = 0.3;
/// Most dimensions, whose square is the number of features.
pub(crate) const MOST_DIMENSIONS: usize = 150;
/// More values at a step than a reservoir reads.
const MOST_CHANNELS: usize = 1 << 16;
/// Steps of training examples by which the dimensions are found.
const MOST_STEPS: usize = 100_000;

/// Which points examples become, as it is stored with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredSpace {
    /// From which the reservoir follows.
    pub seed: u64,
    /// Values at each step.
    pub channels: usize,
    /// Dimensions of the reservoir's states that are kept.
    pub dimensions: usize,
    /// Their directions, `[units, dimensions]`.
    pub basis: Vec<f32>,
}

impl StoredSpace {
    fn settings(seed: u64) -> ReservoirSettings {
        ReservoirSettings {
            units: UNITS,
            leak: LEAK,
            input_scale: INPUT_SCALE,
            seed,
            ..ReservoirSettings::default()
        }
    }

    /// Of these training examples.
    ///
    /// # Errors
    /// What it cannot be made of.
    pub fn fit(
        source: &dyn Source,
        dimensions: usize,
        seed: u64,
    ) -> Result<std::result::Result<Self, String>> {
        let channels = source.shape().width;
        match source.reading() {
            Reading::RandomFeatures { .. } | Reading::ModelSpace { .. } => return Ok(Err("features".into())),
            _ if channels == 0 => return Ok(Err("tokens".into())),
            _ => {}
        }
        if channels > MOST_CHANNELS {
            return Ok(Err(format!("vectors of {channels} values, more than {MOST_CHANNELS}")));
        }
        // From the whole of the data, which may be sorted.
        let apart = (source.len() * source.shape().longest).div_ceil(MOST_STEPS).max(1);
        let (mut series, mut signal) = (Vec::new(), Signal::default());
        for index in (0..source.len()).step_by(apart) {
            source.read(0, index, &mut signal)?;
            series.push(std::mem::take(&mut signal.vectors));
        }
        let series = series.iter().map(Vec::as_slice);
        let space = ModelSpace::fit(&Self::settings(seed), channels, dimensions, series);
        Ok(space.map_err(|e| e.to_string()).map(|space| {
            let basis = space.basis().to_vec();
            Self { seed, channels, dimensions, basis }
        }))
    }

    fn width(&self) -> usize {
        self.dimensions * (self.dimensions + 1)
    }

    /// Refuses what no training can have written, for examples of `width` values.
    pub(super) fn check(&self, of: &Reading, width: usize) -> std::result::Result<(), String> {
        let is_nested =
            matches!(of, Reading::RandomFeatures { .. } | Reading::ModelSpace { .. } | Reading::Words { .. });
        let is_whole = (1..=MOST_CHANNELS).contains(&self.channels)
            && (1..=MOST_DIMENSIONS).contains(&self.dimensions)
            && self.basis.len() == UNITS * self.dimensions
            && self.basis.iter().all(|v| v.is_finite());
        if is_nested || !is_whole || self.width() != width {
            return Err(format!("a model space of {} dimensions in vectors of {width}", self.dimensions));
        }
        of.check(self.channels)?;
        let generated = of.generated(None).map(|source| source.shape().width);
        match generated.filter(|width| *width != self.channels) {
            Some(width) => Err(format!("a model space of vectors of {}, not {width}", self.channels)),
            None => Ok(()),
        }
    }
}

/// Makes points of examples.
pub(crate) struct Space {
    stored: StoredSpace,
    space: ModelSpace,
}

impl Space {
    /// The stored space.
    ///
    /// # Errors
    /// If it is none; [`StoredSpace::check`] says so before.
    pub fn new(stored: StoredSpace) -> std::result::Result<Self, String> {
        let settings = StoredSpace::settings(stored.seed);
        let space = ModelSpace::from_basis(&settings, stored.channels, stored.dimensions, &stored.basis);
        Ok(Self { space: space.map_err(|e| e.to_string())?, stored })
    }
}

impl Features for Space {
    fn width(&self) -> usize {
        self.stored.width()
    }

    fn apply(&self, signal: &mut Signal) {
        signal.vectors = self.space.features(&signal.vectors);
    }

    fn reading(&self, of: Reading) -> Reading {
        Reading::ModelSpace { of: Box::new(of), space: self.stored.clone() }
    }
}
