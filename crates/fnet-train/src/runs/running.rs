//! How a run goes, whatever it trains.

use std::path::Path;
use std::sync::Arc;

use fnet_encoder::Model;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::random;
use crate::settings::{refused, setting};
use crate::team::Team;
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
    /// The processes that train with this one, if any.
    pub team: Option<Arc<dyn Team>>,
}

impl Running {
    /// Whether this process writes and speaks, alone or for others.
    pub fn leads(&self) -> bool {
        self.team.as_ref().is_none_or(|team| team.rank() == 0)
    }

    /// Waits until all have come here. Who follows comes first: then the run stands in its folder, and can be opened as one
    /// that goes on.
    pub(crate) fn meet(&self) {
        if let Some(team) = &self.team {
            team.share(&[]);
        }
    }

    /// Refuses a run of fewer leaves than processes.
    pub(crate) fn check_leaves(&self, leaves: usize) -> Result<()> {
        let Some(team) = self.team.as_ref().filter(|team| leaves < team.size()) else { return Ok(()) };
        let least = team.size().next_power_of_two();
        let message = format!(
            "are fewer than the {} processes; a run keeps its leaves, a new one may have {} {least}",
            team.size(),
            setting("leaves")
        );
        Err(refused(&format!("leaves {leaves}"), message))
    }

    /// For who follows: waits for the leader, and says whether its run is to be gone on with.
    pub(crate) fn goes_on(&self, folder: &RunFolder, leaves: usize) -> Result<bool> {
        self.check_leaves(leaves)?;
        if self.leads() {
            return Ok(self.resume && folder.has_checkpoint());
        }
        self.meet();
        if folder.has_checkpoint() {
            return Ok(true);
        }
        Err(Error::file(
            folder.path(),
            "is not seen by all processes: it must be on a file system that they share",
        ))
    }

    /// Lets those who follow begin, now that the run stands in its folder, and refuses to where processes differ.
    pub(crate) fn start(&self, settings: &impl Serialize, model: &Model, data: u64) -> Result<()> {
        if self.leads() {
            self.meet();
        }
        self.agree(settings, model, data)
    }

    /// Refuses to begin where processes differ in program, settings, kernels or data.
    pub(crate) fn agree(&self, settings: &impl Serialize, model: &Model, data: u64) -> Result<()> {
        let Some(team) = &self.team else { return Ok(()) };
        let (settings, kernels) = (toml::to_string(settings).unwrap_or_default(), model.products().level());
        let simd = std::env::var("FNET_SIMD").unwrap_or_default();
        let facts = [
            ("program", random::fingerprint(env!("CARGO_PKG_VERSION").as_bytes())),
            ("settings", random::fingerprint(settings.as_bytes())),
            ("kernels", random::fingerprint(format!("{} {simd}", kernels.name()).as_bytes())),
            ("data", data),
        ];
        let own: Vec<u8> = facts.iter().flat_map(|(_, fact)| fact.to_le_bytes()).collect();
        for (rank, other) in team.share(&own).iter().enumerate() {
            let differs = |(i, _): &(usize, &(&str, u64))| other[8 * i..][..8] != own[8 * i..][..8];
            if let Some((_, (name, _))) = facts.iter().enumerate().find(differs) {
                let message = format!("process {rank} has other {name} than process {}", team.rank());
                return Err(Error::usage(message));
            }
        }
        Ok(())
    }

    /// How to continue the run in `folder` after a stop.
    pub(crate) fn how_to_resume(&self, folder: &Path) -> String {
        let folder = || format!("the run in {}", folder.display());
        self.resume_command.clone().unwrap_or_else(folder)
    }
}
