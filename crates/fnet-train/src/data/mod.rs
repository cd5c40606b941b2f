//! The input: text, rows and tokenizers, and signals that are no text.

pub mod corpus;
pub mod sample;
pub mod signals;
pub mod tasks;
pub mod text;
pub mod tokenizer;
