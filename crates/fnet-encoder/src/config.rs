use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::EncoderError;
use crate::heads::SentenceConfig;
use crate::mixers::{MixerKind, ReservoirConfig};
use crate::ops::activation::Activation;
use crate::pooling::{Pairs, Pool, Pooling};

/// The BERT miniatures' sizes: name, layers, hidden size.
pub const PRESETS: [(&str, usize, usize); 6] = [
    ("tiny", 2, 128),
    ("mini", 4, 256),
    ("small", 4, 512),
    ("medium", 8, 512),
    ("base", 12, 768),
    ("large", 24, 1024),
];

/// Most values a model may have: beyond this a configuration is a mistake or an attack.
const MOST_VALUES: usize = 1 << 31;

/// The `model_type` of models that Transformers' own classes do not compute, so that they refuse them. The type
/// that such a model is based on is stored next to it.
pub(crate) const OURS: &str = "fnet-mixing";
/// The key of that base type.
pub(crate) const BASE_MODEL_TYPE: &str = "base_model_type";

/// The start of a file that Git LFS has not fetched.
pub(crate) const GIT_LFS: &[u8] = b"version https://git-lfs";

/// The length at which sequences are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Each sequence at its own length.
    #[default]
    Own,
    /// Every sequence is padded to one length, [`ModelConfig::fixed_length`], and the padding is mixed in. An
    /// all-attention model masks it, which has the same effect as no padding.
    Fixed,
}

/// Shape and settings of a model: `config.json` of a Hugging Face FNet folder, or of a BERT folder where
/// all mixers are attention.
///
/// `input_width`, `padding`, `padding_length`, `classifier_pooling`, `classifier_standardized`, `classifier_linear`,
/// `classifier_pairs`, `classifier_bag`, `classifier_matching`, `sentence`, `mixers` and `reservoir` are our own, unknown to
/// Transformers. Keys that are not listed are kept in `other` and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `fnet`, or `bert` for attention in every layer, without the projection after the embeddings.
    pub model_type: String,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the vectors that the model reads as well as tokens (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_width: Option<usize>,
    /// Width of a token's representation.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Activation of the feed-forward layer, by its name in Transformers: `gelu_new`, `gelu`, `relu`, `silu` and
    /// more.
    pub hidden_act: String,
    /// Dropout rate in training.
    pub hidden_dropout_prob: f32,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Number of segments.
    pub type_vocab_size: usize,
    /// Standard deviation of initial weights.
    pub initializer_range: f32,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// The padding token, whose word embedding is not trained.
    pub pad_token_id: Option<u32>,
    /// The token that starts a sequence.
    pub bos_token_id: Option<u32>,
    /// The token that ends a sequence, or several.
    pub eos_token_id: Option<TokenIds>,
    /// Whether the MLM head's output matrix is the word embedding.
    pub tie_word_embeddings: bool,
    /// The length at which sequences are mixed (ours).
    pub padding: Padding,
    /// The length that sequences are padded to if padding is fixed; by default the longest (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding_length: Option<usize>,
    /// The vectors of a text that a head reads (ours).
    #[serde(skip_serializing_if = "Pooling::is_first")]
    pub classifier_pooling: Pooling,
    /// Whether what is read is standardised by a stored mean and deviation of each value, without a gradient (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub classifier_standardized: bool,
    /// Whether the output layer reads these vectors themselves, without a dense layer before it (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub classifier_linear: bool,
    /// How the texts of a pair are combined (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub classifier_pairs: Pairs,
    /// Whether a classifier takes a second opinion on each text, from its words alone (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub classifier_bag: bool,
    /// Whether towers match the words of a pair as well as comparing its vectors (ours).
    #[serde(skip_serializing_if = "is_default")]
    pub classifier_matching: bool,
    /// How texts' vectors are made, if the model makes them (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentence: Option<SentenceConfig>,
    /// The mixer of each layer (ours); empty means `fourier` everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mixers: Vec<MixerKind>,
    /// Heads of attention layers; by default one per 64 hidden units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<usize>,
    /// Settings of reservoir layers (ours).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservoir: Option<ReservoirConfig>,
    /// Everything else in the file: `id2label`, `problem_type` and more.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One token or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    /// One.
    One(u32),
    /// Several.
    Many(Vec<u32>),
}

/// Defaults of Transformers' `BertConfig` that differ from `FNetConfig`'s, for keys that a file leaves out.
fn bert_defaults() -> [(&'static str, Value); 7] {
    [
        ("vocab_size", 30_522.into()),
        ("hidden_act", "gelu".into()),
        ("type_vocab_size", 2.into()),
        ("num_attention_heads", 12.into()),
        ("pad_token_id", 0.into()),
        ("bos_token_id", Value::Null),
        ("eos_token_id", Value::Null),
    ]
}

impl Default for ModelConfig {
    /// The defaults of Transformers' `FNetConfig`.
    fn default() -> Self {
        Self {
            model_type: "fnet".into(),
            vocab_size: 32_000,
            input_width: None,
            hidden_size: 768,
            num_hidden_layers: 12,
            intermediate_size: 3_072,
            hidden_act: "gelu_new".into(),
            hidden_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 4,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(3),
            bos_token_id: Some(1),
            eos_token_id: Some(TokenIds::One(2)),
            tie_word_embeddings: true,
            padding: Padding::Own,
            padding_length: None,
            classifier_pooling: Pooling::default(),
            classifier_standardized: false,
            classifier_linear: false,
            classifier_pairs: Pairs::default(),
            classifier_bag: false,
            classifier_matching: false,
            sentence: None,
            mixers: Vec::new(),
            num_attention_heads: None,
            reservoir: None,
            other: Map::new(),
        }
    }
}

impl ModelConfig {
    /// A preset by name; see [`PRESETS`]. The feed-forward layer is four times the hidden size.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, layers, hidden) = PRESETS.into_iter().find(|preset| preset.0 == name)?;
        Some(Self {
            hidden_size: hidden,
            num_hidden_layers: layers,
            intermediate_size: 4 * hidden,
            ..Self::default()
        })
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a JSON object, or names a model we cannot build.
    pub fn read(path: &Path) -> Result<Self, EncoderError> {
        let bytes = std::fs::read(path).map_err(|source| EncoderError::Io { path: path.into(), source })?;
        Self::from_json(path, &bytes)
    }

    /// As [`read`](Self::read), from the bytes of a file; `path` is for messages.
    pub(crate) fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, EncoderError> {
        Self::from_json_of(path, bytes, "fnet")
    }

    /// As [`from_json`](Self::from_json), for a model of this `family` if the file does not say.
    pub(crate) fn from_json_of(path: &Path, bytes: &[u8], family: &str) -> Result<Self, EncoderError> {
        let format = |message: String| EncoderError::Format { path: path.into(), message };
        if bytes.starts_with(GIT_LFS) {
            return Err(format("is a pointer of Git LFS, not the file: run `git lfs pull`".into()));
        }
        let not = |e: serde_json::Error| format(format!("not a model configuration: {e}"));
        let mut keys: Map<String, Value> = serde_json::from_slice(bytes).map_err(not)?;
        if keys.get("model_type") == Some(&OURS.into())
            && let Some(base) = keys.shift_remove(BASE_MODEL_TYPE)
        {
            keys.insert("model_type".into(), base);
        }
        if keys.get("model_type").is_none_or(Value::is_null) {
            let architecture = keys.get("architectures").and_then(|a| a.get(0)?.as_str()).unwrap_or("");
            let named = [("Bert", "bert"), ("FNet", "fnet")]
                .into_iter()
                .find(|(class, _)| architecture.starts_with(class));
            keys.insert("model_type".into(), named.map_or(family, |named| named.1).into());
        }
        if keys.get("model_type") == Some(&"bert".into()) {
            for (key, value) in bert_defaults() {
                keys.entry(key).or_insert(value);
            }
        }
        let config: Self = serde_json::from_value(keys.into()).map_err(not)?;
        config.check().map_err(|e| format(e.to_string()))?;
        Ok(config)
    }

    /// The mixer of each layer.
    pub fn layer_mixers(&self) -> Vec<MixerKind> {
        if !self.mixers.is_empty() {
            return self.mixers.clone();
        }
        let usual = if self.is_bert() { MixerKind::Attention } else { MixerKind::Fourier };
        vec![usual; self.num_hidden_layers]
    }

    /// The length that every sequence must have, padding included; `None` if each is mixed at its own length.
    pub fn fixed_length(&self) -> Option<usize> {
        let masks_padding = self.layer_mixers().iter().all(|mixer| *mixer == MixerKind::Attention);
        let is_fixed = self.padding == Padding::Fixed && !masks_padding;
        is_fixed.then(|| self.padding_length.unwrap_or(self.max_position_embeddings))
    }

    /// Sets the mixer of each layer, and with it the model's type: attention everywhere is a BERT.
    pub fn set_mixers(&mut self, mixers: Vec<MixerKind>) {
        let is_bert = !mixers.is_empty() && mixers.iter().all(|m| *m == MixerKind::Attention);
        self.model_type = if is_bert { "bert" } else { "fnet" }.into();
        let heads = mixers.contains(&MixerKind::Attention).then(|| self.attention_heads());
        self.num_attention_heads = self.num_attention_heads.or(heads);
        self.mixers = mixers;
    }

    /// The activation of feed-forward layers and of the MLM head.
    ///
    /// # Errors
    /// If `hidden_act` is unknown.
    pub(crate) fn activation(&self) -> Result<Activation, EncoderError> {
        Activation::from_name(&self.hidden_act).ok_or_else(|| {
            let known = Activation::names().collect::<Vec<_>>().join(", ");
            EncoderError::Config(format!("hidden_act is `{}`; known are {known}", self.hidden_act))
        })
    }

    /// Transformers' name for a classifier's kind of problem, if the file has one.
    pub fn problem_type(&self) -> Option<&str> {
        self.other.get("problem_type")?.as_str()
    }

    /// Heads of attention layers.
    pub fn attention_heads(&self) -> usize {
        self.num_attention_heads.unwrap_or((self.hidden_size / 64).max(1))
    }

    fn is_bert(&self) -> bool {
        self.model_type == "bert"
    }

    /// The prefix of the encoder's tensor names.
    pub(crate) fn prefix(&self) -> &str {
        &self.model_type
    }

    /// The prefix of a layer's tensor names.
    pub(crate) fn layer_name(&self, index: usize) -> String {
        format!("{}.encoder.layer.{index}", self.prefix())
    }

    /// Whether a projection follows the embeddings: in FNet, not in BERT.
    pub(crate) fn has_projection(&self) -> bool {
        !self.is_bert()
    }

    /// Bytes of the encoder's matrices, before anything is allocated.
    pub fn weight_bytes(&self) -> usize {
        usize::try_from(4 * self.encoder_weights()).unwrap_or(usize::MAX)
    }

    /// Weights of the encoder's matrices: the least that a weight file must hold.
    pub(crate) fn encoder_weights(&self) -> u128 {
        let wide = |n: usize| n as u128;
        let h = wide(self.hidden_size);
        let inputs = wide(self.input_width.unwrap_or(0));
        let rows =
            inputs + wide(self.vocab_size) + wide(self.max_position_embeddings) + wide(self.type_vocab_size);
        let longest = wide(self.max_position_embeddings);
        let mixing = |mixer: &MixerKind| match mixer {
            MixerKind::Attention => 4 * h * h,
            MixerKind::Linear | MixerKind::Random => h * h + longest * longest,
            MixerKind::Mlp => h * longest,
            _ => 0,
        };
        let mixing: u128 = self.layer_mixers().iter().map(mixing).sum();
        let projection = if self.has_projection() { h * h } else { 0 };
        h * rows + projection + mixing + wide(self.num_hidden_layers) * 2 * h * wide(self.intermediate_size)
    }

    /// Whether a classifier reads word embeddings, which vectors do not have.
    pub(crate) fn reads_words(&self) -> bool {
        let of_texts = self.sentence.iter().map(|sentence| &sentence.pooling);
        let mut pools = of_texts.chain([&self.classifier_pooling]).flat_map(Pooling::pools);
        self.classifier_bag || self.classifier_matching || pools.any(|pool| pool.reads_words())
    }

    /// Refuses what cannot be built, before anything is allocated.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn check(&self) -> Result<(), EncoderError> {
        let fail = |message: String| Err(EncoderError::Config(message));
        if !["fnet", "bert"].contains(&self.model_type.as_str()) {
            return fail(format!(
                "model_type is `{}`; only `fnet` and `bert` can be opened",
                self.model_type
            ));
        }
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("input_width", self.input_width.unwrap_or(1)),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            if value == 0 || value > u32::MAX as usize {
                return fail(format!("{key} is {value}; it must be from 1 to {}", u32::MAX));
            }
        }
        if self.num_hidden_layers > 10_000 {
            return fail(format!("{} layers are more weights than anyone has", self.num_hidden_layers));
        }
        // A reservoir's weights are in no file, but they are allocated.
        let reservoirs = self.mixers.iter().filter(|m| **m == MixerKind::Reservoir).count();
        let values = self.encoder_weights() + (reservoirs * 2) as u128 * (self.hidden_size as u128).pow(2);
        if values > MOST_VALUES as u128 {
            return fail(format!("{values} weights are more than this program will allocate"));
        }
        self.activation()?;
        if !(0.0..1.0).contains(&self.hidden_dropout_prob) {
            return fail(format!(
                "hidden_dropout_prob is {}; it must be from 0 to below 1",
                self.hidden_dropout_prob
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return fail(format!("layer_norm_eps is {}; it must be above 0", self.layer_norm_eps));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            return fail(format!("initializer_range is {}", self.initializer_range));
        }
        if !self.mixers.is_empty() && self.mixers.len() != self.num_hidden_layers {
            return fail(format!(
                "mixers lists {} layers, num_hidden_layers is {}",
                self.mixers.len(),
                self.num_hidden_layers
            ));
        }
        // A setting that changes the result and is not supported here must not be ignored.
        let other = |key: &str| self.other.get(key).unwrap_or(&Value::Null);
        let positions = other("position_embedding_type").as_str().unwrap_or("absolute");
        if positions != "absolute" {
            return fail(format!("position_embedding_type is `{positions}`; only `absolute` is computed"));
        }
        for key in ["is_decoder", "add_cross_attention"] {
            if other(key) == &Value::Bool(true) {
                return fail(format!("{key} is true; only encoders can be opened"));
            }
        }
        // In Transformers that takes the leading part of a longer sequence's transform.
        if other("use_tpu_fourier_optimizations") == &Value::Bool(true)
            && self.max_position_embeddings <= 4_096
        {
            return fail(
                "use_tpu_fourier_optimizations is true, which changes the mixing; set it to false".into(),
            );
        }
        // The pooler's matrix, and the classifier's if both texts are concatenated.
        let pools = self.classifier_pooling.pools();
        if pools.contains(&Pool::Input) && self.input_width.is_none() {
            return fail("classifier_pooling reads input vectors, and the model reads tokens alone".into());
        }
        let of_pool = |pool: &Pool| match pool {
            Pool::Input => self.input_width.unwrap_or(0) as u128,
            Pool::Layers => (self.num_hidden_layers as u128 + 1) * self.hidden_size as u128,
            _ => self.hidden_size as u128,
        };
        let read: u128 = pools.iter().map(of_pool).sum();
        if 2 * read * read > MOST_VALUES as u128 {
            return fail(format!(
                "classifier_pooling reads {read} values, more than this program will allocate"
            ));
        }
        if let Some(sentence) = &self.sentence {
            let read: u128 = sentence.pooling.pools().iter().map(of_pool).sum();
            sentence.check(read, MOST_VALUES as u128).or_else(fail)?;
        }
        let mixers = self.layer_mixers();
        if self.is_bert() && mixers.iter().any(|m| *m != MixerKind::Attention) {
            return fail("model_type is `bert`, whose mixers are all attention".into());
        }
        let heads = self.attention_heads();
        if mixers.contains(&MixerKind::Attention) && (heads == 0 || !self.hidden_size.is_multiple_of(heads)) {
            return fail(format!(
                "{heads} attention heads do not divide the hidden size {}",
                self.hidden_size
            ));
        }
        if let Some(reservoir) = &self.reservoir {
            reservoir.check()?;
        }
        Ok(())
    }
}
