use super::{Mixer, MixerBackward};
use crate::EncoderError;
use crate::modules::Pass;
use crate::workspace::Buffers;

/// A linear mixer with a symmetric matrix and no parameters: its backward pass is its forward pass.
pub trait SymmetricMixer: Send + Sync {
    /// `y = mix(x)`, or `y += mix(x)`, each `[tokens, hidden]`.
    ///
    /// # Errors
    /// If a sequence's shape cannot be mixed.
    fn mix(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError>;

    /// Floating-point operations per token, in sequences of this length.
    fn flops(&self, seq_len: usize) -> f64;

    /// As [`Mixer::plan_bytes`].
    fn plan_bytes(&self, _longest: usize) -> usize {
        0
    }
}

impl<M: SymmetricMixer> Mixer for M {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        self.mix(p, x, y, false)
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass: p, dy, dx, .. } = back;
        self.mix(p, dy, dx, true)
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        self.flops(seq_len)
    }

    fn plan_bytes(&self, longest: usize) -> usize {
        SymmetricMixer::plan_bytes(self, longest)
    }
}
