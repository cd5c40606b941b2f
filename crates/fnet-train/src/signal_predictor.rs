//! A model of signals opened to judge and to predict.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, labels_of};
use fnet_encoder::{Batch, Head, Model, ModelConfig, Workspace};

use crate::base_model::BaseModel;
use crate::data::signals::words::WordFile;
use crate::data::signals::{self, Asked, Place, Purpose, READING_KEY, Reading, Source};
use crate::data::tasks::dataset::likeliest;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::settings::setting;
use crate::together::{Trunks, alone};
pub use crate::train::signals::Judged;
use crate::train::signals::{INFERENCE_POSITIONS, each_batch, judge};

/// A model that was fine-tuned on signals, with the way in which it reads them.
///
/// ```no_run
/// use fnet_train::base_model::BaseModel;
/// use fnet_train::data::signals::Place;
/// use fnet_train::signal_predictor::SignalPredictor;
/// use std::path::Path;
///
/// let mut model = SignalPredictor::open(&BaseModel::at("vowels".as_ref()))?;
/// let judged = model.judge(&Place::from(Path::new("JapaneseVowels_TEST.ts")))?;
/// println!("accuracy {}", judged.loss.accuracy());
/// # Ok::<(), fnet_train::Error>(())
/// ```
pub struct SignalPredictor {
    path: PathBuf,
    model: Model,
    reading: Reading,
    classes: Vec<String>,
    /// Of words, and the longest sequence.
    tokenizer: Option<(Tokenizer, usize)>,
    workspace: Workspace,
    /// In a batch.
    positions: usize,
}

/// What a model says of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction<'a> {
    /// Logits of the classes.
    Class(&'a [f32]),
    /// Logits of labels, of which any number hold.
    Labels(&'a [f32]),
    /// A number.
    Number(f32),
    /// A number of each position.
    Numbers(Vec<f32>),
    /// A class of each symbol.
    Symbols(Vec<&'a str>),
    /// A class of each step of a series.
    Steps(Vec<&'a str>),
    /// Words, with a class of each.
    Words(&'a [String], Vec<&'a str>),
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
        Self::of(base, base.open()?.0)
    }

    /// As [`open`](Self::open), an adapter on a shared trunk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(base: &BaseModel, trunks: &mut Trunks) -> Result<Self> {
        Self::of(base, trunks.open(base)?)
    }

    fn of(base: &BaseModel, model: Model) -> Result<Self> {
        let path = base.name().into_owned();
        let config = pretrained::folder_of(&path).join(pretrained::CONFIG_FILE);
        let reading = model.config().other.get(READING_KEY).cloned().unwrap_or_default();
        let reading = serde_json::from_value(reading)
            .map_err(|e| Error::file(&config, format!("`{READING_KEY}` is not understood: {e}")))?;
        let reading: Reading = reading;
        let width = model.config().input_width.unwrap_or(0);
        reading.check(width).map_err(|what| Error::file(&config, format!("`{READING_KEY}` names {what}")))?;
        let has_classes = match model.head() {
            Head::Classification { .. } => true,
            Head::Tokens { .. } => reading.asked() == Asked::Positions,
            _ => false,
        };
        let classes = match has_classes {
            true => labels_of(model.config(), model.head())
                .ok_or_else(|| Error::file(&config, "id2label does not name every class"))?,
            false => Vec::new(),
        };
        let is_asked = match (reading.asked(), model.head()) {
            (Asked::Class, Head::Tokens { .. }) => matches!(reading, Reading::Bits(_)),
            (asked, head) => head == asked.head(head.outputs()),
        };
        if !is_asked {
            return Err(Error::file(
                &config,
                format!("`{READING_KEY}` asks what the model does not predict"),
            ));
        }
        if let Reading::Image { rows, columns, patch, .. } = reading
            && (rows / patch) * (columns / patch) > model.config().max_position_embeddings
        {
            return Err(Error::file(
                &config,
                format!("`{READING_KEY}` names more patches than the model has positions"),
            ));
        }
        let tokenizer = match reading {
            Reading::Words { .. } => {
                Some((base.tokenizer()?, base.longest(model.config().max_position_embeddings)))
            }
            _ => None,
        };
        Ok(Self {
            path,
            model,
            reading,
            classes,
            tokenizer,
            workspace: Workspace::new(),
            positions: INFERENCE_POSITIONS,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to set how it computes.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Sets how many positions run at once, about. No answer depends on it.
    pub fn set_batch_positions(&mut self, positions: usize) {
        self.positions = positions;
    }

    /// How the model reads signals.
    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Names of the classes; empty where there are none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What is asked.
    pub fn asked(&self) -> Asked {
        self.reading.asked()
    }

    /// How well the model does on the labelled signals of a place.
    ///
    /// # Errors
    /// If a file is broken, or is not read by this model.
    pub fn judge(&mut self, place: &Place) -> Result<Judged> {
        let purpose = Purpose::Judge(&self.reading, &self.classes);
        if let (Some((tokenizer, longest)), Reading::Words { columns }) = (&self.tokenizer, &self.reading) {
            let words = WordFile::open(&place.path, columns, tokenizer, *longest, purpose)?;
            return judge(&self.model, &words, self.positions, &mut self.workspace);
        }
        let source = self.source(place, purpose)?;
        judge(&self.model, &*source, self.positions, &mut self.workspace)
    }

    /// As [`judge`](Self::judge), on the generated examples that training validates on; `None` if the model reads files.
    ///
    /// # Errors
    /// If an example does not fit the model.
    pub fn judge_generated(&mut self) -> Result<Option<Judged>> {
        let Some(source) = self.reading.generated(None) else { return Ok(None) };
        check_length(&self.path, &*source, &self.model)?;
        let (shape, model) = (source.shape(), &self.model);
        if Some(shape.width) != model.config().input_width || shape.head != model.head() {
            let message = format!("`{READING_KEY}` names examples that the model does not read");
            return Err(Error::file(&self.path, message));
        }
        judge(&self.model, &*source, self.positions, &mut self.workspace).map(Some)
    }

    /// Hands what the model says of each signal of a place to `take`, in the place's order; of words, of each sentence.
    ///
    /// # Errors
    /// As [`judge`](Self::judge); if the model labels bits; what `take` returns.
    pub fn predict(&mut self, place: &Place, take: impl FnMut(Prediction) -> Result<()>) -> Result<()> {
        let mut workspace = std::mem::take(&mut self.workspace);
        let done =
            self.predict_by(place, self.positions, |model, batch| alone(model, batch, &mut workspace), take);
        self.workspace = workspace;
        done
    }

    /// As [`predict`](Self::predict), in batches of about so many positions, with outputs from `answer`.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); what `answer` returns.
    pub fn predict_by<'a>(
        &'a self,
        place: &Place,
        positions: usize,
        mut answer: impl FnMut(&'a Model, &Batch) -> Result<Vec<f32>>,
        mut take: impl FnMut(Prediction) -> Result<()>,
    ) -> Result<()> {
        if self.classes.is_empty() && self.asked() == Asked::Class {
            return Err(Error::file(&self.path, "labels bits of generated examples, not files"));
        }
        let purpose = Purpose::Predict(&self.reading);
        if let (Some((tokenizer, longest)), Reading::Words { columns }) = (&self.tokenizer, &self.reading) {
            let words = WordFile::open(&place.path, columns, tokenizer, *longest, purpose)?;
            let mut of_sentences: Vec<Vec<&str>> = vec![Vec::new(); words.sentences().len()];
            let mut sequence = 0;
            each_batch(&words, positions, |drawn| {
                let outputs = answer(&self.model, &drawn.batch)?;
                for range in drawn.batch.ranges() {
                    let (sentence, firsts) = words.words_of(sequence);
                    let width = self.classes.len();
                    let labels = firsts.iter().map(|t| &outputs[(range.start + t) * width..][..width]);
                    of_sentences[sentence].extend(labels.flat_map(|output| names(&self.classes, output)));
                    sequence += 1;
                }
                Ok(())
            })?;
            let mut sentences = words.sentences().iter().zip(of_sentences);
            return sentences.try_for_each(|(s, labels)| take(Prediction::Words(&s.words, labels)));
        }
        let source = self.source(place, purpose)?;
        let (classes, asked, width) = (&self.classes, self.asked(), self.model.head().outputs());
        let is_series = matches!(self.reading, Reading::Series { .. });
        each_batch(&*source, positions, |drawn| {
            each_output(&drawn.batch, &asked, width, &answer(&self.model, &drawn.batch)?, |output| {
                take(match &asked {
                    Asked::Class => Prediction::Class(output),
                    Asked::Labels => Prediction::Labels(output),
                    Asked::Number(scale) => Prediction::Number(scale.invert(0, output[0])),
                    Asked::Numbers(scale) => {
                        Prediction::Numbers(output.iter().map(|y| scale.invert(0, *y)).collect())
                    }
                    Asked::Positions if is_series => Prediction::Steps(names(classes, output)),
                    Asked::Positions => Prediction::Symbols(names(classes, output)),
                })
            })
        })
    }

    fn source(&self, place: &Place, purpose: Purpose) -> Result<Box<dyn Source>> {
        if self.reading.generated(None).is_some() {
            return Err(Error::file(&place.path, "is a file; the model's examples are generated"));
        }
        let source = signals::open(place, purpose)?;
        check_length(&place.path, &*source, &self.model)?;
        Ok(source)
    }
}

/// Refuses signals with more positions than the model has.
pub(crate) fn check_length(path: &Path, source: &dyn Source, model: &Model) -> Result<()> {
    let (positions, longest) = (source.shape().longest, model.config().max_position_embeddings);
    if positions <= longest {
        return Ok(());
    }
    let length = setting("max_length");
    let message = format!(
        "has {positions} positions, more than the model's {longest}: a random trunk is as long as {length} says"
    );
    Err(Error::file(path, message))
}

/// The outputs of each example, in turn.
fn each_output(
    batch: &Batch,
    asked: &Asked,
    width: usize,
    outputs: &[f32],
    take: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    match asked.is_of_positions() {
        true => {
            let of = |range: std::ops::Range<usize>| &outputs[range.start * width..range.end * width];
            batch.ranges().map(of).try_for_each(take)
        }
        false => outputs.chunks_exact(width).try_for_each(take),
    }
}

/// The likeliest class of each position.
fn names<'a>(classes: &'a [String], outputs: &[f32]) -> Vec<&'a str> {
    outputs.chunks_exact(classes.len()).map(|output| classes[likeliest(output) as usize].as_str()).collect()
}
