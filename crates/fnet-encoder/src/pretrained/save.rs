//! Writing a model folder that Transformers opens.

use std::borrow::Cow;
use std::path::Path;

use half::bf16;
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::static_embedding::{self, STATIC_WORDS, has_static_words};
use super::{CONFIG_FILE, TIED_BIAS, WEIGHTS_FILE};
use crate::TensorInfo;
use crate::config::{BASE_MODEL_TYPE, OURS};
use crate::heads::UNTIED_BIAS;
use crate::mixers::{Mixer, MixerKind};
use crate::pooling::Pairs;
use crate::whole_file::write_whole;
use crate::{EncoderError, Head, Model, ModelConfig};

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightType {
    /// Four bytes per weight: a model opened again is bit for bit the one that was saved.
    #[default]
    Float32,
    /// Two bytes per weight, which keep three digits: half the size.
    Bfloat16,
}

impl WeightType {
    /// Its name in `config.json`.
    fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }
}

struct View<'a> {
    shape: &'a [usize],
    values: &'a [f32],
    stored: WeightType,
}

impl safetensors::View for View<'_> {
    fn dtype(&self) -> Dtype {
        match self.stored {
            WeightType::Float32 => Dtype::F32,
            WeightType::Bfloat16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.iter();
        let bytes: Vec<u8> = match self.stored {
            WeightType::Float32 => values.flat_map(|v| v.to_le_bytes()).collect(),
            WeightType::Bfloat16 => values.flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        let bytes = match self.stored {
            WeightType::Float32 => 4,
            WeightType::Bfloat16 => 2,
        };
        self.values.len() * bytes
    }
}

/// The bytes of `model.safetensors`.
///
/// # Errors
/// If the tensors cannot be serialised.
pub fn weights_to_bytes(model: &Model, stored: WeightType) -> Result<Vec<u8>, EncoderError> {
    let parameters = model.parameters();
    // Transformers' BertForMaskedLM has no pooler, its FNetForMaskedLM has one.
    let is_bare_bert = !model.config().has_projection() && model.head() == Head::MaskedLm;
    let table = parameters.table();
    let values = parameters.values();
    let saved = table.iter().filter(|info| !(is_bare_bert && info.name.contains(".pooler.")));
    // Transformers looks for both biases.
    let repeated = table.iter().find(|info| info.name == UNTIED_BIAS);
    let mut fixed = fixed_weights(model);
    if is_static(model, stored) {
        let (shape, words) = static_embedding::words(model);
        fixed.push((STATIC_WORDS.into(), shape, words));
    }
    let views = saved
        .map(|info| (info.name.as_str(), info))
        .chain(repeated.map(|info| (TIED_BIAS, info)))
        .map(|(name, info)| (name, View { shape: &info.shape, values: &values[info.range()], stored }))
        // Weights that follow from the configuration, or from others, and must be the same in every program.
        .chain(fixed.iter().map(|(name, shape, values)| {
            (name.as_str(), View { shape, values, stored: WeightType::Float32 })
        }));
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize(views, Some(metadata))
        .map_err(|e| EncoderError::Format { path: WEIGHTS_FILE.into(), message: e.to_string() })
}

/// The bytes of a file of some tensors.
pub(super) fn tensors_to_bytes(
    model: &Model,
    tensors: &[&TensorInfo],
    stored: WeightType,
) -> Result<Vec<u8>, EncoderError> {
    let values = model.parameters().values();
    let views = tensors
        .iter()
        .map(|info| (info.name.as_str(), View { shape: &info.shape, values: &values[info.range()], stored }));
    safetensors::serialize(views, None)
        .map_err(|e| EncoderError::Format { path: WEIGHTS_FILE.into(), message: e.to_string() })
}

/// The fixed weights of mixers, by their names in Transformers' model.
fn fixed_weights(model: &Model) -> Vec<(String, [usize; 2], Vec<f32>)> {
    let of_layer = |(i, mixer): (usize, &dyn Mixer)| {
        let place = model.config().layer_name(i);
        let named = |(name, shape, values)| (format!("{place}.{name}"), shape, values);
        mixer.fixed_weights().into_iter().map(named).collect::<Vec<_>>()
    };
    model.mixers().enumerate().flat_map(of_layer).collect()
}

/// The problem type of a model with several labels per example, which are not predicted here.
pub const MULTI_LABEL: &str = "multi_label_classification";

/// The text of `config.json`, with the head's architecture, and how the weights next to it are written.
pub fn config_to_json(model: &Model, stored: WeightType) -> String {
    let mut config = model.config().clone();
    let family = if config.has_projection() { "FNet" } else { "Bert" };
    let task = match model.head() {
        Head::Encoder | Head::Sentence => "Model",
        Head::MaskedLm => "ForMaskedLM",
        Head::PreTraining => "ForPreTraining",
        Head::NextSentence => "ForNextSentencePrediction",
        Head::Classification { .. } | Head::Regression => "ForSequenceClassification",
        Head::Tokens { .. } => "ForTokenClassification",
    };
    let architecture = format!("{family}{task}");
    config.other.insert("architectures".into(), json!([architecture]));
    config.other.remove("torch_dtype"); // the key's old name
    config.other.insert("dtype".into(), json!(stored.name()));
    let is_ours = is_ours_alone(&config);
    config.other.remove("auto_map");
    if is_ours {
        let class = |class: &str| json!(format!("{MODELING_MODULE}.{class}"));
        let classes = Map::from_iter(AUTO_CLASSES.map(|(auto, ours)| (auto.to_string(), class(ours))));
        config.other.insert("auto_map".into(), classes.into());
    }
    if is_ours || config.sentence.is_some() {
        config.other.insert(BASE_MODEL_TYPE.into(), json!(config.model_type));
    }
    if config.model_type == "bert" {
        config.num_attention_heads = Some(config.attention_heads());
    }
    let problem = match model.head() {
        Head::Regression => Some("regression"),
        Head::Classification { .. } if config.problem_type() == Some(MULTI_LABEL) => Some(MULTI_LABEL),
        Head::Classification { .. } => Some("single_label_classification"),
        _ => None,
    };
    if let Some(problem) = problem {
        config.other.insert("problem_type".into(), json!(problem));
    }
    if problem.is_some() || matches!(model.head(), Head::Tokens { .. }) {
        let labels = model.head().outputs();
        if config.other.get("id2label").and_then(Value::as_object).map(Map::len) != Some(labels) {
            set_labels(&mut config, &usual_labels(labels));
        }
    }
    if is_ours {
        config.model_type = OURS.into();
    }
    config.other.sort_keys(); // the same bytes after a file has been read back
    serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
}

/// The code that opens in Transformers what it does not know; folders that need it contain it.
pub const MODELING_FILE: &str = "modeling_fnet_mixing.py";
const MODELING_MODULE: &str = "modeling_fnet_mixing";
const MODELING_CODE: &str = include_str!("modeling_fnet_mixing.py");
/// Transformers' classes by which a folder is opened, and the classes in that code.
const AUTO_CLASSES: [(&str, &str); 7] = [
    ("AutoConfig", "MixingConfig"),
    ("AutoModel", "MixingModel"),
    ("AutoModelForMaskedLM", "MixingForMaskedLM"),
    ("AutoModelForPreTraining", "MixingForPreTraining"),
    ("AutoModelForNextSentencePrediction", "MixingForNextSentencePrediction"),
    ("AutoModelForSequenceClassification", "MixingForSequenceClassification"),
    ("AutoModelForTokenClassification", "MixingForTokenClassification"),
];

/// The modules of a folder that sentence-transformers opens.
pub const MODULES_FILE: &str = "modules.json";
/// The code that it opens them by.
pub const VECTORS_FILE: &str = "sentence_vectors.py";
/// The class in that code.
pub(super) const VECTORS_CLASS: &str = "SentenceVectors";
const VECTORS_CODE: &str = include_str!("sentence_vectors.py");

/// Whether sentence-transformers can do without our code. Rounded weights would not give the same vectors.
fn is_static(model: &Model, stored: WeightType) -> bool {
    stored == WeightType::Float32 && has_static_words(model)
}

/// The files of code, and of what names it, that other programs need to open a folder.
fn code_of(model: &Model, stored: WeightType) -> Vec<(&'static str, String)> {
    let (mut files, config) = (Vec::new(), model.config());
    if is_ours_alone(config) || config.sentence.is_some() {
        files.push((MODELING_FILE, MODELING_CODE.to_string()));
    }
    if config.sentence.is_some() {
        let modules = if is_static(model, stored) {
            static_embedding::modules()
        } else {
            files.push((VECTORS_FILE, VECTORS_CODE.to_string()));
            let class = format!("sentence_vectors.{VECTORS_CLASS}");
            json!([{"idx": 0, "name": "0", "path": "", "type": class}])
        };
        files.push((MODULES_FILE, serde_json::to_string_pretty(&modules).unwrap_or_default() + "\n"));
    }
    files
}

/// Whether Transformers' own classes would compute something else, or nothing.
fn is_ours_alone(config: &ModelConfig) -> bool {
    let mixers = config.layer_mixers();
    let usual = if config.has_projection() { MixerKind::Fourier } else { MixerKind::Attention };
    let reads_as_theirs = config.classifier_pooling.is_first()
        && config.classifier_pairs == Pairs::Together
        && !(config.classifier_standardized || config.classifier_linear);
    !(reads_as_theirs && !config.classifier_bag && mixers.iter().all(|mixer| *mixer == usual))
}

/// Names a classifier's labels in the configuration, as Transformers does.
pub fn set_labels(config: &mut ModelConfig, labels: &[String]) {
    let ids = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l)));
    config.other.insert("id2label".into(), Value::Object(ids.collect()));
    let names = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i)));
    config.other.insert("label2id".into(), Value::Object(names.collect()));
}

/// The names that Transformers gives to labels without one, and leaves out of its files.
fn usual_labels(labels: usize) -> Vec<String> {
    (0..labels).map(|i| format!("LABEL_{i}")).collect()
}

/// A classifier's labels in the order of its outputs; `None` if some are named and others not.
pub fn labels_of(config: &ModelConfig, head: Head) -> Option<Vec<String>> {
    let Some(ids) = config.other.get("id2label") else { return Some(usual_labels(head.outputs())) };
    let ids = ids.as_object().filter(|ids| ids.len() == head.outputs())?;
    let name = |label: &Value| match label {
        Value::String(name) => Some(name.clone()),
        Value::Number(_) | Value::Bool(_) => Some(label.to_string()),
        _ => None,
    };
    (0..ids.len()).map(|i| name(ids.get(&i.to_string())?)).collect()
}

/// Writes `config.json` and `model.safetensors` into an existing folder, with the code that opens them in
/// Transformers if its own cannot.
///
/// # Errors
/// If a file cannot be written; the previous files are then intact.
pub fn save(model: &Model, folder: &Path) -> Result<(), EncoderError> {
    save_as(model, folder, WeightType::Float32)
}

/// As [`save`], with the weights written in another way.
///
/// # Errors
/// As [`save`].
pub fn save_as(model: &Model, folder: &Path, stored: WeightType) -> Result<(), EncoderError> {
    for (name, text) in code_of(model, stored) {
        write_whole(&folder.join(name), text.as_bytes())?;
    }
    write_whole(&folder.join(CONFIG_FILE), config_to_json(model, stored).as_bytes())?;
    write_whole(&folder.join(WEIGHTS_FILE), &weights_to_bytes(model, stored)?)
}
