//! How the vectors of an example's texts become the input of the output layer.

use crate::ModelConfig;
use crate::heads::Head;
use crate::ops::{cosine, pair_features};
use crate::pooling::Pairs;
use crate::workspace::set_len;

/// The input of the output layer for an example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comparison {
    /// One text's vector.
    One,
    /// Two texts' vectors, their distance and product in each dimension, and their cosine.
    Features { symmetric: bool },
    /// The cosine of two texts' vectors alone.
    Cosine,
}

impl Comparison {
    pub fn new(config: &ModelConfig, head: Head) -> Self {
        match config.classifier_pairs {
            Pairs::Together => Self::One,
            _ if head == Head::Regression => Self::Cosine,
            pairs => Self::Features { symmetric: pairs == Pairs::SymmetricTowers },
        }
    }

    /// Whether the texts of a pair may be swapped.
    pub fn is_symmetric(self) -> bool {
        self != Self::Features { symmetric: false }
    }

    /// Number of inputs of the output layer, for vectors of `width` values.
    pub fn inputs(self, width: usize) -> usize {
        match self {
            Self::One => width,
            Self::Features { symmetric } => pair_features::count(width, symmetric),
            Self::Cosine => 1,
        }
    }

    /// Fills `y` `[examples, inputs]` from the texts' vectors `x` `[texts, width]`.
    pub fn forward(self, x: &[f32], width: usize, y: &mut Vec<f32>) {
        let texts = if self == Self::One { 1 } else { 2 };
        set_len(y, x.len() / width / texts * self.inputs(width));
        match self {
            Self::One => y.copy_from_slice(x),
            Self::Features { symmetric } => pair_features::forward(x, width, symmetric, y),
            Self::Cosine => cosine::forward(x, width, y),
        }
    }

    /// Fills `dx` from `x`, `y` of the forward pass, and `dy`.
    pub fn backward(self, x: &[f32], y: &[f32], dy: &[f32], width: usize, dx: &mut Vec<f32>) {
        set_len(dx, x.len());
        match self {
            Self::One => dx.copy_from_slice(dy),
            Self::Features { symmetric } => pair_features::backward(x, y, dy, width, symmetric, dx),
            Self::Cosine => cosine::backward(x, y, dy, width, dx),
        }
    }
}
