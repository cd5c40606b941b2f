//! What turns a series into features, step by step.

use crate::real::Real;

/// A system that is driven by inputs, and whose features a readout reads.
pub trait Dynamics: Send + Sync {
    /// Numbers that features are computed in.
    type Value: Real;
    /// All that a step depends on beside its input.
    type State: Clone + Send + Sync;

    /// Number of inputs.
    fn inputs(&self) -> usize;

    /// Number of outputs that are fed back; 0 if none are.
    fn feedback(&self) -> usize;

    /// Number of features.
    fn features(&self) -> usize;

    /// The state before the first step.
    fn start(&self) -> Self::State;

    /// One step with inputs `[inputs]` and the previous outputs, which count where they are fed back; fills `features`.
    fn step(&self, state: &mut Self::State, input: &[f64], output: &[f64], features: &mut [Self::Value]);
}
