//! Where a run is written, and how it is started or resumed.

use std::path::{Path, PathBuf};

use clap::Args;
use fnet_train::runs::folder::{RunFolder, SETTINGS_FILE, check_is_not_model};
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, runs::report};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::common::{say, set_threads};
use super::config_file::{RIVALS, over_config, unknown_setting};

/// Where a run is written and how it is started, the same for every kind of training.
#[derive(Args)]
pub struct RunFlags {
    /// Settings file; flags win over it. A run's training.toml is one
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder of the new run
    #[arg(long, required_unless_present = "resume", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Replace the run that --out holds
    #[arg(long)]
    overwrite: bool,
    /// Go on with the run in this folder, with its own settings
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Threads; all cores by default. The result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// No progress
    #[arg(long)]
    pub quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How a run goes.
pub struct Running {
    /// Go on from the folder's checkpoint.
    pub resume: bool,
    /// No progress.
    pub quiet: bool,
    /// Replace what the folders of single seeds hold.
    pub overwrite: bool,
    /// Ctrl-C.
    pub stop: Stop,
    /// How to go on after it.
    pub resume_command: String,
}

impl RunFlags {
    /// The folder and the resolved settings of a run, new or resumed; `model` is what a new one starts from.
    pub fn start<S: Serialize + DeserializeOwned + Default + PartialEq>(
        &self,
        command: &str,
        flags: S,
        resolve: impl FnOnce(&mut S) -> Result<()>,
        model: impl Fn(&S) -> Option<&Path>,
    ) -> Result<(RunFolder, S, Running)> {
        set_threads(self.threads)?;
        let running = |folder: &RunFolder| Running {
            resume: self.resume.is_some(),
            quiet: self.quiet,
            overwrite: self.overwrite || self.resume.is_some(),
            stop: Stop::on_signal(),
            resume_command: format!("fnet {command} --resume {}", folder.path().display()),
        };
        if let Some(path) = &self.resume {
            if flags != S::default() || self.config.is_some() || self.overwrite {
                return Err(Error::usage(
                    "--resume: a run goes on with its own settings; no other setting can be given",
                ));
            }
            let folder = RunFolder::existing(path)?;
            let text = folder.settings_text()?;
            let table = toml::from_str::<toml::Table>(&text).unwrap_or_default(); // what is broken is said below
            if let Some(key) = unknown_setting::<S>(&table, &text) {
                let message =
                    format!("is no run of `fnet {command}`: unknown setting `{key}` in its {SETTINGS_FILE}");
                return Err(Error::file(path, message));
            }
            let mut settings: S = folder.settings()?;
            resolve(&mut settings)?;
            let running = running(&folder);
            return Ok((folder, settings, running));
        }
        let settings = self.settings(flags, resolve)?;
        let out = self.out.as_deref().unwrap_or(Path::new("."));
        if let Some(model) = model(&settings) {
            check_is_not_model(out, model)?;
        }
        let folder = RunFolder::new(out, self.overwrite)?;
        let running = running(&folder);
        Ok((folder, settings, running))
    }

    /// The settings of a run that would be new, resolved, without touching its folder.
    pub fn settings<S: Serialize + DeserializeOwned>(
        &self,
        flags: S,
        resolve: impl FnOnce(&mut S) -> Result<()>,
    ) -> Result<S> {
        let mut settings = over_config(flags, self.config.as_deref(), RIVALS)?;
        resolve(&mut settings)?;
        Ok(settings)
    }

    /// Prints a finished run's results: a table, or one JSON object.
    pub fn finish(&self, folder: &RunFolder, results: &serde_json::Value) -> Result<()> {
        if self.json {
            say(results)?;
        } else {
            say(report::table(&report::rows(results)).trim_end())?;
        }
        if !self.quiet {
            eprintln!("report: {}", folder.file(report::REPORT_FILE).display());
        }
        Ok(())
    }
}
