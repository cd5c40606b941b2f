//! Training FNet encoders: corpora, tokenizers, masked language modelling, fine-tuning, tasks, and the files of a
//! run. The program `fnet` is a separate crate on top of this library.

pub mod base_model;
pub mod data;
mod error;
pub mod fill_mask;
pub mod folder;
pub mod predictor;
pub mod progress;
pub mod random;
pub mod runs;
pub mod search;
pub mod settings;
pub mod signal_predictor;
pub mod speed;
pub mod team;
pub mod together;
pub mod train;
pub mod vector_maker;

pub use error::{Error, Result};
