//! Mixing of sequences with lengths of their own, packed one after another.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::fold::Write;
use crate::{FourierMixer, MixError};

/// Mixes sequences of any lengths that lie one after another without padding, `[tokens, hidden]`.
///
/// Each sequence is mixed at its own length, by a plan that is made when a length is first seen and kept.
/// Cheap to clone; clones share the plans.
///
/// ```
/// use fnet_mixing::RaggedMixer;
///
/// let mixer = RaggedMixer::new(4)?;
/// let x = vec![1.0_f32; (3 + 2) * 4];                // a sequence of 3 tokens and one of 2, hidden 4
/// let mut y = vec![0.0; x.len()];
/// mixer.mix(&[3, 2], &x, &mut y)?;
/// assert!((y[0] - 12.0).abs() < 1e-4 && (y[3 * 4] - 8.0).abs() < 1e-4);
/// # Ok::<(), fnet_mixing::MixError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RaggedMixer {
    hidden: usize,
    plans: Arc<RwLock<HashMap<usize, FourierMixer>>>,
}

impl RaggedMixer {
    /// Mixing for tokens of `hidden` values.
    ///
    /// # Errors
    /// If `hidden` is zero or too large, or `FNET_SIMD` asks for what this CPU lacks.
    pub fn new(hidden: usize) -> Result<Self, MixError> {
        FourierMixer::new(1, hidden)?;
        Ok(Self { hidden, plans: Arc::default() })
    }

    /// `output = Re(FFT2(input))` for each sequence. Lengths of zero are allowed.
    ///
    /// # Errors
    /// If the slices differ in length, or do not hold `hidden` values for each token.
    pub fn mix(&self, lengths: &[usize], input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.run(lengths, Some(input), output, Write::Set)
    }

    /// `output += Re(FFT2(input))` for each sequence.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_add(&self, lengths: &[usize], input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.run(lengths, Some(input), output, Write::Add)
    }

    /// `data = Re(FFT2(data))` for each sequence.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_in_place(&self, lengths: &[usize], data: &mut [f32]) -> Result<(), MixError> {
        self.run(lengths, None, data, Write::Set)
    }

    fn run(&self, lengths: &[usize], input: Option<&[f32]>, output: &mut [f32], write: Write) -> Result<(), MixError> {
        if let Some(input) = input
            && input.len() != output.len()
        {
            return Err(MixError::LengthMismatch { input: input.len(), output: output.len() });
        }
        let tokens = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length));
        if tokens.and_then(|tokens| tokens.checked_mul(self.hidden)) != Some(output.len()) {
            return Err(MixError::WrongTokens { len: output.len(), hidden: self.hidden });
        }
        self.split(lengths, input, output, write)
    }

    /// Halves the sequences until one is left: no list of slices is needed, and threads take halves.
    fn split(&self, lengths: &[usize], input: Option<&[f32]>, output: &mut [f32], write: Write) -> Result<(), MixError> {
        match lengths {
            [] | [0] => Ok(()),
            [length] => {
                self.plan(*length)?.run(input, output, write);
                Ok(())
            }
            _ => {
                let (left, right) = lengths.split_at(lengths.len() / 2);
                let values = left.iter().sum::<usize>() * self.hidden;
                let (output, output_rest) = output.split_at_mut(values);
                let (input, input_rest) = input.map(|x| x.split_at(values)).unzip();
                let (a, b) = join(
                    || self.split(left, input, output, write),
                    || self.split(right, input_rest, output_rest, write),
                );
                a.and(b)
            }
        }
    }

    fn plan(&self, length: usize) -> Result<FourierMixer, MixError> {
        let known = self.plans.read().unwrap_or_else(PoisonError::into_inner).get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = FourierMixer::new(length, self.hidden)?;
        self.plans.write().unwrap_or_else(PoisonError::into_inner).insert(length, plan.clone());
        Ok(plan)
    }
}

#[cfg(feature = "rayon")]
use rayon::join;

#[cfg(not(feature = "rayon"))]
fn join<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B) -> (A, B) {
    (a(), b())
}
