//! Mixing of packed sequences, each at its own length.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::fold::Write;
use crate::{FourierMixer, MixError, Simd};

/// Mixes sequences of any lengths, packed one after another without padding, `[tokens, hidden]`.
///
/// Each sequence is mixed at its own length, by a plan that is made when a length is first seen and then kept.
/// Cheap to clone; clones share the plans. `offsets` gives the first token of each sequence, and the end of the
/// last one: `[0, 3, 5]` are sequences of 3 and 2 tokens.
///
/// ```
/// use fnet_mixing::RaggedMixer;
///
/// let mixer = RaggedMixer::new(4);
/// let x = vec![1.0_f32; 5 * 4];                      // a sequence of 3 tokens and one of 2, hidden 4
/// let mut y = vec![0.0; x.len()];
/// mixer.mix(&[0, 3, 5], &x, &mut y)?;
/// assert!((y[0] - 12.0).abs() < 1e-4 && (y[3 * 4] - 8.0).abs() < 1e-4);
/// # Ok::<(), fnet_mixing::MixError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RaggedMixer {
    hidden: usize,
    simd: Option<Simd>,
    plans: Arc<RwLock<HashMap<usize, FourierMixer>>>,
}

impl RaggedMixer {
    /// Mixing for tokens of `hidden` values, at [`Simd::default_level`]. Planning errors are returned by the calls
    /// that need the plan.
    pub fn new(hidden: usize) -> Self {
        Self { hidden, simd: None, plans: Arc::default() }
    }

    /// As [`new`](Self::new), at a level of the caller's choice.
    pub fn with_simd(hidden: usize, simd: Simd) -> Self {
        Self { hidden, simd: Some(simd), plans: Arc::default() }
    }

    /// `output = Re(FFT2(input))` for each sequence. Empty sequences are allowed.
    ///
    /// # Errors
    /// If the slices differ in length, the offsets decrease or do not cover `hidden` values for each token,
    /// `hidden` is zero, or this CPU lacks the level.
    pub fn mix(&self, offsets: &[usize], input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.run(offsets, Some(input), output, Write::Set)
    }

    /// `output += Re(FFT2(input))` for each sequence.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_add(&self, offsets: &[usize], input: &[f32], output: &mut [f32]) -> Result<(), MixError> {
        self.run(offsets, Some(input), output, Write::Add)
    }

    /// `data = Re(FFT2(data))` for each sequence.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    pub fn mix_in_place(&self, offsets: &[usize], data: &mut [f32]) -> Result<(), MixError> {
        self.run(offsets, None, data, Write::Set)
    }

    fn run(&self, offsets: &[usize], x: Option<&[f32]>, y: &mut [f32], write: Write) -> Result<(), MixError> {
        if let Some(x) = x
            && x.len() != y.len()
        {
            return Err(MixError::LengthMismatch { input: x.len(), output: y.len() });
        }
        let tokens = offsets.last().copied().unwrap_or(0);
        let starts_at_zero = offsets.first().is_none_or(|first| *first == 0);
        if !starts_at_zero || !offsets.is_sorted() || tokens.checked_mul(self.hidden) != Some(y.len()) {
            return Err(MixError::WrongOffsets { len: y.len(), hidden: self.hidden });
        }
        self.split(offsets, x, y, write)
    }

    /// Halves the sequences until one is left: this needs no list of slices, and threads take halves.
    fn split(
        &self,
        offsets: &[usize],
        x: Option<&[f32]>,
        y: &mut [f32],
        write: Write,
    ) -> Result<(), MixError> {
        match offsets {
            [] | [_] => Ok(()),
            [start, end] if start == end => Ok(()),
            [start, end] => {
                self.plan(end - start)?.run(x, y, write);
                Ok(())
            }
            _ => {
                let middle = offsets.len() / 2;
                let values = (offsets[middle] - offsets[0]) * self.hidden;
                let (y, y_rest) = y.split_at_mut(values);
                let (x, x_rest) = x.map(|x| x.split_at(values)).unzip();
                let (a, b) = join(
                    || self.split(&offsets[..=middle], x, y, write),
                    || self.split(&offsets[middle..], x_rest, y_rest, write),
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
        let simd = self.simd.map_or_else(Simd::default_level, Ok)?;
        let plan = FourierMixer::with_simd(length, self.hidden, simd)?;
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
