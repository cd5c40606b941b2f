//! What is no text: images, series, generated bits. Each example is a sequence of vectors with a target.

use std::path::Path;

use fnet_encoder::Head;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::Fingerprint;

pub mod bits;
pub mod idx;
mod scale;
pub mod series;

pub use scale::Scale;

/// One example.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signal {
    /// `[positions, width]`.
    pub vectors: Vec<f32>,
    /// What is to be predicted.
    pub target: Target,
}

/// What is to be predicted from a signal.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A class of the whole.
    Class(u32),
    /// Several labels of each position, `[positions, labels]`: 1 or 0, NaN where nothing is asked.
    Labels(Vec<f32>),
}

impl Default for Target {
    fn default() -> Self {
        Self::Class(0)
    }
}

/// What all signals of a source have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Values in a vector.
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

    /// An example, the same for the same pass and index; only generated ones differ from pass to pass.
    fn read(&self, pass: u64, index: usize, into: &mut Signal);

    /// How examples were made out of what was measured, to be stored with a model.
    fn reading(&self) -> Reading;

    /// A fingerprint of all examples of a pass.
    fn fingerprint(&self) -> u64 {
        let (mut all, mut signal) = (Fingerprint::default(), Signal::default());
        for index in 0..self.len() {
            self.read(0, index, &mut signal);
            signal.vectors.iter().for_each(|v| all.add(u64::from(v.to_bits())));
            match &signal.target {
                Target::Class(class) => all.add(u64::from(*class)),
                Target::Labels(labels) => labels.iter().for_each(|l| all.add(u64::from(l.to_bits()))),
            }
        }
        all.value()
    }
}

/// How examples are made out of what was measured: a model needs its inputs made as in training. It is stored in
/// `config.json`, under [`READING_KEY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Reading {
    /// Square patches of images, row by row.
    Image {
        /// Size of an image in pixels.
        rows: usize,
        /// Size of an image in pixels.
        columns: usize,
        /// Size of a patch in pixels.
        patch: usize,
        /// Of pixels, from the training half.
        scale: Scale,
    },
    /// Steps of series.
    Series {
        /// Of channels, from the training half.
        scale: Scale,
    },
    /// Generated strings of bits.
    Bits(bits::Bits),
}

impl Reading {
    /// Refuses what no training can have written, for a model that reads vectors of this width.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, width: usize) -> std::result::Result<(), String> {
        match self {
            Self::Image { rows, columns, patch, scale } => {
                let fits = *patch > 0 && patch.checked_mul(*patch) == Some(width);
                if !fits || !rows.is_multiple_of(*patch) || !columns.is_multiple_of(*patch) {
                    return Err(format!("patches of {patch} in images of {rows} x {columns} pixels"));
                }
                scale.check(1)
            }
            Self::Series { scale } => scale.check(width),
            Self::Bits(task) => task.check(),
        }
    }
}

/// The key of `config.json` that holds a [`Reading`].
pub const READING_KEY: &str = "reading";

/// Formats of files of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.ts` of the UEA and UCR archives.
    Series,
    /// IDX, as MNIST has it.
    Idx,
}

impl Format {
    /// The format by a file's name, `.gz` and `.zst` left aside; `None` for rows of text.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        if name.ends_with(".ts") {
            return Some(Self::Series);
        }
        (name.ends_with(".idx") || name.ends_with("-ubyte")).then_some(Self::Idx)
    }
}

/// Reads a file: with `reading` as a model was trained on, or without as the training half of one.
///
/// # Errors
/// If the file is broken, other than `reading` says, or has a class that is not among `classes`.
pub fn open(
    path: &Path,
    format: Format,
    patch: usize,
    reading: Option<&Reading>,
    classes: Option<&[String]>,
) -> Result<Box<dyn Source>> {
    let source: Box<dyn Source> = match format {
        Format::Idx => Box::new(idx::Images::open(path, patch, reading)?),
        Format::Series => Box::new(series::SeriesFile::open(path, reading, classes)?),
    };
    match classes.and_then(|known| source.shape().classes.get(known.len()).cloned()) {
        Some(class) => Err(Error::file(path, format!("has a class that training never shows: {class}"))),
        None => Ok(source),
    }
}
