//! Where a run stands: what a checkpoint holds beside weights and moments.

use serde::{Deserialize, Serialize};

/// Where a run stands in its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Passes that are finished.
    pub epoch: u64,
    /// Next sequence of this pass.
    pub index: usize,
}

/// Where a run stands: everything beside weights and moments that going on needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// A fingerprint of the data: a run is not resumed on other data.
    pub data: u64,
    /// Finished steps.
    pub step: u64,
    /// Place in the data.
    pub position: Position,
    /// Seconds of training.
    pub seconds: f64,
    /// Tokens seen.
    pub tokens: u64,
    /// Best evaluation so far: step and score.
    pub best: Option<(u64, f64)>,
    /// Values of the best evaluation, or of the last where the last model is kept.
    pub values: Vec<(String, f64)>,
    /// First smoothed loss, and the smoothed loss now.
    pub loss: Option<(f64, f64)>,
}
