//! Pretraining and fine-tuning with each of several mixers, to see what each costs and reaches.

use std::path::Path;

use fnet_encoder::ModelConfig;
use fnet_encoder::whole_file::write_whole;

use crate::error::Result;
use crate::folder::claim::Claim;
use crate::progress::Progress;
use crate::runs::pretrain::USUAL_VOCABULARY;
use crate::runs::runner::{Runner, begin, interrupted};
use crate::speed::{LENGTHS, Speed};
use crate::train::stop::Stop;
pub use comparison::{Comparison, Entry, Point, speed_plots};
use entries::Entries;
pub use settings::CompareSettings;

mod comparison;
mod entries;
mod settings;
mod verdict;

/// The settings of a comparison, in its folder.
pub const SETTINGS_FILE: &str = "compare.toml";

/// Runs what is not done yet of a comparison in a folder, and writes its `results.json`, `results.csv` and
/// `report.html` after every entry.
///
/// # Errors
/// If the folder holds a comparison with other settings, a file cannot be written, or the comparison is asked to stop.
/// A run that fails is a failure of its entry.
pub fn run(
    folder: &Claim,
    settings: &CompareSettings,
    runner: &mut impl Runner,
    stop: &Stop,
) -> Result<Comparison> {
    let (out, mut settings) = (folder.path(), settings.clone());
    settings.resolve()?;
    let known = out.join(SETTINGS_FILE);
    let text = begin(&known, &settings, CompareSettings::resolve)?;
    stop.arm();
    let mut entries = Entries { out, settings: &settings, runner };
    let mut comparison = Comparison::default();
    let steps = entries.steps()?;
    for (mixer, recipe) in settings.entries() {
        comparison.entries.push(entries.entry(&mixer, recipe, &steps)?);
        comparison.write(out, &text)?;
    }
    comparison.speed = speeds(out, &settings, stop)?;
    comparison.write(out, &text)?;
    Ok(comparison)
}

/// Speed and memory of each mixer at each length, kept in a file as they are found.
fn speeds(out: &Path, settings: &CompareSettings, stop: &Stop) -> Result<Vec<Speed>> {
    let path = out.join("speed.json");
    let mut found: Vec<Speed> = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let lengths = LENGTHS.iter().filter(|n| **n <= settings.longest);
    let places: Vec<(&String, usize)> =
        lengths.flat_map(|n| settings.mixers.iter().map(move |mixer| (mixer, *n))).collect();
    let vocab_size = settings.vocab_size.unwrap_or(USUAL_VOCABULARY);
    let config = ModelConfig::preset(&settings.preset).unwrap_or_default();
    let config = ModelConfig { vocab_size, ..config };
    let mut progress = Progress::new("speed", false);
    for (i, (mixer, seq_len)) in places.iter().enumerate() {
        if found.iter().any(|s| s.name == **mixer && s.seq_len == *seq_len) {
            continue;
        }
        if stop.is_set() {
            return Err(interrupted(out, i));
        }
        progress.update(Some(i as f64 / places.len() as f64), &format!("{mixer}, {seq_len} tokens"));
        found.extend(Speed::measure(&config, mixer, *seq_len, 1.0)?);
        let text = serde_json::to_string_pretty(&found).unwrap_or_default();
        write_whole(&path, text.as_bytes())?;
    }
    Ok(found)
}
