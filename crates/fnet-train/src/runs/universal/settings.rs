//! Settings of a table of tasks, substrates and recipes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::{Level, Pairs, Pool, Pooling, Precision};
use serde::{Deserialize, Serialize};
use toml::Table;

use super::substrate::Substrate;
use crate::error::{Error, Result};
use crate::runs::finetune::{Examples, FinetuneSettings};
use crate::runs::pretrain::PretrainSettings;
use crate::runs::training::{TrainingSettings, preset_named, training_products};
use crate::settings::{self, absolute, existing_files, from_table, in_range, refused, setting, unknown};
use crate::train::recipe::Recipe;

/// Everything that decides such a table, as it stands in its `universal.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UniversalSettings {
    /// Mixers of the trunks: names, or names joined by `+` (one per layer).
    pub mixers: Vec<String>,
    /// What is trained; each recipe is combined with each trunk.
    pub recipes: Vec<Recipe>,
    /// Learning rates, of which each cell of the table takes the one that is best on a part of its training examples.
    pub learning_rates: Vec<f64>,
    /// That part of the training examples.
    pub held_out: f64,
    /// Runs with this many seeds, from 1 up; each is another random trunk, too.
    pub seeds: u64,
    /// Size of the trunks.
    pub preset: String,
    /// Text to pretrain each mixer's trunk on, so that it stands beside the random one; tasks of text need it.
    pub corpus: Vec<PathBuf>,
    /// Text to validate the pretraining on; by default the end of the corpus.
    pub valid: Vec<PathBuf>,
    /// Steps of pretraining.
    pub pretrain_steps: Option<u64>,
    /// Minutes of pretraining.
    pub pretrain_minutes: Option<f64>,
    /// Tokens in its vocabulary; pretraining's default.
    pub vocab_size: Option<usize>,
    /// Its longest sequence, and that of all tasks on its trunks; pretraining's default.
    pub seq_len: Option<usize>,
    /// Steps on each task whose own settings do not say.
    pub steps: Option<u64>,
    /// Passes over each such task's examples.
    pub epochs: Option<f64>,
    /// Minutes on each such task.
    pub minutes: Option<f64>,
    /// Random features of the baseline without a trunk; 0 for none.
    pub random_features: usize,
    /// Operands of matrix products.
    pub precision: Option<Precision>,
    /// What computes them; by default the fastest of this machine.
    pub products: Option<Level>,
    /// Tasks by name, each as its settings of fine-tuning: where the examples are, and how they are read.
    pub task: BTreeMap<String, Table>,
}

/// What the table decides, so no task may.
const DECIDED: [&str; 22] = [
    "model",
    "from_scratch",
    "adapter",
    "preset",
    "mixer",
    "trunk_seed",
    "random_features",
    "model_space",
    "recipe",
    "parts",
    "learning_rate",
    "penalty",
    "seed",
    "seeds",
    "held_out",
    "products",
    "precision",
    "evaluations",
    "layers",
    "hidden_size",
    "keep_sums",
    "add",
];

impl Default for UniversalSettings {
    fn default() -> Self {
        Self {
            mixers: ["fourier", "shift", "attention", "reservoir"].map(String::from).to_vec(),
            recipes: vec![Recipe::Ridge, Recipe::HeadOnly, Recipe::Norms, Recipe::Fpt, Recipe::Full],
            learning_rates: vec![1e-3, 3e-3, 1e-2],
            held_out: 0.2,
            seeds: 1,
            preset: "tiny".into(),
            corpus: Vec::new(),
            valid: Vec::new(),
            pretrain_steps: None,
            pretrain_minutes: None,
            vocab_size: None,
            seq_len: None,
            steps: None,
            epochs: None,
            minutes: None,
            random_features: 1_000,
            precision: None,
            products: None,
            task: BTreeMap::new(),
        }
    }
}

impl settings::Settings for UniversalSettings {
    const RIVALS: &[&[&[&str]]] =
        &[&[&["steps"], &["epochs"], &["minutes"]], &[&["pretrain_steps"], &["pretrain_minutes"]]];

    fn defaults(_: &Table) -> Self {
        Self::default()
    }
}

/// One run of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunOf {
    pub seed: u64,
    pub learning_rate: Option<f64>,
    /// Judged by a part of the training examples.
    pub is_trial: bool,
}

impl UniversalSettings {
    /// The defaults for a table of a few minutes, on generated tasks.
    pub fn quick() -> Self {
        let task = |name: &str, more: &[(&str, i64)]| {
            let more = more.iter().map(|(key, value)| (key.to_string(), toml::Value::from(*value)));
            let table = Table::from_iter([("task".to_string(), toml::Value::from(name))]);
            (name.to_string(), table.into_iter().chain(more).collect::<Table>())
        };
        Self {
            mixers: ["fourier", "attention"].map(String::from).to_vec(),
            recipes: vec![Recipe::Ridge, Recipe::Fpt, Recipe::Full],
            learning_rates: vec![1e-3, 5e-3],
            steps: Some(150),
            pretrain_steps: Some(800),
            vocab_size: Some(700),
            seq_len: Some(128),
            random_features: 300,
            task: BTreeMap::from([
                task("bit-xor", &[]),
                task("bit-memory", &[("strings", 3), ("bits", 50)]),
                task("listops", &[("min_length", 10), ("max_length", 60), ("depth", 3)]),
                task("mnist-1d", &[]),
            ]),
            ..Self::default()
        }
    }

    /// Settles what follows from other settings, and refuses what cannot be.
    ///
    /// # Errors
    /// Names the setting, the task or the file.
    pub fn resolve(&mut self) -> Result<()> {
        if self.task.is_empty() {
            return Err(refused("task", "name one or more tasks"));
        }
        for (field, is_empty) in [("mixers", self.mixers.is_empty()), ("recipes", self.recipes.is_empty())] {
            if is_empty {
                return Err(refused(field, "name one or more"));
            }
        }
        if self.learning_rates.is_empty() {
            return Err(refused("learning_rates", "name one or more"));
        }
        for rate in &self.learning_rates {
            in_range("learning_rates", *rate, 1e-12, 1e3)?;
        }
        in_range("held_out", self.held_out, 1e-6, 0.999)?;
        in_range("seeds", self.seeds as f64, 1.0, 1e3)?;
        in_range("random_features", self.random_features as f64, 0.0, 30_000.0)?;
        in_range("steps", self.steps.map(|n| n as f64), 1.0, 1e15)?;
        in_range("epochs", self.epochs, 1e-6, 1e9)?;
        in_range("minutes", self.minutes, 1e-6, 1e9)?;
        let layers = preset_named(&self.preset)?.num_hidden_layers;
        for mixer in &self.mixers {
            MixerKind::layers(mixer, layers).map_err(|e| refused(&format!("mixers {mixer}"), e))?;
        }
        self.corpus = existing_files(&self.corpus)?;
        self.valid = existing_files(&self.valid)?;
        let of_pretraining = [
            ("valid", !self.valid.is_empty()),
            ("pretrain_steps", self.pretrain_steps.is_some()),
            ("pretrain_minutes", self.pretrain_minutes.is_some()),
            ("vocab_size", self.vocab_size.is_some()),
            ("seq_len", self.seq_len.is_some()),
        ];
        if let Some((field, _)) = of_pretraining.iter().find(|given| given.1 && self.corpus.is_empty()) {
            return Err(refused(field, format!("is of pretraining; give {}, too", setting("corpus"))));
        }
        let precision = self.precision.unwrap_or_default();
        self.products = Some(training_products(precision, self.products)?.level());
        self.precision = Some(precision);
        for (name, table) in &mut self.task {
            resolve_task(name, table).map_err(|e| Error::usage(format!("task {name}: {e}")))?;
        }
        // A mistake in any run is found before the first one begins.
        for mixer in self.mixers.iter().filter(|_| !self.corpus.is_empty()) {
            self.pretraining(mixer, Path::new("shards"))?;
        }
        for name in self.task.keys() {
            self.check_task(name).map_err(|e| Error::usage(format!("task {name}: {e}")))?;
        }
        Ok(())
    }

    /// Refuses what cannot be, in any of a task's runs.
    fn check_task(&self, name: &str) -> Result<()> {
        let examples = self.own_settings(name)?.examples()?;
        if self.corpus.is_empty() && matches!(examples, Examples::Text | Examples::Words) {
            let message = format!("comes from {}", setting("corpus"));
            return Err(refused("vocabulary of texts", message));
        }
        for substrate in self.substrates() {
            for (recipe, is_trial) in
                self.recipes_on(&substrate).into_iter().flat_map(|r| [(r, false), (r, true)])
            {
                let run = RunOf { seed: 1, learning_rate: self.learning_rates.first().copied(), is_trial };
                if let Some(settings) = self.settings_of(name, &substrate, recipe, run, Path::new(""))? {
                    // A trunk that is not yet pretrained is like the one that ships.
                    FinetuneSettings { model: None, from_scratch: false, ..settings }.resolve()?;
                }
            }
        }
        Ok(())
    }

    /// A task's settings as they are given.
    fn own_settings(&self, task: &str) -> Result<FinetuneSettings> {
        from_table(self.task.get(task).cloned().unwrap_or_default())
    }

    /// Whether a task on a substrate reads what pretraining made, if only its vocabulary.
    pub(super) fn needs_pretrained(&self, task: &str, substrate: &Substrate) -> Result<bool> {
        let is_of_text = matches!(self.own_settings(task)?.examples()?, Examples::Text | Examples::Words);
        Ok(is_of_text || matches!(substrate, Substrate::Pretrained(_)))
    }

    /// What is read from, in the order of the table.
    pub(super) fn substrates(&self) -> Vec<Substrate> {
        let mut all = vec![Substrate::Input];
        if self.random_features > 0 {
            all.push(Substrate::RandomFeatures(self.random_features));
        }
        for mixer in &self.mixers {
            all.push(Substrate::Random(mixer.clone()));
            if !self.corpus.is_empty() {
                all.push(Substrate::Pretrained(mixer.clone()));
            }
        }
        all
    }

    /// Recipes on a substrate.
    pub(super) fn recipes_on(&self, substrate: &Substrate) -> Vec<Recipe> {
        if substrate.has_trunk() { self.recipes.clone() } else { vec![Recipe::Ridge] }
    }

    pub(super) fn pretraining(&self, mixer: &str, shards: &Path) -> Result<PretrainSettings> {
        let mut settings = PretrainSettings {
            corpus: self.corpus.clone(),
            valid: self.valid.clone(),
            preset: Some(self.preset.clone()),
            vocab_size: self.vocab_size,
            seq_len: self.seq_len,
            mixer: Some(mixer.into()),
            shards: Some(shards.into()),
            ..PretrainSettings::of_preset(&self.preset)
        };
        let training = &mut settings.training;
        (training.steps, training.minutes) = (self.pretrain_steps, self.pretrain_minutes);
        (training.precision, training.products) = (self.precision.unwrap_or_default(), self.products);
        settings.resolve()?;
        Ok(settings)
    }

    /// The settings of one run; `None` where the task cannot be read so. `pretrained` is the trunk that was pretrained.
    pub(super) fn settings_of(
        &self,
        task: &str,
        substrate: &Substrate,
        recipe: Recipe,
        run: RunOf,
        pretrained: &Path,
    ) -> Result<Option<FinetuneSettings>> {
        let table = self.task.get(task).cloned().unwrap_or_default();
        let has_budget = ["steps", "epochs", "minutes"].iter().any(|key| table.contains_key(*key));
        let says_pooling = table.contains_key("pooling");
        let mut settings: FinetuneSettings = from_table(table)?;
        let examples = settings.examples()?;
        let is_text = examples == Examples::Text;
        let training = &mut settings.training;
        training.recipe = recipe;
        training.seed = run.seed;
        (training.precision, training.products) = (self.precision.unwrap_or_default(), self.products);
        if recipe == Recipe::Ridge {
            // What says how steps are taken means nothing to it.
            let TrainingSettings { seed, precision, products, .. } = *training;
            *training = TrainingSettings { recipe, seed, precision, products, ..TrainingSettings::default() };
            (settings.signals.flip, settings.signals.crop) = (false, None);
            (settings.hide_rate, settings.swap_rate, settings.batch_tokens) = (None, None, None);
            settings.class_weights = None;
            (settings.pairs, settings.bag, settings.matching) = (None, None, None);
        } else {
            training.learning_rate = run.learning_rate.unwrap_or(training.learning_rate);
            training.evaluations = 1; // what is judged is the last step
            if !has_budget {
                (training.steps, training.epochs, training.minutes) = (self.steps, self.epochs, self.minutes);
            }
        }
        settings.held_out = run.is_trial.then_some(self.held_out);
        if is_text {
            let mixers_alone = vec![Pool::Mean, Pool::Max];
            if !says_pooling {
                settings.pooling = Some(Pooling::new(mixers_alone)?);
            }
            settings.pairs = settings.pairs.or(Some(Pairs::Together));
            settings.bag = settings.bag.or(Some(false));
        }
        let signals = &mut settings.signals;
        match substrate {
            Substrate::Input | Substrate::RandomFeatures(_) if examples != Examples::Signals => {
                return Ok(None);
            }
            Substrate::Input => {
                signals.preset = Some("tiny".into());
                signals.patch = substrate.patch_of(settings.task.as_deref()).or(signals.patch);
                settings.pooling = Some(Pooling::new(vec![Pool::Input])?);
            }
            Substrate::RandomFeatures(count) => {
                signals.preset = Some("tiny".into());
                (signals.patch, signals.random_features) = (None, Some(*count));
                signals.trunk_seed = Some(run.seed);
                settings.pooling = None;
            }
            Substrate::Random(_) if examples == Examples::Words => return Ok(None),
            Substrate::Random(_) if is_text => {
                (settings.model, settings.from_scratch) = (Some(pretrained.into()), true);
            }
            Substrate::Random(mixer) => {
                signals.preset = Some(self.preset.clone());
                (signals.mixer, signals.trunk_seed) = (Some(mixer.clone()), Some(run.seed));
            }
            Substrate::Pretrained(_) => settings.model = Some(pretrained.into()),
        }
        Ok(Some(settings))
    }
}

/// Refuses settings that the table decides, or that are unknown, and settles paths.
fn resolve_task(name: &str, table: &mut Table) -> Result<()> {
    let is_folder = |name: &str| Path::new(name).components().count() == 1 && !name.contains(['/', '\\']);
    if name.is_empty() || name.starts_with('.') || !is_folder(name) {
        return Err(Error::usage("its name cannot be a folder's"));
    }
    if let Some(key) = unknown::<FinetuneSettings>(table) {
        return Err(Error::usage(format!("unknown setting `{key}`")));
    }
    if let Some(key) = DECIDED.iter().find(|key| table.contains_key(**key)) {
        return Err(refused(key, "is decided by the table, for all tasks"));
    }
    let settings: FinetuneSettings = from_table(table.clone())?;
    if settings.task.is_none() && settings.train.is_none() {
        return Err(refused("task, train", "say where the examples are"));
    }
    for (key, path) in [("data", settings.data), ("train", settings.train), ("dev", settings.dev)] {
        if let Some(path) = path {
            let path = absolute(&path)?;
            std::fs::metadata(&path).map_err(Error::io(&path))?;
            table.insert(key.into(), path.display().to_string().into());
        }
    }
    Ok(())
}
