use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use fnet_mixing::{FourierMixer, MixError, RaggedMixer};
use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};

use super::{Mixer, sequences};
use crate::EncoderError;
use crate::modules::Pass;
use crate::parameters::Gradients;
use crate::workspace::{Buffers, Scratch};

/// FNet's mixing, `y = Re(FFT2(x))` (Lee-Thorp et al. 2021, equation 3), each sequence at its own length.
pub struct Fourier {
    mixer: RaggedMixer,
    hidden: usize,
}

impl Fourier {
    /// Mixing for sequences of `hidden` values a token.
    pub fn new(hidden: usize) -> Self {
        Self { mixer: RaggedMixer::new(hidden), hidden }
    }
}

/// Flops a token of a real FFT over `axes` values a sequence: 2.5 N log2 N for one over all of them.
fn fft_flops(transformed: f64, per_token: f64) -> f64 {
    1.25 * per_token * transformed.max(1.0).log2()
}

impl Mixer for Fourier {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        Ok(self.mixer.mix(p.batch.offsets(), x, y)?)
    }

    fn backward_add(
        &self,
        p: Pass,
        _: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        // The operator is linear and symmetric.
        Ok(self.mixer.mix_add(p.batch.offsets(), dy, dx)?)
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        fft_flops((seq_len * self.hidden) as f64, self.hidden as f64)
    }
}

/// `y = Re(FFT(x))` over the hidden axis: no token sees another.
pub struct FourierHidden {
    mixer: FourierMixer,
}

impl FourierHidden {
    /// Mixing for sequences of `hidden` values a token.
    ///
    /// # Errors
    /// If `hidden` is zero.
    pub fn new(hidden: usize) -> Result<Self, EncoderError> {
        Ok(Self { mixer: FourierMixer::new(1, hidden)? })
    }
}

impl Mixer for FourierHidden {
    fn forward(&self, _: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        Ok(self.mixer.mix(x, y)?)
    }

    fn backward_add(
        &self,
        _: Pass,
        _: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        Ok(self.mixer.mix_add(dy, dx)?)
    }

    fn flops_per_token(&self, _: usize) -> f64 {
        fft_flops(self.mixer.hidden() as f64, self.mixer.hidden() as f64)
    }
}

/// Plans by sequence length, made when a length is first seen.
struct Plans<P>(RwLock<HashMap<usize, P>>);

impl<P: Clone> Plans<P> {
    fn new() -> Self {
        Self(RwLock::default())
    }

    fn get(&self, length: usize, make: impl FnOnce() -> Result<P, MixError>) -> Result<P, MixError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = make()?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(length, plan.clone());
        Ok(plan)
    }
}

/// `y (+)= mix(x)` by `mix`, which fills its last argument from its second for each sequence.
fn each_sequence(
    p: Pass,
    hidden: usize,
    x: &[f32],
    y: &mut [f32],
    mix: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    sequences::for_each(p.batch, hidden, y, |i, y| {
        let range = p.batch.range(i);
        mix(range.len(), &x[range.start * hidden..range.end * hidden], y);
    });
}

/// Rows for columns: `x` is `[rows, columns]`.
fn transpose<T: Copy + Send + Sync>(x: &[T], columns: usize, y: &mut [T]) {
    let rows = x.len() / columns;
    const TILE: usize = 16;
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for j in left..(left + TILE).min(columns) {
                for i in top..(top + TILE).min(rows) {
                    y[j * rows + i] = x[i * columns + j];
                }
            }
        }
    }
}

/// `y = Re(FFT(x))` over the sequence: hidden units stay apart.
pub struct FourierSeq {
    plans: Plans<FourierMixer>,
    hidden: usize,
}

impl FourierSeq {
    /// Mixing for sequences of `hidden` values a token.
    pub fn new(hidden: usize) -> Self {
        Self { plans: Plans::new(), hidden }
    }

    fn run(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        for range in p.batch.ranges() {
            self.plans.get(range.len(), || FourierMixer::new(1, range.len()))?;
        }
        each_sequence(p, self.hidden, x, y, |n, x, y| {
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
}

impl Mixer for FourierSeq {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        self.run(p, x, y, false)
    }

    fn backward_add(
        &self,
        p: Pass,
        _: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        self.run(p, dy, dx, true)
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        fft_flops(seq_len as f64, self.hidden as f64)
    }
}

/// The Hartley transform over both axes, `y = Re(FFT2(x)) - Im(FFT2(x))` (Hartley 1942): as Fourier
/// mixing, but nothing is lost, since the transform is its own inverse up to a factor.
pub struct Hartley {
    over_hidden: Arc<dyn RealToComplex<f32>>,
    plans: Plans<Arc<dyn Fft<f32>>>,
    hidden: usize,
}

impl Hartley {
    /// Mixing for sequences of `hidden` values a token.
    pub fn new(hidden: usize) -> Self {
        Self { over_hidden: RealFftPlanner::new().plan_fft_forward(hidden), plans: Plans::new(), hidden }
    }

    fn run(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        for range in p.batch.ranges() {
            self.plan(range.len())?;
        }
        each_sequence(p, self.hidden, x, y, |n, x, y| {
            let Ok(over_sequence) = self.plan(n) else { return };
            self.mix(&*over_sequence, x, y, add);
        });
        Ok(())
    }

    fn plan(&self, n: usize) -> Result<Arc<dyn Fft<f32>>, MixError> {
        self.plans.get(n, || Ok(FftPlanner::new().plan_fft_forward(n)))
    }

    /// One sequence: real transforms of its rows, complex ones of half of its columns, and the other half
    /// by the symmetry `X(-k, -l) = conj X(k, l)`.
    fn mix(&self, over_sequence: &dyn Fft<f32>, x: &[f32], y: &mut [f32], add: bool) {
        let (hidden, n) = (self.hidden, x.len() / self.hidden);
        let half = hidden / 2 + 1;
        let zero = Complex32::default();
        let (mut rows, mut columns) = (vec![zero; n * half], vec![zero; n * half]);
        let (mut row, mut scratch) = (vec![0.0; hidden], self.over_hidden.make_scratch_vec());
        for (x, spectrum) in x.chunks_exact(hidden).zip(rows.chunks_exact_mut(half)) {
            row.copy_from_slice(x);
            let transformed = self.over_hidden.process_with_scratch(&mut row, spectrum, &mut scratch);
            debug_assert!(transformed.is_ok(), "the lengths are the plan's");
        }
        transpose(&rows, half, &mut columns);
        over_sequence.process(&mut columns);
        transpose(&columns, n, &mut rows);
        for (k, y) in y.chunks_exact_mut(hidden).enumerate() {
            let (row, mirrored) = (&rows[k * half..][..half], &rows[(n - k) % n * half..][..half]);
            for (l, y) in y.iter_mut().enumerate() {
                let value = if l < half {
                    row[l].re - row[l].im
                } else {
                    mirrored[hidden - l].re + mirrored[hidden - l].im
                };
                *y = if add { *y + value } else { value };
            }
        }
    }
}

impl Mixer for Hartley {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        self.run(p, x, y, false)
    }

    fn backward_add(
        &self,
        p: Pass,
        _: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        self.run(p, dy, dx, true)
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        2.0 * fft_flops((seq_len * self.hidden) as f64, self.hidden as f64)
    }
}
