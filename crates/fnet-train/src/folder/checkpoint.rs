//! A run's checkpoint: weights, moments and where the run stands, in one file.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use fnet_encoder::whole_file::{WholeFile, rename};
use fnet_encoder::{Model, Moments};
use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::error::{Error, Result};
use crate::folder::state::State;
use crate::folder::{CHECKPOINT_FILE, RunFolder, remove};

/// A checkpoint that is not in its place yet.
const STAGED_CHECKPOINT_FILE: &str = "state/next.safetensors";

impl RunFolder {
    /// Writes everything that is needed to go on, in one file.
    ///
    /// # Errors
    /// If the folder cannot be written; the earlier checkpoint is then still whole.
    pub fn save_checkpoint(&self, model: &Model, moments: &Moments, state: &State) -> Result<()> {
        write(&self.file(CHECKPOINT_FILE), model, moments, state)
    }

    /// Writes a checkpoint beside the one that there is.
    ///
    /// # Errors
    /// As [`save_checkpoint`](Self::save_checkpoint).
    pub fn stage_checkpoint(&self, model: &Model, moments: &Moments, state: &State) -> Result<()> {
        write(&self.file(STAGED_CHECKPOINT_FILE), model, moments, state)
    }

    /// Puts a staged checkpoint, if there is one, in the place of the earlier one.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn take_checkpoint(&self) -> Result<()> {
        let staged = self.file(STAGED_CHECKPOINT_FILE);
        if !staged.exists() {
            return Ok(());
        }
        let path = self.file(CHECKPOINT_FILE);
        rename(&staged, &path).map_err(Error::io(&path))
    }

    /// Removes a staged checkpoint.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn drop_staged_checkpoint(&self) -> Result<()> {
        remove(&self.file(STAGED_CHECKPOINT_FILE))
    }

    /// Reads the checkpoint into the model and the moments.
    ///
    /// # Errors
    /// If it is missing, broken, or of another model.
    pub fn load_checkpoint(&self, model: &mut Model, moments: &mut Moments) -> Result<State> {
        let path = self.file(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
        let broken = |e: String| Error::file(&path, format!("not a whole checkpoint: {e}"));
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
        let state = metadata.metadata().as_ref().and_then(|m| m.get("state"));
        let state = state.ok_or_else(|| broken("no state".into()))?;
        let state: State = serde_json::from_str(state).map_err(|e| broken(e.to_string()))?;
        let read = |name: &str, into: &mut [f32]| -> Result<()> {
            let tensor = tensors.tensor(name).map_err(|e| broken(e.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.data().len() != 4 * into.len() {
                return Err(Error::file(&path, "is of another model than config.json"));
            }
            for (value, bytes) in into.iter_mut().zip(tensor.data().as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            Ok(())
        };
        read("weights", model.parameters_mut().values_mut())?;
        read("first_moment", &mut moments.first)?;
        read("second_moment", &mut moments.second)?;
        Ok(state)
    }
}

fn write(path: &Path, model: &Model, moments: &Moments, state: &State) -> Result<()> {
    let tensors = [
        ("weights", Floats::new(model.parameters().values())),
        ("first_moment", Floats::new(&moments.first)),
        ("second_moment", Floats::new(&moments.second)),
    ];
    let state = serde_json::to_string(state).unwrap_or_default();
    let metadata = HashMap::from([("state".to_string(), state)]);
    let written = WholeFile::create(path).and_then(|file| {
        safetensors::serialize_to_file(tensors, Some(metadata), file.aside())
            .map_err(|e| io::Error::other(e.to_string()))?;
        file.finish()
    });
    written.map_err(Error::io(path))
}

/// A flat tensor of float32.
struct Floats<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl<'a> Floats<'a> {
    fn new(values: &'a [f32]) -> Self {
        Self { values, shape: [values.len()] }
    }
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into()
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}
