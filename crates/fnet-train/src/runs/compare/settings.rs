//! Settings of a comparison.

use std::path::{Path, PathBuf};

use fnet_encoder::{Head, Level, Model, ModelConfig, Pairs, Pool, Pooling, Precision};
use serde::{Deserialize, Serialize};

use crate::data::tasks::glue::GlueTask;
use crate::error::{Error, Result};
use crate::runs::finetune::FinetuneSettings;
use crate::runs::pretrain::PretrainSettings;
use crate::runs::training::training_products;
use crate::settings::{self, absolute, existing_files, in_range, refused, setting};
use crate::train::recipe::Recipe;

/// Everything that decides a comparison, as it stands in its `compare.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareSettings {
    /// Text to pretrain on.
    pub corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus.
    pub valid: Vec<PathBuf>,
    /// GLUE tasks to fine-tune on, each with its folder: `TASK=DIR`.
    pub task: Vec<String>,
    /// Mixers: names, names joined by `+` (one per layer), or `attention-top-2` and its like.
    pub mixers: Vec<String>,
    /// What is trained; each recipe is combined with each mixer.
    pub recipes: Vec<Recipe>,
    /// Minutes of pretraining each: as many steps as these hold at a speed that is measured first, in turn.
    pub minutes: Option<f64>,
    /// Steps of pretraining each.
    pub steps: Option<u64>,
    /// Floating-point operations of pretraining each.
    pub flops: Option<f64>,
    /// Runs with this many seeds, from 1 up.
    pub seeds: u64,
    /// Size of the models.
    pub preset: String,
    /// Tokens in the vocabulary, which all share; pretraining's default.
    pub vocab_size: Option<usize>,
    /// Longest sequence in tokens; pretraining's default.
    pub seq_len: Option<usize>,
    /// Sequences in a pretraining batch; pretraining's default.
    pub batch_size: Option<usize>,
    /// Highest learning rate of pretraining; pretraining's default.
    pub learning_rate: Option<f64>,
    /// Passes over each task's rows in fine-tuning; fine-tuning's default.
    pub epochs: Option<f64>,
    /// Highest learning rate of fine-tuning; fine-tuning's default.
    pub task_learning_rate: Option<f64>,
    /// Operands of matrix products.
    pub precision: Option<Precision>,
    /// What computes them; by default the fastest of this machine.
    pub products: Option<Level>,
    /// Longest sequence whose speed and memory are measured; 0 for none.
    pub longest: usize,
}

impl Default for CompareSettings {
    fn default() -> Self {
        let all = ["shift", "fourier", "attention", "linear", "random", "mlp", "reservoir", "none"];
        Self {
            corpus: Vec::new(),
            valid: Vec::new(),
            task: Vec::new(),
            mixers: all.map(String::from).to_vec(),
            recipes: vec![Recipe::Full],
            minutes: None,
            steps: None,
            flops: None,
            seeds: 1,
            preset: "mini".into(),
            vocab_size: None,
            seq_len: None,
            batch_size: None,
            learning_rate: None,
            epochs: None,
            task_learning_rate: None,
            precision: None,
            products: None,
            longest: 8_192,
        }
    }
}

impl settings::Settings for CompareSettings {
    const RIVALS: &[&[&[&str]]] = &[&[&["steps"], &["minutes"], &["flops"]]];

    fn defaults(_: &toml::Table) -> Self {
        Self::default()
    }
}

impl CompareSettings {
    /// The defaults for a comparison of a few minutes, on a corpus as small as the shipped sample.
    pub fn quick() -> Self {
        Self {
            preset: "tiny".into(),
            vocab_size: Some(700),
            seq_len: Some(64),
            longest: 512,
            epochs: Some(8.0),
            task_learning_rate: Some(1e-3),
            steps: Some(2_000),
            ..Self::default()
        }
    }

    /// Settles what follows from other settings, and refuses what cannot be, in any of the runs.
    ///
    /// # Errors
    /// Names the setting or the file.
    pub fn resolve(&mut self) -> Result<()> {
        if self.corpus.is_empty() {
            return Err(refused("corpus", "name one or more text files"));
        }
        self.corpus = existing_files(&self.corpus)?;
        self.valid = existing_files(&self.valid)?;
        if self.minutes.is_none() && self.steps.is_none() && self.flops.is_none() {
            let [minutes, steps, flops] = ["minutes", "steps", "flops"].map(setting);
            return Err(Error::usage(format!("give each entry a budget: {minutes}, {steps} or {flops}")));
        }
        in_range("minutes", self.minutes, 1e-3, 1e6)?;
        in_range("steps", self.steps.map(|n| n as f64), 1.0, 1e12)?;
        in_range("flops", self.flops, 1.0, 1e30)?;
        in_range("seeds", self.seeds as f64, 1.0, 1e3)?;
        if self.task.is_empty() && (self.epochs.is_some() || self.task_learning_rate.is_some()) {
            let message = format!("are of fine-tuning; give a {}", setting("task"));
            return Err(refused("epochs, task_learning_rate", message));
        }
        let mut names = Vec::new();
        for task in &mut self.task {
            let (name, data) = split_task(task)?;
            GlueTask::named(name)?;
            if names.contains(&name.to_string()) {
                return Err(refused(&format!("task {name}"), "is given twice"));
            }
            names.push(name.to_string());
            let folder = absolute(data)?;
            std::fs::metadata(&folder).map_err(Error::io(&folder))?;
            *task = format!("{name}={}", folder.display());
        }
        let precision = self.precision.unwrap_or_default();
        self.products = Some(training_products(precision, self.products)?.level());
        self.precision = Some(precision);
        // A mistake in any entry is found before the first one runs.
        for (mixer, recipe) in self.entries() {
            self.pretraining(&mixer, recipe, 1, self.steps, Path::new("shards"))?;
            for task in &self.task {
                self.fine_tuning(Path::new("model"), task, recipe, 1)?;
            }
        }
        Ok(())
    }

    /// Every mixer with every recipe.
    pub(super) fn entries(&self) -> Vec<(String, Recipe)> {
        let of = |mixer: &String| self.recipes.iter().map(|r| (mixer.clone(), *r)).collect::<Vec<_>>();
        self.mixers.iter().flat_map(of).collect()
    }

    pub(super) fn pretraining(
        &self,
        mixer: &str,
        recipe: Recipe,
        seed: u64,
        steps: Option<u64>,
        shards: &Path,
    ) -> Result<PretrainSettings> {
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
        (training.recipe, training.seed, training.steps) = (recipe, seed, steps);
        (training.precision, training.products) = (self.precision.unwrap_or_default(), self.products);
        training.batch_size = self.batch_size.unwrap_or(training.batch_size);
        training.learning_rate = self.learning_rate.unwrap_or(training.learning_rate);
        settings.resolve()?;
        let config = settings.shape()?;
        if let Some(flops) = self.flops {
            let model = Model::new(ModelConfig { vocab_size: 8, ..config }, Head::MaskedLm, 1)?;
            let longest = model.config().max_position_embeddings;
            let step = 3.0 * model.flops_per_token(longest) * settings.batch_tokens(longest) as f64;
            settings.training.epochs = None;
            settings.training.steps = Some((flops / step).round().max(1.0) as u64);
        }
        Ok(settings)
    }

    pub(super) fn fine_tuning(
        &self,
        model: &Path,
        task: &str,
        recipe: Recipe,
        seed: u64,
    ) -> Result<FinetuneSettings> {
        let (name, data) = split_task(task)?;
        let mut settings = FinetuneSettings {
            model: Some(model.into()),
            task: Some(name.into()),
            data: Some(data.into()),
            // Mixers are judged by what the layers say, not by words alone.
            pooling: Some(Pooling::new(vec![Pool::Mean, Pool::Max])?),
            pairs: Some(Pairs::Together),
            bag: Some(false),
            ..FinetuneSettings::default()
        };
        let training = &mut settings.training;
        (training.recipe, training.seed, training.epochs) = (recipe, seed, self.epochs);
        (training.precision, training.products) = (self.precision.unwrap_or_default(), self.products);
        training.learning_rate = self.task_learning_rate.unwrap_or(training.learning_rate);
        settings.resolve()?;
        Ok(settings)
    }
}

/// The name and the folder in `TASK=DIR`.
pub(super) fn split_task(task: &str) -> Result<(&str, &Path)> {
    let parts = task.split_once('=').filter(|(name, data)| !name.is_empty() && !data.is_empty());
    let (name, data) =
        parts.ok_or_else(|| refused(&format!("task {task}"), "give TASK=DIR, such as sst2=glue/SST-2"))?;
    Ok((name, Path::new(data)))
}
