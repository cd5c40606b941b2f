//! The input: text, rows and tokenizers.

pub mod corpus;
pub mod sample;
pub mod tasks;
pub mod text;
pub mod tokenizer;
