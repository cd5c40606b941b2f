//! The sample data: a small English-like language with meaning in it, made by this generator alone.
//!
//! The corpus shows what words mean: what kind of thing a wren is, which verbs mean the same, which adjectives go
//! with praise. The four tasks test this, in GLUE's formats, with words in the development half that the training
//! half never shows. So a bag of words falls short, and pretraining helps.

mod corpus;
mod tasks;
mod words;

use std::path::Path;

use crate::error::{Error, Result};
use crate::random::generator;

/// Seed of the data shipped in `data/`.
pub const SEED: u64 = 2_021;

/// Documents in the corpus, and in its validation half.
const DOCUMENTS: [usize; 2] = [4_000, 200];

/// Names of the files that [`write`](fn@write) makes, below its folder.
pub const FILES: [&str; 14] = [
    "corpus/train.txt",
    "corpus/valid.txt",
    "sentiment/train.tsv",
    "sentiment/dev.tsv",
    "sentiment/test.tsv",
    "acceptability/train.tsv",
    "acceptability/dev.tsv",
    "acceptability/test.tsv",
    "similarity/train.tsv",
    "similarity/dev.tsv",
    "similarity/test.tsv",
    "entailment/train.tsv",
    "entailment/dev.tsv",
    "entailment/test.tsv",
];

/// A task of the sample: its folder, and the GLUE task whose format it has.
pub const TASKS: [(&str, &str); 4] =
    [("sentiment", "sst2"), ("acceptability", "cola"), ("similarity", "stsb"), ("entailment", "rte")];

/// The text of one of [`FILES`].
pub fn text(file: &str, seed: u64) -> Option<String> {
    let (kind, half) = file.split_once('/')?;
    let random = &mut generator(seed, file, 0);
    match (kind, half) {
        ("corpus", "train.txt") => Some(corpus::text(DOCUMENTS[0], random)),
        ("corpus", "valid.txt") => Some(corpus::text(DOCUMENTS[1], random)),
        ("sentiment", _) => Some(tasks::sentiment(tasks::Half::of(half)?, random)),
        ("acceptability", _) => Some(tasks::acceptability(tasks::Half::of(half)?, random)),
        ("similarity", _) => Some(tasks::similarity(tasks::Half::of(half)?, random)),
        ("entailment", _) => Some(tasks::entailment(tasks::Half::of(half)?, random)),
        _ => None,
    }
}

/// Writes all sample files below `folder`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, seed: u64) -> Result<()> {
    for file in FILES {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let text = text(file, seed).unwrap_or_default();
        // An unchanged file is left alone: data made from it is identified by its modification time.
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            continue;
        }
        fnet_encoder::whole_file::write_whole(&path, text.as_bytes())?;
    }
    Ok(())
}
