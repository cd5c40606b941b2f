//! Parameter-free Fourier token mixing for FNet encoders.
//!
//! The operator is `y = Re(FFT2(x))` over the sequence and hidden axes of a real matrix, not
//! normalised (Lee-Thorp et al. 2021, "FNet: Mixing Tokens with Fourier Transforms", section 3,
//! equation 3). It has no parameters, is linear, and is symmetric: `<mix(x), z> = <x, mix(z)>`.
//! So the gradient of `mix` with respect to its input is `mix` of the gradient.
//!
//! ```
//! use fnet_mixing::FourierMixer;
//!
//! let mixer = FourierMixer::new(4, 6)?;              // seq_len 4, hidden 6
//! let x = vec![1.0_f32; 2 * 4 * 6];                  // two samples
//! let mut y = vec![0.0; x.len()];
//! mixer.mix(&x, &mut y)?;
//! assert!((y[0] - 24.0).abs() < 1e-4);               // a constant has only the zero frequency
//! assert!(y[1..24].iter().all(|v| v.abs() < 1e-4));
//! # Ok::<(), fnet_mixing::MixError>(())
//! ```
//!
//! Every `seq_len` and `hidden` of at least 1 work. Lengths whose prime factors are 2, 3, 5 and 7
//! are the fastest; a large prime costs about three times as much.
//!
//! Work is spread over the rayon pool of the caller: across samples, or inside one long sample.
//! Results do not depend on the number of threads, nor on the place of a sample in its batch.

mod fold;
mod plan;
pub mod reference;

use std::sync::Arc;

use plan::Plan;
use rayon::prelude::*;

/// Samples smaller than this (in elements) are never split across threads.
const SPLIT_INSIDE_SAMPLE: usize = 1 << 16;

/// Why mixing was refused. No call panics on bad lengths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MixError {
    /// `seq_len` or `hidden` is zero.
    #[error("cannot mix a shape of {seq_len} x {hidden}: both lengths must be at least 1")]
    EmptyShape {
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// `seq_len * hidden` does not fit in memory.
    #[error("a shape of {seq_len} x {hidden} is too large to mix")]
    TooLarge {
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// A slice does not hold a whole number of samples.
    #[error("{len} values are not a whole number of samples of {seq_len} x {hidden}")]
    PartialSample {
        /// Number of values given.
        len: usize,
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// Input and output differ in length.
    #[error("the output holds {output} values, the input {input}")]
    LengthMismatch {
        /// Values in the input.
        input: usize,
        /// Values in the output.
        output: usize,
    },
    /// An array view is not in standard (row-major, contiguous) layout.
    #[error("the array must be contiguous and row-major")]
    NotContiguous,
}

/// Mixes samples of one shape, `[seq_len, hidden]`, planned once. Cheap to clone.
#[derive(Clone)]
pub struct FourierMixer {
    plan: Arc<Plan>,
}

impl std::fmt::Debug for FourierMixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FourierMixer")
            .field("seq_len", &self.seq_len())
            .field("hidden", &self.hidden())
            .finish()
    }
}

impl FourierMixer {
    /// Plans mixing for samples of `seq_len` rows of `hidden` values.
    ///
    /// # Errors
    /// If a length is zero, or their product overflows.
    pub fn new(seq_len: usize, hidden: usize) -> Result<Self, MixError> {
        Ok(Self { plan: Arc::new(Plan::new(seq_len, hidden)?) })
    }

    /// Length of the sequence axis.
    pub fn seq_len(&self) -> usize {
        self.plan.seq_len
    }

    /// Length of the hidden axis.
    pub fn hidden(&self) -> usize {
        self.plan.hidden
    }

    /// `output = Re(FFT2(input))` for each sample; both are row-major `[batch, seq_len, hidden]`.
    ///
    /// # Errors
    /// If the slices differ in length, or do not hold a whole number of samples.
    pub fn mix(&self, input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.check(input, output)?;
        self.for_each_sample(output, |i, y, parallel| {
            self.plan.mix_sample(&input[i * y.len()..][..y.len()], y, fold::Write::Set, parallel)
        });
        Ok(())
    }

    /// `output += Re(FFT2(input))` for each sample: the residual connection in one call.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_add(&self, input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.check(input, output)?;
        self.for_each_sample(output, |i, y, parallel| {
            self.plan.mix_sample(&input[i * y.len()..][..y.len()], y, fold::Write::Add, parallel)
        });
        Ok(())
    }

    /// `data = Re(FFT2(data))` for each sample.
    ///
    /// # Errors
    /// If the slice does not hold a whole number of samples.
    pub fn mix_in_place(&self, data: &mut [f32]) -> Result<(), MixError> {
        self.check_samples(data.len())?;
        self.for_each_sample(data, |_, y, parallel| self.plan.mix_sample_in_place(y, parallel));
        Ok(())
    }

    /// [`mix`](Self::mix) on array views of shape `[batch, seq_len, hidden]`.
    ///
    /// # Errors
    /// If a view is not contiguous, or its shape does not fit.
    #[cfg(feature = "ndarray")]
    pub fn mix_array(
        &self,
        input: ndarray::ArrayView3<'_, f32>,
        mut output: ndarray::ArrayViewMut3<'_, f32>,
    ) -> Result<(), MixError> {
        for (_, seq_len, hidden) in [input.dim(), output.dim()] {
            if (seq_len, hidden) != (self.seq_len(), self.hidden()) {
                return Err(MixError::PartialSample {
                    len: seq_len.saturating_mul(hidden),
                    seq_len: self.seq_len(),
                    hidden: self.hidden(),
                });
            }
        }
        let input = input.as_slice().ok_or(MixError::NotContiguous)?;
        let output = output.as_slice_mut().ok_or(MixError::NotContiguous)?;
        self.mix(input, output)
    }

    fn check(&self, input: &[f32], output: &[f32]) -> Result<(), MixError> {
        if input.len() != output.len() {
            return Err(MixError::LengthMismatch { input: input.len(), output: output.len() });
        }
        self.check_samples(input.len())
    }

    fn check_samples(&self, len: usize) -> Result<(), MixError> {
        if len.is_multiple_of(self.plan.sample_len()) {
            return Ok(());
        }
        Err(MixError::PartialSample { len, seq_len: self.seq_len(), hidden: self.hidden() })
    }

    /// Runs `mix(sample index, sample, split inside?)` over all samples.
    fn for_each_sample(&self, data: &mut [f32], mix: impl Fn(usize, &mut [f32], bool) + Sync) {
        let len = self.plan.sample_len();
        let (samples, threads) = (data.len() / len, rayon::current_num_threads());
        if threads == 1 || samples == 1 && len < SPLIT_INSIDE_SAMPLE {
            data.chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, false));
        } else if samples < threads && len >= SPLIT_INSIDE_SAMPLE {
            data.chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, true));
        } else {
            data.par_chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, false));
        }
    }
}

#[cfg(test)]
mod tests;
