//! What a readout reads from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What turns an example into the vector that a head reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Substrate {
    /// Nothing: the mean of the example's own vectors, of the images of `mnist`, `cifar10` and `pathfinder` all pixels. A
    /// linear model of it is a floor.
    Input,
    /// So many random features, without a trunk.
    RandomFeatures(usize),
    /// A random trunk of a mixer.
    Random(String),
    /// A trunk of a mixer that was pretrained on text.
    Pretrained(String),
}

impl Substrate {
    pub(super) fn has_trunk(&self) -> bool {
        self.mixer().is_some()
    }

    /// Its mixer, if it is a trunk.
    pub fn mixer(&self) -> Option<&str> {
        match self {
            Self::Random(mixer) | Self::Pretrained(mixer) => Some(mixer),
            Self::Input | Self::RandomFeatures(_) => None,
        }
    }

    /// One patch for the whole of a task's images.
    pub(super) fn patch_of(&self, task: Option<&str>) -> Option<usize> {
        match (self, task) {
            (Self::Input, Some("mnist")) => Some(28),
            (Self::Input, Some("cifar10" | "pathfinder")) => Some(32),
            _ => None,
        }
    }

    /// Its folder's name.
    pub(super) fn folder(&self) -> String {
        self.to_string().replace([' ', ','], "-").replace("--", "-")
    }
}

impl fmt::Display for Substrate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input alone"),
            Self::RandomFeatures(_) => f.write_str("random features"),
            Self::Random(mixer) => f.write_str(mixer),
            Self::Pretrained(mixer) => write!(f, "{mixer}, text"),
        }
    }
}
