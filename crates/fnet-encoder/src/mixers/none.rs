use super::SymmetricMixer;
use crate::EncoderError;
use crate::modules::Pass;

/// No mixing: each token on its own.
#[derive(Debug, Clone, Copy)]
pub struct NoMixing;

impl SymmetricMixer for NoMixing {
    fn mix(&self, _: Pass, _: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        if !add {
            y.fill(0.0);
        }
        Ok(())
    }

    fn flops(&self, _: usize) -> f64 {
        0.0
    }
}
