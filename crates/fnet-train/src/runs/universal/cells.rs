//! The runs of each cell of the table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::settings::RunOf;
use super::table::{Cell, scored};
use super::{Substrate, UniversalSettings};
use crate::data::tasks::dataset::score_of;
use crate::error::{Error, Result};
use crate::folder::{METRICS_FILE, RESULTS_FILE, RunFolder, SETTINGS_FILE};
use crate::runs::finetune::FinetuneSettings;
use crate::runs::runner::{Outcome, Runner};
use crate::train::recipe::Recipe;

/// Runs in folders below the table's.
pub(super) struct Cells<'a, R> {
    pub out: &'a Path,
    pub settings: &'a UniversalSettings,
    pub runner: &'a mut R,
}

/// The folder of each mixer's pretrained trunk, or why there is none.
pub(super) type Pretrained = BTreeMap<String, std::result::Result<PathBuf, String>>;

impl<R: Runner> Cells<'_, R> {
    /// Pretrains a trunk of each mixer, if there is a corpus.
    pub fn pretrain(&mut self) -> Result<Pretrained> {
        let mut found = Pretrained::new();
        for mixer in self.settings.mixers.iter().filter(|_| !self.settings.corpus.is_empty()) {
            let place = self.out.join("pretrained").join(mixer);
            let settings = self.settings.pretraining(mixer, &self.out.join("shards"))?;
            let done = match RunFolder::at(&place).results() {
                Some(results) => Ok(results),
                None => self.runner.pretrain(&settings, &place, &format!("pretraining {mixer}"))?,
            };
            found.insert(mixer.clone(), done.map(|_| place));
        }
        Ok(found)
    }

    /// A cell: its learning rate is chosen, then it is run with each seed. `None` where the task cannot be read so.
    pub fn cell(
        &mut self,
        task: &str,
        substrate: &Substrate,
        recipe: Recipe,
        pretrained: &Pretrained,
    ) -> Result<Option<Cell>> {
        let mut cell = Cell::new(task, substrate.clone(), recipe);
        let trunk = match substrate.mixer().and_then(|mixer| pretrained.get(mixer)) {
            Some(Ok(trunk)) => trunk.clone(),
            Some(Err(failure)) if self.settings.needs_pretrained(task, substrate)? => {
                cell.failures.push(format!("pretraining: {failure}"));
                return Ok(Some(cell));
            }
            _ => PathBuf::new(),
        };
        let home = self.out.join("runs").join(task).join(format!("{}-{}", substrate.folder(), recipe.name()));
        let settings_of = |run| self.settings.settings_of(task, substrate, recipe, run, &trunk);
        let first = RunOf { seed: 1, learning_rate: None, is_trial: false };
        if settings_of(first)?.is_none() {
            return Ok(None);
        }
        let (mut runs, mut failures) = (Vec::new(), Vec::new());
        let rates = if recipe == Recipe::Ridge { &[][..] } else { &self.settings.learning_rates };
        if rates.len() > 1 {
            for rate in rates {
                runs.push((
                    RunOf { learning_rate: Some(*rate), is_trial: true, ..first },
                    format!("rate-{rate}"),
                ));
            }
        }
        let what = format!("{task}, {substrate}, {}", recipe.name());
        for (run, name) in runs {
            let Some(settings) = settings_of(run)? else { continue };
            match self.finetune(&settings, &home.join(&name), &format!("{what}, {name}"))? {
                Ok(results) => cell.tried.extend(run.learning_rate.map(|rate| (rate, score(&results)))),
                // A rate at which training diverges is an answer, unless all do.
                Err(failure) => {
                    cell.tried.extend(run.learning_rate.map(|rate| (rate, None)));
                    failures.push(format!("{name}: {failure}"));
                }
            }
        }
        let best = cell.tried.iter().filter_map(|(rate, score)| Some((*rate, (*score)?)));
        let best = best.max_by(|a, b| a.1.total_cmp(&b.1)).map(|tried| tried.0);
        cell.learning_rate = best.or(if rates.len() == 1 { rates.first().copied() } else { None });
        if !rates.is_empty() && cell.learning_rate.is_none() {
            cell.failures = failures;
            return Ok(Some(cell));
        }
        for seed in 1..=self.settings.seeds {
            let run = RunOf { seed, learning_rate: cell.learning_rate, is_trial: false };
            let Some(settings) = self.settings.settings_of(task, substrate, recipe, run, &trunk)? else {
                continue;
            };
            let name = format!("seed-{seed}");
            match self.finetune(&settings, &home.join(&name), &format!("{what}, {name}"))? {
                Ok(results) => match score(&results) {
                    Some(score) => cell.add(&results, score),
                    None => cell.failures.push(format!("{name}: there is nothing to judge by")),
                },
                Err(failure) => cell.failures.push(format!("{name}: {failure}")),
            }
        }
        Ok(Some(cell))
    }

    /// Results of a fine-tuning: found, or made now. Of its model nothing is kept.
    fn finetune(&mut self, settings: &FinetuneSettings, place: &Path, what: &str) -> Result<Outcome> {
        let outcome = match RunFolder::at(place).results() {
            Some(results) => Ok(results),
            None => self.runner.finetune(settings, place, what)?,
        };
        if outcome.is_ok() {
            keep_results(place)?;
        }
        Ok(outcome)
    }
}

/// Removes what a finished run has in its folder beside results, settings and metrics.
fn keep_results(place: &Path) -> Result<()> {
    let kept = [RESULTS_FILE, SETTINGS_FILE, METRICS_FILE];
    for entry in std::fs::read_dir(place).map_err(Error::io(place))? {
        let path = entry.map_err(Error::io(place))?.path();
        if path.file_name().is_some_and(|name| kept.iter().any(|kept| name == *kept)) {
            continue;
        }
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(Error::io(&path))?;
    }
    Ok(())
}

/// One number out of a run's metrics, if there are any.
fn score(results: &Value) -> Option<f64> {
    let scored = scored(&results["values"]);
    Some(score_of(&scored)).filter(|score| score.is_finite() && !scored.is_empty())
}
