//! Where a tensor lies in a weight file, and how its values are stored.

use std::ops::Range;

use safetensors::tensor::Dtype;

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    F64,
    /// Not weights: the type's name, and its bytes per value.
    Other(&'static str, usize),
}

impl Kind {
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::F64 => 8,
            Self::Other(_, bytes) => bytes,
        }
    }
}

impl From<Dtype> for Kind {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F64 => Self::F64,
            _ => Self::Other("whole numbers or a format that is not known", 1),
        }
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    pub file: usize,
    pub kind: Kind,
    pub shape: Vec<usize>,
    pub bytes: Range<usize>,
}
