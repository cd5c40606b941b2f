use std::sync::Arc;

use fnet_mixing::MixError;
use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};

use super::SymmetricMixer;
use super::sequences::{mix_each, transpose};
use crate::EncoderError;
use crate::modules::Pass;
use crate::plans::{Plans, SharedPlans, fft_flops};

/// The Hartley transform over both axes, `y = Re(FFT2(x)) - Im(FFT2(x))` (Hartley 1942): like Fourier mixing, but
/// nothing is lost, since the transform is its own inverse up to a factor.
pub struct Hartley {
    over_hidden: Arc<dyn RealToComplex<f32>>,
    plans: Plans<Arc<dyn Fft<f32>>>,
    hidden: usize,
}

impl Hartley {
    /// Mixing for sequences of `hidden` values per token, by plans that all layers share.
    pub(crate) fn new(plans: &SharedPlans, hidden: usize) -> Self {
        let over_hidden = RealFftPlanner::new().plan_fft_forward(hidden);
        Self { over_hidden, plans: plans.hartley.clone(), hidden }
    }

    fn plan(&self, n: usize) -> Result<Arc<dyn Fft<f32>>, MixError> {
        self.plans.get(n, || Ok(FftPlanner::new().plan_fft_forward(n)))
    }

    /// One sequence: real transforms of its rows, complex ones of half of its columns, and the other half
    /// by the symmetry `X(-k, -l) = conj X(k, l)`.
    fn transform(&self, over_sequence: &dyn Fft<f32>, x: &[f32], y: &mut [f32], add: bool) {
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

impl SymmetricMixer for Hartley {
    fn mix(&self, p: Pass, x: &[f32], y: &mut [f32], add: bool) -> Result<(), EncoderError> {
        for range in p.batch.ranges() {
            self.plan(range.len())?;
        }
        mix_each(p, self.hidden, x, y, |n, x, y| {
            let Ok(over_sequence) = self.plan(n) else { return };
            self.transform(&*over_sequence, x, y, add);
        });
        Ok(())
    }

    fn flops(&self, seq_len: usize) -> f64 {
        2.0 * fft_flops((seq_len * self.hidden) as f64, self.hidden as f64)
    }
}
