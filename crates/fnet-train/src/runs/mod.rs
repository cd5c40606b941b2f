//! Runs: what they train, in which order, and their reports.

pub(crate) mod card;
pub mod compare;
pub mod finetune;
pub mod forecast;
pub mod in_process;
pub mod mean;
mod memory;
pub mod pareto;
pub mod plot;
pub mod pretrain;
pub mod report;
pub mod runner;
pub mod running;
pub mod similarity;
pub mod training;
pub mod universal;
