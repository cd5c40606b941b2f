//! Adapters: the tensors that were trained on a frozen trunk, stored without it.

use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::open::{head_of, open_with};
use super::save::{config_to_json, tensors_to_bytes};
use super::weight_files::WeightFiles;
use super::{CONFIG_FILE, Source, WeightType};
use crate::whole_file::write_whole;
use crate::{EncoderError, Fingerprint, Head, Model, ModelConfig, TensorInfo, Trunk};

/// The weights in an adapter's folder.
pub const ADAPTER_FILE: &str = "adapter.safetensors";
/// What an adapter belongs to.
pub const ADAPTER_INFO_FILE: &str = "adapter.json";

/// What an adapter belongs to, and how small it is: `adapter.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo<T> {
    /// Where its trunk is.
    pub trunk: T,
    /// A fingerprint of the trunk's weights, in hexadecimal: a trunk that has changed is refused.
    pub trunk_fingerprint: String,
    /// Values in the adapter.
    pub values: usize,
    /// Values in the whole model.
    pub of_values: usize,
}

/// A trunk to be opened under an adapter.
#[derive(Debug, Clone, Copy)]
pub enum TrunkSource<'a> {
    /// A pretrained model.
    Pretrained(Source<'a>),
    /// Random weights, which follow from a seed.
    Seed(u64),
}

impl<T: DeserializeOwned> AdapterInfo<T> {
    /// Reads an adapter's `adapter.json`.
    ///
    /// # Errors
    /// If it cannot be read or is broken.
    pub fn read(folder: &Path) -> Result<Self, EncoderError> {
        let path = folder.join(ADAPTER_INFO_FILE);
        let bytes = std::fs::read(&path).map_err(|source| EncoderError::Io { path: path.clone(), source })?;
        serde_json::from_slice(&bytes)
            .map_err(|e| EncoderError::Format { path, message: format!("does not describe an adapter: {e}") })
    }
}

/// Writes the tensors that `is_own` names, which are not the trunk's, with `config.json` and what they belong to. The model
/// stands alone or on its trunk.
///
/// # Errors
/// If a file cannot be written; the previous files are then intact.
pub fn save_adapter<T: Serialize>(
    model: &Model,
    is_own: impl Fn(&str) -> bool,
    trunk: &T,
    folder: &Path,
) -> Result<(), EncoderError> {
    let table = model.parameters().table();
    let own: Vec<&TensorInfo> = table.iter().filter(|tensor| is_own(&tensor.name)).collect();
    let info = AdapterInfo {
        trunk,
        trunk_fingerprint: fingerprint(model, &is_own)?,
        values: own.iter().map(|tensor| tensor.len()).sum(),
        of_values: whole_table(model)?.iter().map(TensorInfo::len).sum(),
    };
    let info = serde_json::to_string_pretty(&info).unwrap_or_default() + "\n";
    write_whole(&folder.join(CONFIG_FILE), config_to_json(model, WeightType::Float32).as_bytes())?;
    write_whole(&folder.join(ADAPTER_INFO_FILE), info.as_bytes())?;
    write_whole(&folder.join(ADAPTER_FILE), &tensors_to_bytes(model, &own, WeightType::Float32)?)
}

/// The tensors that the model would have if it stood alone.
fn whole_table(model: &Model) -> Result<Vec<TensorInfo>, EncoderError> {
    match model.trunk() {
        None => Ok(model.parameters().table().to_vec()),
        Some(_) => Ok(Model::shaped(model.config().clone(), model.head())?.parameters().table().to_vec()),
    }
}

/// Names of the tensors in an adapter's folder.
///
/// # Errors
/// If its file is missing or broken.
pub fn adapter_tensors(folder: &Path) -> Result<Vec<String>, EncoderError> {
    let file = folder.join(ADAPTER_FILE);
    let weights = WeightFiles::open(Source::Path(&file))?;
    Ok(weights.names().map(ToString::to_string).collect())
}

/// Opens an adapter on its trunk.
///
/// # Errors
/// If a file is missing or broken, a tensor does not fit, or the trunk is not the one that the adapter was trained on.
pub fn open_adapter(folder: &Path, trunk: TrunkSource) -> Result<Model, EncoderError> {
    let Described { info, config, head, .. } = Described::read(folder)?;
    let mut model = match trunk {
        TrunkSource::Seed(seed) => Model::new(config, head, seed)?,
        TrunkSource::Pretrained(source) => open_with(source, head, 0, |own| *own = config)?.0,
    };
    let file = folder.join(ADAPTER_FILE);
    let weights = WeightFiles::open(Source::Path(&file))?;
    read_own(&file, &weights, &mut model)?;
    let is_own = |name: &str| weights.shape(name).is_some();
    if fingerprint(&model, is_own)? != info.trunk_fingerprint {
        return Err(another_trunk(&file));
    }
    Ok(model)
}

/// Opens the trunk of an adapter, to be shared.
///
/// # Errors
/// If a file is missing or broken.
pub fn open_trunk(folder: &Path, trunk: TrunkSource) -> Result<Trunk, EncoderError> {
    let Described { config, .. } = Described::read(folder)?;
    let model = match trunk {
        TrunkSource::Seed(seed) => Model::new(config, Head::Encoder, seed)?,
        TrunkSource::Pretrained(source) => open_with(source, Head::Encoder, 0, |_| {})?.0,
    };
    Ok(Trunk::new(model))
}

/// Opens an adapter on a trunk that is in memory already, and stays the only copy of its weights.
///
/// # Errors
/// As [`open_adapter`]; if the adapter changes layers beside their norms.
pub fn open_adapter_on(folder: &Path, trunk: &Trunk) -> Result<Model, EncoderError> {
    let Described { info, config, head, whole } = Described::read(folder)?;
    let file = folder.join(ADAPTER_FILE);
    let weights = WeightFiles::open(Source::Path(&file))?;
    let names: Vec<&str> = weights.names().collect();
    let shared = trunk.model().parameters();
    // What is neither the adapter's nor the trunk's has no values.
    let mut print = Fingerprint::default();
    for tensor in whole.iter().filter(|tensor| weights.shape(&tensor.name).is_none()) {
        let held = shared.table().iter().find(|held| held.name == tensor.name && held.shape == tensor.shape);
        let Some(held) = held else { return Err(another_trunk(&file)) };
        add(&mut print, &tensor.name, &shared.values()[held.range()]);
    }
    if format!("{:016x}", print.value()) != info.trunk_fingerprint {
        return Err(another_trunk(&file));
    }
    let mut model = trunk.adapter(config, head, &names)?;
    read_own(&file, &weights, &mut model)?;
    Ok(model)
}

/// An adapter's folder without its weights.
struct Described {
    info: AdapterInfo<IgnoredAny>,
    config: ModelConfig,
    head: Head,
    /// All tensors, the adapter's and its trunk's.
    whole: Vec<TensorInfo>,
}

impl Described {
    fn read(folder: &Path) -> Result<Self, EncoderError> {
        let info = AdapterInfo::read(folder)?;
        let config = ModelConfig::read(&folder.join(CONFIG_FILE))?;
        let head = head_of(&config).unwrap_or(Head::Encoder);
        // Before anything is allocated: a random trunk has no file that limits it.
        let whole = Model::shaped(config.clone(), head)?.parameters().table().to_vec();
        let values: usize = whole.iter().map(TensorInfo::len).sum();
        if values != info.of_values {
            let message =
                format!("names a model of {values} values, the adapter belongs to one of {}", info.of_values);
            return Err(EncoderError::Format { path: folder.join(CONFIG_FILE), message });
        }
        Ok(Self { info, config, head, whole })
    }
}

fn another_trunk(file: &Path) -> EncoderError {
    let message = "belongs to another trunk, or its trunk has changed since".into();
    EncoderError::Format { path: file.into(), message }
}

/// Reads an adapter's weights into a model.
fn read_own(file: &Path, weights: &WeightFiles, model: &mut Model) -> Result<(), EncoderError> {
    let fail = |message: String| Err(EncoderError::Format { path: file.into(), message });
    let table = model.parameters().table().to_vec();
    for name in weights.names() {
        let Some(tensor) = table.iter().find(|tensor| tensor.name == name) else {
            return fail(format!("has {name}, which the model lacks"));
        };
        if weights.shape(name) != Some(tensor.shape.as_slice()) {
            return fail(format!("{name} is {:?}, not {:?}", weights.shape(name), tensor.shape));
        }
        weights.read(tensor, &mut model.parameters_mut().values_mut()[tensor.range()])?;
    }
    Ok(())
}

/// Of the weights that are the trunk's.
fn fingerprint(model: &Model, is_own: impl Fn(&str) -> bool) -> Result<String, EncoderError> {
    let (mut fingerprint, trunk) = (Fingerprint::default(), model.trunk());
    for tensor in whole_table(model)?.iter().filter(|tensor| !is_own(&tensor.name)) {
        let shared = || trunk.as_ref().and_then(|trunk| trunk.model().parameters().get(&tensor.name));
        let values = model.parameters().get(&tensor.name).or_else(shared).unwrap_or_default();
        add(&mut fingerprint, &tensor.name, values);
    }
    Ok(format!("{:016x}", fingerprint.value()))
}

fn add(fingerprint: &mut Fingerprint, name: &str, values: &[f32]) {
    name.bytes().for_each(|byte| fingerprint.add(u64::from(byte)));
    values.iter().for_each(|value| fingerprint.add(u64::from(value.to_bits())));
}
