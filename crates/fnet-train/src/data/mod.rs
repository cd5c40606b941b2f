//! Text, rows and tokenizers: what comes in.

pub mod corpus;
pub mod sample;
pub mod tasks;
pub mod text;
pub mod tokenizer;
