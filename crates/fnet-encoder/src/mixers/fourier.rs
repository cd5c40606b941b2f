use fnet_mixing::RaggedMixer;

use super::Mixer;
use crate::{Batch, EncoderError};

/// FNet's mixing, `y = Re(FFT2(x))` (Lee-Thorp et al. 2021, equation 3), each sequence at its own length.
pub struct Fourier {
    mixer: RaggedMixer,
}

impl Fourier {
    /// Mixing for sequences of `hidden` values a token.
    pub fn new(hidden: usize) -> Self {
        Self { mixer: RaggedMixer::new(hidden) }
    }
}

impl Mixer for Fourier {
    fn forward(&self, batch: &Batch, x: &[f32], y: &mut [f32]) -> Result<(), EncoderError> {
        Ok(self.mixer.mix(batch.offsets(), x, y)?)
    }

    fn backward_add(&self, batch: &Batch, dy: &[f32], dx: &mut [f32]) -> Result<(), EncoderError> {
        // The operator is linear and symmetric.
        Ok(self.mixer.mix_add(batch.offsets(), dy, dx)?)
    }
}
