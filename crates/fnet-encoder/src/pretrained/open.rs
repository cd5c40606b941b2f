//! Opening a model folder: which head it has, which tensors there are, and reading them.

use std::collections::HashSet;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::static_embedding::STATIC_WORDS;
use super::weight_files::WeightFiles;
use super::{Source, TIED_BIAS, sentence_transformers};
use crate::embeddings::{INPUT, words_name};
use crate::heads::{BAG_WORDS, UNTIED_BIAS};
use crate::{EncoderError, Head, Model, ModelConfig, TensorInfo};

/// How the tensors in a folder differ from those of the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Tensors of the model that the file lacks; they keep their fresh values.
    pub missing: Vec<String>,
    /// Tensors of the file that the model does not use.
    pub unused: Vec<String>,
    /// Tensors whose shape is not the configuration's, with both shapes. No model is opened with these.
    pub misshapen: Vec<String>,
}

/// Opens a model with the head it was saved with.
///
/// Weight files are memory-mapped. If another program shortens one while it is read, this process ends, by a signal
/// on Unix: replace such files by renaming, as [`save`](super::save) does.
///
/// # Errors
/// If a file is missing, broken or does not fit the configuration; if a weight is missing.
pub fn open<'a>(source: impl Into<Source<'a>>) -> Result<Model, EncoderError> {
    Ok(open_reported(source)?.0)
}

/// As [`open`], and returns the tensors of the file that the model does not use.
///
/// # Errors
/// As [`open`].
pub fn open_reported<'a>(source: impl Into<Source<'a>>) -> Result<(Model, Report), EncoderError> {
    let files = Files::open(source.into())?;
    let (model, report) = files.shape(files.head())?;
    match report.missing.as_slice() {
        [] => Ok((files.fill(model, &report, 0)?, report)),
        missing => Err(files.error(format!("lacks {}", some_of(missing)))),
    }
}

/// The folder that a model is opened from: the path itself, or the folder of a weight file.
pub fn folder_of(path: &Path) -> &Path {
    let folder = if path.is_file() { path.parent() } else { None };
    folder.unwrap_or(path)
}

/// Opens a model under another head: tensors that the file lacks start fresh from `seed`.
///
/// # Errors
/// If a file is missing or broken, a tensor has another shape than the configuration says, a
/// weight is not finite, or the encoder's own tensors are missing.
pub fn open_as<'a>(
    source: impl Into<Source<'a>>,
    head: Head,
    seed: u64,
) -> Result<(Model, Report), EncoderError> {
    open_with(source, head, seed, |_| {})
}

/// As [`open_as`], with other pooling or input: `change` may set `classifier_pooling`, `classifier_standardized`,
/// `classifier_linear`, `classifier_pairs`, `sentence`, `input_width`, and `max_position_embeddings` to a larger number. A pooler of another
/// shape, and the projection of vectors of another width, then start fresh; positions beyond the saved ones start as those, over and over.
///
/// # Errors
/// As [`open_as`].
pub fn open_with<'a>(
    source: impl Into<Source<'a>>,
    head: Head,
    seed: u64,
    change: impl FnOnce(&mut ModelConfig),
) -> Result<(Model, Report), EncoderError> {
    let mut files = Files::open(source.into())?;
    let saved = files.config.clone();
    change(&mut files.config);
    let readout = |config: &ModelConfig| {
        let ModelConfig { classifier_pooling, classifier_standardized, classifier_linear, .. } = config;
        let pooling = (classifier_pooling.clone(), config.sentence.clone());
        (pooling, *classifier_standardized, *classifier_linear, config.classifier_pairs)
    };
    files.has_new_readout = readout(&saved) != readout(&files.config);
    files.has_new_input = saved.input_width != files.config.input_width;
    files.positions = saved.max_position_embeddings;
    let (model, report) = files.shape(head)?;
    Ok((files.fill(model, &report, seed)?, report))
}

/// The configuration of a model folder. Where sentence-transformers' modules say how texts' vectors are made, so does it.
///
/// # Errors
/// If a file is missing or broken, or there are modules that are not computed here.
pub fn read_config<'a>(source: impl Into<Source<'a>>) -> Result<ModelConfig, EncoderError> {
    Ok(Files::open(source.into())?.config)
}

/// The contents of a model folder, from the headers of its files: no weight is read.
///
/// # Errors
/// If a file is missing or broken, or the weights are not those of the configuration.
pub fn inspect<'a>(source: impl Into<Source<'a>>) -> Result<Inspection, EncoderError> {
    let files = Files::open(source.into())?;
    let (model, report) = files.shape(files.head())?;
    Ok(Inspection { report, ..Inspection::of(&model) })
}

/// The contents of a model folder.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Shape and settings.
    pub config: ModelConfig,
    /// The head that it was saved with.
    pub head: Head,
    /// The model's tensors.
    pub tensors: Vec<TensorInfo>,
    /// Floating-point operations per token, at the longest sequence.
    pub flops_per_token: f64,
    /// Bytes of mixing plans, at most.
    pub plan_bytes: usize,
    /// Missing and unused tensors.
    pub report: Report,
}

impl Inspection {
    /// Of a model that is open.
    pub fn of(model: &Model) -> Self {
        Self {
            config: model.config().clone(),
            head: model.head(),
            tensors: model.parameters().table().to_vec(),
            flops_per_token: model.flops_per_token(model.config().max_position_embeddings),
            plan_bytes: model.plan_bytes(),
            report: Report::default(),
        }
    }
}

/// A model's configuration, with its weight files mapped.
struct Files<'a> {
    config: ModelConfig,
    weights: WeightFiles<'a>,
    /// Whether the model pools its texts in another way than the saved one.
    has_new_readout: bool,
    /// Whether the model reads vectors of another width than the saved one, or none.
    has_new_input: bool,
    /// Positions of the saved model.
    positions: usize,
}

impl<'a> Files<'a> {
    fn open(source: Source<'a>) -> Result<Self, EncoderError> {
        let (file, text) = source.config()?;
        let mut weights = WeightFiles::open(source)?;
        let mut config = ModelConfig::from_json_of(&file, &text, family_of(weights.names()))?;
        // A file may have the output's bias under either of its names.
        let (wanted, other) =
            if config.tie_word_embeddings { (TIED_BIAS, UNTIED_BIAS) } else { (UNTIED_BIAS, TIED_BIAS) };
        let renamed = if weights.shape(wanted).is_none() { other } else { "" };
        // A bare encoder is saved without its prefix; old files name a norm's weights as in its paper.
        let prefix = format!("{}.", config.prefix());
        let bare = !weights.names().any(|name| name.starts_with(&prefix));
        weights.rename(|name| {
            let part = name.split('.').next().unwrap_or("");
            let prefix =
                if bare && ["embeddings", "encoder", "pooler"].contains(&part) { &prefix } else { "" };
            let modern = match name.rsplit_once("LayerNorm.") {
                Some((place, "gamma")) => format!("{place}LayerNorm.weight"),
                Some((place, "beta")) => format!("{place}LayerNorm.bias"),
                _ if name == renamed => wanted.to_string(),
                _ => name.to_string(),
            };
            format!("{prefix}{modern}")
        });
        if let Source::Path(path) = source
            && let Some(modules) =
                sentence_transformers::modules_of(folder_of(path), config.sentence.is_some())?
        {
            modules.add_to(&mut config, &mut weights)?;
        }
        let positions = config.max_position_embeddings;
        Ok(Self { config, weights, has_new_readout: false, has_new_input: false, positions })
    }

    fn error(&self, message: String) -> EncoderError {
        EncoderError::Format { path: self.weights.path().into(), message }
    }

    /// The shape of a tensor of the model in its files, which may have fewer positions.
    fn saved_shape(&self, info: &TensorInfo) -> Vec<usize> {
        match info.shape.as_slice() {
            [positions, width] if is_positions(&info.name) => vec![self.positions.min(*positions), *width],
            shape => shape.to_vec(),
        }
    }

    /// Whether the tensor is there, with its shape.
    fn has(&self, info: &TensorInfo) -> bool {
        self.weights.shape(&info.name) == Some(self.saved_shape(info).as_slice())
    }

    fn is_pooler(&self, name: &str) -> bool {
        name.strip_prefix(self.config.prefix()).is_some_and(|part| part.starts_with(".pooler."))
    }

    /// Whether it belongs to the readout for texts' vectors, which starts fresh where it is another one than the saved.
    fn is_sentence(&self, name: &str) -> bool {
        name.strip_prefix(self.config.prefix()).is_some_and(|part| part.starts_with(".sentence."))
    }

    /// Whether a tensor of a readout starts fresh.
    fn is_new_readout(&self, name: &str) -> bool {
        self.has_new_readout && (self.is_pooler(name) || self.is_sentence(name))
    }

    /// Whether the projection of vectors starts fresh.
    fn is_new_input(&self, name: &str) -> bool {
        self.has_new_input && name.contains(INPUT)
    }

    /// The head by `architectures`, or else by the weights that are there.
    fn head(&self) -> Head {
        if let Some(head) = head_of(&self.config) {
            return head;
        }
        let has = |name| self.weights.shape(name).is_some();
        match (
            has("cls.predictions.transform.dense.weight"),
            has("cls.seq_relationship.weight"),
            has("classifier.weight"),
        ) {
            (true, true, _) => Head::PreTraining,
            (true, false, _) => Head::MaskedLm,
            (false, true, _) => Head::NextSentence,
            (false, false, true) => classification(&self.config),
            (false, false, false) => Head::Encoder,
        }
    }

    /// The model without its weights, and which of them there are.
    fn shape(&self, head: Head) -> Result<(Model, Report), EncoderError> {
        let config = &self.config;
        let words = &words_name(config);
        let Some(shape) = self.weights.shape(words) else { return Err(self.error(format!("lacks {words}"))) };
        let expected = [config.vocab_size, config.hidden_size];
        if shape != expected {
            return Err(self.error(format!("{words} is {shape:?}, config.json says {expected:?}")));
        }
        let lacks = |layer: &usize| {
            self.weights.shape(&format!("{}.output.dense.weight", config.layer_name(*layer))).is_none()
        };
        if let Some(layer) = (0..config.num_hidden_layers).find(lacks) {
            let layers = config.num_hidden_layers;
            return Err(self.error(format!("lacks layer {layer} of the {layers} that config.json names")));
        }
        // At least two bytes per weight: a false size is refused before it is allocated.
        let saved = ModelConfig { max_position_embeddings: self.positions, ..config.clone() };
        if saved.encoder_weights() * 2 > self.weights.len() as u128 {
            return Err(self.error(format!(
                "holds {} bytes, too few for the {} weights that config.json names",
                self.weights.len(),
                saved.encoder_weights()
            )));
        }
        let model = Model::shaped(config.clone(), head)?;
        let mut report = Report::default();
        let table = model.parameters().table();
        for info @ TensorInfo { name, shape, .. } in table {
            match self.weights.shape(name) {
                _ if self.has(info) => {}
                // Another task's classifier.
                Some(_) if name.starts_with("classifier.") => report.missing.push(name.clone()),
                Some(_) if self.is_new_input(name) => report.missing.push(name.clone()),
                Some(_) if self.is_new_readout(name) => report.missing.push(name.clone()),
                Some(found) => {
                    report.misshapen.push(format!("{name} is {found:?}, config.json says {shape:?}"));
                }
                // A pooler that nothing reads need not be there: Transformers' BertForMaskedLM has none.
                None if !head.reads_texts() && self.is_pooler(name) && !name.ends_with(".query") => {}
                // A dense layer without a bias.
                None if self.is_sentence(name) && name.ends_with(".bias") && !self.has_new_readout => {}
                None => report.missing.push(name.clone()),
            }
        }
        let known: HashSet<&str> = table.iter().map(|t| t.name.as_str()).collect();
        // The output of a tied head repeats what is there; positions are counted, not read.
        let repeated = |name: &str| {
            name.starts_with("cls.predictions.decoder.")
                || name == TIED_BIAS
                || name.ends_with("embeddings.position_ids")
                || name.contains(".reservoir.") // follows from the configuration
                || name == STATIC_WORDS // follows from other weights
                || self.is_sentence(name) // for another use of the model
        };
        let unused = self.weights.names().filter(|name| !known.contains(name) && !repeated(name));
        report.unused = unused.map(ToString::to_string).collect();
        Ok((model, report))
    }

    /// Reads the weights; missing ones of a head start fresh.
    fn fill(&self, mut model: Model, report: &Report, seed: u64) -> Result<Model, EncoderError> {
        if !report.misshapen.is_empty() {
            return Err(self.error(some_of(&report.misshapen)));
        }
        let encoder = format!("{}.", self.config.prefix());
        let may_be_fresh =
            |name: &str| self.is_pooler(name) || self.is_new_readout(name) || self.is_new_input(name);
        let of_encoder = |name: &&String| name.starts_with(&encoder) && !may_be_fresh(name);
        let lacking: Vec<String> = report.missing.iter().filter(of_encoder).cloned().collect();
        if !lacking.is_empty() {
            return Err(self.error(format!("lacks {}", some_of(&lacking))));
        }
        let parameters = model.parameters_mut();
        parameters.allocate();
        parameters.start_where(seed, |info| !self.has(info));
        let has_bag = report.missing.iter().any(|name| name == BAG_WORDS);
        let table = parameters.table().to_vec();
        let mut rest = parameters.values_mut();
        let mut tensors = Vec::with_capacity(table.len());
        for info in &table {
            let (values, after) = std::mem::take(&mut rest).split_at_mut(info.len());
            rest = after;
            if self.has(info) {
                tensors.push((info, values));
            }
        }
        tensors.into_par_iter().try_for_each(|(info, values)| {
            let (saved, more) = values.split_at_mut(self.saved_shape(info).iter().product());
            self.weights.read(info, saved)?;
            more.chunks_mut(saved.len().max(1)).for_each(|more| more.copy_from_slice(&saved[..more.len()]));
            Ok::<_, EncoderError>(())
        })?;
        if has_bag {
            model.parameters_mut().copy(&words_name(&self.config), BAG_WORDS);
        }
        Ok(model)
    }
}

/// Whether a tensor has a row for each position.
fn is_positions(name: &str) -> bool {
    name.ends_with("embeddings.position_embeddings.weight")
}

/// The family whose tensors have such names, for configurations that do not name it.
fn family_of<'a>(mut names: impl Iterator<Item = &'a str>) -> &'static str {
    let is_bert = |name: &str| name.starts_with("bert.") || name.contains("attention.self.query");
    if names.any(is_bert) { "bert" } else { "fnet" }
}

/// The first few of a list, and how many more there are.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() <= SHOWN { shown } else { format!("{shown}, and {} more", names.len() - SHOWN) }
}

/// The head that a configuration was saved with, by its `architectures`; `None` if there are none.
pub(super) fn head_of(config: &ModelConfig) -> Option<Head> {
    let architecture = config.other.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str)?;
    let task = ["FNet", "Bert", "Mixing"].iter().find_map(|family| architecture.strip_prefix(family));
    let task = task.unwrap_or("");
    Some(match task {
        "ForSequenceClassification" => classification(config),
        "ForTokenClassification" => Head::Tokens { labels: classification(config).outputs() },
        "ForPreTraining" => Head::PreTraining,
        "ForNextSentencePrediction" => Head::NextSentence,
        "ForMaskedLM" => Head::MaskedLm,
        _ if config.sentence.is_some() => Head::Sentence,
        _ => Head::Encoder,
    })
}

fn classification(config: &ModelConfig) -> Head {
    let problem = config.problem_type();
    let named = config.other.get("id2label").and_then(Value::as_object).map(Map::len);
    let counted = || config.other.get("num_labels").and_then(Value::as_u64).map(|n| n as usize);
    let labels = named.or_else(counted).unwrap_or(2).max(1);
    // As Transformers decides if it is not told.
    if problem == Some("regression") || (problem.is_none() && labels == 1) {
        return Head::Regression;
    }
    Head::Classification { labels }
}
