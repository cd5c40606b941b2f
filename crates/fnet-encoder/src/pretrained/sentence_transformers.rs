//! Folders of sentence-transformers: `modules.json` says what follows the encoder, in folders of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::save::{MODULES_FILE, VECTORS_CLASS};
use super::static_embedding::STATIC_CLASS;
use super::weight_files::WeightFiles;
use crate::heads::{SentenceConfig, SentenceDense};
use crate::pooling::{Pool, Pooling};
use crate::{EncoderError, ModelConfig};

/// What follows the encoder.
pub(super) struct Modules {
    file: PathBuf,
    sentence: SentenceConfig,
    /// The folder of each dense layer.
    dense: Vec<PathBuf>,
}

/// Sentence-transformers' names of poolings, in the order in which it puts several, and the keys of older versions.
const POOLINGS: [(&str, &str, Pool); 6] = [
    ("cls", "pooling_mode_cls_token", Pool::First),
    ("max", "pooling_mode_max_tokens", Pool::Max),
    ("mean", "pooling_mode_mean_tokens", Pool::Mean),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pool::SqrtMean),
    ("weightedmean", "pooling_mode_weightedmean_tokens", Pool::PositionMean),
    ("lasttoken", "pooling_mode_lasttoken", Pool::Last),
];

/// PyTorch's names of activations, and Transformers'.
const ACTIVATIONS: [(&str, &str); 7] = [
    ("Identity", "linear"),
    ("Tanh", "tanh"),
    ("ReLU", "relu"),
    ("GELU", "gelu"),
    ("Sigmoid", "sigmoid"),
    ("SiLU", "silu"),
    ("Mish", "mish"),
];

/// The modules of a folder; `None` where there are none, or `config.json` says it all: with them, it may name a readout of ours.
pub(super) fn modules_of(folder: &Path, has_readout: bool) -> Result<Option<Modules>, EncoderError> {
    let file = folder.join(MODULES_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let fail = |message: String| Err(EncoderError::Format { path: file.clone(), message });
    let Value::Array(list) = json_of(&file)? else { return fail("is no list of modules".into()) };
    let text = |module: &Value, key: &str| module[key].as_str().unwrap_or("").to_string();
    let modules: Vec<(String, String)> = list
        .iter()
        .map(|module| {
            (text(module, "type").rsplit('.').next().unwrap_or("").to_string(), text(module, "path"))
        })
        .collect();
    let rest = match modules.split_first() {
        Some(((class, _), _)) if class == VECTORS_CLASS => return Ok(None),
        Some(((class, _), _)) if class == STATIC_CLASS && has_readout => return Ok(None),
        Some(((class, path), rest)) if class == "Transformer" && path.is_empty() => rest,
        Some(((class, path), _)) if class == "Transformer" => {
            return fail(format!("keeps its encoder in {path}: move the files there up into this folder"));
        }
        first => {
            let class = first.map_or("nothing", |((class, _), _)| class);
            return fail(format!("begins with {class}; what is opened here begins with Transformer"));
        }
    };
    let (mut pooling, mut dense, mut layers, mut normalize) = (None, Vec::new(), Vec::new(), false);
    for (class, path) in rest {
        if path.contains("..") || Path::new(path).is_absolute() {
            return fail(format!("names the folder `{path}`, which does not lie in this one"));
        }
        let place = folder.join(path);
        match class.as_str() {
            "Pooling" if pooling.is_none() && layers.is_empty() => {
                pooling = Some(pooling_of(&place.join("config.json"))?);
            }
            "Dense" if pooling.is_some() && !normalize => {
                layers.push(dense_of(&place.join("config.json"))?);
                dense.push(place);
            }
            "Normalize" => normalize = true,
            "Dropout" => {}
            _ => return fail(format!("has the module {class} at `{path}`, which is not computed here")),
        }
    }
    let Some(pooling) = pooling else { return fail("has no Pooling after its encoder".into()) };
    Ok(Some(Modules { file, sentence: SentenceConfig { pooling, dense: layers, normalize }, dense }))
}

impl Modules {
    /// Makes them part of a model.
    pub fn add_to(self, config: &mut ModelConfig, weights: &mut WeightFiles) -> Result<(), EncoderError> {
        for (i, folder) in self.dense.iter().enumerate() {
            let name = format!("{}.sentence.{i}", config.prefix());
            weights.join(WeightFiles::at(folder)?, |tensor| match tensor {
                "linear.weight" => Some(format!("{name}.weight")),
                "linear.bias" => Some(format!("{name}.bias")),
                _ => None,
            });
        }
        config.sentence = Some(self.sentence);
        config.check().map_err(|e| EncoderError::Format { path: self.file, message: e.to_string() })
    }
}

fn json_of(file: &Path) -> Result<Value, EncoderError> {
    let text = std::fs::read(file).map_err(|source| EncoderError::Io { path: file.into(), source })?;
    let broken = |e: serde_json::Error| EncoderError::Format { path: file.into(), message: e.to_string() };
    serde_json::from_slice(&text).map_err(broken)
}

fn pooling_of(file: &Path) -> Result<Pooling, EncoderError> {
    let config = json_of(file)?;
    let fail = |message: String| Err(EncoderError::Format { path: file.into(), message });
    if config["include_prompt"] == Value::Bool(false) {
        return fail("leaves the prompt out of the pooling, which is not computed here".into());
    }
    let named: Vec<&str> = match &config["pooling_mode"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => POOLINGS
            .iter()
            .filter(|known| config[known.1] == Value::Bool(true))
            .map(|known| known.0)
            .collect(),
    };
    let mut pools = Vec::new();
    for name in named {
        match POOLINGS.iter().find(|known| known.0 == name) {
            Some((_, _, pool)) => pools.push(*pool),
            None => return fail(format!("pools by `{name}`, which is not computed here")),
        }
    }
    Pooling::new(pools).or_else(|_| fail("names no pooling, or one twice".into()))
}

fn dense_of(file: &Path) -> Result<SentenceDense, EncoderError> {
    let config = json_of(file)?;
    let fail = |message: String| Err(EncoderError::Format { path: file.into(), message });
    let is = |key: &str, usual: &str| config[key].is_null() || config[key] == usual;
    if config["use_residual"] == Value::Bool(true)
        || !is("module_input_name", "sentence_embedding")
        || !is("module_output_name", "sentence_embedding")
    {
        return fail("is no plain dense layer on the pooled vector".into());
    }
    let function = config["activation_function"].as_str().unwrap_or("torch.nn.modules.activation.Tanh");
    let class = function.rsplit('.').next().unwrap_or("");
    let Some((_, activation)) = ACTIVATIONS.iter().find(|known| known.0 == class) else {
        return fail(format!("has the activation {function}, which is not computed here"));
    };
    match config["out_features"].as_u64() {
        Some(outputs) => Ok(SentenceDense { outputs: outputs as usize, activation: (*activation).into() }),
        None => fail("does not say its out_features".into()),
    }
}
