//! Model folders in Hugging Face's layout: `config.json` and weights.

mod adapter;
mod open;
mod pickle;
mod save;
mod sentence_transformers;
mod source;
mod static_embedding;
mod stored;
mod torch;
mod weight_files;

pub use adapter::{
    ADAPTER_FILE, ADAPTER_INFO_FILE, AdapterInfo, TrunkSource, adapter_tensors, open_adapter,
    open_adapter_on, open_trunk, save_adapter,
};
pub use open::{
    Inspection, Report, folder_of, inspect, open, open_as, open_reported, open_with, read_config, some_of,
};
pub use save::{
    MODELING_FILE, MODULES_FILE, MULTI_LABEL, VECTORS_FILE, WeightType, config_to_json, labels_of, save,
    save_as, set_labels, weights_to_bytes,
};
pub use source::Source;

/// The weights in a model folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The configuration in a model folder.
pub const CONFIG_FILE: &str = "config.json";
/// The MLM head's bias where its matrix is the word embedding.
const TIED_BIAS: &str = "cls.predictions.bias";
