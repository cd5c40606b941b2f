//! What several subcommands share: settings out of files and flags, threads, budgets.

use std::path::{Path, PathBuf};

use clap::Args;
use fnet_encoder::pretrained::{Report, some_of};
use fnet_encoder::{AdamW, Level, Model, Precision, Products};
use fnet_train::folder::{RunFolder, SETTINGS_FILE, check_is_not_model};
use fnet_train::recipe::{Part, Recipe, train_only};
use fnet_train::schedule::{Decay, Schedule};
use fnet_train::stop::Stop;
use fnet_train::trainer::{Budget, LoopSettings};
use fnet_train::{Error, Result, report};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Settings of the training loop, as flags and as `training.toml`.
#[derive(Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoopFlags {
    /// Train for this many optimiser steps
    #[arg(long, conflicts_with_all = ["epochs", "minutes"])]
    pub steps: Option<u64>,
    /// Train for this many passes over the data
    #[arg(long, conflicts_with = "minutes")]
    pub epochs: Option<f64>,
    /// Train for this many minutes; the schedule fits the time
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Sequences in a batch (pretraining: as many tokens as this many full sequences)
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Batches whose gradients are summed for one step
    #[arg(long)]
    pub accumulate: Option<usize>,
    /// Highest learning rate
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Part of the run in which the learning rate rises, from 0 to 1
    #[arg(long)]
    pub warm_up: Option<f64>,
    /// How the learning rate falls after warm-up
    #[arg(long, value_enum)]
    pub decay: Option<Decay>,
    /// AdamW's weight decay, on weights but not on biases and norms
    #[arg(long)]
    pub weight_decay: Option<f32>,
    /// AdamW's decay of the first moment
    #[arg(long)]
    pub beta1: Option<f32>,
    /// AdamW's decay of the second moment
    #[arg(long)]
    pub beta2: Option<f32>,
    /// Largest global gradient norm; 0 turns clipping off
    #[arg(long)]
    pub clip: Option<f64>,
    /// Dropout rate
    #[arg(long)]
    pub dropout: Option<f32>,
    /// Seed of everything random: the same seed gives the same bytes
    #[arg(long)]
    pub seed: Option<u64>,
    /// Evaluations over the run; 0 for one after each pass over the data
    #[arg(long)]
    pub evaluations: Option<u32>,
    /// Minutes between checkpoints
    #[arg(long)]
    pub checkpoint_minutes: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub products: ProductFlags,
    /// Compute each feed-forward layer again in the backward pass instead of keeping it: a third of the
    /// memory for activations, a sixth more work, the same bytes
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Parts of the model that are trained; the others are frozen
    #[arg(long = "train-parts", value_enum, value_delimiter = ',', value_name = "PART")]
    pub parts: Vec<Part>,
    /// A named choice of what is trained
    #[arg(long, value_enum, conflicts_with = "parts")]
    pub recipe: Option<Recipe>,
    /// Parameters that are not trained, by name; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    pub freeze: Vec<String>,
}

/// How matrix products are computed.
#[derive(Args, Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProductFlags {
    /// Operands of matrix products: f32 (the default), or bf16, with sums and weights in float32
    #[arg(long, value_parser = parse_name::<Precision>)]
    pub precision: Option<Precision>,
    /// What computes products: avx512 (f32), amx or avx512-bf16 (bf16), or library; by default the fastest
    /// of this machine. The last bits depend on it
    #[arg(long, value_name = "LEVEL", value_parser = parse_name::<Level>)]
    pub products: Option<Level>,
}

impl ProductFlags {
    /// Fills in what was not given.
    pub fn resolve(&mut self) -> Result<Products> {
        let precision = self.precision.unwrap_or_default();
        let products = match self.products {
            None => Products::new(precision),
            Some(level) => Products::with_level(precision, level).ok_or_else(|| {
                let here: Vec<_> = Products::all(precision).map(|p| p.level().name()).collect();
                let (level, precision, here) = (level.name(), precision.name(), here.join(", "));
                Error::usage(format!("--products {level}: for {precision} this machine has {here}"))
            })?,
        };
        (self.precision, self.products) = (Some(precision), Some(products.level()));
        Ok(products)
    }
}

/// A value by the name that it has in files.
pub fn parse_name<T: DeserializeOwned>(name: &str) -> std::result::Result<T, String> {
    serde_json::from_value(name.into()).map_err(|e| e.to_string())
}

/// Defaults that differ between pretraining and fine-tuning.
pub struct LoopDefaults {
    /// Nothing where they follow from the data.
    pub epochs: Option<f64>,
    pub batch_size: usize,
    pub learning_rate: f64,
    pub warm_up: f64,
    pub evaluations: u32,
    pub dropout: f32,
}

impl LoopFlags {
    /// Fills in what was not given, and refuses what cannot be.
    pub fn resolve(&mut self, defaults: &LoopDefaults) -> Result<()> {
        if self.steps.is_none() && self.minutes.is_none() {
            self.epochs = self.epochs.or(defaults.epochs);
        }
        self.batch_size.get_or_insert(defaults.batch_size);
        self.accumulate.get_or_insert(1);
        self.learning_rate.get_or_insert(defaults.learning_rate);
        self.warm_up.get_or_insert(defaults.warm_up);
        self.decay.get_or_insert(Decay::Linear);
        self.weight_decay.get_or_insert(0.01);
        self.beta1.get_or_insert(0.9);
        self.beta2.get_or_insert(0.999);
        self.clip.get_or_insert(1.0);
        self.dropout.get_or_insert(defaults.dropout);
        self.seed.get_or_insert(1);
        self.evaluations.get_or_insert(defaults.evaluations);
        self.checkpoint_minutes.get_or_insert(5.0);
        self.products.resolve()?;
        in_range("--steps", self.steps.map(|s| s as f64), 1.0, 1e15)?;
        in_range("--epochs", self.epochs, 1e-6, 1e9)?;
        in_range("--minutes", self.minutes, 1e-6, 1e9)?;
        in_range("--batch-size", self.batch_size.map(|n| n as f64), 1.0, 1e6)?;
        in_range("--accumulate", self.accumulate.map(|n| n as f64), 1.0, 1e6)?;
        in_range("--learning-rate", self.learning_rate, 0.0, 1e3)?;
        in_range("--warm-up", self.warm_up, 0.0, 1.0)?;
        in_range("--weight-decay", self.weight_decay.map(f64::from), 0.0, 1e3)?;
        in_range("--beta1", self.beta1.map(f64::from), 0.0, 0.999_999)?;
        in_range("--beta2", self.beta2.map(f64::from), 0.0, 0.999_999)?;
        in_range("--clip", self.clip, 0.0, 1e9)?;
        in_range("--dropout", self.dropout.map(f64::from), 0.0, 0.99)?;
        in_range("--checkpoint-minutes", self.checkpoint_minutes, 0.0, 1e9)
    }

    /// Whether something says how long to train.
    pub fn has_budget(&self) -> bool {
        self.steps.is_some() || self.minutes.is_some() || self.epochs.is_some()
    }

    /// The loop's settings, once resolved.
    pub fn settings(&self) -> LoopSettings {
        let budget = match (self.steps, self.minutes) {
            (Some(steps), _) => Budget::Steps(steps),
            (None, Some(minutes)) => Budget::Minutes(minutes),
            (None, None) => Budget::Epochs(self.epochs.unwrap_or(1.0)),
        };
        let usual = AdamW::default();
        LoopSettings {
            budget,
            schedule: Schedule {
                learning_rate: self.learning_rate.unwrap_or_default(),
                warm_up: self.warm_up.unwrap_or_default(),
                decay: self.decay.unwrap_or(Decay::Linear),
            },
            optimizer: AdamW {
                beta1: self.beta1.unwrap_or(usual.beta1),
                beta2: self.beta2.unwrap_or(usual.beta2),
                weight_decay: self.weight_decay.unwrap_or(usual.weight_decay),
                epsilon: usual.epsilon,
            },
            clip: self.clip.unwrap_or_default(),
            seed: self.seed.unwrap_or(1),
            evaluations: self.evaluations.unwrap_or_default(),
            checkpoint_minutes: self.checkpoint_minutes.unwrap_or(5.0),
        }
    }

    /// Sets how a model is trained: products, memory, and the parameters that `--freeze` names.
    pub fn prepare(&self, model: &mut Model, quiet: bool) -> Result<()> {
        let products = { self.products }.resolve()?;
        model.set_products(products);
        model.set_recompute(self.recompute);
        if !quiet {
            eprintln!("{} products by {}", products.precision().name(), products.level().name());
        }
        self.recipe.unwrap_or_default().apply(model, self.seed.unwrap_or(1))?;
        if !self.parts.is_empty() {
            train_only(model, &self.parts);
        }
        for pattern in &self.freeze {
            if model.parameters_mut().freeze(pattern) == 0 {
                let message = format!("--freeze {pattern}: no parameter has such a name");
                return Err(Error::usage(message));
            }
        }
        if model.parameters().trainable_len() == 0 {
            return Err(Error::usage("--train-parts, --recipe, --freeze: nothing is left to be trained"));
        }
        Ok(())
    }
}

/// Refuses a number outside `low..=high`, and NaN.
pub fn in_range(flag: &str, value: Option<f64>, low: f64, high: f64) -> Result<()> {
    match value {
        Some(v) if !(low..=high).contains(&v) => {
            Err(Error::usage(format!("{flag} {v}: must be from {low} to {high}")))
        }
        _ => Ok(()),
    }
}

/// Settings of which a flag replaces the others that a file gives.
const RIVALS: &[&[&[&str]]] = &[
    &[&["batch_size"], &["batch_tokens"]],
    &[&["steps"], &["epochs"], &["minutes"]],
    &[&["mixer"], &["mixers"]],
    &[&["max_length"], &["pad_to"]],
    &[&["recipe"], &["parts"]],
    &[&["tokenizer"], &["vocab_size", "kind", "cased"]],
    &[&["task", "data"], &["train", "dev", "text", "label", "regression", "no_header"]],
];

/// Whether a flag was given: an empty list and `false` are what flags are without being given.
fn is_given(flags: &toml::Table, key: &str) -> bool {
    flags.get(key).is_some_and(|v| !v.as_array().is_some_and(Vec::is_empty) && v.as_bool() != Some(false))
}

/// Lays flags over the settings in a TOML file: what a flag gives wins, over its rivals too.
pub fn over_config<T: Serialize + DeserializeOwned>(
    flags: T,
    config: Option<&Path>,
    rivals: &[&[&[&str]]],
) -> Result<T> {
    let Some(path) = config else { return Ok(flags) };
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|e| Error::file(path, e.message()))?;
    let given = toml::Table::try_from(&flags).map_err(|e| Error::usage(e.to_string()))?;
    for rivals in rivals {
        let chosen = rivals.iter().position(|keys| keys.iter().any(|key| is_given(&given, key)));
        for (i, keys) in rivals.iter().enumerate() {
            if chosen.is_some_and(|chosen| chosen != i) {
                keys.iter().for_each(|key| drop(table.remove(*key)));
            }
        }
    }
    // What computes products belongs to their precision.
    if is_given(&given, "precision") {
        table.remove("products");
    }
    let known = |key: &String| given_or_known::<T>(key, &text);
    if let Some(key) = table.keys().find(|key| !known(key)) {
        return Err(Error::file(path, format!("unknown setting `{key}`")));
    }
    let keys: Vec<String> = given.keys().filter(|key| is_given(&given, key)).cloned().collect();
    for key in keys {
        if let Some(value) = given.get(&key) {
            table.insert(key, value.clone());
        }
    }
    table.try_into().map_err(|e: toml::de::Error| Error::file(path, e.message()))
}

/// Whether a lone `key` of the file means something to `T`: it is read and written back.
fn given_or_known<T: Serialize + DeserializeOwned>(key: &str, text: &str) -> bool {
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return false };
    let Some(value) = table.get(key) else { return false };
    let lone = toml::Table::from_iter([(key.to_string(), value.clone())]);
    // A value of the wrong type is a known key; the whole table's error will say what is wrong.
    lone.try_into::<T>().map_or(true, |settings| {
        toml::Table::try_from(settings).is_ok_and(|written| written.contains_key(key))
    })
}

/// Uses this many threads, or as many as the machine has.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    if let Some(threads) = threads.filter(|n| !(1..=MOST_THREADS).contains(n)) {
        return Err(Error::usage(format!("--threads {threads}: must be from 1 to {MOST_THREADS}")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .use_current_thread() // nothing is handed over for a part of a step
        .build_global()
        .map_err(|e| Error::usage(format!("--threads: {e}")))
}

/// More threads than any machine has that this program was tried on.
const MOST_THREADS: usize = 1_024;

/// Refuses to write over a file, or into a folder, that is read: by any name that leads to it.
pub fn check_not_an_input(flag: &str, output: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) }; // what is not there is no input
    match inputs.iter().find(|input| input.canonicalize().is_ok_and(|input| input == output)) {
        Some(input) => {
            let message = format!("{flag}: is the input {}, which it would replace", input.display());
            Err(Error::file(&output, message))
        }
        None => Ok(()),
    }
}

/// A path that means the same from any folder.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io(path))
}

/// Absolute paths of files that must be there. Links are kept: their names say what is in them.
pub fn existing_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let existing = |p: &PathBuf| {
        std::fs::metadata(p).map_err(Error::io(p))?;
        absolute(p)
    };
    paths.iter().map(existing).collect()
}

/// Prints a line on standard output. A reader that has gone away is no error.
pub fn say(text: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("standard output"))(e))
        }
        _ => Ok(()),
    }
}

/// Says which tensors of a weight file have no place in the model.
pub fn say_unused(path: &Path, report: &Report) {
    if !report.unused.is_empty() {
        eprintln!("{}: no place in the model for {}", path.display(), some_of(&report.unused));
    }
}

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
    /// The folder and the resolved settings of a run, new or to be gone on with; `model` is what a new one starts from.
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
            let is_unknown = |key: &&String| !given_or_known::<S>(key, &text);
            if let Some(key) =
                toml::from_str::<toml::Table>(&text).ok().as_ref().and_then(|t| t.keys().find(is_unknown))
            {
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
