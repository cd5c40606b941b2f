//! Settings of fine-tuning.

use std::path::{Path, PathBuf};

use fnet_encoder::{Pairs, Pool, Pooling};
use serde::{Deserialize, Serialize};

use super::added;
use super::signal_settings::SignalSettings;
use super::signals::Signals;
use crate::base_model::BaseModel;
use crate::data::signals::words::WordFile;
use crate::data::signals::{Format, Place, Reading};
use crate::data::tasks::classes::Classes;
use crate::data::tasks::dataset::Labels;
use crate::data::tasks::encoding::Long;
use crate::data::tasks::files::TaskFiles;
use crate::data::tasks::glue::GlueTask;
use crate::data::tasks::label_sets;
use crate::data::tasks::rows::Columns;
use crate::data::text::STANDARD_STREAM;
use crate::error::{Error, Result};
use crate::runs::training::TrainingSettings;
use crate::settings::{self, absolute, in_range, refused, setting};
use crate::train::recipe::Recipe;

/// Everything that decides a fine-tuning, as it stands in its `training.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinetuneSettings {
    /// Folder of the pretrained model; by default the shipped one.
    pub model: Option<PathBuf>,
    /// Take only the model's shape and vocabulary, and start from random weights.
    pub from_scratch: bool,
    /// Store the trained tensors alone, beside the name of their trunk.
    pub adapter: bool,
    /// A GLUE task by name, whose files are in `data`; or one of signals, see [`SIGNAL_TASKS`](super::SIGNAL_TASKS).
    pub task: Option<String>,
    /// Folder with the task's files.
    pub data: Option<PathBuf>,
    /// Instead of a task: a file of training rows, or signals in a file, folder or archive.
    pub train: Option<PathBuf>,
    /// Held-out rows, by which the best epoch is chosen.
    pub dev: Option<PathBuf>,
    /// Instead of held-out rows: this part of the training examples, which are then not learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
    /// One or two text columns.
    pub text: Vec<String>,
    /// Label column.
    pub label: Option<String>,
    /// The rows have no header: columns are numbers, from 1.
    pub no_header: bool,
    /// The label is a number to be predicted, not a class.
    pub regression: bool,
    /// Each example has any number of labels, also none: the label's column names them with `|` between, or as a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_label: bool,
    /// How much each class counts in training; by default balanced where Matthews correlation judges, else equal.
    pub class_weights: Option<ClassWeights>,
    /// What is read of a text; by default the maximum and the word embeddings, of pairs the embeddings.
    pub pooling: Option<Pooling>,
    /// How the texts of a pair meet; by default in towers, symmetric ones for numbers.
    pub pairs: Option<Pairs>,
    /// Whether a classifier hears a second opinion, from words alone; by default where rows of single texts are few.
    pub bag: Option<bool>,
    /// Whether the words of pairs in towers are matched; by default where the texts' order has a meaning.
    pub matching: Option<bool>,
    /// What becomes of texts longer than the model.
    pub long: Option<Long>,
    /// Longest sequence in tokens, by default the model's length; positions of a random trunk, by default as many as the
    /// longest signal has.
    pub max_length: Option<usize>,
    /// Fill every example up to this many tokens and mix the padding in.
    pub pad_to: Option<usize>,
    /// Fraction of a training example's tokens that `[MASK]` hides; by default 0.15 for classes of single texts.
    pub hide_rate: Option<f64>,
    /// How often the texts of a training pair change places; by default 0.5 where a task's order means nothing.
    pub swap_rate: Option<f64>,
    /// Instead of `batch_size`: examples of similar length together, up to this many tokens.
    pub batch_tokens: Option<usize>,
    /// The head is the output layer alone, on what is pooled, as with recipe `ridge`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linear_head: bool,
    /// Penalty of recipe `ridge`; by default that of the least cross-validation error.
    pub penalty: Option<f64>,
    /// Recipe `ridge` keeps what it learnt from, so that more rows can be added.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_sums: bool,
    /// A run of recipe `ridge` that kept its sums: its rows are learnt from, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<PathBuf>,
    /// Runs with this many seeds, from `seed` up; the best is kept.
    pub seeds: u64,
    /// Of what is no plain text.
    #[serde(flatten)]
    pub signals: SignalSettings,
    /// How long and how it is trained; by default in as many epochs as the rows need.
    #[serde(flatten)]
    pub training: TrainingSettings,
}

/// How much each class counts in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// By its rows
    #[default]
    Equal,
    /// The same for every class
    Balanced,
}

/// What the examples of a fine-tuning are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Examples {
    /// Texts or pairs of them.
    Text,
    /// Words with a label each.
    Words,
    /// Vectors with an answer each.
    Positions,
    /// Vectors with one answer.
    Signals,
}

impl Default for FinetuneSettings {
    fn default() -> Self {
        Self {
            model: None,
            from_scratch: false,
            adapter: false,
            task: None,
            data: None,
            train: None,
            dev: None,
            held_out: None,
            text: Vec::new(),
            label: None,
            no_header: false,
            regression: false,
            multi_label: false,
            class_weights: None,
            pooling: None,
            pairs: None,
            bag: None,
            matching: None,
            long: None,
            max_length: None,
            pad_to: None,
            hide_rate: None,
            swap_rate: None,
            batch_tokens: None,
            linear_head: false,
            penalty: None,
            keep_sums: false,
            add: None,
            seeds: 1,
            signals: SignalSettings::default(),
            training: TrainingSettings::default(),
        }
    }
}

impl settings::Settings for FinetuneSettings {
    const RIVALS: &[&[&[&str]]] = &[
        &[&["batch_size"], &["batch_tokens"]],
        &[&["dev"], &["held_out"]],
        &[&["steps"], &["epochs"], &["minutes"]],
        &[&["max_length"], &["pad_to"]],
        &[&["recipe"], &["parts"]],
        &[&["model"], &["preset", "mixer", "layers", "hidden_size", "trunk_seed"]],
        &[&["task", "data"], &["train", "dev", "text", "label", "regression", "multi_label", "no_header"]],
    ];

    fn defaults(_: &toml::Table) -> Self {
        Self::default()
    }
}

impl FinetuneSettings {
    /// Settles what follows from other settings, and refuses what cannot be. What follows from the rows is settled when
    /// the run begins.
    ///
    /// # Errors
    /// Names the setting.
    pub fn resolve(&mut self) -> Result<()> {
        let paths = [&mut self.model, &mut self.data, &mut self.train, &mut self.dev];
        for path in paths.into_iter().flatten() {
            *path = absolute(path)?;
        }
        in_range("seeds", self.seeds as f64, 1.0, 1e4)?;
        if self.multi_label && (self.regression || self.task.is_some()) {
            return Err(refused("multi_label", "is for rows whose labels are names"));
        }
        in_range("held_out", self.held_out, 1e-6, 0.999)?;
        self.check_closed_form()?;
        self.check_added()?;
        if self.adapter && self.training.recipe == Recipe::RandomFrozen {
            return Err(refused("adapter, recipe random-frozen", "what is frozen is not the trunk's"));
        }
        if self.adapter && (self.from_scratch || self.seeds > 1) {
            let other = if self.from_scratch { "from_scratch" } else { "seeds" };
            return Err(refused(
                &format!("adapter, {other}"),
                "an adapter is of one run on a trunk that stays",
            ));
        }
        if let Some(signals) = Signals::named(self)? {
            return self.resolve_for(&signals);
        }
        self.signals.refuse_for_text()?;
        BaseModel::named(self.model.as_deref())?;
        if self.task.is_none() && self.train.is_none() {
            let [task, data, train, text, label] = ["task", "data", "train", "text", "label"].map(setting);
            return Err(Error::usage(format!("give {task} and {data}, or {train}, {text} and {label}")));
        }
        if let Some(task) = self.task.as_ref().filter(|_| self.data.is_none()) {
            let message = format!("give {}, the folder of its files", setting("data"));
            return Err(refused(&format!("task {task}"), message));
        }
        if self.train.is_some() && self.text.is_empty() {
            return Err(refused("text", "name one or two text columns, with a comma between"));
        }
        if [&self.train, &self.dev].into_iter().flatten().any(|path| path.ends_with(STANDARD_STREAM)) {
            return Err(refused(
                "train, dev",
                "rows are read more than once, so standard input cannot hold them",
            ));
        }
        let task = self.task.as_deref().map(GlueTask::named).transpose()?;
        let is_number = task.map_or(self.regression, GlueTask::is_regression);
        let is_pair = task.map_or(self.text.len(), |task| task.text.len()) == 2;
        if self.class_weights == Some(ClassWeights::Balanced) && (is_number || self.multi_label) {
            return Err(refused("class_weights balanced", "is for rows of one class each"));
        }
        let is_closed_form = self.training.recipe == Recipe::Ridge;
        let balances = task.is_some_and(GlueTask::balances) && !is_closed_form;
        self.class_weights.get_or_insert(if balances { ClassWeights::Balanced } else { ClassWeights::Equal });
        let own = if is_number || is_pair { 0.0 } else { 0.15 };
        let own = task.map_or(own, |task| task.hide_rate);
        self.hide_rate.get_or_insert(if is_closed_form { 0.0 } else { own });
        in_range("hide_rate", self.hide_rate, 0.0, 1.0)?;
        let swaps = task.is_some_and(|task| task.symmetric) && !is_closed_form;
        self.swap_rate.get_or_insert(if swaps { 0.5 } else { 0.0 });
        in_range("swap_rate", self.swap_rate, 0.0, 1.0)?;
        if !is_pair && self.swap_rate > Some(0.0) {
            return Err(refused("swap_rate", "the rows have one text, only pairs change places"));
        }
        self.resolve_readout(is_pair, is_number)?;
        let has_dev = self.dev.is_some() || self.held_out.is_some() || task.is_some();
        if self.training.evaluations > 0 && !has_dev {
            let message = format!("there is nothing to evaluate on; give {}", setting("dev"));
            return Err(refused("evaluations", message));
        }
        in_range("batch_tokens", self.batch_tokens.map(|n| n as f64), 1.0, 1e9)?;
        in_range("pad_to", self.pad_to.map(|n| n as f64), 4.0, 1e6)?;
        // Later uses of the model are told by the length and the configuration's padding.
        self.max_length = self.max_length.or(self.pad_to);
        in_range("max_length", self.max_length.map(|n| n as f64), 4.0, 1e6)?;
        self.check_extended()?;
        self.training.resolve()
    }

    /// Refuses more positions where they cannot be added.
    fn check_extended(&self) -> Result<()> {
        if self.long != Some(Long::Extend) {
            return Ok(());
        }
        let message = match () {
            () if self.max_length.is_none() => {
                format!("needs {}, the longest sequence", setting("max_length"))
            }
            () if self.pad_to.is_some() => format!("and {} are two lengths", setting("pad_to")),
            () if self.adapter => "cannot be stored beside a trunk, which has its own positions".into(),
            () => return Ok(()),
        };
        Err(refused("long extend", message))
    }

    /// Refuses what means nothing where the output layer is solved for, and a penalty where it is not.
    fn check_closed_form(&self) -> Result<()> {
        in_range("penalty", self.penalty, 0.0, 1e9)?;
        if self.training.recipe != Recipe::Ridge {
            return match self.penalty {
                Some(_) => Err(refused("penalty", "is for recipe ridge")),
                None => Ok(()),
            };
        }
        let TrainingSettings { steps, epochs, minutes, .. } = &self.training;
        let (own, usual) = (&self.training, TrainingSettings::default());
        let of_steps = [
            ("steps", steps.is_some()),
            ("epochs", epochs.is_some()),
            ("minutes", minutes.is_some()),
            ("learning_rate", own.learning_rate != usual.learning_rate),
            ("warm_up", own.warm_up != usual.warm_up),
            ("decay", own.decay != usual.decay),
            ("weight_decay", own.weight_decay != usual.weight_decay),
            ("beta1", own.beta1 != usual.beta1),
            ("beta2", own.beta2 != usual.beta2),
            ("clip", own.clip != usual.clip),
            ("dropout", own.dropout != usual.dropout && own.dropout > 0.0),
            ("batch_size", own.batch_size != usual.batch_size),
            ("batch_tokens", self.batch_tokens.is_some()),
            ("accumulate", own.accumulate != usual.accumulate),
            ("recompute", own.recompute),
            ("flip", self.signals.flip),
            ("crop", self.signals.crop.is_some()),
            ("evaluations", self.training.evaluations > 0),
            ("hide_rate", self.hide_rate > Some(0.0)),
            ("swap_rate", self.swap_rate > Some(0.0)),
            ("class_weights balanced", self.class_weights == Some(ClassWeights::Balanced)),
            ("bag true", self.bag == Some(true)),
            ("matching true", self.matching == Some(true)),
            ("pairs", self.pairs.is_some_and(|pairs| pairs != Pairs::Together)),
            ("freeze", !self.training.freeze.is_empty()),
        ];
        match of_steps.into_iter().find(|given| given.1) {
            Some((field, _)) => Err(refused(field, "does not apply to recipe ridge, which takes one pass")),
            None => Ok(()),
        }
    }

    /// Whether the output layer reads what is pooled.
    pub(super) fn has_linear_head(&self) -> bool {
        self.linear_head || self.training.recipe == Recipe::Ridge
    }

    /// What the examples are.
    pub(crate) fn examples(&self) -> Result<Examples> {
        Ok(match Signals::named(self)? {
            None => Examples::Text,
            Some(Signals::Words { .. }) => Examples::Words,
            Some(Signals::Generated(Reading::Bits(_))) => Examples::Positions,
            Some(_) if self.signals.per_position => Examples::Positions,
            Some(_) => Examples::Signals,
        })
    }

    /// Held-out signals, if there are any in a file.
    pub fn dev_signals(&self) -> Option<Place> {
        match Signals::named(self).ok()?? {
            Signals::Files { dev, .. } | Signals::Words { dev, .. } => dev,
            _ => None,
        }
    }

    /// Refuses what means nothing to signals.
    fn resolve_for(&mut self, signals: &Signals) -> Result<()> {
        self.signals.check_for(signals)?;
        let (has_columns, has_numbers) = match signals {
            Signals::Files { format, .. } => (
                *format == Format::Symbols,
                matches!(format, Format::Series | Format::Array | Format::Table | Format::Symbols),
            ),
            Signals::Words { train, .. } => (!WordFile::is_conll(&train.path), false),
            _ => (false, false),
        };
        let has_label = has_columns || matches!(signals, Signals::Files { format: Format::Table, .. });
        let is_of_positions = self.signals.per_position
            || matches!(signals, Signals::Words { .. } | Signals::Generated(Reading::Bits(_)));
        let of_text = [
            ("pooling", self.pooling.is_some() && is_of_positions),
            ("linear_head", self.linear_head && is_of_positions),
            ("text", !self.text.is_empty() && !has_columns),
            ("label", self.label.is_some() && !has_label),
            ("no_header", self.no_header && !has_columns),
            ("regression", self.regression && !has_numbers),
            ("multi_label", self.multi_label && !has_numbers),
            ("class_weights balanced", self.class_weights == Some(ClassWeights::Balanced)),
            ("pairs", self.pairs.is_some()),
            ("bag", self.bag == Some(true)),
            ("matching", self.matching == Some(true)),
            ("long", self.long.is_some()),
            ("pad_to", self.pad_to.is_some()),
            ("hide_rate", self.hide_rate.is_some_and(|rate| rate > 0.0)),
            ("swap_rate", self.swap_rate.is_some_and(|rate| rate > 0.0)),
            ("batch_tokens", self.batch_tokens.is_some()),
            ("from_scratch", self.from_scratch),
        ];
        if let Some((field, _)) = of_text.into_iter().find(|given| given.1) {
            return Err(refused(field, format!("does not apply to {}", signals.examples())));
        }
        let is_words = matches!(signals, Signals::Words { .. });
        match self.signals.of_trunk() {
            Some(field) if is_words => {
                return Err(refused(
                    field,
                    "is for signals; words need a pretrained model and its vocabulary",
                ));
            }
            Some(field) if self.signals.preset.is_none() => {
                return Err(refused(field, format!("is of a random trunk; give {}, too", setting("preset"))));
            }
            Some(_) if self.model.is_some() => {
                return Err(refused("model, preset", "a trunk is pretrained or random"));
            }
            Some(_) => self.signals.trunk_seed = self.signals.trunk_seed.or(Some(1)),
            None => drop(BaseModel::named(self.model.as_deref())?),
        }
        let makes_length = self.signals.preset.is_some()
            || is_words
            || matches!(signals, Signals::Generated(Reading::ListOps(_) | Reading::Mnist1d(_)));
        if self.max_length.is_some() && !makes_length {
            return Err(refused("max_length", "a pretrained trunk has its own length"));
        }
        in_range("max_length", self.max_length.map(|n| n as f64), if is_words { 4.0 } else { 1.0 }, 1e6)?;
        let has_dev = match signals {
            _ if self.held_out.is_some() => true,
            Signals::Files { dev, .. } | Signals::Words { dev, .. } => dev.is_some(),
            _ => true,
        };
        if self.training.evaluations > 0 && !has_dev {
            let message = format!("there is nothing to evaluate on; give {}", setting("dev"));
            return Err(refused("evaluations", message));
        }
        self.training.resolve()
    }

    /// How rows are read where nobody says: pairs by their words alone, in towers, for it takes many rows to learn more.
    fn resolve_readout(&mut self, is_pair: bool, is_number: bool) -> Result<()> {
        let (pools, usual) = match (is_pair, is_number) {
            _ if self.training.recipe == Recipe::Ridge => {
                (vec![Pool::Mean, Pool::Max, Pool::Embeddings], Pairs::Together)
            }
            (false, _) => (vec![Pool::Max, Pool::Embeddings], Pairs::Together),
            (true, true) => (vec![Pool::Embeddings], Pairs::SymmetricTowers), // a cosine is symmetric
            (true, false) => (vec![Pool::Embeddings], Pairs::Towers),
        };
        if self.pooling.is_none() {
            self.pooling = Some(Pooling::new(pools)?);
        }
        let pairs = *self.pairs.get_or_insert(usual);
        let together = format!("{} together", setting("pairs"));
        if !is_pair && pairs != Pairs::Together {
            return Err(refused("pairs", "the rows have one text, towers need two"));
        }
        if self.linear_head && pairs != Pairs::Together {
            return Err(refused("linear_head", format!("towers have their own head; give {together}, too")));
        }
        if self.bag == Some(true) && pairs != Pairs::Together {
            let message = format!("towers have no second opinion; give {together}, too");
            return Err(refused("bag true", message));
        }
        if self.matching == Some(true) && pairs == Pairs::Together {
            return Err(refused("matching true", "only the words of pairs in towers are matched"));
        }
        self.matching.get_or_insert(pairs == Pairs::Towers);
        let reads_windows = matches!(self.long, Some(Long::Windows | Long::Extend));
        if is_pair && pairs == Pairs::Together && reads_windows {
            let message =
                format!("pairs in one sequence are cut; {} towers reads them in windows", setting("pairs"));
            return Err(refused("long", message));
        }
        Ok(())
    }

    /// The task's files, columns and labels; says which classes there are unless `quiet`.
    ///
    /// # Errors
    /// If a column is not named, or the classes of a user's own rows cannot be found.
    pub(super) fn task_files(&self, quiet: bool) -> Result<TaskFiles> {
        if let Some(name) = &self.task {
            return Ok(GlueTask::named(name)?.files(self.data.as_deref().unwrap_or(Path::new("."))));
        }
        let train = self.train.clone().unwrap_or_default();
        let columns = Columns::named(&self.text, self.label.as_deref(), !self.no_header)?;
        let columns = Columns { several_labels: self.multi_label, ..columns };
        if columns.label.is_none() {
            return Err(refused("label", "name the column with the label"));
        }
        let labels = if let Some(folder) = &self.add {
            added::labels(folder)?
        } else if self.regression {
            Labels::Number
        } else if self.multi_label {
            Labels::Several(label_sets::find(&train, &columns)?)
        } else {
            let classes = Classes::find(&train, &columns)?;
            if !quiet {
                eprintln!("{}: {}", train.display(), classes.sentence());
                classes
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("warning: {}: {warning}", train.display()));
            }
            Labels::Classes(classes.names)
        };
        let dev = self.dev.iter().map(|f| (String::new(), f.clone(), columns.clone()));
        Ok(TaskFiles {
            train,
            dev: dev.collect(),
            metrics: labels.usual_metrics(),
            labels,
            train_columns: columns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights of classes with which a task is trained.
    fn weights_of(task: &str, change: impl FnOnce(&mut FinetuneSettings)) -> Option<ClassWeights> {
        let (task, data) = (Some(task.to_string()), Some(PathBuf::from("tasks")));
        let mut settings = FinetuneSettings { task, data, ..FinetuneSettings::default() };
        change(&mut settings);
        settings.resolve().expect("settings that go together");
        settings.class_weights
    }

    #[test]
    fn classes_are_balanced_where_the_metric_counts_them_alike() {
        assert_eq!(weights_of("cola", |_| ()), Some(ClassWeights::Balanced));
        assert_eq!(weights_of("sst2", |_| ()), Some(ClassWeights::Equal));
        let asked = |settings: &mut FinetuneSettings| settings.class_weights = Some(ClassWeights::Equal);
        assert_eq!(weights_of("cola", asked), Some(ClassWeights::Equal));
        // Ridge solves for one-hot targets, which have no weights.
        let ridge = |settings: &mut FinetuneSettings| settings.training.recipe = Recipe::Ridge;
        assert_eq!(weights_of("cola", ridge), Some(ClassWeights::Equal));
    }
}
