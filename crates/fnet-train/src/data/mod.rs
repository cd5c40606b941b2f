//! The input: text, rows and tokenizers, and signals that are no text.

pub mod alike;
pub mod corpus;
pub(crate) mod held_out;
pub mod sample;
pub mod sentence_settings;
pub mod signals;
pub mod tasks;
pub mod text;
pub mod tokenizer;
