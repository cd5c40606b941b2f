//! A run's folder: which files are in it, and how they are written so that a kill loses nothing.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnet_encoder::pretrained::{
    self, ADAPTER_FILE, ADAPTER_INFO_FILE, CONFIG_FILE, MODELING_FILE, MODULES_FILE, VECTORS_FILE,
    WEIGHTS_FILE,
};
use fnet_encoder::whole_file::{remove_parts, rename, write_whole};
use fnet_encoder::{Model, Moments};
use serde::Serialize;
use serde_json::Value;

use claim::Claim;
use state::State;

use crate::base_model::TrunkPlace;
use crate::data::sentence_settings::{PROMPTS_FILE, TEXTS_FILE};
use crate::data::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};
use crate::error::{Error, Result};
use crate::settings::{Settings, from_table, setting};

mod checkpoint;
pub mod claim;
pub(crate) mod state;

/// Every setting of the run, resolved.
pub const SETTINGS_FILE: &str = "training.toml";
/// One JSON object a step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// What recipe `ridge` learnt from.
pub(crate) const SUMS_FILE: &str = "sums.safetensors";
/// The results of a finished run, for programs.
pub const RESULTS_FILE: &str = "results.json";
/// The page about the run.
pub const REPORT_FILE: &str = "report.html";
const STATE_FOLDER: &str = "state";
pub(crate) const CHECKPOINT_FILE: &str = "state/checkpoint.safetensors";
/// The files that make a folder a run.
const RUN_FILES: [&str; 15] = [
    ADAPTER_FILE,
    ADAPTER_INFO_FILE,
    SETTINGS_FILE,
    CHECKPOINT_FILE,
    WEIGHTS_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    RESULTS_FILE,
    REPORT_FILE,
    MODELING_FILE,
    VECTORS_FILE,
    MODULES_FILE,
    TEXTS_FILE,
    PROMPTS_FILE,
    SUMS_FILE,
];

/// The files that a new run or model begins with, in the order in which they are put in place: the settings come last,
/// for with them the folder is a run that can be resumed.
const IN_ORDER: [&str; 13] = [
    CHECKPOINT_FILE,
    TEXTS_FILE,
    PROMPTS_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    MODELING_FILE,
    VECTORS_FILE,
    MODULES_FILE,
    CONFIG_FILE,
    ADAPTER_INFO_FILE,
    ADAPTER_FILE,
    WEIGHTS_FILE,
    SETTINGS_FILE,
];
/// Which of them there are, a name a line.
const LIST: &str = "files";
/// Where a new run is made ready, and where it stands when it is ready and not yet in its place.
const STAGED: &str = ".fnet-new";
const READY: &str = ".fnet-ready";

/// What an adapter's folder stores of a model.
#[derive(Debug)]
struct Adapter {
    trunk: TrunkPlace,
    /// Tensors that are not the trunk's.
    own: HashSet<String>,
}

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    /// What is stored of a model, if not all of it.
    adapter: Option<Arc<Adapter>>,
    /// Kept as long as this program may write the folder.
    _claim: Option<Arc<Claim>>,
}

impl RunFolder {
    /// A folder to look into.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into(), adapter: None, _claim: None }
    }

    /// A folder to write, of nobody else until this is dropped. What a killed run left half done is removed, or put in
    /// its place.
    fn claimed(path: &Path) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, format!("is a file; {} names a folder", setting("out"))));
        }
        let claim = Arc::new(Claim::of(path)?);
        let folder = Self { path: path.into(), adapter: None, _claim: Some(claim) };
        remove_parts(&folder.path);
        remove_parts(&folder.file(STATE_FOLDER));
        folder.remove_folder(STAGED)?;
        if folder.file(READY).exists() {
            folder.put_in_place()?;
        }
        Ok(folder)
    }

    /// A folder for a new run. What an earlier run left stays until the new one begins.
    ///
    /// # Errors
    /// If another program writes it, or it holds a run or a model and `overwrite` is not set.
    pub fn new(path: &Path, overwrite: bool) -> Result<Self> {
        let folder = Self::claimed(path)?;
        if folder.holds_run() && !overwrite {
            return Err(Error::file(
                path,
                format!(
                    "holds another run; choose another {}, or give {} to replace it",
                    setting("out"),
                    setting("overwrite")
                ),
            ));
        }
        Ok(folder)
    }

    /// A folder with a run to go on with.
    ///
    /// # Errors
    /// If there is no run in it, or another program writes it.
    pub fn existing(path: &Path) -> Result<Self> {
        let no_run = || Error::file(path, format!("holds no run to resume: there is no {SETTINGS_FILE}"));
        if !path.is_dir() {
            return Err(no_run());
        }
        let folder = Self::claimed(path)?;
        if folder.file(SETTINGS_FILE).exists() { Ok(folder) } else { Err(no_run()) }
    }

    /// The same folder, in which of a model only the tensors `own` are stored, beside a trunk.
    pub(crate) fn of_adapter(&self, trunk: TrunkPlace, own: HashSet<String>) -> Self {
        Self { adapter: Some(Arc::new(Adapter { trunk, own })), ..self.clone() }
    }

    /// Refuses to start a run whose files would take the place of one that is read for it.
    ///
    /// # Errors
    /// Names the first of `inputs` that is one of this folder's own files, by whatever name.
    pub(crate) fn check_holds_none_of<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let own = RUN_FILES.iter().chain(&[TOKENIZER_FILE, TOKENIZER_CONFIG_FILE]);
        let own: Vec<PathBuf> = own.filter_map(|name| self.file(name).canonicalize().ok()).collect();
        let is_own = |input: &&Path| input.canonicalize().is_ok_and(|input| own.contains(&input));
        match inputs.into_iter().find(is_own) {
            Some(input) => Err(Error::file(
                input,
                format!("is read for this run, which would replace it; choose another {}", setting("out")),
            )),
            None => Ok(()),
        }
    }

    fn holds_run(&self) -> bool {
        RUN_FILES.iter().chain(&[TOKENIZER_FILE]).any(|f| self.file(f).exists())
    }

    /// Starts a run: writes everything it needs to be opened and resumed aside, and only when all of
    /// it is there puts it in the place of an earlier run.
    ///
    /// # Errors
    /// If the folder cannot be written; an earlier run is then still whole.
    pub(crate) fn begin(
        &self,
        settings: &impl Serialize,
        tokenizer: Option<&Tokenizer>,
        longest: usize,
        model: &Model,
        data: u64,
    ) -> Result<()> {
        self.replace(|staged| {
            let state = staged.file(STATE_FOLDER);
            std::fs::create_dir_all(&state).map_err(Error::io(&state))?;
            staged.save_settings(settings)?;
            match (tokenizer, &self.adapter) {
                (Some(tokenizer), None) => tokenizer.save(&staged.path, longest)?,
                // A trunk has the tokenizer; where texts are cut is the adapter's own.
                (Some(tokenizer), Some(_)) => tokenizer.save_config(&staged.path, longest)?,
                (None, _) => {}
            }
            staged.save_model(model)?;
            let moments = Moments::new(model.parameters());
            staged.save_checkpoint(model, &moments, &State { data, ..State::default() })
        })
    }

    /// Has `fill` write into a folder aside, and only when all of it is there puts it in the place of an earlier run or
    /// model. What the new one lacks is removed.
    ///
    /// # Errors
    /// If the folder cannot be written; what was there is then still whole.
    pub fn replace(&self, fill: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let staged = Self { adapter: self.adapter.clone(), ..Self::at(&self.file(STAGED)) };
        self.remove_folder(STAGED)?;
        let write = || -> Result<()> {
            std::fs::create_dir_all(&staged.path).map_err(Error::io(&staged.path))?;
            fill(&staged)?;
            let names: Vec<&str> = IN_ORDER.into_iter().filter(|name| staged.file(name).exists()).collect();
            Ok(write_whole(&staged.file(LIST), names.join("\n").as_bytes())?)
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_dir_all(&staged.path);
            return Err(error);
        }
        // From here on the new one is what a kill leaves.
        let ready = self.file(READY);
        rename(&staged.path, &ready).map_err(Error::io(&ready))?;
        self.put_in_place()
    }

    /// Puts what is ready in the place of what was there. Killed half-way, it is done again when the folder is next
    /// claimed.
    fn put_in_place(&self) -> Result<()> {
        let ready = Self::at(&self.file(READY));
        let list = ready.file(LIST);
        let list = match std::fs::read_to_string(&list) {
            Err(e) if e.kind() == ErrorKind::NotFound => return self.remove_folder(READY), // all was moved
            list => list.map_err(Error::io(&ready.path))?,
        };
        let is_new = |name: &str| list.lines().any(|line| line == name);
        // What was moved before is kept.
        let all = RUN_FILES.iter().chain(&[TOKENIZER_FILE, TOKENIZER_CONFIG_FILE]);
        for name in all.filter(|name| !is_new(name) || ready.file(name).exists()) {
            remove(&self.file(name))?;
        }
        for name in IN_ORDER.into_iter().filter(|name| ready.file(name).exists()) {
            let to = self.file(name);
            let parent = to.parent().unwrap_or(&self.path);
            std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
            rename(&ready.file(name), &to).map_err(Error::io(&to))?;
        }
        self.remove_folder(READY)
    }

    fn remove_folder(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes what an earlier run left.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn clear(&self) -> Result<()> {
        // The settings go first: without them, what is left is no run that could be resumed.
        RUN_FILES.iter().try_for_each(|name| remove(&self.file(name)))
    }

    /// Writes `training.toml`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub(crate) fn save_settings(&self, settings: &impl Serialize) -> Result<()> {
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

    /// Removes the checkpoint of a finished run, which is larger than an adapter.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn drop_checkpoint(&self) -> Result<()> {
        self.remove_folder(STATE_FOLDER)
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
    pub fn settings<S: Settings>(&self) -> Result<S> {
        let table = self.settings_table()?;
        from_table(table).map_err(|e| Error::file(&self.file(SETTINGS_FILE), e.to_string()))
    }

    /// The settings as they stand in the file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no TOML.
    pub fn settings_table(&self) -> Result<toml::Table> {
        let path = self.file(SETTINGS_FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        toml::from_str(&text).map_err(|e| Error::file(&path, e.message()))
    }

    /// Writes `config.json` and `model.safetensors`, or an adapter's files.
    ///
    /// # Errors
    /// If the folder cannot be written; the earlier model is then still whole.
    pub(crate) fn save_model(&self, model: &Model) -> Result<()> {
        match &self.adapter {
            None => Ok(pretrained::save(model, &self.path)?),
            Some(adapter) => {
                let Adapter { trunk, own } = &**adapter;
                Ok(pretrained::save_adapter(model, |name| own.contains(name), trunk, &self.path)?)
            }
        }
    }

    /// Opens `metrics.jsonl` to append to it, without the lines after `step`, which a killed run may
    /// have written after its last checkpoint.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(crate) fn metrics(&self, step: u64) -> Result<MetricsLog> {
        let path = self.file(METRICS_FILE);
        if path.exists() {
            let is_kept = |row: &Value| row.get("step").and_then(Value::as_u64).is_some_and(|s| s <= step);
            let kept = self.metrics_lines()?.into_iter().filter(|(_, row)| is_kept(row));
            let kept: String = kept.map(|(line, _)| line + "\n").collect();
            write_whole(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(MetricsLog { out: BufWriter::new(file.map_err(Error::io(&path))?), path })
    }

    /// The objects in `metrics.jsonl`; a line cut short by a kill is left out.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn read_metrics(&self) -> Result<Vec<Value>> {
        Ok(self.metrics_lines()?.into_iter().map(|(_, row)| row).collect())
    }

    /// Lines of `metrics.jsonl`, and what they say.
    fn metrics_lines(&self) -> Result<Vec<(String, Value)>> {
        let path = self.file(METRICS_FILE);
        let file = File::open(&path).map_err(Error::io(&path))?;
        let mut rows = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(Error::io(&path))?;
            if let Ok(row) = serde_json::from_str(&line) {
                rows.push((line, row));
            }
        }
        Ok(rows)
    }
}

/// Refuses to write a run into the folder of the model that it starts from, which it would replace.
///
/// # Errors
/// If `model`, a folder or a file of weights, is that of the folder `out`.
pub fn check_is_not_model(out: &Path, model: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if same(pretrained::folder_of(model), out) {
        return Err(Error::usage(format!(
            "{}: is the pretrained model's own folder; choose another",
            setting("out")
        )));
    }
    Ok(())
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Appends to `metrics.jsonl`.
pub(crate) struct MetricsLog {
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
