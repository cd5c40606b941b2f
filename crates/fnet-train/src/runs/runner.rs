//! What does the runs that a comparison is made of.

use std::path::Path;

use fnet_encoder::whole_file::write_whole;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::runs::finetune::FinetuneSettings;
use crate::runs::pretrain::PretrainSettings;
use crate::settings::{Settings, from_table};

/// Does runs, each in a folder: [`InProcess`](super::in_process::InProcess), or processes whose memory is measured one by
/// one.
pub trait Runner {
    /// Pretrains into a folder, from its checkpoint if it has one. The inner error is a failure of this run alone.
    ///
    /// # Errors
    /// What ends the whole comparison, such as a signal.
    fn pretrain(&mut self, settings: &PretrainSettings, place: &Path, what: &str) -> Result<Outcome>;

    /// Fine-tunes into a folder, likewise.
    ///
    /// # Errors
    /// As [`pretrain`](Self::pretrain).
    fn finetune(&mut self, settings: &FinetuneSettings, place: &Path, what: &str) -> Result<Outcome>;
}

/// The results of a run, or why it failed.
pub type Outcome = std::result::Result<Value, String>;

/// A comparison that was asked to stop after so many runs.
pub fn interrupted(out: &Path, runs: usize) -> Error {
    let resume = format!("the same command, or call, into {}", out.display());
    Error::Interrupted { step: runs as u64, resume }
}

/// Writes the settings of a comparison into its folder, or finds that it was begun with the same; returns them as text.
///
/// # Errors
/// If it was begun with other settings, or they cannot be written.
pub(super) fn begin<S: Settings + PartialEq>(
    known: &Path,
    settings: &S,
    resolve: impl Fn(&mut S) -> Result<()>,
) -> Result<String> {
    // Settings of an earlier version say the same in another way.
    let resolved = |text: &str| -> Option<S> {
        let mut settings: S = from_table(toml::from_str(text).ok()?).ok()?;
        resolve(&mut settings).ok()?;
        Some(settings)
    };
    let text = toml::to_string(settings).map_err(|e| Error::file(known, e.to_string()))?;
    match std::fs::read_to_string(known) {
        Ok(earlier) if earlier != text && resolved(&earlier).as_ref() != Some(settings) => {
            let message = "was begun with other settings; give those, or choose another folder";
            return Err(Error::file(known, message));
        }
        Ok(_) => {}
        Err(_) => write_whole(known, text.as_bytes())?,
    }
    Ok(text)
}
