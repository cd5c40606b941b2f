//! Parameter-free Fourier token mixing for FNet encoders.
//!
//! The operator is `y = Re(FFT2(x))` over the sequence and hidden axes of a real matrix, not
//! normalised (Lee-Thorp et al. 2021, "FNet: Mixing Tokens with Fourier Transforms", section 3,
//! equation 3). It has no parameters, is linear, and is symmetric: `<mix(x), z> = <x, mix(z)>`.
//! So the gradient of `mix` with respect to its input is `mix` of the output gradient.
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
//! # Which sizes are fast
//!
//! Every `seq_len` and `hidden` of at least 1 works. The transform sees only the part of `x` that is even under
//! `(n, m) -> (-n, -m)`, so half of the rows and then half of the columns are enough: about `1.25 N log2 N` flops
//! for `N = seq_len * hidden`, a quarter of a complex two-dimensional FFT. Speed depends on the prime factors of
//! the lengths:
//!
//! - only 2, 3, 5 and 7: the fastest and the most accurate;
//! - factors up to 61: somewhat slower, transformed by definition;
//! - larger factors: two to three times slower, transformed as convolutions (Bluestein 1970);
//! - a register holds 4, 8 or 16 rows or columns: very short sequences (below 8) and tiny hidden sizes leave most
//!   of it empty.
//!
//! # Memory
//!
//! Each thread keeps a buffer of half a sample (`4 * seq_len * (hidden / 2 + 16)` bytes at most) and one of
//! `128 * hidden` bytes, more if a length has a large prime factor; a plan holds tables of about
//! `16 * (seq_len + hidden)` bytes.
//!
//! # Threads and SIMD
//!
//! Work is spread over the caller's rayon pool: across samples, or inside one long sample. Without the `rayon`
//! feature there is one thread and no dependency at all. Results do not depend on the number of threads, nor on a
//! sample's place in its batch. The kernels are chosen at run time ([`Simd`]): AVX-512, AVX2 with FMA, or plain
//! Rust; `FNET_SIMD=portable|avx2|avx512` or [`FourierMixer::with_simd`] override the choice. Levels differ in
//! rounding.
//!
//! # In other models
//!
//! A framework needs only a slice in and a slice out, and [`FourierMixer::mix`] again for the gradient. The
//! repository's `examples/candle` wraps it as a candle operation, checked against candle's own gradients. Sequences
//! of different lengths need no padding: see [`RaggedMixer`].

mod arch;
mod error;
mod fft;
mod fold;
mod plan;
mod ragged;
pub mod reference;
mod sample;
mod vector;

use std::sync::Arc;

pub use arch::Simd;
pub use error::MixError;
use fold::Write;
use plan::Plan;
pub use ragged::RaggedMixer;

/// Samples smaller than this (in values) are never split across threads.
#[cfg(feature = "rayon")]
const SPLIT_INSIDE_SAMPLE: usize = 1 << 15;

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
    /// Plans mixing for samples of `seq_len` rows of `hidden` values, at [`Simd::default_level`].
    ///
    /// # Errors
    /// If a length is zero, their product overflows, or `FNET_SIMD` asks for a level that this CPU lacks.
    pub fn new(seq_len: usize, hidden: usize) -> Result<Self, MixError> {
        Self::with_simd(seq_len, hidden, Simd::default_level()?)
    }

    /// As [`new`](Self::new), at a level of the caller's choice.
    ///
    /// # Errors
    /// If a length is zero, their product overflows, or this CPU lacks the level.
    pub fn with_simd(seq_len: usize, hidden: usize, simd: Simd) -> Result<Self, MixError> {
        Ok(Self { plan: Arc::new(Plan::new(seq_len, hidden, simd.checked()?)?) })
    }

    /// The level of the kernels.
    pub fn simd(&self) -> Simd {
        self.plan.simd
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
        self.run(Some(input), output, Write::Set);
        Ok(())
    }

    /// `output += Re(FFT2(input))` for each sample: the residual connection in one call.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_add(&self, input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.check(input, output)?;
        self.run(Some(input), output, Write::Add);
        Ok(())
    }

    /// `data = Re(FFT2(data))` for each sample.
    ///
    /// # Errors
    /// If the slice does not hold a whole number of samples.
    pub fn mix_in_place(&self, data: &mut [f32]) -> Result<(), MixError> {
        self.check_samples(data.len())?;
        self.run(None, data, Write::Set);
        Ok(())
    }

    /// [`mix`](Self::mix) on array views of shape `[batch, seq_len, hidden]`.
    ///
    /// ```
    /// use ndarray::Array3;
    ///
    /// let x = Array3::from_shape_fn((2, 8, 6), |(b, n, m)| (b + n * m) as f32);
    /// let mut y = Array3::zeros(x.dim());
    /// fnet_mixing::FourierMixer::new(8, 6)?.mix_array(x.view(), y.view_mut())?;
    /// assert_eq!(y[[1, 0, 0]], x.index_axis(ndarray::Axis(0), 1).sum());   // frequency zero
    /// # Ok::<(), fnet_mixing::MixError>(())
    /// ```
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
                return Err(MixError::WrongShape {
                    found: (seq_len, hidden),
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

    /// Mixes whole samples, checked by the caller; without an input, in place.
    fn run(&self, input: Option<&[f32]>, output: &mut [f32], write: Write) {
        let len = self.plan.sample_len();
        self.for_each_sample(output, |i, y, inside| {
            let y = y.as_mut_ptr();
            let x = input.map_or(y.cast_const(), |input| input[i * len..][..len].as_ptr());
            // SAFETY: both hold one sample of `len` values. Tests: `tests.rs`, every entry point.
            unsafe { self.plan.mix_sample(x, y, write, inside) }
        });
    }

    /// Runs `mix(sample index, sample, split inside?)` over all samples.
    fn for_each_sample(&self, data: &mut [f32], mix: impl Fn(usize, &mut [f32], bool) + Sync) {
        let len = self.plan.sample_len();
        #[cfg(feature = "rayon")]
        {
            use rayon::prelude::*;
            let (samples, threads) = (data.len() / len, rayon::current_num_threads());
            let uneven = samples < 2 * threads && !samples.is_multiple_of(threads);
            if threads > 1 && uneven && len >= SPLIT_INSIDE_SAMPLE {
                return data.chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, true));
            }
            if threads > 1 && samples > 1 {
                return data.par_chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, false));
            }
        }
        data.chunks_mut(len).enumerate().for_each(|(i, y)| mix(i, y, false));
    }
}

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
