//! Runs of the program that a comparison is made of.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fnet_encoder::whole_file::write_whole;
use fnet_train::runs::comparison::{Entry, Point};
use fnet_train::runs::folder::{RunFolder, SETTINGS_FILE};
use fnet_train::train::recipe::Recipe;
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use super::{Settings, interrupted, split_task};

/// Steps of an entry's pretraining, or why its speed could not be measured; `None` where the settings say.
type Steps = BTreeMap<String, std::result::Result<u64, String>>;
const STEPS_FILE: &str = "steps.json";
/// Steps that are timed in a round.
const TRIAL_STEPS: u64 = 40;
const TRIAL_ROUNDS: usize = 3;

/// Runs of the program in folders below the comparison's.
pub(super) struct Runs<'a> {
    out: &'a Path,
    settings: &'a Settings,
    threads: Option<usize>,
    stop: &'a Stop,
    done: usize,
}

impl<'a> Runs<'a> {
    pub fn new(out: &'a Path, settings: &'a Settings, threads: Option<usize>, stop: &'a Stop) -> Self {
        Self { out, settings, threads, stop, done: 0 }
    }

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
                settings.training.evaluations = Some(1);
                let steps = self.run("pretrain", &settings, &place, &format!("speed of {name}"))?.map(|r| {
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
        for seed in 1..=self.settings.seeds.unwrap_or(1) {
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
        let results = match self.run("pretrain", &settings, &pretrained, &what)? {
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
            match self.run("finetune", &settings, &place.join(task_name), &format!("{what}, {task_name}"))? {
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

    /// Results of a run: found, resumed, or made now. The inner error is the run's last line.
    fn run(
        &mut self,
        command: &str,
        settings: &impl Serialize,
        place: &Path,
        what: &str,
    ) -> Result<std::result::Result<Value, String>> {
        self.done += 1;
        let run = RunFolder::at(place);
        if let Some(results) = run.results() {
            return Ok(Ok(results));
        }
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

    /// Runs the program as a process of its own, so that its memory is measured alone and its failure ends
    /// nothing else, and shows what it says. Whether it succeeded, and its last line.
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
