//! The sites of dropout in a model: each draws its own numbers from a step's key.

pub(crate) const EMBEDDINGS: u32 = 0;
pub(crate) const CLASSIFIER: u32 = u32::MAX;

/// After the feed-forward layer of layer `index`.
pub(crate) fn feed_forward(index: usize) -> u32 {
    index as u32 + 1
}

/// After the mixing of layer `index`.
pub(crate) fn mixing(index: usize) -> u32 {
    1 << 16 | feed_forward(index)
}
