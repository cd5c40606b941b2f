//! How examples are made out of what was measured: a model needs its inputs made as in training.

use fnet_encoder::Head;
use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::featured::Featured;
use super::generated::Generated;
use super::images::MOST_PIXELS;
use super::listops::ListOps;
use super::mnist1d::Mnist1d;
use super::model_space::{Space, StoredSpace};
use super::pathfinder::Pathfinder;
use super::random_features::{Filters, RandomFeatures};
use super::series::Table;
use super::symbols::Alphabet;
use super::{Scale, Source, sounds};
use crate::data::tasks::rows::Columns;

/// The key of `config.json` that holds a [`Reading`].
pub const READING_KEY: &str = "reading";

/// What is asked of an example.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A class of the whole.
    #[default]
    Class,
    /// A number of the whole; its mean and deviation are those of the training half.
    Number(Scale),
    /// Any number of labels of the whole.
    Labels,
    /// A class of each position.
    Positions,
    /// A number of each position.
    Numbers(Scale),
}

impl Asked {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Number(scale) | Self::Numbers(scale) => scale.check(1),
            _ => Ok(()),
        }
    }

    /// The head that answers it, by the number of classes or labels.
    pub fn head(&self, labels: usize) -> Head {
        match self {
            Self::Class | Self::Labels => Head::Classification { labels },
            Self::Number(_) => Head::Regression,
            Self::Positions => Head::Tokens { labels },
            Self::Numbers(_) => Head::Tokens { labels: 1 },
        }
    }

    /// Whether each position has an answer of its own.
    pub fn is_of_positions(&self) -> bool {
        matches!(self, Self::Positions | Self::Numbers(_))
    }

    /// Mean and deviation of the numbers that are asked.
    pub fn numbers(&self) -> Option<&Scale> {
        match self {
            Self::Number(scale) | Self::Numbers(scale) => Some(scale),
            _ => None,
        }
    }
}

/// How examples are made out of what was measured, as `config.json` has it under [`READING_KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reading {
    /// Square patches of images, row by row.
    Image {
        /// Size of an image in pixels.
        rows: usize,
        /// Size of an image in pixels.
        columns: usize,
        /// Colours: 3, or 1 for grey.
        #[serde(default = "one")]
        channels: usize,
        /// Whether images of other sizes are resized.
        #[serde(default)]
        resized: bool,
        /// Size of a patch in pixels.
        patch: usize,
        /// Of each colour, from the training half.
        scale: Scale,
    },
    /// Steps of series.
    Series {
        /// Of channels, from the training half.
        scale: Scale,
        /// How tables hold series.
        #[serde(default)]
        table: Option<Table>,
        /// What is asked.
        #[serde(default)]
        asked: Asked,
        /// The label of a step that says nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ignored_label: Option<String>,
    },
    /// Frames of sounds.
    Sound {
        /// Samples a second.
        rate: u32,
        /// Of each band, from the training half.
        scale: Scale,
    },
    /// Characters or bytes.
    Symbols {
        /// Which.
        alphabet: Alphabet,
        /// Columns of the rows.
        columns: Columns,
        /// What is asked.
        asked: Asked,
        /// The label that says nothing.
        ignored_label: Option<String>,
    },
    /// Words of sentences, each with a label.
    Words {
        /// Columns of the words and their labels.
        columns: Columns,
    },
    /// Random features of what is read otherwise.
    RandomFeatures {
        /// How that is read.
        of: Box<Reading>,
        /// Which features.
        features: RandomFeatures,
    },
    /// Points of a reservoir's model space, of what is read otherwise.
    ModelSpace {
        /// How that is read.
        of: Box<Reading>,
        /// Which space.
        space: StoredSpace,
    },
    /// Generated strings of bits.
    Bits(Bits),
    /// Generated expressions of operators on lists.
    ListOps(ListOps),
    /// Generated images of dashed paths.
    Pathfinder(Pathfinder),
    /// Generated series of digits.
    #[serde(rename = "mnist-1d")]
    Mnist1d(Mnist1d),
}

fn one() -> usize {
    1
}

impl Reading {
    /// Refuses what no training can have written, for a model that reads vectors of this width (0: tokens).
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, width: usize) -> Result<(), String> {
        match self {
            Self::Image { rows, columns, channels, patch, scale, .. } => {
                let values = patch.checked_mul(*patch).and_then(|pixels| pixels.checked_mul(*channels));
                let has_size = [rows, columns].iter().all(|side| (1..=MOST_PIXELS).contains(*side));
                let fits = has_size && *patch > 0 && values == Some(width) && [1, 3].contains(channels);
                if !fits || !rows.is_multiple_of(*patch) || !columns.is_multiple_of(*patch) {
                    return Err(format!("patches of {patch} in images of {rows} x {columns} pixels"));
                }
                scale.check(*channels)
            }
            Self::Series { .. } if width == 0 => Err("series of no channels".into()),
            Self::Series { scale, asked, .. } => scale.check(width).and_then(|()| asked.check()),
            Self::Sound { rate, scale } => {
                if width == sounds::BANDS && sounds::RATES.contains(rate) {
                    return scale.check(width);
                }
                Err(format!("sounds of {rate} samples a second in vectors of {width}"))
            }
            Self::Symbols { alphabet, asked, .. } => {
                if alphabet.len() != width {
                    return Err(format!("{} symbols in vectors of {width}", alphabet.len()));
                }
                match asked {
                    Asked::Numbers(_) => Err("numbers of symbols".into()),
                    _ => asked.check(),
                }
            }
            Self::Words { .. } if width > 0 => Err(format!("words in vectors of {width}")),
            Self::Words { .. } => Ok(()),
            Self::RandomFeatures { of, features } => features.check(of, width),
            Self::ModelSpace { of, space } => space.check(of, width),
            Self::Bits(task) => task.check(),
            Self::ListOps(task) => task.check(),
            Self::Pathfinder(task) => task.check(),
            Self::Mnist1d(task) => task.check(),
        }
    }

    /// Generated examples: to learn from by a seed, or without one to validate on. `None` where examples come from files.
    pub(crate) fn generated(&self, seed: Option<u64>) -> Option<Box<dyn Source>> {
        match self {
            Self::Bits(task) => Some(Box::new(Generated::new(*task, seed))),
            Self::ListOps(task) => Some(Box::new(Generated::new(*task, seed))),
            Self::Pathfinder(task) => Some(Box::new(Generated::new(*task, seed))),
            Self::Mnist1d(task) => Some(Box::new(Generated::new(*task, seed))),
            Self::RandomFeatures { of, features } => {
                let (source, features) = (of.generated(seed)?, Filters::new(features.clone()));
                Some(Box::new(Featured { source, features }))
            }
            Self::ModelSpace { of, space } => {
                let (source, features) = (of.generated(seed)?, Space::new(space.clone()).ok()?);
                Some(Box::new(Featured { source, features }))
            }
            _ => None,
        }
    }

    /// What is asked.
    pub fn asked(&self) -> Asked {
        match self {
            Self::Series { asked, .. } | Self::Symbols { asked, .. } => asked.clone(),
            Self::Words { .. } => Asked::Positions,
            Self::RandomFeatures { of, .. } | Self::ModelSpace { of, .. } => of.asked(),
            _ => Asked::Class,
        }
    }
}
