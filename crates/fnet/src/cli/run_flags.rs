//! Where a run is written, and how it is started or resumed.

use std::path::{Path, PathBuf};

use clap::Args;
use fnet_train::folder::{RunFolder, SETTINGS_FILE};
use fnet_train::runs::running::Running;
use fnet_train::settings::{Settings, from_table, given, over_file, unknown};
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, runs::report};
use serde::Serialize;

use super::common::{say, set_threads};
use super::world;

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
    /// Continue the run in this folder, with its own settings
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

impl RunFlags {
    /// The folder and the settings of a run, new or resumed. What is wrong with them is found before the folder is made.
    pub fn start<S: Settings>(
        &self,
        command: &str,
        flags: &impl Serialize,
        resolve: impl FnOnce(&mut S) -> Result<()>,
    ) -> Result<(RunFolder, S, Running)> {
        if let Some(path) = &self.resume {
            set_threads(world::threads(self.threads))?;
            let (folder, mut settings) = self.resumed(command, path, flags)?;
            resolve(&mut settings)?;
            return Ok((folder, settings, self.running(command, path)));
        }
        let mut settings = self.settings(flags)?;
        resolve(&mut settings)?;
        self.start_with(command, settings)
    }

    /// The folder of a new run with these settings.
    pub fn start_with<S>(&self, command: &str, settings: S) -> Result<(RunFolder, S, Running)> {
        set_threads(world::threads(self.threads))?;
        let out = self.out.as_deref().unwrap_or(Path::new("."));
        let running = self.running(command, out);
        // Who follows opens what the leader has begun.
        let folder = if running.leads() { RunFolder::new(out, self.overwrite)? } else { RunFolder::at(out) };
        Ok((folder, settings, running))
    }

    /// Sets the number of threads where no run is started.
    pub fn set_threads(&self) -> Result<()> {
        set_threads(world::threads(self.threads))
    }

    /// Whether a run goes on whose folder is so.
    pub fn resumes(&self, is_so: impl FnOnce(&RunFolder) -> bool) -> bool {
        self.resume.as_deref().is_some_and(|path| is_so(&RunFolder::at(path)))
    }

    /// Whether the settings of the run that goes on, or of the file that is given, name this one.
    pub fn settings_have(&self, key: &str) -> bool {
        let folder = self.resume.as_deref().map(|folder| folder.join(SETTINGS_FILE));
        let text = self.config.clone().or(folder).and_then(|file| std::fs::read_to_string(file).ok());
        text.and_then(|text| text.parse::<toml::Table>().ok()).is_some_and(|table| table.contains_key(key))
    }

    fn resumed<S: Settings>(
        &self,
        command: &str,
        path: &Path,
        flags: &impl Serialize,
    ) -> Result<(RunFolder, S)> {
        if !given(flags)?.is_empty() || self.config.is_some() || self.overwrite {
            return Err(Error::usage(
                "--resume: a run goes on with its own settings; no other setting can be given",
            ));
        }
        let folder = if world::is_led() { RunFolder::at(path) } else { RunFolder::existing(path)? };
        if let Some(key) = unknown::<S>(&folder.settings_table()?) {
            let message =
                format!("is no run of `fnet {command}`: unknown setting `{key}` in its {SETTINGS_FILE}");
            return Err(Error::file(path, message));
        }
        let settings = folder.settings()?;
        Ok((folder, settings))
    }

    fn running(&self, command: &str, folder: &Path) -> Running {
        Running {
            resume: self.resume.is_some(),
            quiet: self.quiet || world::is_led(),
            overwrite: self.overwrite || self.resume.is_some(),
            stop: Stop::on_signal(),
            resume_command: Some(format!("fnet {command} --resume {}", folder.display())),
            team: world::team(),
        }
    }

    /// The settings of a run that would be new, without touching its folder.
    pub fn settings<S: Settings>(&self, flags: &impl Serialize) -> Result<S> {
        self.settings_over(self.config.as_deref(), flags)
    }

    /// As [`settings`](Self::settings), over those of a file.
    pub fn settings_over<S: Settings>(&self, file: Option<&Path>, flags: &impl Serialize) -> Result<S> {
        let mut given = given(flags)?;
        if let (Some(leaves), true) = (world::usual_leaves(), file.is_none()) {
            given.entry("leaves").or_insert(leaves.into());
        }
        from_table(match file {
            Some(path) => over_file::<S>(path, given)?,
            None => given,
        })
    }

    /// Prints a finished run's results: a table, or one JSON object.
    pub fn finish(&self, folder: &RunFolder, results: &serde_json::Value) -> Result<()> {
        if world::is_led() {
            return Ok(());
        }
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
