//! Settings of training vectors of texts.

use std::path::PathBuf;

use fnet_encoder::similarity::{ScoredLoss, USUAL_SCALE};
use fnet_encoder::{ModelConfig, Pooling};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Table;

use crate::base_model::BaseModel;
use crate::data::alike::Named;
use crate::data::tasks::encoding::Long;
use crate::data::tasks::glue::GlueTask;
use crate::data::text::STANDARD_STREAM;
use crate::error::{Error, Result};
use crate::runs::training::TrainingSettings;
use crate::settings::{self, absolute, in_range, refused, setting};
use crate::train::recipe::Recipe;

/// What is learnt, in place of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Vectors of texts, whose cosines say how alike the texts are
    #[default]
    Similarity,
}

/// The loss of scored pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Cosines should equal the scores, which are brought between 0 and 1 where they are not between -1 and 1
    #[default]
    Cosine,
    /// The order of the scores alone counts (CoSENT)
    Cosent,
}

impl Loss {
    pub(super) fn of_scored(self) -> ScoredLoss {
        match self {
            Self::Cosent => ScoredLoss::Cosent,
            Self::Cosine => ScoredLoss::Cosine,
        }
    }
}

/// Everything that decides a training of texts' vectors, as it stands in its `training.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilaritySettings {
    /// Tells these settings from others.
    pub objective: Objective,
    /// Folder of the pretrained model; by default the shipped one.
    pub model: Option<PathBuf>,
    /// Take only the model's shape and vocabulary, and start from random weights.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_scratch: bool,
    /// A GLUE task of scored pairs, whose files are in `data`.
    pub task: Option<String>,
    /// Folder with the task's files.
    pub data: Option<PathBuf>,
    /// Files of scored pairs, pairs, triplets or texts alone.
    #[serde(default, deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub train: Vec<PathBuf>,
    /// Held-out files, by which the best epoch is chosen.
    #[serde(default, deserialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    pub dev: Vec<PathBuf>,
    /// Instead of held-out files: this part of the rows of each training file but texts alone.
    pub held_out: Option<f64>,
    /// One to three text columns; by default the files' headers say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<String>,
    /// The column of the score.
    pub label: Option<String>,
    /// The rows have no header: columns are numbers, from 1.
    pub no_header: bool,
    /// What is read of a text; by default what the model reads, or else weighted word embeddings.
    pub pooling: Option<Pooling>,
    /// The loss of scored pairs.
    pub loss: Loss,
    /// Factor of cosines in exponentials.
    pub scale: f32,
    /// Vectors may be shortened to these sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<usize>,
    /// Fraction of a text's tokens that `[MASK]` hides.
    pub hide_rate: f64,
    /// How texts longer than the model are read.
    pub long: Option<Long>,
    /// Longest sequence in tokens.
    pub max_length: Option<usize>,
    /// Tokens that go through the model at once: batches with more take two passes.
    pub pass_tokens: usize,
    /// How long and how it is trained.
    #[serde(flatten)]
    pub training: TrainingSettings,
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Paths {
        One(PathBuf),
        Several(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(from)? {
        Paths::One(path) => vec![path],
        Paths::Several(paths) => paths,
    })
}

impl Default for SimilaritySettings {
    fn default() -> Self {
        Self {
            objective: Objective::Similarity,
            model: None,
            from_scratch: false,
            task: None,
            data: None,
            train: Vec::new(),
            dev: Vec::new(),
            held_out: None,
            text: Vec::new(),
            label: None,
            no_header: false,
            pooling: None,
            loss: Loss::default(),
            scale: USUAL_SCALE,
            dimensions: Vec::new(),
            hide_rate: 0.0,
            long: None,
            max_length: None,
            pass_tokens: 16_384,
            training: TrainingSettings { batch_size: 32, learning_rate: 2e-3, ..TrainingSettings::default() },
        }
    }
}

impl settings::Settings for SimilaritySettings {
    const RIVALS: &[&[&[&str]]] = &[
        &[&["dev"], &["held_out"]],
        &[&["steps"], &["epochs"], &["minutes"]],
        &[&["task", "data"], &["train"]],
    ];

    fn defaults(_: &Table) -> Self {
        Self::default()
    }
}

impl SimilaritySettings {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// Names the setting.
    pub fn resolve(&mut self) -> Result<()> {
        let paths = self.model.iter_mut().chain(&mut self.data).chain(&mut self.train).chain(&mut self.dev);
        for path in paths {
            *path = absolute(path)?;
        }
        BaseModel::named(self.model.as_deref())?;
        if self.long == Some(Long::Extend) {
            return Err(refused("long extend", "is for labels; vectors of texts are made from windows"));
        }
        match (&self.task, &self.data, self.train.is_empty()) {
            (None, _, true) => {
                let [train, task] = ["train", "task"].map(setting);
                return Err(Error::usage(format!("give {train}, or {task} stsb")));
            }
            (Some(_), _, false) => {
                return Err(refused("task, train", "the rows are a task's or your own"));
            }
            (Some(task), None, _) => {
                let message = format!("give {}, the folder of its files", setting("data"));
                return Err(refused(&format!("task {task}"), message));
            }
            (Some(task), _, _) if !GlueTask::named(task)?.is_regression() => {
                let message = "has no scores: name its rows by their files instead";
                return Err(refused(&format!("task {task}"), message));
            }
            (Some(_), _, _) if self.held_out.is_some() || !self.dev.is_empty() => {
                return Err(refused("task, held_out, dev", "a task has its own held-out rows"));
            }
            _ => {}
        }
        if self.train.iter().chain(&self.dev).any(|path| path.ends_with(STANDARD_STREAM)) {
            return Err(refused(
                "train, dev",
                "rows are read more than once, so standard input cannot hold them",
            ));
        }
        in_range("held_out", self.held_out, 1e-6, 0.999)?;
        if self.text.len() > 3 {
            return Err(refused("text", "name one to three text columns, with commas between"));
        }
        in_range("scale", f64::from(self.scale), 1e-3, 1e4)?;
        for size in &self.dimensions {
            in_range("dimensions", *size as f64, 1.0, 1e5)?;
        }
        in_range("hide_rate", self.hide_rate, 0.0, 0.9)?;
        in_range("pass_tokens", self.pass_tokens as f64, 1.0, 1e9)?;
        in_range("max_length", self.max_length.map(|n| n as f64), 4.0, 1e6)?;
        if self.training.recipe == Recipe::Ridge {
            return Err(refused("recipe ridge", "solves for labels; vectors are trained in steps"));
        }
        if self.training.accumulate != 1 {
            return Err(refused(
                "accumulate",
                "a batch of any size is one step here: give a larger batch_size instead",
            ));
        }
        if self.training.evaluations > 0
            && self.dev.is_empty()
            && self.held_out.is_none()
            && self.task.is_none()
        {
            let message = format!("there is nothing to evaluate on; give {}", setting("dev"));
            return Err(refused("evaluations", message));
        }
        self.training.resolve()
    }

    /// The columns that are named.
    pub(super) fn named(&self) -> Named<'_> {
        Named { text: &self.text, label: self.label.as_deref(), header: !self.no_header }
    }

    /// What a text's vector is read from.
    pub(super) fn pooling_of(&self, config: &ModelConfig) -> Result<Pooling> {
        let own = || config.sentence.as_ref().map(|sentence| sentence.pooling.clone());
        self.pooling.clone().or_else(own).map_or_else(crate::train::text_vectors::usual_pooling, Ok)
    }
}
