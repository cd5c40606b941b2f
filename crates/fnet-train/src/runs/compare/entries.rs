//! The runs of each entry of a comparison.

use std::collections::BTreeMap;
use std::path::Path;

use fnet_encoder::whole_file::write_whole;
use serde_json::Value;

use super::CompareSettings;
use super::comparison::{Entry, Point};
use super::settings::split_task;
use crate::error::{Error, Result};
use crate::folder::RunFolder;
use crate::runs::finetune::FinetuneSettings;
use crate::runs::pretrain::PretrainSettings;
use crate::runs::runner::{Outcome, Runner};
use crate::train::recipe::Recipe;

/// Steps of an entry's pretraining, or why its speed could not be measured; `None` where the settings say.
type Steps = BTreeMap<String, std::result::Result<u64, String>>;
const STEPS_FILE: &str = "steps.json";
/// Steps that are timed in a round.
const TRIAL_STEPS: u64 = 40;
const TRIAL_ROUNDS: usize = 3;

/// Runs in folders below the comparison's.
pub(super) struct Entries<'a, R> {
    pub out: &'a Path,
    pub settings: &'a CompareSettings,
    pub runner: &'a mut R,
}

impl<R: Runner> Entries<'_, R> {
    /// The steps that a budget of minutes holds for each entry, at the fastest of a few short runs. These are
    /// taken in turn, so that none has the quieter machine; from then on a comparison has the same bytes
    /// whatever else the machine does.
    pub fn steps(&mut self) -> Result<Steps> {
        let Some(minutes) = self.settings.minutes else { return Ok(Steps::new()) };
        let path = self.out.join(STEPS_FILE);
        let known = std::fs::read_to_string(&path).ok().and_then(|t| serde_json::from_str(&t).ok());
        let known: BTreeMap<String, u64> = known.unwrap_or_default();
        let mut found: Steps = known.into_iter().map(|(name, steps)| (name, Ok(steps))).collect();
        let mut unknown = self.settings.entries();
        unknown.retain(|(mixer, recipe)| !found.contains_key(&entry_name(mixer, *recipe)));
        if unknown.is_empty() {
            return Ok(found);
        }
        let trials = self.out.join("trials");
        for round in 1..=TRIAL_ROUNDS {
            for (mixer, recipe) in &unknown {
                let name = entry_name(mixer, *recipe);
                let place = trials.join(name.replace(' ', "-")).join(round.to_string());
                let shards = self.out.join("shards");
                let mut settings =
                    self.settings.pretraining(mixer, *recipe, 1, Some(TRIAL_STEPS), &shards)?;
                settings.training.evaluations = 1;
                let steps = self.pretrain(&settings, &place, &format!("speed of {name}"))?.map(|r| {
                    let rate = r["steps"].as_f64().unwrap_or(0.0) / r["seconds"].as_f64().unwrap_or(1.0);
                    (60.0 * minutes * rate).round().max(1.0) as u64
                });
                let best = match found.remove(&name) {
                    Some(Ok(best)) => steps.map(|steps| steps.max(best)),
                    _ => steps,
                };
                found.insert(name, best);
            }
        }
        let measured: BTreeMap<_, _> =
            found.iter().filter_map(|(name, s)| Some((name, s.as_ref().ok()?))).collect();
        write_whole(&path, serde_json::to_string_pretty(&measured).unwrap_or_default().as_bytes())?;
        std::fs::remove_dir_all(&trials).map_err(Error::io(&trials))?;
        Ok(found)
    }

    /// Everything of one entry that is not done yet.
    pub fn entry(&mut self, mixer: &str, recipe: Recipe, steps: &Steps) -> Result<Entry> {
        let name = entry_name(mixer, recipe);
        let mut entry = Entry { name: name.clone(), ..Entry::default() };
        let steps = match steps.get(&name).cloned().transpose() {
            Ok(steps) => steps.or(self.settings.steps),
            Err(failure) => {
                entry.failures.push(format!("measuring its speed: {failure}"));
                return Ok(entry);
            }
        };
        let place = self.out.join("runs").join(name.replace(' ', "-"));
        for seed in 1..=self.settings.seeds {
            self.seed(&mut entry, (mixer, recipe, steps), seed, &place.join(format!("seed-{seed}")))?;
        }
        Ok(entry)
    }

    /// One pretraining and its tasks.
    fn seed(
        &mut self,
        entry: &mut Entry,
        (mixer, recipe, steps): (&str, Recipe, Option<u64>),
        seed: u64,
        place: &Path,
    ) -> Result<()> {
        let pretrained = place.join("pretrained");
        let settings = self.settings.pretraining(mixer, recipe, seed, steps, &self.out.join("shards"))?;
        let what = format!("{}, seed {seed}", entry.name);
        let results = match self.pretrain(&settings, &pretrained, &what)? {
            Ok(results) => results,
            Err(failure) => {
                entry.failures.push(format!("pretraining, seed {seed}: {failure}"));
                return Ok(());
            }
        };
        if entry.curve.is_empty() {
            entry.curve = curve(&pretrained, &results)?;
        }
        entry.pretraining.push(results);
        for task in &self.settings.task {
            let (task_name, _) = split_task(task)?;
            let settings = self.settings.fine_tuning(&pretrained, task, recipe, seed)?;
            match self.finetune(&settings, &place.join(task_name), &format!("{what}, {task_name}"))? {
                Ok(results) => {
                    let values = results["values"].as_object().into_iter().flat_map(|v| v.values());
                    let values: Vec<f64> = values.filter_map(Value::as_f64).collect();
                    let score = values.iter().sum::<f64>() / values.len().max(1) as f64;
                    entry.tasks.entry(task_name.into()).or_default().push(score);
                }
                Err(failure) => entry.failures.push(format!("{task_name}, seed {seed}: {failure}")),
            }
        }
        Ok(())
    }

    /// Results of a pretraining: found, or made now.
    fn pretrain(&mut self, settings: &PretrainSettings, place: &Path, what: &str) -> Result<Outcome> {
        match RunFolder::at(place).results() {
            Some(results) => Ok(Ok(results)),
            None => self.runner.pretrain(settings, place, what),
        }
    }

    /// Results of a fine-tuning: found, or made now.
    fn finetune(&mut self, settings: &FinetuneSettings, place: &Path, what: &str) -> Result<Outcome> {
        match RunFolder::at(place).results() {
            Some(results) => Ok(Ok(results)),
            None => self.runner.finetune(settings, place, what),
        }
    }
}

fn entry_name(mixer: &str, recipe: Recipe) -> String {
    if recipe == Recipe::Full { mixer.to_string() } else { format!("{mixer} {}", recipe.name()) }
}

/// Validation loss over a pretraining.
fn curve(folder: &Path, results: &Value) -> Result<Vec<Point>> {
    let flops_per_token = 3.0 * results["flops_per_token"].as_f64().unwrap_or(f64::NAN);
    let mut tokens = 0.0;
    let mut points = Vec::new();
    for row in RunFolder::at(folder).read_metrics()? {
        tokens += row["tokens"].as_f64().unwrap_or(0.0);
        let number = |key: &str| row[key].as_f64();
        if let (Some(loss), Some(step), Some(seconds)) =
            (number("validation_loss"), number("step"), number("seconds"))
        {
            points.push(Point { step, seconds, flops: tokens * flops_per_token, loss });
        }
    }
    Ok(points)
}
