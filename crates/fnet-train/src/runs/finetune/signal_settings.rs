//! Settings of fine-tuning on what is no plain text.

use std::path::Path;

use fnet_encoder::ModelConfig;
use serde::{Deserialize, Serialize};

use super::settings::FinetuneSettings;
use super::signals::Signals;
use crate::data::signals::bits::Bits;
use crate::data::signals::images::MOST_PIXELS;
use crate::data::signals::listops::ListOps;
use crate::data::signals::mnist1d::Mnist1d;
use crate::data::signals::model_space::MOST_DIMENSIONS;
use crate::data::signals::pathfinder::Pathfinder;
use crate::data::signals::symbols::Alphabet;
use crate::data::signals::{Asked, Format, Layout, Options, Reading, Scale, Variation};
use crate::data::tasks::rows::{Column, Columns};
use crate::error::{Error, Result};
use crate::settings::{in_range, refused, setting};

/// The trunk of signals, how they are read, and sizes of generated ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SignalSettings {
    /// Instead of a pretrained model: a random trunk of this size.
    pub preset: Option<String>,
    /// Mixer of the random trunk; `fourier` by default.
    pub mixer: Option<String>,
    /// Layers of the random trunk, instead of its preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Hidden size of the random trunk, instead of its preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Seed of the random trunk, from which its weights follow; 1 by default.
    pub trunk_seed: Option<u64>,
    /// Side of an image's patches in pixels; 4 by default, in pathfinder 1.
    pub patch: Option<usize>,
    /// Colours become grey.
    #[serde(default)]
    pub grey: bool,
    /// Side of the square that images are resized to.
    pub resize: Option<usize>,
    /// In training, half of the images are mirrored left to right.
    #[serde(default)]
    pub flip: bool,
    /// In training, images are moved by up to this many pixels each way.
    pub crop: Option<usize>,
    /// The head reads so many random features, at least, instead of a trunk's output.
    pub random_features: Option<usize>,
    /// The head reads how each series moves: the model of its own reservoir states, in so many dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_space: Option<usize>,
    /// How a table holds series.
    pub series: Option<Layout>,
    /// The column that names the series of a step.
    pub series_id: Option<String>,
    /// What rows' texts are read by, instead of words: characters or bytes.
    pub tokens: Option<Tokens>,
    /// Each word, or each symbol, has a label of its own.
    #[serde(default)]
    pub per_position: bool,
    /// A label that says nothing, where each symbol has one.
    pub ignored_label: Option<String>,
    /// Strings of bit-memory; 5 by default.
    pub strings: Option<usize>,
    /// Bits in a string; 1,000 in bit-memory and 5 in bit-xor by default.
    pub bits: Option<usize>,
    /// Fewest symbols of an expression of listops; 500 by default. Most are as many as the longest sequence, or 2,000.
    pub min_length: Option<usize>,
    /// Lists within lists of listops; 10 by default.
    pub depth: Option<usize>,
    /// Most arguments of a list of listops; 10 by default.
    pub arguments: Option<usize>,
    /// Dashes of a path of pathfinder; 6 by default.
    pub dashes: Option<usize>,
}

/// What texts are read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Each character is a symbol
    Characters,
    /// Each byte is a symbol
    Bytes,
}

/// What a setting belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// All but words.
    Vectors,
    /// Images and generated ones.
    Patches,
    Images,
    Tables,
    Symbols,
    /// Symbols, words, or steps of series.
    Positions,
    /// Positions of these without words.
    Unknown,
    Bits,
    ListOps,
    Pathfinder,
}

impl SignalSettings {
    /// What is given, by name, and what it belongs to.
    fn given(&self) -> Vec<(&'static str, Of)> {
        let all = [
            ("patch", self.patch.is_some(), Of::Patches),
            ("grey", self.grey, Of::Images),
            ("resize", self.resize.is_some(), Of::Images),
            ("flip", self.flip, Of::Images),
            ("crop", self.crop.is_some(), Of::Images),
            ("random_features", self.random_features.is_some(), Of::Vectors),
            ("model_space", self.model_space.is_some(), Of::Vectors),
            ("series", self.series.is_some(), Of::Tables),
            ("series_id", self.series_id.is_some(), Of::Tables),
            ("tokens", self.tokens.is_some(), Of::Symbols),
            ("per_position", self.per_position, Of::Positions),
            ("ignored_label", self.ignored_label.is_some(), Of::Unknown),
            ("strings", self.strings.is_some(), Of::Bits),
            ("bits", self.bits.is_some(), Of::Bits),
            ("min_length", self.min_length.is_some(), Of::ListOps),
            ("depth", self.depth.is_some(), Of::ListOps),
            ("arguments", self.arguments.is_some(), Of::ListOps),
            ("dashes", self.dashes.is_some(), Of::Pathfinder),
        ];
        all.into_iter().filter(|(_, is_given, _)| *is_given).map(|(name, _, of)| (name, of)).collect()
    }

    /// Refuses every one of these settings, for rows of text.
    pub(super) fn refuse_for_text(&self) -> Result<()> {
        if let Some(field) = self.of_trunk() {
            return Err(refused(field, "is for signals; text needs a pretrained model and its vocabulary"));
        }
        match self.given().first() {
            Some((field, of)) => Err(refused(field, format!("is for {}", of.name()))),
            None => Ok(()),
        }
    }

    /// Refuses settings that mean nothing to these signals.
    pub(super) fn check_for(&self, signals: &Signals) -> Result<()> {
        let fits = |of: Of| match signals {
            Signals::Files { format, .. } => match of {
                Of::Patches | Of::Images => matches!(format, Format::Idx | Format::Cifar | Format::Pictures),
                Of::Vectors => true,
                Of::Tables => *format == Format::Table,
                Of::Symbols => *format == Format::Symbols,
                Of::Positions | Of::Unknown => {
                    matches!(format, Format::Symbols | Format::Array | Format::Table)
                }
                Of::Bits | Of::ListOps | Of::Pathfinder => false,
            },
            Signals::Generated(_) if of == Of::Vectors => true,
            Signals::Words { .. } => of == Of::Positions,
            Signals::Generated(Reading::Bits(_)) => of == Of::Bits,
            Signals::Generated(Reading::ListOps(_)) => of == Of::ListOps,
            Signals::Generated(Reading::Pathfinder(_)) => matches!(of, Of::Pathfinder | Of::Patches),
            Signals::Generated(_) => false,
        };
        if let Some((field, of)) = self.given().into_iter().find(|(_, of)| !fits(*of)) {
            return Err(refused(field, format!("is for {}", of.name())));
        }
        if let Some(label) = &self.ignored_label
            && (!self.per_position || self.tokens.is_some() && label.chars().count() != 1)
        {
            let message = format!("is of positions ({}), of symbols one character", setting("per_position"));
            return Err(refused(&format!("ignored_label {label}"), message));
        }
        if self.series_id.is_some() && self.series != Some(Layout::Long) {
            return Err(refused("series_id", format!("is for {} long", setting("series"))));
        }
        in_range("layers", self.layers.map(|n| n as f64), 1.0, 1_000.0)?;
        in_range("hidden_size", self.hidden_size.map(|n| n as f64), 1.0, 65_536.0)?;
        in_range("random_features", self.random_features.map(|n| n as f64), 1.0, 30_000.0)?;
        in_range("model_space", self.model_space.map(|n| n as f64), 1.0, MOST_DIMENSIONS as f64)?;
        if self.makes_features() && self.per_position {
            let features = if self.model_space.is_some() { "model_space" } else { "random_features" };
            return Err(refused(&format!("{features}, per_position"), "one vector has one answer"));
        }
        if self.random_features.is_some() && self.model_space.is_some() {
            return Err(refused("random_features, model_space", "the head reads the one or the other"));
        }
        if let (Some(_), Some(patch)) = (self.random_features, self.patch.filter(|patch| *patch != 1)) {
            return Err(refused(&format!("random_features, patch {patch}"), "filters read pixels"));
        }
        in_range("patch", self.patch.map(|n| n as f64), 1.0, 10_000.0)?;
        in_range("resize", self.resize.map(|n| n as f64), 1.0, MOST_PIXELS as f64)?;
        in_range("crop", self.crop.map(|n| n as f64), 0.0, MOST_PIXELS as f64)
    }

    /// The setting that says how many values the head reads.
    pub(super) fn makes_wide(&self) -> &'static str {
        match (self.random_features, self.model_space) {
            (Some(_), _) => "random_features",
            (None, Some(_)) => "model_space",
            (None, None) => "pooling",
        }
    }

    /// Whether the head reads features that no trunk makes.
    pub(super) fn makes_features(&self) -> bool {
        self.random_features.is_some() || self.model_space.is_some()
    }

    /// The first setting of a random trunk.
    pub(super) fn of_trunk(&self) -> Option<&'static str> {
        let given = [
            ("preset", self.preset.is_some()),
            ("mixer", self.mixer.is_some()),
            ("layers", self.layers.is_some()),
            ("hidden_size", self.hidden_size.is_some()),
            ("trunk_seed", self.trunk_seed.is_some()),
        ];
        given.into_iter().find(|given| given.1).map(|given| given.0)
    }

    /// Gives a preset's shape the layers and the hidden size that are asked for, and its feed-forward
    /// layers stay as many times as wide.
    pub(super) fn resize_trunk(&self, config: &mut ModelConfig) {
        config.num_hidden_layers = self.layers.unwrap_or(config.num_hidden_layers);
        if let Some(hidden) = self.hidden_size {
            config.intermediate_size = hidden * config.intermediate_size / config.hidden_size;
            config.hidden_size = hidden;
        }
    }

    /// The generated task of a name, if it is one.
    pub(super) fn generated(&self, task: &str, longest: Option<usize>) -> Result<Option<Reading>> {
        if let Some(bits) = Bits::named(task, self.strings, self.bits)? {
            return Ok(Some(Reading::Bits(bits)));
        }
        let checked = |result: std::result::Result<(), String>| {
            result.map_err(|what| refused("task", format!("{task} cannot have {what}")))
        };
        Ok(match task {
            "listops" => {
                let usual = ListOps::default();
                let task = ListOps {
                    shortest: self.min_length.unwrap_or(usual.shortest),
                    longest: longest.unwrap_or(usual.longest),
                    depth: self.depth.unwrap_or(usual.depth),
                    arguments: self.arguments.unwrap_or(usual.arguments),
                };
                checked(task.check())?;
                Some(Reading::ListOps(task))
            }
            "pathfinder" => {
                let task = Pathfinder { dashes: self.dashes.unwrap_or(6), patch: self.patch.unwrap_or(1) };
                checked(task.check())?;
                Some(Reading::Pathfinder(task))
            }
            "mnist-1d" => {
                let task = Mnist1d { length: longest.unwrap_or(40) };
                checked(task.check())?;
                Some(Reading::Mnist1d(task))
            }
            _ => None,
        })
    }
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Vectors => "signals",
            Self::Patches | Self::Images => "images",
            Self::Tables => "tables of series",
            Self::Symbols => "rows read by characters or bytes",
            Self::Positions => "labels of words, symbols or steps",
            Self::Unknown => "labels of symbols or steps",
            Self::Bits => "bit-memory and bit-xor",
            Self::ListOps => "listops",
            Self::Pathfinder => "pathfinder",
        }
    }
}

/// How files of signals are read, by all settings.
pub(super) fn options(settings: &FinetuneSettings) -> Result<Options> {
    let own = &settings.signals;
    let unscaled = Scale { mean: vec![0.0], deviation: vec![1.0] };
    let asked = match (own.per_position, settings.regression) {
        (true, _) if settings.multi_label => {
            return Err(refused("per_position, multi_label", "a position has one class or one number"));
        }
        (true, true) if own.series.is_none() && !settings.train.as_deref().is_some_and(is_array) => {
            return Err(refused("per_position, regression", "words and symbols have classes, not numbers"));
        }
        (true, true) if own.ignored_label.is_some() => {
            return Err(refused("ignored_label", "is a class; numbers are all known"));
        }
        (true, true) => Asked::Numbers(unscaled),
        (true, false) => Asked::Positions,
        (false, true) => Asked::Number(unscaled),
        (false, false) if settings.multi_label => Asked::Labels,
        (false, false) => Asked::Class,
    };
    let alphabet = own.tokens.map(|tokens| match tokens {
        Tokens::Characters => Alphabet::Characters(Vec::new()),
        Tokens::Bytes => Alphabet::Bytes,
    });
    Ok(Options {
        patch: own.patch.unwrap_or(if own.random_features.is_some() { 1 } else { 4 }),
        grey: own.grey,
        resize: own.resize,
        variation: Variation { flip: own.flip, crop: own.crop.unwrap_or(0), seed: settings.training.seed },
        layout: own.series,
        series_id: own.series_id.clone(),
        columns: columns(settings)?,
        alphabet,
        asked,
        ignored_label: own.ignored_label.clone(),
    })
}

/// Columns of tables and rows: of tables that of the label alone.
fn columns(settings: &FinetuneSettings) -> Result<Option<Columns>> {
    let (text, label) = (&settings.text, settings.label.as_deref());
    let is_conll = settings.train.as_deref().is_some_and(is_conll);
    if settings.signals.series.is_some() || is_conll {
        if settings.no_header {
            return Err(refused("no_header", "series and words have named columns"));
        }
        let label = label.map(Column::name);
        return Ok(Some(Columns {
            text: Vec::new(),
            label,
            header: true,
            skip_ragged: false,
            several_labels: settings.multi_label,
        }));
    }
    let has_own_labels = |path: &Path| is_array(path) || path.extension().is_some_and(|e| e == "ts");
    let reads_columns = settings.signals.tokens.is_some() || settings.signals.per_position;
    if settings.task.is_some() || settings.train.as_deref().is_some_and(has_own_labels) || !reads_columns {
        return Ok(None);
    }
    if text.len() != 1 {
        return Err(refused("text", "name one column"));
    }
    if label.is_none() {
        return Err(Error::usage(format!("{}: name the column with the label", setting("label"))));
    }
    let columns = Columns::named(text, label, !settings.no_header)?;
    Ok(Some(Columns { several_labels: settings.multi_label, ..columns }))
}

fn is_array(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "npy")
}

fn is_conll(path: &Path) -> bool {
    crate::data::signals::words::WordFile::is_conll(path)
}
