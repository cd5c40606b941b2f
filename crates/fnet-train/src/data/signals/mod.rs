//! What is no plain text: images, sounds, series, symbols, labelled words, generated examples. Each example is a sequence
//! of vectors, or of words' tokens, with a target.

use std::path::{Path, PathBuf};

use fnet_encoder::Head;

use crate::error::{Error, Result};
use crate::random::Fingerprint;

pub mod bits;
mod classes;
mod entries;
pub(crate) mod featured;
mod format;
mod generated;
pub mod images;
pub mod listops;
pub mod mnist1d;
pub mod model_space;
mod options;
pub(crate) mod part;
pub mod pathfinder;
pub mod random_features;
mod reading;
mod scale;
pub mod series;
pub mod sounds;
pub mod spans;
mod spool;
pub mod symbols;
pub mod words;

use featured::Featured;
pub use format::Format;
use model_space::Space;
pub use options::{Layout, Options, Variation};
use random_features::Filters;
pub use reading::{Asked, READING_KEY, Reading};
pub use scale::Scale;

/// One example.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signal {
    /// `[positions, width]`.
    pub vectors: Vec<f32>,
    /// Instead of vectors: token ids.
    pub tokens: Vec<u32>,
    /// What is to be predicted.
    pub target: Target,
}

impl Signal {
    /// Number of its positions, by the width of its vectors.
    pub(crate) fn positions(&self, width: usize) -> usize {
        self.vectors.len().checked_div(width).unwrap_or(self.tokens.len())
    }
}

/// What is to be predicted from a signal.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A class of the whole.
    Class(u32),
    /// A number of the whole.
    Number(f32),
    /// A class of each position; [`UNASKED`] where nothing is asked.
    Classes(Vec<u32>),
    /// A number of each position.
    Numbers(Vec<f32>),
    /// Several labels of the whole, `[labels]`, or of each position, `[positions, labels]`: 1 or 0, NaN where nothing is
    /// asked.
    Labels(Vec<f32>),
}

/// The class of a position where nothing is asked.
pub const UNASKED: u32 = fnet_encoder::IGNORED;

impl Default for Target {
    fn default() -> Self {
        Self::Class(0)
    }
}

/// What all signals of a source have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Values in a vector; 0 where examples are token ids.
    pub width: usize,
    /// Most positions in an example.
    pub longest: usize,
    /// What predicts the targets.
    pub head: Head,
    /// Names of the classes; empty where there are none.
    pub classes: Vec<String>,
}

/// Examples that are read one at a time, in any order.
pub trait Source: Send + Sync {
    /// What they have in common.
    fn shape(&self) -> Shape;

    /// Examples in a pass.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an example is the same in every pass.
    fn is_fixed(&self) -> bool {
        true
    }

    /// An example, the same for the same pass and index; only generated and varied ones differ from pass to pass.
    ///
    /// # Errors
    /// If a temporary file with decoded examples cannot be read.
    fn read(&self, pass: u64, index: usize, into: &mut Signal) -> Result<()>;

    /// As [`read`](Self::read) in the first pass, before anything costly is made of an example.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_plain(&self, index: usize, into: &mut Signal) -> Result<()> {
        self.read(0, index, into)
    }

    /// How examples were made out of what was measured, to be stored with a model.
    fn reading(&self) -> Reading;

    /// A fingerprint of all examples of a pass.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn fingerprint(&self) -> Result<u64> {
        let (mut all, mut signal) = (Fingerprint::default(), Signal::default());
        for index in 0..self.len() {
            self.read(0, index, &mut signal)?;
            signal.vectors.iter().for_each(|v| all.add(u64::from(v.to_bits())));
            signal.tokens.iter().for_each(|id| all.add(u64::from(*id)));
            match &signal.target {
                Target::Class(class) => all.add(u64::from(*class)),
                Target::Number(number) => all.add(u64::from(number.to_bits())),
                Target::Classes(classes) => classes.iter().for_each(|class| all.add(u64::from(*class))),
                Target::Labels(numbers) | Target::Numbers(numbers) => {
                    numbers.iter().for_each(|l| all.add(u64::from(l.to_bits())))
                }
            }
        }
        Ok(all.value())
    }
}

/// A file, or a part of what a folder or archive holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The file, folder or archive.
    pub path: PathBuf,
    /// Which of its files.
    pub only: Only,
}

/// Which files of a folder or archive are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// All.
    All,
    /// Those whose name begins so.
    Named(&'static str),
    /// Those whose name ends with a number below this one, as in `7_theo_3.wav`.
    NumberedBelow(u32),
    /// Those whose name ends with this number or a larger one.
    NumberedFrom(u32),
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self { path: path.into(), only: Only::All }
    }
}

/// What examples are read for.
#[derive(Clone, Copy)]
pub enum Purpose<'a> {
    /// To learn from: classes, and the scale of values, are found.
    Learn(&'a Options),
    /// To judge a model by, which reads them so and knows these classes.
    Judge(&'a Reading, &'a [String]),
    /// To be predicted by a model that reads them so: no label is needed.
    Predict(&'a Reading),
}

impl<'a> Purpose<'a> {
    /// How the model reads them, where there is one.
    fn reading(self) -> Option<&'a Reading> {
        match self {
            Self::Learn(_) => None,
            Self::Judge(reading, _) | Self::Predict(reading) => Some(reading),
        }
    }

    /// What is asked of an example.
    fn asked(self) -> Asked {
        match self {
            Self::Learn(options) => options.asked.clone(),
            Self::Judge(reading, _) | Self::Predict(reading) => reading.asked(),
        }
    }

    /// The label of a position that says nothing.
    fn ignored_label(self) -> Option<String> {
        match self {
            Self::Learn(options) => options.ignored_label.clone(),
            Self::Judge(reading, _) | Self::Predict(reading) => match reading {
                Reading::Series { ignored_label, .. } | Reading::Symbols { ignored_label, .. } => {
                    ignored_label.clone()
                }
                _ => None,
            },
        }
    }

    /// Whether labels are needed.
    fn needs_labels(self) -> bool {
        !matches!(self, Self::Predict(_))
    }

    /// Of what is not read by the model.
    fn refuse<T>(self, path: &Path, what: &str) -> Result<T> {
        Err(Error::file(path, format!("holds {what}, which the model does not read")))
    }
}

/// Reads a file, folder or archive of signals.
///
/// # Errors
/// If it is broken, other than the model reads, or has a class that the model does not know.
pub fn open(place: &Place, purpose: Purpose) -> Result<Box<dyn Source>> {
    // What features are made of is read first.
    if let Some(Reading::RandomFeatures { of, .. } | Reading::ModelSpace { of, .. }) = purpose.reading() {
        let inner = match purpose {
            Purpose::Judge(_, classes) => Purpose::Judge(of, classes),
            _ => Purpose::Predict(of),
        };
        let source = open(place, inner)?;
        return Ok(match purpose.reading() {
            Some(Reading::RandomFeatures { features, .. }) => {
                Box::new(Featured { source, features: Filters::new(features.clone()) })
            }
            Some(Reading::ModelSpace { space, .. }) => {
                let features = Space::new(space.clone()).map_err(|e| Error::file(&place.path, e))?;
                Box::new(Featured { source, features })
            }
            _ => source,
        });
    }
    let Some(format) = Format::of(&place.path, purpose)? else {
        let known = "series (.ts, .npy), images (IDX, .bin, a folder or .zip of PNG and JPEG), sounds (a folder or .zip of WAV)";
        return Err(Error::file(&place.path, format!("is no file of signals: {known} are read")));
    };
    Ok(match format {
        Format::Idx | Format::Cifar | Format::Pictures => {
            Box::new(images::Images::open(place, format, purpose)?)
        }
        Format::Sounds => Box::new(sounds::Sounds::open(place, purpose)?),
        Format::Series | Format::Array | Format::Table => {
            Box::new(series::SeriesFile::open(&place.path, format, purpose)?)
        }
        Format::Symbols => Box::new(symbols::SymbolFile::open(&place.path, purpose)?),
    })
}
