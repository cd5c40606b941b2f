//! A run's folder: which files are in it, and how they are written so that a kill loses nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use fnet_encoder::Model;
use fnet_encoder::pretrained::{self, CONFIG_FILE, MODELING_FILE, WEIGHTS_FILE, write_whole};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::optimizer::Moments;
use crate::state::State;
use crate::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};

/// Every setting of the run, resolved.
pub const SETTINGS_FILE: &str = "training.toml";
/// One JSON object a step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The results of a finished run, for programs.
pub const RESULTS_FILE: &str = "results.json";
/// The page about the run.
pub const REPORT_FILE: &str = "report.html";
const STATE_FOLDER: &str = "state";
const CHECKPOINT_FILE: &str = "state/checkpoint.safetensors";
/// The files that make a folder a run.
const RUN_FILES: [&str; 8] = [
    SETTINGS_FILE,
    CHECKPOINT_FILE,
    WEIGHTS_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    RESULTS_FILE,
    REPORT_FILE,
    MODELING_FILE,
];

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A folder for a new run. What an earlier run left stays until [`begin`](Self::begin).
    ///
    /// # Errors
    /// If the folder holds a run or a model and `overwrite` is not set.
    pub fn new(path: &Path, overwrite: bool) -> Result<Self> {
        let folder = Self { path: path.into() };
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, "is a file; --out names a folder"));
        }
        if folder.holds_run() && !overwrite {
            return Err(Error::file(
                path,
                "holds another run; choose another --out, or give --overwrite to replace it",
            ));
        }
        Ok(folder)
    }

    /// A folder with a run to go on with.
    ///
    /// # Errors
    /// If there is no run in it.
    pub fn existing(path: &Path) -> Result<Self> {
        let folder = Self { path: path.into() };
        if folder.file(SETTINGS_FILE).exists() {
            return Ok(folder);
        }
        Err(Error::file(path, format!("holds no run to resume: there is no {SETTINGS_FILE}")))
    }

    /// Refuses to start a run in the folder of the model that it starts from, which it would replace.
    ///
    /// # Errors
    /// If `model`, a folder or a file of weights, is this folder's.
    pub fn check_is_not_of(&self, model: &Path) -> Result<()> {
        let same =
            |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        if same(pretrained::folder_of(model), &self.path) {
            return Err(Error::usage("--out: is the pretrained model's own folder; choose another"));
        }
        Ok(())
    }

    fn holds_run(&self) -> bool {
        RUN_FILES.iter().chain(&[TOKENIZER_FILE]).any(|f| self.file(f).exists())
    }

    /// Starts a run: writes everything it needs to be opened and resumed aside, and only when all of
    /// it is there puts it in the place of an earlier run.
    ///
    /// # Errors
    /// If the folder cannot be written; an earlier run is then still whole.
    pub fn begin(
        &self,
        settings: &impl Serialize,
        tokenizer: &Tokenizer,
        longest: usize,
        model: &Model,
        data: u64,
    ) -> Result<()> {
        let staged = Self { path: self.file(".new") };
        let absent = |e: std::io::Error| {
            if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
        };
        std::fs::remove_dir_all(&staged.path).or_else(absent).map_err(Error::io(&staged.path))?;
        let fill = || -> Result<()> {
            let state = staged.file(STATE_FOLDER);
            std::fs::create_dir_all(&state).map_err(Error::io(&state))?;
            staged.save_settings(settings)?;
            tokenizer.save(&staged.path, longest)?;
            staged.save_model(model)?;
            let moments = Moments::new(model.parameters());
            staged.save_checkpoint(model, &moments, &State { data, ..State::default() })
        };
        if let Err(error) = fill() {
            let _ = std::fs::remove_dir_all(&staged.path);
            return Err(error);
        }
        self.clear()?;
        let state = self.file(STATE_FOLDER);
        std::fs::create_dir_all(&state).map_err(Error::io(&state))?;
        let code = self.file(MODELING_FILE);
        std::fs::rename(staged.file(MODELING_FILE), &code).or_else(absent).map_err(Error::io(&code))?;
        // The settings come last: with them the folder is a run that can be resumed.
        for name in
            [CHECKPOINT_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, CONFIG_FILE, WEIGHTS_FILE, SETTINGS_FILE]
        {
            let to = self.file(name);
            std::fs::rename(staged.file(name), &to).map_err(Error::io(&to))?;
        }
        std::fs::remove_dir_all(&staged.path).map_err(Error::io(&staged.path))
    }

    /// Removes what an earlier run left.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        // The settings go first: without them, what is left is no run that could be resumed.
        for file in RUN_FILES {
            match std::fs::remove_file(self.file(file)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(&self.file(file))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes `training.toml`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save_settings(&self, settings: &impl Serialize) -> Result<()> {
        std::fs::create_dir_all(&self.path).map_err(Error::io(&self.path))?;
        let path = self.file(SETTINGS_FILE);
        let text = toml::to_string(settings).map_err(|e| Error::file(&path, e.to_string()))?;
        Ok(write_whole(&path, text.as_bytes())?)
    }

    /// The results of a run that came to its end.
    pub fn results(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.file(RESULTS_FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Whether there is a checkpoint to go on from.
    pub fn has_checkpoint(&self) -> bool {
        self.file(CHECKPOINT_FILE).exists()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// If the file is missing or not of this shape.
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let path = self.file(SETTINGS_FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        toml::from_str(&text).map_err(|e| Error::file(&path, e.message()))
    }

    /// Writes `config.json` and `model.safetensors`.
    ///
    /// # Errors
    /// If the folder cannot be written; the earlier model is then still whole.
    pub fn save_model(&self, model: &Model) -> Result<()> {
        Ok(pretrained::save(model, &self.path)?)
    }

    /// Writes everything that is needed to go on, in one file.
    ///
    /// # Errors
    /// If the folder cannot be written; the earlier checkpoint is then still whole.
    pub fn save_checkpoint(&self, model: &Model, moments: &Moments, state: &State) -> Result<()> {
        let path = self.file(CHECKPOINT_FILE);
        let aside = self.file("state/checkpoint.part");
        let tensors = [
            ("weights", Floats::new(model.parameters().values())),
            ("first_moment", Floats::new(&moments.first)),
            ("second_moment", Floats::new(&moments.second)),
        ];
        let state = serde_json::to_string(state).unwrap_or_default();
        let metadata = HashMap::from([("state".to_string(), state)]);
        let written = safetensors::serialize_to_file(tensors, Some(metadata), &aside)
            .map_err(|e| std::io::Error::other(e.to_string()))
            .and_then(|()| File::open(&aside)?.sync_all())
            .and_then(|()| std::fs::rename(&aside, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&aside);
        }
        written.map_err(Error::io(&path))
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

    /// Opens `metrics.jsonl` to append to it, without the lines after `step`, which a killed run may
    /// have written after its last checkpoint.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn metrics(&self, step: u64) -> Result<MetricsLog> {
        let path = self.file(METRICS_FILE);
        if path.exists() {
            let kept: String = self
                .read_metrics()?
                .into_iter()
                .filter(|m| m.get("step").and_then(Value::as_u64).is_some_and(|s| s <= step))
                .map(|m| m.to_string() + "\n")
                .collect();
            write_whole(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(MetricsLog { out: BufWriter::new(file.map_err(Error::io(&path))?), path })
    }

    /// The objects in `metrics.jsonl`; a line cut short by a kill is left out.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_metrics(&self) -> Result<Vec<Value>> {
        let path = self.file(METRICS_FILE);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let mut rows = Vec::new();
        for line in BufReader::new(file).lines() {
            if let Ok(value) = serde_json::from_str(&line.map_err(Error::io(&path))?) {
                rows.push(value);
            }
        }
        Ok(rows)
    }
}

/// Appends to `metrics.jsonl`.
pub struct MetricsLog {
    out: BufWriter<File>,
    path: PathBuf,
}

impl MetricsLog {
    /// Appends an object.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&mut self, row: &Value) -> Result<()> {
        writeln!(self.out, "{row}").map_err(Error::io(&self.path))
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io(&self.path))
    }
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
