//! Token mixing: the one kind of layer that looks across the tokens of a sequence.

mod attention;
mod fourier;
mod linear;
mod mlp;
mod none;
mod reservoir;
mod sequences;

use serde::{Deserialize, Serialize};

pub use attention::Attention;
pub use fourier::{Fourier, FourierHidden, FourierSeq, Hartley};
pub use linear::Linear;
pub use mlp::Mlp;
pub use none::NoMixing;
pub use reservoir::{Reservoir, ReservoirConfig};

use crate::EncoderError;
use crate::modules::{Builder, Pass};
use crate::parameters::Gradients;
use crate::workspace::{Buffers, Scratch};

/// The mixers by the name they have in `config.json` and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixerKind {
    /// `Re(FFT2(x))` of each sequence.
    Fourier,
    /// `Re(FFT(x))` over the sequence alone.
    FourierSeq,
    /// `Re(FFT(x))` over the hidden axis alone.
    FourierHidden,
    /// The Hartley transform over both axes.
    Hartley,
    /// Softmax attention.
    Attention,
    /// Trained matrices over the sequence and over the hidden axis.
    Linear,
    /// The same matrices, never trained.
    Random,
    /// MLP-Mixer's token mixing.
    Mlp,
    /// A fixed random recurrent network.
    Reservoir,
    /// No mixing: feed-forward layers only.
    None,
}

impl MixerKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Fourier,
        Self::FourierSeq,
        Self::FourierHidden,
        Self::Hartley,
        Self::Attention,
        Self::Linear,
        Self::Random,
        Self::Mlp,
        Self::Reservoir,
        Self::None,
    ];

    /// Its name in `config.json` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fourier => "fourier",
            Self::FourierSeq => "fourier-seq",
            Self::FourierHidden => "fourier-hidden",
            Self::Hartley => "hartley",
            Self::Attention => "attention",
            Self::Linear => "linear",
            Self::Random => "random",
            Self::Mlp => "mlp",
            Self::Reservoir => "reservoir",
            Self::None => "none",
        }
    }

    /// A mixer by its name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The mixer that a model's configuration names for a layer.
pub(crate) fn build(b: &mut Builder, layer: usize) -> Result<Box<dyn Mixer>, EncoderError> {
    let hidden = b.config.hidden_size;
    Ok(match b.config.layer_mixers()[layer] {
        MixerKind::Fourier => Box::new(Fourier::new(hidden)),
        MixerKind::FourierSeq => Box::new(FourierSeq::new(hidden)),
        MixerKind::FourierHidden => Box::new(FourierHidden::new(hidden)?),
        MixerKind::Hartley => Box::new(Hartley::new(hidden)),
        MixerKind::Attention => Box::new(Attention::new(b, layer)),
        MixerKind::Linear => Box::new(Linear::new(b, layer, true)),
        MixerKind::Random => Box::new(Linear::new(b, layer, false)),
        MixerKind::Mlp => Box::new(Mlp::new(b, layer)),
        MixerKind::Reservoir => {
            Box::new(Reservoir::new(hidden, layer, b.config.reservoir.unwrap_or_default())?)
        }
        MixerKind::None => Box::new(NoMixing),
    })
}

/// Mixes the tokens of each sequence of a batch at its own length.
///
/// What a sequence comes to must not depend on the other sequences, nor on the number of threads. A mixer
/// of one's own goes into a model by [`Model::with_mixers`](crate::Model::with_mixers).
pub trait Mixer: Send + Sync {
    /// `y = mix(x)`, with `x` and `y` `[tokens, hidden]`. What the backward pass will need stays in
    /// `kept`.
    ///
    /// # Errors
    /// If a sequence's shape cannot be mixed.
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError>;

    /// `dx += dL/dx` of `y = mix(x)`, from `dy`, which may be used up; adds the parameters' gradients.
    ///
    /// # Errors
    /// As `forward`.
    fn backward_add(
        &self,
        p: Pass,
        gradients: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        kept: &mut Buffers,
        scratch: &mut Scratch,
    ) -> Result<(), EncoderError>;

    /// Floating-point operations a token of a forward pass, in sequences of this length.
    fn flops_per_token(&self, seq_len: usize) -> f64;

    /// Values that `forward` keeps, in so many sequences of this length.
    fn kept_values(&self, _sequences: usize, _seq_len: usize) -> usize {
        0
    }

    /// Values that `backward_add` passes through buffers that all layers share.
    fn scratch_values(&self, _sequences: usize, _seq_len: usize) -> usize {
        0
    }
}
