//! The sequences to learn from and to validate on.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::PretrainSettings;
use crate::data::corpus::sequences::{Place, SHORTEST, Sequences};
use crate::data::corpus::shards::{self, Shards};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::settings::setting;
use crate::train::pretrain::Pair;

/// Validation sequences held out where no file is given: a hundredth, within these bounds.
const HELD_OUT: RangeInclusive<usize> = 1..=2_000;

pub(super) struct Corpus {
    pub sequences: Sequences,
    pub validation: Vec<Pair>,
}

impl Corpus {
    /// Reads the token shards, or makes them first.
    pub fn load(
        settings: &PretrainSettings,
        cache: &Path,
        tokenizer: &Tokenizer,
        longest: usize,
        quiet: bool,
    ) -> Result<Self> {
        let learns = settings.objective;
        let load = |files: &[PathBuf]| -> Result<Sequences> {
            let place = cache.join(shards::key(files, tokenizer)?);
            let shards = Shards::open_or_make(&place, files, tokenizer, quiet)?;
            if !quiet {
                let done = if shards.reused { "reused" } else { "made" };
                eprintln!("{done} {} ({} tokens)", place.display(), shards.tokens());
            }
            let sequences = Sequences::new(shards, settings.sequences, learns.longest_part(longest));
            Ok(if learns.pairs() { sequences.paired() } else { sequences })
        };
        let mut sequences = load(&settings.corpus)?;
        let validation = if settings.valid.is_empty() {
            let count = (sequences.len() / 100).clamp(*HELD_OUT.start(), *HELD_OUT.end());
            let held = sequences.split_off(count);
            held.into_iter().map(|place| pair(&sequences, place)).collect()
        } else {
            let separate = load(&settings.valid)?;
            let step = separate.len().div_ceil(*HELD_OUT.end()).max(1);
            separate.places().iter().step_by(step).map(|place| pair(&separate, *place)).collect()
        };
        let corpus = Self { sequences, validation };
        corpus.check(settings, quiet)?;
        Ok(corpus)
    }

    /// Refuses a corpus with nothing to learn from, and says what is left out.
    fn check(&self, settings: &PretrainSettings, quiet: bool) -> Result<()> {
        let left_out = self.sequences.left_out();
        let joined = format!("{} chunks joins them", setting("sequences"));
        if self.sequences.is_empty() {
            let message = match (left_out, settings.valid.is_empty()) {
                (0, _) | (_, true) if !self.validation.is_empty() => {
                    let valid = setting("valid");
                    format!("has one sequence only, which validation takes: give more text, or {valid}")
                }
                _ => format!(
                    "has no sequence to learn from: {left_out} have fewer than {SHORTEST} tokens; {joined}"
                ),
            };
            let corpus = settings.corpus.first().map_or(Path::new(""), PathBuf::as_path);
            return Err(Error::file(corpus, message));
        }
        if left_out > 0 && !quiet {
            let all = self.sequences.len() + left_out;
            eprintln!(
                "{left_out} of {all} sequences have fewer than {SHORTEST} tokens and are left out; {joined}"
            );
        }
        Ok(())
    }
}

fn pair(sequences: &Sequences, place: Place) -> Pair {
    place.segments().map(|segment| {
        let mut ids = Vec::new();
        sequences.read(segment, &mut ids);
        ids
    })
}
