//! What a `(seq_len, hidden)` pair needs: two real FFTs and the sizes of the intermediates.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::MixError;

pub(crate) struct Plan {
    pub seq_len: usize,
    pub hidden: usize,
    /// Real FFT along the hidden axis.
    pub row_fft: Arc<dyn RealToComplex<f32>>,
    /// Real FFT along the sequence axis.
    pub column_fft: Arc<dyn RealToComplex<f32>>,
}

impl Plan {
    pub fn new(seq_len: usize, hidden: usize) -> Result<Self, MixError> {
        if seq_len == 0 || hidden == 0 {
            return Err(MixError::EmptyShape { seq_len, hidden });
        }
        // Beyond this no slice of f32 can exist, and the planner would try to allocate it.
        let values = seq_len.checked_mul(hidden).filter(|n| *n <= isize::MAX as usize / 16);
        if values.is_none() {
            return Err(MixError::TooLarge { seq_len, hidden });
        }
        let mut planner = RealFftPlanner::new();
        Ok(Self {
            seq_len,
            hidden,
            row_fft: planner.plan_fft_forward(hidden),
            column_fft: planner.plan_fft_forward(seq_len),
        })
    }

    pub fn sample_len(&self) -> usize {
        self.seq_len * self.hidden
    }

    /// Rows `0..=seq_len/2`: the half that the even part of the input is made of.
    pub fn half_rows(&self) -> usize {
        self.seq_len / 2 + 1
    }

    /// Frequencies `0..=hidden/2` of a real row.
    pub fn half_columns(&self) -> usize {
        self.hidden / 2 + 1
    }
}
