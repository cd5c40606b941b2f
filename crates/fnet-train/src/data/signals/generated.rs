//! Examples that are drawn: new ones in each pass, or always the same to validate on.

use rand_chacha::ChaCha8Rng;

use super::{Reading, Shape, Signal, Source};
use crate::random::generator;

/// A task whose examples are drawn.
pub(super) trait Task: Copy + Send + Sync + 'static {
    /// Examples that count as a pass, and those to validate on.
    const EXAMPLES: [usize; 2];
    /// Names of their random numbers.
    const PURPOSES: [&'static str; 2];
    /// Of those to validate on.
    const VALIDATION_SEED: u64;
    /// Whether every pass has the same examples, as where there are only so many.
    const IS_FIXED: bool = false;

    fn shape(self) -> Shape;

    fn reading(self) -> Reading;

    fn example(self, random: &mut ChaCha8Rng, into: &mut Signal);
}

/// Examples of a task.
pub(super) struct Generated<T> {
    task: T,
    seed: u64,
    validates: bool,
}

impl<T: Task> Generated<T> {
    /// To learn from, by a seed; without one to validate on, the same in every run.
    pub fn new(task: T, seed: Option<u64>) -> Self {
        Self { task, seed: seed.unwrap_or(T::VALIDATION_SEED), validates: seed.is_none() }
    }
}

impl<T: Task> Source for Generated<T> {
    fn shape(&self) -> Shape {
        self.task.shape()
    }

    fn len(&self) -> usize {
        T::EXAMPLES[usize::from(self.validates)]
    }

    fn is_fixed(&self) -> bool {
        self.validates || T::IS_FIXED
    }

    fn read(&self, pass: u64, index: usize, into: &mut Signal) -> crate::error::Result<()> {
        let pass = if self.is_fixed() { 0 } else { pass };
        let purpose = T::PURPOSES[usize::from(self.validates)];
        let mut random = generator(self.seed, purpose, (pass << 32) | index as u64);
        into.vectors.clear();
        into.tokens.clear();
        self.task.example(&mut random, into);
        Ok(())
    }

    fn reading(&self) -> Reading {
        self.task.reading()
    }
}
