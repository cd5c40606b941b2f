//! Mixing of packed sequences, each at its own length.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::fft::Fft;
use crate::fold::Write;
use crate::plan::Plan;
use crate::{FourierMixer, MixError, Simd};

/// Mixes sequences of any lengths, packed one after another without padding, `[tokens, hidden]`.
///
/// Each sequence is mixed at its own length, by a plan that is made when a length is first seen. All plans share the
/// hidden axis' part, and are kept up to [`MOST_PLAN_BYTES`](Self::MOST_PLAN_BYTES). Cheap to clone; clones share the
/// plans. `offsets` gives the first token of each sequence, and the end of the last one: `[0, 3, 5]` are sequences of 3
/// and 2 tokens.
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
#[derive(Clone)]
pub struct RaggedMixer {
    hidden: usize,
    simd: Option<Simd>,
    plans: Arc<Plans>,
}

/// The plans that are kept.
#[derive(Default)]
struct Plans {
    /// The part that depends on the hidden size alone.
    row_fft: OnceLock<Arc<Fft>>,
    by_length: RwLock<ByLength>,
}

#[derive(Default)]
struct ByLength {
    plans: HashMap<usize, FourierMixer>,
    bytes: usize,
}

impl RaggedMixer {
    /// Plans are kept up to this many bytes, enough for all lengths up to about 1,000. Beyond it all are dropped, and made
    /// again as they are needed.
    pub const MOST_PLAN_BYTES: usize = 16 << 20;

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

    /// Bytes of the plans that are kept now.
    pub fn plan_bytes(&self) -> usize {
        let row_fft = self.plans.row_fft.get().map_or(0, |fft| fft.bytes());
        row_fft + self.plans.by_length.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Bytes of plans at most, for sequences of up to `longest` tokens: a plan of that length for each shorter one, within
    /// [`MOST_PLAN_BYTES`](Self::MOST_PLAN_BYTES).
    pub fn most_plan_bytes(&self, longest: usize) -> usize {
        let simd = self.simd.map_or_else(Simd::default_level, Ok);
        let plan = simd.and_then(|simd| Plan::new(longest, self.hidden, simd.checked()?));
        let bytes = plan.map_or(0, |plan| plan.row_fft.bytes() + longest.saturating_mul(plan.own_bytes()));
        bytes.min(Self::MOST_PLAN_BYTES)
    }

    fn plan(&self, length: usize) -> Result<FourierMixer, MixError> {
        let Plans { row_fft, by_length } = &*self.plans;
        let known = by_length.read().unwrap_or_else(PoisonError::into_inner).plans.get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let simd = self.simd.map_or_else(Simd::default_level, Ok)?.checked()?;
        let plan = Plan::sharing(row_fft, length, self.hidden, simd)?;
        let bytes = plan.own_bytes();
        let plan = FourierMixer { plan: Arc::new(plan) };
        let mut kept = by_length.write().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + bytes > Self::MOST_PLAN_BYTES {
            *kept = ByLength::default();
        }
        if kept.plans.insert(length, plan.clone()).is_none() {
            kept.bytes += bytes;
        }
        Ok(plan)
    }
}

impl std::fmt::Debug for RaggedMixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hidden, simd) = (self.hidden, self.simd);
        f.debug_struct("RaggedMixer").field("hidden", &hidden).field("simd", &simd).finish_non_exhaustive()
    }
}

#[cfg(feature = "rayon")]
use rayon::join;

#[cfg(not(feature = "rayon"))]
fn join<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B) -> (A, B) {
    (a(), b())
}
