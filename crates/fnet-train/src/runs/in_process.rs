//! Runs of a comparison in the program's own process.

use std::path::Path;

use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::runs::finetune::{self, FinetuneSettings};
use crate::runs::pretrain::{self, PretrainSettings};
use crate::runs::runner::{Outcome, Runner};
use crate::runs::running::Running;
use crate::train::stop::Stop;

/// Does the runs one after another in this process. Their peak memory is then that of the process so far.
#[derive(Debug, Clone, Default)]
pub struct InProcess {
    /// What asks the comparison to stop.
    pub stop: Stop,
    /// No progress on standard error.
    pub quiet: bool,
}

impl InProcess {
    fn running(&self, folder: &RunFolder) -> Running {
        Running {
            resume: folder.has_checkpoint(),
            quiet: self.quiet,
            overwrite: true,
            stop: self.stop.clone(),
            ..Running::default()
        }
    }
}

impl Runner for InProcess {
    fn pretrain(&mut self, settings: &PretrainSettings, place: &Path, _what: &str) -> Result<Outcome> {
        let folder = RunFolder::new(place, true)?;
        outcome(pretrain::run(&folder, settings, &self.running(&folder)))
    }

    fn finetune(&mut self, settings: &FinetuneSettings, place: &Path, _what: &str) -> Result<Outcome> {
        let folder = RunFolder::new(place, true)?;
        outcome(finetune::run(&folder, settings, &self.running(&folder)))
    }
}

/// A stop ends the comparison; any other error is a failure of its run.
fn outcome(results: Result<serde_json::Value>) -> Result<Outcome> {
    match results {
        Err(error @ Error::Interrupted { .. }) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
        Ok(results) => Ok(Ok(results)),
    }
}
