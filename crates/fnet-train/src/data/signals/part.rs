//! Some examples of a source.

use super::{Reading, Shape, Signal, Source};
use crate::error::Result;

/// The examples of a source at some indices.
pub(crate) struct Part {
    pub source: Box<dyn Source>,
    pub indices: Vec<usize>,
}

impl Source for Part {
    fn shape(&self) -> Shape {
        self.source.shape()
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn is_fixed(&self) -> bool {
        self.source.is_fixed()
    }

    fn read(&self, pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        self.source.read(pass, self.indices[index], into)
    }

    fn read_plain(&self, index: usize, into: &mut Signal) -> Result<()> {
        self.source.read_plain(self.indices[index], into)
    }

    fn reading(&self) -> Reading {
        self.source.reading()
    }
}
