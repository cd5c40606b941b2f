//! Runs: their folders, checkpoints and reports.

pub mod card;
mod checkpoint;
pub mod claim;
pub mod comparison;
pub mod folder;
pub mod plot;
pub mod report;
pub mod state;
