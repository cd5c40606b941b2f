//! Training FNet encoders: corpora, tokenizers, masked language modelling, fine-tuning, tasks, and
//! the files of a run. The program `fnet` is a crate of its own over this library.

pub mod bag_of_words;
pub mod bag_start;
pub mod base_model;
pub mod card;
mod checkpoint;
pub mod claim;
pub mod comparison;
pub mod corpus;
mod dense;
mod error;
pub mod fill_mask;
pub mod finetune;
pub mod folder;
pub mod mlm;
pub mod plot;
pub mod predictor;
pub mod pretrain;
pub mod progress;
pub mod random;
pub mod recipe;
pub mod report;
pub mod sample;
pub mod schedule;
pub mod speed;
pub mod state;
pub mod stop;
pub mod tasks;
pub mod text;
pub mod tokenizer;
pub mod trainer;
pub mod whitening;

pub use error::{Error, Result};
