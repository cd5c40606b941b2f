use std::fmt;

use crate::Simd;

/// Why mixing was refused. No call panics on bad lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MixError {
    /// `seq_len` or `hidden` is zero.
    EmptyShape {
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// `seq_len * hidden` does not fit in memory.
    TooLarge {
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// A slice does not hold a whole number of samples.
    PartialSample {
        /// Number of values given.
        len: usize,
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// An array view whose shape is not `[batch, seq_len, hidden]`.
    WrongShape {
        /// Lengths of its second and third axis.
        found: (usize, usize),
        /// Length of the sequence axis.
        seq_len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// Offsets of ragged sequences decrease, or do not cover the values.
    WrongOffsets {
        /// Number of values given.
        len: usize,
        /// Length of the hidden axis.
        hidden: usize,
    },
    /// Input and output differ in length.
    LengthMismatch {
        /// Values in the input.
        input: usize,
        /// Values in the output.
        output: usize,
    },
    /// An array view is not in standard (row-major, contiguous) layout.
    NotContiguous,
    /// The requested level is not available on this CPU.
    SimdUnavailable {
        /// The level.
        level: Simd,
    },
    /// `FNET_SIMD` names no level.
    UnknownSimd {
        /// Its value.
        name: String,
    },
}

// By hand: this crate has no dependency it does not need.
impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyShape { seq_len, hidden } => {
                write!(f, "cannot mix a shape of {seq_len} x {hidden}: both lengths must be at least 1")
            }
            Self::TooLarge { seq_len, hidden } => {
                write!(f, "a shape of {seq_len} x {hidden} is too large to mix")
            }
            Self::PartialSample { len, seq_len, hidden } => {
                write!(f, "{len} values are not a whole number of samples of {seq_len} x {hidden}")
            }
            Self::WrongShape { found: (rows, columns), seq_len, hidden } => {
                write!(f, "the view's samples are {rows} x {columns}, the mixer's {seq_len} x {hidden}")
            }
            Self::WrongOffsets { len, hidden } => write!(
                f,
                "offsets must rise from 0 to the number of tokens, {len} values of {hidden} a token"
            ),
            Self::LengthMismatch { input, output } => {
                write!(f, "the output holds {output} values, the input {input}")
            }
            Self::NotContiguous => write!(f, "the array must be contiguous and row-major"),
            Self::SimdUnavailable { level } => write!(f, "this CPU does not have the SIMD level {level}"),
            Self::UnknownSimd { name } => {
                write!(f, "FNET_SIMD={name}: no such level; there are portable, avx2 and avx512")
            }
        }
    }
}

impl std::error::Error for MixError {}
