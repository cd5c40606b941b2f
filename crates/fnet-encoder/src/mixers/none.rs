use super::Mixer;
use crate::EncoderError;
use crate::modules::Pass;
use crate::parameters::Gradients;
use crate::workspace::{Buffers, Scratch};

/// No mixing: each token on its own.
#[derive(Debug, Clone, Copy)]
pub struct NoMixing;

impl Mixer for NoMixing {
    fn forward(&self, _: Pass, _: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        y.fill(0.0);
        Ok(())
    }

    fn backward_add(
        &self,
        _: Pass,
        _: &mut Gradients,
        _: &mut [f32],
        _: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        Ok(())
    }

    fn flops_per_token(&self, _: usize) -> f64 {
        0.0
    }
}
