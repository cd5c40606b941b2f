//! Settings of pretraining.

use std::path::PathBuf;

use fnet_encoder::mixers::{MixerKind, ReservoirConfig};
use fnet_encoder::{ModelConfig, Padding, TokenIds};
use serde::{Deserialize, Serialize};

use crate::data::corpus::sequences::Layout;
use crate::data::tokenizer::{Kind, Tokenizer};
use crate::error::Result;
use crate::runs::training::{TrainingSettings, preset_named};
use crate::settings::{self, absolute, existing_files, in_range, refused};
use crate::train::mlm::Masking;
use crate::train::pretrain::Learns;
use crate::train::recipe::Recipe;

/// Everything that decides a pretraining, as it stands in its `training.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainSettings {
    /// Text to train on: `.txt` (a paragraph per line, an empty line between documents) or `.jsonl` with a `text` field.
    pub corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus is held out.
    pub valid: Vec<PathBuf>,
    /// Continue from this model's weights, with its vocabulary and shape.
    pub model: Option<PathBuf>,
    /// A `tokenizer.json`, instead of training one.
    pub tokenizer: Option<PathBuf>,
    /// Tokens in a vocabulary that is trained on the corpus; 8,192 by default.
    pub vocab_size: Option<usize>,
    /// Kind of that vocabulary.
    pub kind: Option<Kind>,
    /// Keep upper case apart from lower case.
    pub cased: bool,
    /// Size of a new model.
    pub preset: Option<String>,
    /// Mixer of all its layers; shift by default, fourier for objectives on pairs.
    pub mixer: Option<String>,
    /// Mixer of each layer.
    pub mixers: Vec<String>,
    /// Heads of attention layers.
    pub attention_heads: Option<usize>,
    /// Reservoir layers.
    #[serde(flatten)]
    pub reservoir: ReservoirSettings,
    /// Longest sequence in tokens, also for later use of the model; 128 by default.
    pub seq_len: Option<usize>,
    /// What makes a training sequence.
    pub sequences: Layout,
    /// What is learnt.
    pub objective: Learns,
    /// Whether sequences are mixed at their own length.
    pub padding: Option<Padding>,
    /// Fraction of the tokens that is masked.
    pub mask_rate: f64,
    /// Of the masked tokens, the fraction replaced by `[MASK]`.
    pub mask_token_rate: f64,
    /// Of the masked tokens, the fraction replaced by a random token.
    pub mask_random_rate: f64,
    /// Mask all pieces of a word together.
    pub whole_word: bool,
    /// Folder for token shards, which several runs may share; by default next to the run.
    pub shards: Option<PathBuf>,
    /// How long and how it is trained; one pass over the corpus by default.
    #[serde(flatten)]
    pub training: TrainingSettings,
}

/// Reservoir layers, whose weights are random and never trained; [`ReservoirConfig`] has the defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReservoirSettings {
    /// Largest eigenvalue of the recurrent weights.
    pub spectral_radius: Option<f32>,
    /// Fraction of the state that each token replaces.
    pub leak: Option<f32>,
    /// Size of the input compared with the recurrence.
    pub input_scale: Option<f32>,
    /// Fraction of the recurrent weights that is zero.
    pub sparsity: Option<f32>,
}

impl ReservoirSettings {
    fn config(self, seed: u64) -> ReservoirConfig {
        let usual = ReservoirConfig::default();
        ReservoirConfig {
            spectral_radius: self.spectral_radius.unwrap_or(usual.spectral_radius),
            leak: self.leak.unwrap_or(usual.leak),
            input_scale: self.input_scale.unwrap_or(usual.input_scale),
            sparsity: self.sparsity.unwrap_or(usual.sparsity),
            seed,
        }
    }
}

const USUAL_PRESET: &str = "mini";
/// Tokens in a vocabulary where nobody says.
pub const USUAL_VOCABULARY: usize = 8_192;
const USUAL_LENGTH: usize = 128;

/// Measured for mini; the larger models' rates fall as is usual and are not tuned.
fn usual_learning_rate(preset: &str) -> f64 {
    match preset {
        "small" => 7e-4,
        "medium" => 5e-4,
        "base" => 3e-4,
        "large" => 2e-4,
        _ => 1e-3,
    }
}

impl Default for PretrainSettings {
    fn default() -> Self {
        Self::of_preset(USUAL_PRESET)
    }
}

impl settings::Settings for PretrainSettings {
    const RIVALS: &[&[&[&str]]] = &[
        &[&["steps"], &["epochs"], &["minutes"]],
        &[&["mixer"], &["mixers"]],
        &[&["recipe"], &["parts"]],
        &[&["tokenizer"], &["vocab_size", "kind", "cased"]],
    ];

    fn defaults(given: &toml::Table) -> Self {
        Self::of_preset(given.get("preset").and_then(toml::Value::as_str).unwrap_or(USUAL_PRESET))
    }
}

impl PretrainSettings {
    /// The defaults for a model of this size: the best found on novels and GLUE tasks, see `docs/results.md`.
    pub fn of_preset(preset: &str) -> Self {
        let masking = Masking::default();
        Self {
            corpus: Vec::new(),
            valid: Vec::new(),
            model: None,
            tokenizer: None,
            vocab_size: None,
            kind: None,
            cased: false,
            preset: None,
            mixer: None,
            mixers: Vec::new(),
            attention_heads: None,
            reservoir: ReservoirSettings::default(),
            seq_len: None,
            sequences: Layout::Paragraphs,
            objective: Learns::Mlm,
            padding: None,
            mask_rate: 0.3,
            mask_token_rate: masking.mask,
            mask_random_rate: masking.random,
            whole_word: false,
            shards: None,
            training: TrainingSettings {
                batch_size: 8,
                learning_rate: usual_learning_rate(preset),
                warm_up: 0.05,
                evaluations: 10,
                dropout: 0.0,
                ..TrainingSettings::default()
            },
        }
    }

    /// Settles what follows from other settings, and refuses what cannot be.
    ///
    /// # Errors
    /// Names the setting or the file.
    pub fn resolve(&mut self) -> Result<()> {
        if self.corpus.is_empty() {
            return Err(refused("corpus", "name one or more text files"));
        }
        if self.training.recipe == Recipe::Ridge {
            return Err(refused("recipe ridge", "is for fine-tuning"));
        }
        self.corpus = existing_files(&self.corpus)?;
        self.valid = existing_files(&self.valid)?;
        for path in [&mut self.shards, &mut self.model, &mut self.tokenizer].into_iter().flatten() {
            *path = absolute(path)?;
        }
        if self.model.is_none() {
            self.resolve_shape();
        }
        if self.training.budget().is_none() {
            self.training.epochs = Some(1.0);
        }
        self.training.resolve()?;
        in_range("mask_rate", self.mask_rate, 0.0, 1.0)?;
        in_range("mask_token_rate", self.mask_token_rate, 0.0, 1.0)?;
        in_range("mask_random_rate", self.mask_random_rate, 0.0, 1.0)?;
        if self.mask_token_rate + self.mask_random_rate > 1.0 {
            return Err(refused("mask_token_rate, mask_random_rate", "together they are more than 1"));
        }
        in_range("seq_len", self.seq_len.map(|n| n as f64), 4.0, 1e6)
    }

    /// The shape and vocabulary of a new model.
    fn resolve_shape(&mut self) {
        self.preset.get_or_insert_with(|| USUAL_PRESET.into());
        self.padding.get_or_insert_default();
        self.seq_len.get_or_insert(USUAL_LENGTH);
        if self.mixers.is_empty() {
            // What two sequences have to do with each other is out of a shift's reach.
            let usual = if self.objective.pairs() { MixerKind::Fourier } else { MixerKind::Shift };
            self.mixer.get_or_insert_with(|| usual.name().into());
        }
        if self.tokenizer.is_none() {
            self.vocab_size.get_or_insert(USUAL_VOCABULARY);
            self.kind.get_or_insert(Kind::Wordpiece);
        }
    }

    pub(super) fn masking(&self) -> Masking {
        Masking {
            rate: self.mask_rate,
            mask: self.mask_token_rate,
            random: self.mask_random_rate,
            whole_word: self.whole_word,
        }
    }

    /// Longest training sequence in tokens.
    pub(super) fn longest(&self, config: &ModelConfig) -> usize {
        let longest = config.max_position_embeddings;
        self.seq_len.map_or(longest, |n| n.min(longest))
    }

    /// Most tokens in a batch.
    pub fn batch_tokens(&self, longest: usize) -> usize {
        self.training.batch_size * longest
    }

    /// The shape of a new model, with the vocabulary's size as it is asked for.
    ///
    /// # Errors
    /// If the preset or a mixer is not known, or settings do not fit together.
    pub fn shape(&self) -> Result<ModelConfig> {
        let preset = self.preset.as_deref().unwrap_or(USUAL_PRESET);
        let mut config = preset_named(preset)?;
        config.vocab_size = self.vocab_size.unwrap_or(USUAL_VOCABULARY);
        config.max_position_embeddings = self.seq_len.unwrap_or(USUAL_LENGTH);
        config.hidden_dropout_prob = self.training.dropout;
        config.padding = self.padding.unwrap_or_default();
        let (what, mixers): (String, _) = match &self.mixer {
            Some(name) => (format!("mixer {name}"), MixerKind::layers(name, config.num_hidden_layers)),
            None => {
                let mixers = self.mixers.iter().map(|m| MixerKind::by_name(m)).collect();
                ("mixers".into(), mixers)
            }
        };
        let mixers = mixers.map_err(|e| refused(&what, e))?;
        let ignored = |what: &str, mixer: &str| Err(refused(what, format!("no layer has the mixer {mixer}")));
        config.num_attention_heads = self.attention_heads;
        if self.attention_heads.is_some() && !mixers.contains(&MixerKind::Attention) {
            return ignored("attention_heads", "attention");
        }
        if self.reservoir != ReservoirSettings::default() && !mixers.contains(&MixerKind::Reservoir) {
            return ignored("spectral_radius, leak, input_scale, sparsity", "reservoir");
        }
        if mixers.contains(&MixerKind::Reservoir) {
            config.reservoir = Some(self.reservoir.config(self.training.seed));
        }
        config.set_mixers(mixers);
        config.check()?;
        Ok(config)
    }

    /// The shape of a new model with this vocabulary.
    pub(super) fn config(&self, tokenizer: &Tokenizer) -> Result<ModelConfig> {
        let special = tokenizer.special();
        let mut config = self.shape()?;
        config.vocab_size = tokenizer.vocab_size();
        config.pad_token_id = Some(special.pad);
        config.bos_token_id = Some(special.cls);
        config.eos_token_id = Some(TokenIds::One(special.sep));
        config.check()?;
        Ok(config)
    }
}
