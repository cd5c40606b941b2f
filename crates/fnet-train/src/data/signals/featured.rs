//! Examples of which one vector of features is made.

use fnet_encoder::Head;

use super::{Reading, Shape, Signal, Source};
use crate::error::Result;

/// What makes one vector of an example's.
pub(crate) trait Features: Send + Sync {
    /// Values in the vector.
    fn width(&self) -> usize;

    /// Replaces an example's vectors by one.
    fn apply(&self, signal: &mut Signal);

    /// How examples are then read that were read so.
    fn reading(&self, of: Reading) -> Reading;
}

/// The examples of a source as features: a sequence of one wide vector each.
pub(crate) struct Featured<F> {
    pub source: Box<dyn Source>,
    pub features: F,
}

impl<F: Features> Source for Featured<F> {
    fn shape(&self) -> Shape {
        Shape { width: self.features.width(), longest: 1, ..self.source.shape() }
    }

    fn len(&self) -> usize {
        self.source.len()
    }

    fn is_fixed(&self) -> bool {
        self.source.is_fixed()
    }

    fn read(&self, pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        self.source.read(pass, index, into)?;
        self.features.apply(into);
        Ok(())
    }

    fn read_plain(&self, index: usize, into: &mut Signal) -> Result<()> {
        self.source.read_plain(index, into)
    }

    fn reading(&self) -> Reading {
        self.features.reading(self.source.reading())
    }

    fn fingerprint(&self) -> Result<u64> {
        let width = self.features.width() as u64;
        Ok(self.source.fingerprint()? ^ width.rotate_left(32))
    }
}

/// Refuses positions with answers of their own, which one vector cannot have.
pub(crate) fn check_head(head: Head) -> std::result::Result<(), &'static str> {
    if matches!(head, Head::Tokens { .. }) { Err("positions with answers of their own") } else { Ok(()) }
}
