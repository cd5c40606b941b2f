//! Token mixing: the one kind of layer that looks across the tokens of a sequence.

mod fourier;
mod none;

use serde::{Deserialize, Serialize};

use crate::{Batch, EncoderError};
pub use fourier::Fourier;
pub use none::NoMixing;

/// The mixers by the name they have in `config.json` and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixerKind {
    /// `Re(FFT2(x))` of each sequence.
    Fourier,
    /// No mixing: feed-forward layers only.
    None,
}

impl MixerKind {
    pub(crate) fn build(self, hidden: usize) -> Box<dyn Mixer> {
        match self {
            Self::Fourier => Box::new(Fourier::new(hidden)),
            Self::None => Box::new(NoMixing),
        }
    }
}

/// Mixes the tokens of each sequence of a batch at its own length.
///
/// What a sequence comes to must not depend on the other sequences, nor on the number of threads.
pub trait Mixer: Send + Sync {
    /// `y = mix(x)`, with `x` and `y` `[tokens, hidden]`.
    ///
    /// # Errors
    /// If a sequence's shape cannot be mixed.
    fn forward(&self, batch: &Batch, x: &[f32], y: &mut [f32]) -> Result<(), EncoderError>;

    /// `dx += dL/dx` of `y = mix(x)`, from `dy`.
    ///
    /// # Errors
    /// As `forward`.
    fn backward_add(&self, batch: &Batch, dy: &[f32], dx: &mut [f32]) -> Result<(), EncoderError>;
}
