//! The vocabulary of a pretraining.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained;
use fnet_encoder::whole_file::write_whole;

use super::PretrainSettings;
use crate::data::corpus::documents::paragraphs;
use crate::data::tokenizer::{Kind, Tokenizer};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::random::fingerprint;

/// Changes when the same text gives another vocabulary than before.
const VERSION: u32 = 3;

/// The tokenizer of a new run: given, or trained before on the same files, or trained now.
pub(super) fn tokenizer(settings: &PretrainSettings, cache: &Path, quiet: bool) -> Result<Tokenizer> {
    if let Some(model) = &settings.model {
        return Tokenizer::of_folder(pretrained::folder_of(model));
    }
    if let Some(path) = &settings.tokenizer {
        return Tokenizer::read(path);
    }
    let (kind, size) = (settings.kind.unwrap_or(Kind::Wordpiece), settings.shape()?.vocab_size);
    let mut what = format!("{VERSION} {kind:?} {size} {}", settings.cased);
    for file in &settings.corpus {
        let data = std::fs::metadata(file).map_err(Error::io(file))?;
        what += &format!("\n{} {} {:?}", file.display(), data.len(), data.modified().ok());
    }
    let place = cache.join(format!("tokenizer-{:016x}.json", fingerprint(what.as_bytes())));
    if let Ok(tokenizer) = Tokenizer::read(&place) {
        return Ok(tokenizer);
    }
    if !quiet {
        eprintln!("training a {kind:?} vocabulary of {size} tokens");
    }
    let tokenizer = train_tokenizer(kind, size, settings.cased, &settings.corpus, quiet)?;
    std::fs::create_dir_all(cache).map_err(Error::io(cache))?;
    write_whole(&place, tokenizer.to_json()?.as_bytes())?;
    Ok(tokenizer)
}

/// Trains a vocabulary on corpus files.
///
/// # Errors
/// If a file cannot be read, or the size is out of range.
pub fn train_tokenizer(
    kind: Kind,
    vocab_size: usize,
    cased: bool,
    files: &[PathBuf],
    quiet: bool,
) -> Result<Tokenizer> {
    let mut error = None;
    let progress = Progress::new("counting words", quiet);
    let lines = paragraphs(files, progress, &mut error)?;
    let tokenizer = Tokenizer::train(kind, vocab_size, cased, lines);
    match error {
        Some(error) => Err(error),
        None => tokenizer,
    }
}
