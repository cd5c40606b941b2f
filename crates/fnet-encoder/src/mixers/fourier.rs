use fnet_mixing::{FourierMixer, RaggedMixer};

use super::SymmetricMixer;
use super::sequences::{mix_each, transpose};
use crate::EncoderError;
use crate::modules::Pass;
use crate::plans::{Plans, SharedPlans, fft_flops};

/// FNet's mixing, `y = Re(FFT2(x))` (Lee-Thorp et al. 2021, equation 3), each sequence at its own length.
pub struct Fourier {
    mixer: RaggedMixer,
    hidden: usize,
}

impl Fourier {
    /// Mixing for sequences of `hidden` values per token, by plans that all layers share.
    pub(crate) fn new(plans: &mut SharedPlans, hidden: usize) -> Self {
        Self { mixer: plans.fourier(hidden), hidden }
    }
}

impl SymmetricMixer for Fourier {
    fn mix(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        let offsets = p.batch.offsets();
        Ok(if add { self.mixer.mix_add(offsets, x, y) } else { self.mixer.mix(offsets, x, y) }?)
    }

    fn flops(&self, seq_len: usize) -> f64 {
        fft_flops((seq_len * self.hidden) as f64, self.hidden as f64)
    }

    fn plan_bytes(&self, longest: usize) -> usize {
        self.mixer.most_plan_bytes(longest)
    }
}

/// `y = Re(FFT(x))` over the hidden axis: no token sees another.
pub struct FourierHidden {
    mixer: FourierMixer,
}

impl FourierHidden {
    /// Mixing for sequences of `hidden` values per token.
    ///
    /// # Errors
    /// If `hidden` is zero.
    pub fn new(hidden: usize) -> Result<Self, EncoderError> {
        Ok(Self { mixer: FourierMixer::new(1, hidden)? })
    }
}

impl SymmetricMixer for FourierHidden {
    fn mix(&self, _: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        Ok(if add { self.mixer.mix_add(x, y) } else { self.mixer.mix(x, y) }?)
    }

    fn flops(&self, _: usize) -> f64 {
        fft_flops(self.mixer.hidden() as f64, self.mixer.hidden() as f64)
    }
}

/// `y = Re(FFT(x))` over the sequence: hidden units are not mixed.
pub struct FourierSeq {
    plans: Plans<FourierMixer>,
    hidden: usize,
}

impl FourierSeq {
    /// Mixing for sequences of `hidden` values per token, by plans that all layers share.
    pub(crate) fn new(plans: &SharedPlans, hidden: usize) -> Self {
        Self { plans: plans.fourier_seq.clone(), hidden }
    }
}

impl SymmetricMixer for FourierSeq {
    fn mix(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        for range in p.batch.ranges() {
            self.plans.get(range.len(), || FourierMixer::new(1, range.len()))?;
        }
        mix_each(p, self.hidden, x, y, |n, x, y| {
            // Planned above; a row of the transposed sequence is a sample.
            let Ok(mixer) = self.plans.get(n, || FourierMixer::new(1, n)) else { return };
            let (mut rows, mut mixed) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            transpose(x, self.hidden, &mut rows);
            if mixer.mix(&rows, &mut mixed).is_ok() {
                transpose(&mixed, n, &mut rows);
            }
            if add { crate::ops::add(y, &rows) } else { y.copy_from_slice(&rows) }
        });
        Ok(())
    }

    fn flops(&self, seq_len: usize) -> f64 {
        fft_flops(seq_len as f64, self.hidden as f64)
    }
}
