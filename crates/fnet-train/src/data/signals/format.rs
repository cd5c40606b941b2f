//! Formats of files of signals.

use std::path::Path;

use super::{Purpose, Reading, entries};
use crate::error::Result;

/// A format of files of signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.ts` of the UEA and UCR archives.
    Series,
    /// A NumPy file of series.
    Array,
    /// A table of series.
    Table,
    /// IDX, as MNIST has it.
    Idx,
    /// CIFAR-10's binary files.
    Cifar,
    /// A folder or archive of PNG and JPEG.
    Pictures,
    /// A folder or archive of WAV.
    Sounds,
    /// Rows whose texts are read by character or byte.
    Symbols,
}

/// Names of pictures.
pub(super) const PICTURES: [&str; 3] = [".png", ".jpg", ".jpeg"];
/// Names of sounds.
pub(super) const SOUNDS: [&str; 1] = [".wav"];
/// Names of CIFAR-10's binary files.
pub(super) const CIFAR: [&str; 1] = [".bin"];

impl Format {
    /// The format of a file by its name, of a folder or archive by what it holds; that of rows by what they are read for.
    /// `None` for rows of text.
    ///
    /// # Errors
    /// If a folder or archive cannot be read.
    pub fn of(path: &Path, purpose: Purpose) -> Result<Option<Self>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if path.is_dir() || ends(&[".zip"]) {
            let held = entries::first_held(path, &[&PICTURES, &SOUNDS, &CIFAR])?;
            return Ok(held.map(|kind| [Self::Pictures, Self::Sounds, Self::Cifar][kind]));
        }
        let by_name = [
            (Self::Series, &[".ts"][..]),
            (Self::Idx, &[".idx", "-ubyte"]),
            (Self::Array, &[".npy"]),
            (Self::Cifar, &CIFAR),
        ];
        if let Some((format, _)) = by_name.into_iter().find(|(_, endings)| ends(endings)) {
            return Ok(Some(format));
        }
        let (is_symbols, is_table) = match purpose {
            Purpose::Learn(options) => (options.alphabet.is_some(), options.layout.is_some()),
            Purpose::Judge(reading, _) | Purpose::Predict(reading) => (
                matches!(reading, Reading::Symbols { .. }),
                matches!(reading, Reading::Series { table: Some(_), .. }),
            ),
        };
        Ok(match () {
            () if is_symbols => Some(Self::Symbols),
            () if is_table && ends(&[".csv", ".tsv"]) => Some(Self::Table),
            () => None,
        })
    }

    /// What its examples are, in messages.
    pub(crate) fn examples(self) -> &'static str {
        match self {
            Self::Series | Self::Array | Self::Table => "series",
            Self::Idx | Self::Cifar | Self::Pictures => "images",
            Self::Sounds => "sounds",
            Self::Symbols => "symbols",
        }
    }
}
