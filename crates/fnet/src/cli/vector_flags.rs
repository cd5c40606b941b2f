//! How vectors of texts are made.

use std::path::PathBuf;

use clap::Args;
use fnet_encoder::Pooling;
use fnet_train::Result;
use fnet_train::base_model::BaseModel;

use super::opened::{InferenceFlags, Opened};

/// Which model makes vectors, and what is done with them.
#[derive(Args)]
pub struct VectorFlags {
    /// Folder of the model, also one of sentence-transformers; by default the one that ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The vector of a text: first, last, mean, max, embeddings or others, or several side by side, joined by +; by default
    /// what the model was trained to read, else the mean
    #[arg(long, alias = "pool", value_name = "VECTORS")]
    pooling: Option<Pooling>,
    /// Keep so many of a vector's leading values
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Put the model's prompt of this name before each text
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
}

impl VectorFlags {
    /// The model, ready to make vectors, of length one if `normalize` or the model says so.
    pub fn open(&self, normalize: bool, inference: &InferenceFlags) -> Result<Opened> {
        let base = BaseModel::named(self.model.as_deref())?;
        let mut opened = Opened::open_to_read(&base, self.pooling.clone(), inference)?;
        opened.predictor.set_vectors(self.dimensions, normalize)?;
        if let Some(prompt) = &self.prompt {
            opened.predictor.set_prompt(prompt)?;
        }
        Ok(opened)
    }
}
