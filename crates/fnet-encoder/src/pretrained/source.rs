//! Where a model is read from.

use std::borrow::Cow;
use std::path::Path;

use super::{CONFIG_FILE, folder_of};
use crate::EncoderError;

/// Where a model is read from: files, or memory. Paths convert into it.
///
/// ```no_run
/// use fnet_encoder::pretrained::{self, Source};
///
/// let model = pretrained::open("pretrained")?;
/// // In a program that carries its model, by `include_bytes!`:
/// let (config, weights): (&[u8], &[u8]) = (b"..", b"..");
/// let model = pretrained::open(Source::Memory { config, weights })?;
/// # Ok::<(), fnet_encoder::EncoderError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A model folder, or one weight file with `config.json` next to it.
    Path(&'a Path),
    /// The contents of such a folder.
    Memory {
        /// The bytes of `config.json`.
        config: &'a [u8],
        /// The bytes of `model.safetensors`.
        weights: &'a [u8],
    },
}

impl<'a, P: AsRef<Path> + ?Sized> From<&'a P> for Source<'a> {
    fn from(path: &'a P) -> Self {
        Self::Path(path.as_ref())
    }
}

impl<'a> Source<'a> {
    /// The bytes of `config.json`, and its name in messages.
    pub(super) fn config(self) -> Result<(Cow<'a, Path>, Cow<'a, [u8]>), EncoderError> {
        match self {
            Self::Path(path) => {
                let file = folder_of(path).join(CONFIG_FILE);
                match std::fs::read(&file) {
                    Ok(bytes) => Ok((file.into(), bytes.into())),
                    Err(source) => Err(EncoderError::Io { path: file, source }),
                }
            }
            Self::Memory { config, .. } => Ok((Path::new(CONFIG_FILE).into(), config.into())),
        }
    }
}
