//! Runs: what they train, their folders, checkpoints and reports.

pub(crate) mod card;
mod checkpoint;
pub mod claim;
pub mod compare;
pub mod finetune;
pub mod folder;
pub mod plot;
pub mod pretrain;
pub mod report;
pub mod running;
pub(crate) mod state;
pub mod training;
