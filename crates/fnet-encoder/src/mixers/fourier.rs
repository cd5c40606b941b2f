use std::collections::HashMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use fnet_mixing::FourierMixer;

use super::Mixer;
use crate::{Batch, EncoderError};

/// FNet's mixing, `y = Re(FFT2(x))` (Lee-Thorp et al. 2021, equation 3), planned once a length.
pub struct Fourier {
    hidden: usize,
    plans: RwLock<HashMap<usize, FourierMixer>>,
}

impl Fourier {
    /// Mixing for sequences of `hidden` values a token.
    pub fn new(hidden: usize) -> Self {
        Self { hidden, plans: RwLock::default() }
    }

    fn plan(&self, length: usize) -> Result<FourierMixer, EncoderError> {
        let known = self.plans.read().unwrap_or_else(PoisonError::into_inner).get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = FourierMixer::new(length, self.hidden)?;
        self.plans.write().unwrap_or_else(PoisonError::into_inner).insert(length, plan.clone());
        Ok(plan)
    }

    fn add(&self, batch: &Batch, x: &[f32], y: &mut [f32]) -> Result<(), EncoderError> {
        self.add_sequences(batch, 0..batch.len(), x, y)
    }

    /// Halves the sequences until one is left, which needs no list of slices.
    fn add_sequences(
        &self,
        batch: &Batch,
        sequences: Range<usize>,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), EncoderError> {
        match sequences.len() {
            0 => Ok(()),
            1 => match y.len() / self.hidden {
                0 => Ok(()),
                length => Ok(self.plan(length)?.mix_add(x, y)?),
            },
            count => {
                let middle = sequences.start + count / 2;
                let tokens = batch.range(middle).start - batch.range(sequences.start).start;
                let (x, x_rest) = x.split_at(tokens * self.hidden);
                let (y, y_rest) = y.split_at_mut(tokens * self.hidden);
                let (left, right) = rayon::join(
                    || self.add_sequences(batch, sequences.start..middle, x, y),
                    || self.add_sequences(batch, middle..sequences.end, x_rest, y_rest),
                );
                left.and(right)
            }
        }
    }
}

impl Mixer for Fourier {
    fn forward_add(&self, batch: &Batch, x: &[f32], y: &mut [f32]) -> Result<(), EncoderError> {
        self.add(batch, x, y)
    }

    fn backward_add(&self, batch: &Batch, dy: &[f32], dx: &mut [f32]) -> Result<(), EncoderError> {
        self.add(batch, dy, dx) // the operator is linear and symmetric
    }
}
