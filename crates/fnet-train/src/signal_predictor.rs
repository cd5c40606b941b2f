//! A model of signals opened to judge and to predict.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, labels_of};
use fnet_encoder::{Head, Loss, Model, ModelConfig, Workspace};

use crate::base_model::BaseModel;
use crate::data::signals::bits::BitStrings;
use crate::data::signals::{self, Format, READING_KEY, Reading, Source};
use crate::error::{Error, Result};
use crate::settings::setting;
use crate::train::signals::{judge, run};

/// A model that was fine-tuned on signals, with the way in which it reads them.
///
/// ```no_run
/// use fnet_train::base_model::BaseModel;
/// use fnet_train::signal_predictor::SignalPredictor;
///
/// let mut model = SignalPredictor::open(&BaseModel::at("vowels".as_ref()))?;
/// let loss = model.judge("JapaneseVowels_TEST.ts".as_ref())?;
/// println!("accuracy {}", loss.accuracy());
/// # Ok::<(), fnet_train::Error>(())
/// ```
pub struct SignalPredictor {
    path: PathBuf,
    model: Model,
    reading: Reading,
    classes: Vec<String>,
    workspace: Workspace,
}

impl SignalPredictor {
    /// Whether the model of a folder reads signals instead of text.
    pub fn reads(base: &BaseModel) -> bool {
        let Some(folder) = base.folder() else { return false };
        let config = ModelConfig::read(&folder.join(pretrained::CONFIG_FILE));
        config.is_ok_and(|config| config.other.contains_key(READING_KEY))
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// If the model is broken, or does not say how it reads signals.
    pub fn open(base: &BaseModel) -> Result<Self> {
        let model = base.open()?.0;
        let path = base.name().into_owned();
        let config = pretrained::folder_of(&path).join(pretrained::CONFIG_FILE);
        let reading = model.config().other.get(READING_KEY).cloned().unwrap_or_default();
        let reading = serde_json::from_value(reading)
            .map_err(|e| Error::file(&config, format!("`{READING_KEY}` is not understood: {e}")))?;
        let reading: Reading = reading;
        let width = model.config().input_width.unwrap_or(0);
        reading.check(width).map_err(|what| Error::file(&config, format!("`{READING_KEY}` names {what}")))?;
        let classes = match model.head() {
            Head::Classification { .. } => labels_of(model.config(), model.head())
                .ok_or_else(|| Error::file(&config, "id2label does not name every class"))?,
            _ => Vec::new(),
        };
        Ok(Self { path, model, reading, classes, workspace: Workspace::new() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to set how it computes.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Names of the classes; empty where positions are labelled.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The loss on the labelled signals of a file, with how many predictions are right.
    ///
    /// # Errors
    /// If the file is broken, or is not read by this model.
    pub fn judge(&mut self, file: &Path) -> Result<Loss> {
        let source = self.source(file)?;
        judge(&self.model, &*source, &mut self.workspace)
    }

    /// As [`judge`](Self::judge), on the generated examples that training validates on; `None` if the model reads files.
    ///
    /// # Errors
    /// If an example does not fit the model.
    pub fn judge_generated(&mut self) -> Result<Option<Loss>> {
        let Reading::Bits(task) = self.reading else { return Ok(None) };
        judge(&self.model, &BitStrings::validation(task), &mut self.workspace).map(Some)
    }

    /// Hands the outputs of each signal of a file to `take`, in the file's order.
    ///
    /// # Errors
    /// As [`judge`](Self::judge); if the model labels positions; what `take` returns.
    pub fn predict(&mut self, file: &Path, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        if self.classes.is_empty() {
            return Err(Error::file(&self.path, "labels positions, not whole signals"));
        }
        let (source, width) = (self.source(file)?, self.classes.len());
        run(&self.model, &*source, &mut self.workspace, |_, mut forward| {
            forward.logits()?.chunks_exact(width).try_for_each(&mut take)
        })
    }

    fn source(&self, file: &Path) -> Result<Box<dyn Source>> {
        let Some(format) = Format::of(file) else {
            return Err(Error::file(file, "is no file of signals: .ts series or IDX images are read"));
        };
        if let Reading::Bits(_) = self.reading {
            return Err(Error::file(file, "is a file; the model's examples are generated"));
        }
        let source = signals::open(file, format, 1, Some(&self.reading), Some(&self.classes))?;
        let (positions, longest) = (source.shape().longest, self.model.config().max_position_embeddings);
        if positions > longest {
            let length = setting("max_length");
            let message = format!(
                "has {positions} positions, more than the model's {longest}: a random trunk is as long as {length} says"
            );
            return Err(Error::file(file, message));
        }
        Ok(source)
    }
}
