//! What a `(seq_len, hidden)` pair needs: two FFTs, and how its rows and columns are cut into strips.

use std::sync::{Arc, OnceLock};

use crate::MixError;
use crate::arch::Simd;
use crate::fft::Fft;

/// Neighbouring rows or columns that one FFT takes: the first `lanes` of them as real parts, the second `lanes` as
/// imaginary parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Strip {
    /// The first row or column.
    pub first: usize,
    /// Lanes of the register.
    pub lanes: usize,
}

impl Strip {
    /// One past the last row or column, of which those beyond the half are zero.
    pub fn end(self) -> usize {
        self.first + 2 * self.lanes
    }
}

pub(crate) struct Plan {
    pub simd: Simd,
    pub seq_len: usize,
    pub hidden: usize,
    /// FFT along the hidden axis, which plans of other lengths may share.
    pub row_fft: Arc<Fft>,
    /// FFT along the sequence axis.
    pub column_fft: Fft,
    /// Strips of rows `0..=seq_len / 2`.
    pub row_strips: Vec<Strip>,
    /// Strips of columns `0..=hidden / 2`.
    pub column_strips: Vec<Strip>,
}

impl Plan {
    pub fn new(seq_len: usize, hidden: usize, simd: Simd) -> Result<Self, MixError> {
        Self::sharing(&OnceLock::new(), seq_len, hidden, simd)
    }

    /// As [`new`](Self::new), with the hidden axis' FFT in common with other plans of this level.
    pub fn sharing(
        row_fft: &OnceLock<Arc<Fft>>,
        seq_len: usize,
        hidden: usize,
        simd: Simd,
    ) -> Result<Self, MixError> {
        if seq_len == 0 || hidden == 0 {
            return Err(MixError::EmptyShape { seq_len, hidden });
        }
        // No larger slice of f32 can exist, and planning would try to allocate as much.
        let values = seq_len.checked_mul(hidden).filter(|n| *n <= isize::MAX as usize / 64);
        if values.is_none() || seq_len.max(hidden) > u32::MAX as usize / 4 {
            return Err(MixError::TooLarge { seq_len, hidden });
        }
        let largest_power = if simd == Simd::Avx512 { 8 } else { 4 };
        Ok(Self {
            simd,
            seq_len,
            hidden,
            row_fft: row_fft.get_or_init(|| Arc::new(Fft::new(hidden, largest_power))).clone(),
            column_fft: Fft::new(seq_len, largest_power),
            row_strips: strips(seq_len / 2 + 1, simd.lanes()),
            column_strips: strips(hidden / 2 + 1, simd.lanes()),
        })
    }

    /// Bytes on the heap, without the hidden axis' FFT.
    pub fn own_bytes(&self) -> usize {
        let strips = self.row_strips.len() + self.column_strips.len();
        size_of::<Self>() + self.column_fft.bytes() + strips * size_of::<Strip>()
    }

    pub fn sample_len(&self) -> usize {
        self.seq_len * self.hidden
    }

    /// Rows `0..=seq_len/2`: the half that determines the even part of the input.
    pub fn half_rows(&self) -> usize {
        self.seq_len / 2 + 1
    }

    /// Columns `0..=hidden/2`: the half that has all of a real row's frequencies.
    pub fn half_columns(&self) -> usize {
        self.hidden / 2 + 1
    }

    /// Values of the intermediate that holds all column strips, one after another.
    pub fn spectra_len(&self) -> usize {
        self.column_strips.last().map_or(0, |s| s.end()) * self.seq_len
    }

    /// Values that a strip of rows takes while it is transformed, scratch of the FFT included.
    pub fn row_buffer_len(&self) -> usize {
        (self.hidden + self.row_fft.scratch_len()) * 2 * self.simd.lanes()
    }

    /// Values of scratch that a strip of columns takes.
    pub fn column_buffer_len(&self) -> usize {
        self.column_fft.scratch_len() * 2 * self.simd.lanes()
    }
}

/// Widest strips as long as they are full; the rest in one strip of the narrowest registers that hold it.
fn strips(count: usize, widest: usize) -> Vec<Strip> {
    let full = count / (2 * widest);
    let mut strips: Vec<_> = (0..full).map(|i| Strip { first: i * 2 * widest, lanes: widest }).collect();
    let (first, rest) = (full * 2 * widest, count % (2 * widest));
    if rest > 0 {
        strips.push(Strip { first, lanes: rest.div_ceil(2).next_power_of_two().max(4) });
    }
    strips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_cover_everything_once() {
        for widest in [4, 8, 16] {
            for count in 1..200 {
                let strips = strips(count, widest);
                let mut next = 0;
                for strip in &strips {
                    assert_eq!(strip.first, next);
                    assert!([4, 8, 16].contains(&strip.lanes) && strip.lanes <= widest);
                    next = strip.end();
                }
                assert!(next >= count && strips.last().unwrap().first < count);
            }
        }
    }
}
