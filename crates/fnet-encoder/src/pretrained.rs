//! Model folders in Hugging Face's layout: `config.json` and `model.safetensors`.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};

use crate::{EncoderError, Head, Model, ModelConfig, TensorInfo};

/// The weights in a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The configuration in a model folder.
pub const CONFIG_FILE: &str = "config.json";

/// Longest header of a weight file that is believed: thousands of tensors fit in a megabyte.
const LONGEST_HEADER: u64 = 16 << 20;

/// What opening a folder found beside the tensors it wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Tensors of the model that the file lacks; they keep their fresh values.
    pub missing: Vec<String>,
    /// Tensors of the file that the model has no place for.
    pub unused: Vec<String>,
}

/// Opens a model folder with the head it was saved with.
///
/// # Errors
/// If a file is missing, broken or does not fit the configuration; if a weight is missing.
pub fn open(folder: &Path) -> Result<Model, EncoderError> {
    let config = ModelConfig::read(&folder.join(CONFIG_FILE))?;
    let head = head_of(&config);
    let (model, report) = open_as(folder, head, 0)?;
    match report.missing.as_slice() {
        [] => Ok(model),
        missing => Err(EncoderError::Format {
            path: folder.join(WEIGHTS_FILE),
            message: format!("lacks {}", missing.join(", ")),
        }),
    }
}

/// Opens a model folder under another head: tensors that the file lacks start fresh from `seed`.
///
/// # Errors
/// If a file is missing or broken, a tensor has another shape than the configuration says, a
/// weight is not finite, or the encoder's own tensors are missing.
pub fn open_as(folder: &Path, head: Head, seed: u64) -> Result<(Model, Report), EncoderError> {
    let config = ModelConfig::read(&folder.join(CONFIG_FILE))?;
    let path = folder.join(WEIGHTS_FILE);
    let format = |message: String| EncoderError::Format { path: path.clone(), message };
    let mapped = map(&path)?;
    check_header(&mapped).map_err(&format)?;
    let tensors = SafeTensors::deserialize(&mapped)
        .map_err(|e| format(format!("not a whole safetensors file: {e}")))?;
    let words = &format!("{}.embeddings.word_embeddings.weight", config.prefix());
    let shape = tensors.tensor(words).map_err(|_| format(format!("lacks {words}")))?.shape().to_vec();
    if shape != [config.vocab_size, config.hidden_size] {
        return Err(format(format!(
            "{words} is {shape:?}, config.json says {:?}",
            [config.vocab_size, config.hidden_size]
        )));
    }
    if let Some(layer) = (0..config.num_hidden_layers)
        .find(|i| tensors.tensor(&format!("{}.output.dense.weight", config.layer_name(*i))).is_err())
    {
        return Err(format(format!(
            "lacks layer {layer} of the {} that config.json names",
            config.num_hidden_layers
        )));
    }
    // Two bytes a weight at least: a false size is refused before it is allocated.
    if config.encoder_weights() * 2 > mapped.len() as u128 {
        return Err(format(format!(
            "holds {} bytes, too few for the {} weights that config.json names",
            mapped.len(),
            config.encoder_weights()
        )));
    }
    let mut model = Model::new(config, head, seed)?;
    let mut report = Report::default();
    let table: Vec<TensorInfo> = model.parameters().table().to_vec();
    for info in &table {
        let Ok(view) = tensors.tensor(&info.name) else {
            // A pooler that nothing reads need not be there: Transformers' BertForMaskedLM has none.
            if head.outputs() > 0 || !info.name.contains(".pooler.") {
                report.missing.push(info.name.clone());
            }
            continue;
        };
        if info.name.starts_with("classifier.") && view.shape() != info.shape {
            report.missing.push(info.name.clone()); // another task's classifier
            continue;
        }
        let values = &mut model.parameters_mut().values_mut()[info.range()];
        read_tensor(&view, info, values).map_err(&format)?;
    }
    let known = |name: &str| table.iter().any(|t| t.name == name);
    report.unused = tensors
        .names()
        .into_iter()
        .filter(|name| !known(name) && !name.starts_with("cls.predictions.decoder."))
        .map(ToString::to_string)
        .collect();
    report.unused.sort();
    let [encoder, pooler] = ["", "pooler."].map(|part| format!("{}.{part}", model.config().prefix()));
    let broken = |name: &&String| name.starts_with(&encoder) && !name.starts_with(&pooler);
    if let Some(name) = report.missing.iter().find(broken) {
        return Err(format(format!("lacks {name}")));
    }
    Ok((model, report))
}

/// The head that a configuration was saved with, by its `architectures`.
pub fn head_of(config: &ModelConfig) -> Head {
    let architecture = config.other.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
    let architecture = architecture.and_then(|a| a.strip_prefix("FNet").or(a.strip_prefix("Bert")));
    match architecture {
        Some("ForSequenceClassification") => {
            let problem = config.other.get("problem_type").and_then(Value::as_str);
            let labels = config.other.get("id2label").and_then(Value::as_object).map_or(2, Map::len);
            if problem == Some("regression") {
                Head::Regression
            } else {
                Head::Classification { labels: labels.max(1) }
            }
        }
        Some("ForPreTraining") => Head::PreTraining,
        _ => Head::MaskedLm,
    }
}

fn map(path: &Path) -> Result<Mmap, EncoderError> {
    let io = |source| EncoderError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: a mapped file that is changed while it is read gives other values; every value is
    // checked after it has been copied out. Files are replaced by renaming, never written in
    // place. Covered by `hostile_files_are_refused`.
    unsafe { Mmap::map(&file) }.map_err(io)
}

/// Refuses a header that is longer than the file, or absurd, before it is parsed.
fn check_header(bytes: &[u8]) -> Result<(), String> {
    let Some(head) = bytes.first_chunk::<8>() else {
        return Err(format!("holds {} bytes, which is no safetensors file", bytes.len()));
    };
    let header = u64::from_le_bytes(*head);
    if header > LONGEST_HEADER || header > bytes.len() as u64 - 8 {
        return Err(format!("names a header of {header} bytes, the file has {}", bytes.len()));
    }
    Ok(())
}

fn read_tensor(view: &TensorView, info: &TensorInfo, values: &mut [f32]) -> Result<(), String> {
    let name = &info.name;
    if view.shape() != info.shape {
        return Err(format!("{name} is {:?}, config.json says {:?}", view.shape(), info.shape));
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => {
            for (value, b) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*b);
            }
        }
        Dtype::BF16 => {
            for (value, b) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        other => return Err(format!("{name} holds {other:?} values; F32 and BF16 are supported")),
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(format!("{name} holds {} at {i}: the weights are broken", values[i])),
        None => Ok(()),
    }
}

struct View<'a> {
    info: &'a TensorInfo,
    values: &'a [f32],
}

impl safetensors::View for View<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// The bytes of `model.safetensors`.
///
/// # Errors
/// If the tensors cannot be serialised.
pub fn weights_to_bytes(model: &Model) -> Result<Vec<u8>, EncoderError> {
    let parameters = model.parameters();
    let views = parameters
        .table()
        .iter()
        .map(|info| (info.name.as_str(), View { info, values: &parameters.values()[info.range()] }));
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize(views, Some(metadata))
        .map_err(|e| EncoderError::Format { path: WEIGHTS_FILE.into(), message: e.to_string() })
}

/// The text of `config.json`, with the head's architecture.
pub fn config_to_json(model: &Model) -> String {
    let mut config = model.config().clone();
    let family = if config.has_projection() { "FNet" } else { "Bert" };
    let task = match model.head() {
        Head::MaskedLm => "MaskedLM",
        Head::PreTraining => "PreTraining",
        Head::Classification { .. } | Head::Regression => "SequenceClassification",
    };
    let architecture = format!("{family}For{task}");
    config.other.insert("architectures".into(), json!([architecture]));
    if model.head() == Head::Regression {
        config.other.insert("problem_type".into(), json!("regression"));
        config.other.insert("id2label".into(), json!({"0": "LABEL_0"}));
        config.other.insert("label2id".into(), json!({"LABEL_0": 0}));
    } else if let Head::Classification { labels } = model.head() {
        config.other.insert("problem_type".into(), json!("single_label_classification"));
        let named = config.other.get("id2label").and_then(Value::as_object).map(Map::len);
        if named != Some(labels) {
            set_labels(&mut config, &(0..labels).map(|i| format!("LABEL_{i}")).collect::<Vec<_>>());
        }
    }
    serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
}

/// Names a classifier's labels in the configuration, as Transformers does.
pub fn set_labels(config: &mut ModelConfig, labels: &[String]) {
    let ids = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l)));
    config.other.insert("id2label".into(), Value::Object(ids.collect()));
    let names = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i)));
    config.other.insert("label2id".into(), Value::Object(names.collect()));
}

/// A classifier's labels in the order of its outputs, where the configuration names them.
pub fn labels_of(config: &ModelConfig) -> Option<Vec<String>> {
    let ids = config.other.get("id2label")?.as_object()?;
    (0..ids.len()).map(|i| Some(ids.get(&i.to_string())?.as_str()?.to_string())).collect()
}

/// Writes `config.json` and `model.safetensors` into an existing folder.
///
/// # Errors
/// If a file cannot be written; what was there before is then still whole.
pub fn save(model: &Model, folder: &Path) -> Result<(), EncoderError> {
    write_whole(&folder.join(CONFIG_FILE), config_to_json(model).as_bytes())?;
    write_whole(&folder.join(WEIGHTS_FILE), &weights_to_bytes(model)?)
}

/// Writes a file aside, syncs it and renames it: at any moment either the old or the new one is there.
///
/// # Errors
/// If the folder cannot be written to; the file is then as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
    let io = |source| EncoderError::Io { path: path.into(), source };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.part", std::process::id())); // two programs may write the same cache
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&aside, path));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    renamed.map_err(io)
}
