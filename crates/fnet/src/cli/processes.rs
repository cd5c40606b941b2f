//! Runs of a comparison, each in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fnet_encoder::whole_file::write_whole;
use fnet_train::folder::{RunFolder, SETTINGS_FILE};
use fnet_train::runs::finetune::FinetuneSettings;
use fnet_train::runs::pretrain::PretrainSettings;
use fnet_train::runs::runner::{Outcome, Runner, interrupted};
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result};
use serde::Serialize;

/// Runs the program again for each part of a comparison in the folder `out`: memory is measured for each alone, and a
/// failure ends nothing else.
pub struct Processes<'a> {
    pub out: &'a Path,
    pub threads: Option<usize>,
    pub stop: &'a Stop,
    /// Runs so far.
    pub done: usize,
}

impl Runner for Processes<'_> {
    fn pretrain(&mut self, settings: &PretrainSettings, place: &Path, what: &str) -> Result<Outcome> {
        self.run("pretrain", settings, place, what)
    }

    fn finetune(&mut self, settings: &FinetuneSettings, place: &Path, what: &str) -> Result<Outcome> {
        self.run("finetune", settings, place, what)
    }
}

impl Processes<'_> {
    /// Results of a run, resumed or new.
    fn run(&mut self, command: &str, settings: &impl Serialize, place: &Path, what: &str) -> Result<Outcome> {
        self.done += 1;
        let run = RunFolder::at(place);
        std::fs::create_dir_all(place).map_err(Error::io(place))?;
        let program = std::env::current_exe().map_err(Error::io(Path::new("this program")))?;
        let mut child = Command::new(program);
        child.arg(command);
        if run.has_checkpoint() && run.file(SETTINGS_FILE).exists() {
            child.arg("--resume").arg(place);
        } else {
            let config = place.with_extension("toml");
            let text = toml::to_string(settings).map_err(|e| Error::file(&config, e.to_string()))?;
            write_whole(&config, text.as_bytes())?;
            child.arg("--config").arg(&config).arg("--overwrite").arg("--out").arg(place);
        }
        if let Some(threads) = self.threads {
            child.arg("--threads").arg(threads.to_string());
        }
        let (succeeded, last) = self.watch(child, what)?;
        Ok(match run.results().filter(|_| succeeded) {
            Some(results) => Ok(results),
            None => Err(last.trim_start_matches("error: ").to_string()),
        })
    }

    /// Shows what a process says. Whether it succeeded, and its last line.
    fn watch(&self, mut child: Command, what: &str) -> Result<(bool, String)> {
        // A group of its own: Ctrl-C reaches this process alone, which passes it on once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut child, 0);
        let child = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(Error::io(Path::new("this program")))?;
        let (id, ended, mut last) = (child.id().to_string(), AtomicBool::new(false), String::new());
        let errors = child.stderr.take();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !self.stop.is_set() && !ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                if !ended.load(Ordering::SeqCst) {
                    // The child writes a checkpoint and ends.
                    let _ = Command::new("kill").args(["-INT", &id]).status();
                }
            });
            for line in errors.into_iter().flat_map(|e| BufReader::new(e).lines()).map_while(|l| l.ok()) {
                if !line.trim().is_empty() {
                    eprintln!("[run {}] {what}: {line}", self.done);
                    last = line;
                }
            }
            ended.store(true, Ordering::SeqCst);
        });
        let status = child.wait().map_err(Error::io(Path::new("this program")))?;
        if self.stop.is_set() || status.code() == Some(130) {
            return Err(interrupted(self.out, self.done));
        }
        Ok((status.success(), last))
    }
}
