//! Token mixing: the one kind of layer that looks across the tokens of a sequence.

mod attention;
mod fourier;
mod hartley;
mod linear;
mod mlp;
mod none;
mod reservoir;
mod sequences;
mod shift;
mod symmetric;

use serde::{Deserialize, Serialize};

pub use attention::Attention;
pub use fourier::{Fourier, FourierHidden, FourierSeq};
pub use hartley::Hartley;
pub use linear::LinearMixing;
pub use mlp::Mlp;
pub use none::NoMixing;
pub use reservoir::{Reservoir, ReservoirConfig};
pub use shift::Shift;
pub use symmetric::SymmetricMixer;

use crate::EncoderError;
use crate::modules::{Builder, Pass};
use crate::parameters::Gradients;
use crate::workspace::{Buffers, Scratch};

/// The mixers, by their name in `config.json` and on the command line.
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
    /// Half of the hidden units from each neighbour, without weights.
    Shift,
    /// No mixing: feed-forward layers only.
    None,
}

impl MixerKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Fourier,
        Self::FourierSeq,
        Self::FourierHidden,
        Self::Hartley,
        Self::Attention,
        Self::Linear,
        Self::Random,
        Self::Mlp,
        Self::Reservoir,
        Self::Shift,
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
            Self::Shift => "shift",
            Self::None => "none",
        }
    }

    /// A mixer by its name.
    ///
    /// # Errors
    /// Lists the known names.
    pub fn by_name(name: &str) -> Result<Self, EncoderError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            EncoderError::Config(format!("mixer `{name}` is unknown; known are {known}"))
        })
    }

    /// The mixers of `layers` layers: one name for all; names joined by `+`, one per layer from below; or
    /// `attention-LAYOUT-COUNT` for that many layers of attention among Fourier layers (Lee-Thorp et al. 2021,
    /// appendix A.5), where the layout is `bottom`, `middle`, `mixed` (evenly spread) or `top`.
    ///
    /// ```
    /// use fnet_encoder::mixers::MixerKind::{self, Attention, Fourier};
    ///
    /// assert_eq!(MixerKind::layers("attention-top-1", 3)?, [Fourier, Fourier, Attention]);
    /// assert_eq!(MixerKind::layers("fourier", 2)?, [Fourier, Fourier]);
    /// # Ok::<(), fnet_encoder::EncoderError>(())
    /// ```
    ///
    /// # Errors
    /// If a name is unknown, or there are fewer layers than counted.
    pub fn layers(name: &str, layers: usize) -> Result<Vec<Self>, EncoderError> {
        if name.contains('+') {
            let kinds = name.split('+').map(Self::by_name).collect::<Result<Vec<_>, _>>()?;
            return if kinds.len() == layers {
                Ok(kinds)
            } else {
                let message = format!("mixer `{name}`: names {} layers, there are {layers}", kinds.len());
                Err(EncoderError::Config(message))
            };
        }
        let Some((layout, count)) = name.strip_prefix("attention-").and_then(|rest| rest.split_once('-'))
        else {
            return Ok(vec![Self::by_name(name)?; layers]);
        };
        let count = count.parse::<usize>().ok().filter(|count| *count <= layers);
        let count = count.ok_or_else(|| {
            EncoderError::Config(format!("mixer `{name}`: the count must be from 0 to {layers}"))
        })?;
        let first = match layout {
            "bottom" => 0,
            "middle" => (layers - count) / 2,
            "top" => layers - count,
            "mixed" => {
                let spread = |i: usize| (i + 1) * count / layers > i * count / layers;
                return Ok((0..layers).map(|i| Self::attention_where(spread(i))).collect());
            }
            _ => {
                let known = "bottom, middle, mixed and top";
                return Err(EncoderError::Config(format!("mixer `{name}`: known layouts are {known}")));
            }
        };
        Ok((0..layers).map(|i| Self::attention_where((first..first + count).contains(&i))).collect())
    }

    fn attention_where(is_attention: bool) -> Self {
        if is_attention { Self::Attention } else { Self::Fourier }
    }
}

/// The mixer that a model's configuration names for a layer.
pub(crate) fn build(b: &mut Builder, layer: usize) -> Result<Box<dyn Mixer>, EncoderError> {
    let hidden = b.config.hidden_size;
    Ok(match b.config.layer_mixers()[layer] {
        MixerKind::Fourier => Box::new(Fourier::new(&mut b.plans, hidden)),
        MixerKind::FourierSeq => Box::new(FourierSeq::new(&b.plans, hidden)),
        MixerKind::FourierHidden => Box::new(FourierHidden::new(hidden)?),
        MixerKind::Hartley => Box::new(Hartley::new(&b.plans, hidden)),
        MixerKind::Attention => Box::new(Attention::new(b, layer)),
        MixerKind::Linear => Box::new(LinearMixing::new(b, layer, true)),
        MixerKind::Random => Box::new(LinearMixing::new(b, layer, false)),
        MixerKind::Mlp => Box::new(Mlp::new(b, layer)),
        MixerKind::Reservoir => {
            Box::new(Reservoir::new(hidden, layer, b.config.reservoir.unwrap_or_default())?)
        }
        MixerKind::Shift => Box::new(Shift::new(hidden)),
        MixerKind::None => Box::new(NoMixing),
    })
}

/// What a mixer's backward pass reads and adds to.
#[non_exhaustive]
pub struct MixerBackward<'a, 'g> {
    /// The pass that was run forward.
    pub pass: Pass<'a>,
    /// Of all parameters.
    pub gradients: &'a mut Gradients<'g>,
    /// The loss's gradient by the mixer's output, `[tokens, hidden]`. It may be used up.
    pub dy: &'a mut [f32],
    /// That by its input, to be added to.
    pub dx: &'a mut [f32],
    /// What the forward pass has kept.
    pub kept: &'a mut Buffers,
    /// Buffers that all layers share.
    pub scratch: &'a mut Scratch,
}

/// Mixes the tokens of each sequence of a batch at its own length.
///
/// The result for a sequence must not depend on the other sequences, nor on the number of threads. Use
/// [`Model::with_mixers`](crate::Model::with_mixers) to put a mixer of your own into a model.
pub trait Mixer: Send + Sync {
    /// `y = mix(x)`, with `x` and `y` `[tokens, hidden]`. What the backward pass needs stays in `kept`.
    ///
    /// # Errors
    /// If a sequence's shape cannot be mixed.
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError>;

    /// `dx += dL/dx` of `y = mix(x)`, from `dy`, which may be overwritten; adds the parameters' gradients.
    ///
    /// # Errors
    /// As `forward`.
    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError>;

    /// Floating-point operations per token of a forward pass, in sequences of this length.
    fn flops_per_token(&self, seq_len: usize) -> f64;

    /// Bytes of plans for sequences up to this length, at most. All layers of a kind share them.
    fn plan_bytes(&self, _longest: usize) -> usize {
        0
    }

    /// Number of values that `forward` keeps, for so many sequences of this length.
    fn kept_values(&self, _sequences: usize, _seq_len: usize) -> usize {
        0
    }

    /// Weights that are not parameters but follow from the configuration, each `[rows, columns]`, by name. Model
    /// folders contain them for programs that cannot generate them.
    fn fixed_weights(&self) -> Vec<(&'static str, [usize; 2], Vec<f32>)> {
        Vec::new()
    }

    /// Number of values that `backward_add` passes through buffers shared by all layers.
    fn scratch_values(&self, _sequences: usize, _seq_len: usize) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::MixerKind;

    #[test]
    fn layouts() {
        let letters = |name: &str, layers| -> String {
            let kinds = MixerKind::layers(name, layers).unwrap();
            kinds.iter().map(|kind| &kind.name()[..1]).collect()
        };
        for (name, expected) in [
            ("attention-bottom-2", "aaffff"),
            ("attention-middle-2", "ffaaff"),
            ("attention-top-2", "ffffaa"),
            ("attention-mixed-2", "ffaffa"),
            ("attention-mixed-0", "ffffff"),
            ("attention-top-6", "aaaaaa"),
            ("mlp", "mmmmmm"),
            ("shift+none+mlp+linear+attention+random", "snmlar"),
        ] {
            assert_eq!(letters(name, 6), expected, "{name}");
        }
        for (name, says) in [
            ("fuorier", "known are fourier"),
            ("attention-top-7", "from 0 to 6"),
            ("attention-side-2", "known layouts"),
            ("shift+mlp", "names 2 layers"),
            ("shift+x", "`x` is unknown"),
            ("attention-top-x", "count"),
        ] {
            let error = MixerKind::layers(name, 6).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
