//! How a run goes, whatever it trains.

use std::path::Path;

use crate::train::stop::Stop;

/// How a run goes, whatever its settings.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// Continue from the folder's checkpoint.
    pub resume: bool,
    /// No progress on standard error.
    pub quiet: bool,
    /// Replace what the folders of single seeds hold.
    pub overwrite: bool,
    /// What asks the run to stop after a checkpoint, such as Ctrl-C.
    pub stop: Stop,
    /// How to continue afterwards, for the message; by default the folder's name.
    pub resume_command: Option<String>,
}

impl Running {
    /// How to continue the run in `folder` after a stop.
    pub(crate) fn how_to_resume(&self, folder: &Path) -> String {
        let folder = || format!("the run in {}", folder.display());
        self.resume_command.clone().unwrap_or_else(folder)
    }
}
