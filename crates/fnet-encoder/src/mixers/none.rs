use super::Mixer;
use crate::{Batch, EncoderError};

/// No mixing: each token on its own.
#[derive(Debug, Clone, Copy)]
pub struct NoMixing;

impl Mixer for NoMixing {
    fn forward(&self, _: &Batch, _: &[f32], y: &mut [f32]) -> Result<(), EncoderError> {
        y.fill(0.0);
        Ok(())
    }

    fn backward_add(&self, _: &Batch, _: &[f32], _: &mut [f32]) -> Result<(), EncoderError> {
        Ok(())
    }
}
