//! A model opened for use: texts in, labels, numbers or vectors out, batched automatically.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, MULTI_LABEL, Report, labels_of, some_of};
use fnet_encoder::{Batch, Head, Model, Padding, Pairs, Pool, Pooling, Workspace};
use rayon::prelude::*;

use crate::base_model::BaseModel;
use crate::data::tasks::dataset::{INFERENCE_TOKENS, Labels, likeliest, predict, predict_by, run_batches};
use crate::data::tasks::encoding::{Encoded, Encoding, Example, Long, LongOnes};
use crate::data::tasks::label_sets;
use crate::data::tasks::rows::Row;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::settings::setting;
use crate::together::Trunks;

/// A model with its tokenizer, and how long texts are read.
///
/// ```no_run
/// use fnet_train::base_model::BaseModel;
/// use fnet_train::predictor::{Prediction, Predictor};
///
/// let mut reviews = Predictor::open(&BaseModel::at("reviews".as_ref()))?;
/// for prediction in reviews.predict(&["a calm and clever play", "it never ends"])? {
///     match prediction {
///         Prediction::Class { label, probabilities } => println!("{label} {probabilities:?}"),
///         Prediction::Number(value) => println!("{value}"),
///         Prediction::Labels { labels, .. } => println!("{labels:?}"),
///     }
/// }
/// # Ok::<(), fnet_train::Error>(())
/// ```
pub struct Predictor {
    path: PathBuf,
    model: Model,
    tokenizer: Tokenizer,
    longest: usize,
    long: Long,
    batch_tokens: usize,
    workspace: Workspace,
}

/// What is predicted of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// A class.
    Class {
        /// The likeliest label.
        label: String,
        /// The probability of each label, in the order of [`Predictor::labels`].
        probabilities: Vec<f32>,
    },
    /// A number.
    Number(f32),
    /// Any number of labels.
    Labels {
        /// Those with a probability above a half.
        labels: Vec<String>,
        /// The probability of each label on its own, in the order of [`Predictor::labels`].
        probabilities: Vec<f32>,
    },
}

impl Predictor {
    /// Opens a model with the head that it was saved with.
    ///
    /// # Errors
    /// If a file is missing or broken, or tokenizer and model do not match.
    pub fn open(base: &BaseModel) -> Result<Self> {
        Ok(Self::open_reported(base)?.0)
    }

    /// As [`open`](Self::open), and returns the tensors that the model does not use.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_reported(base: &BaseModel) -> Result<(Self, Report)> {
        let (model, report) = base.open()?;
        Ok((Self::of(base, model)?, report))
    }

    /// As [`open`](Self::open), an adapter on a shared trunk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(base: &BaseModel, trunks: &mut Trunks) -> Result<Self> {
        Self::of(base, trunks.open(base)?)
    }

    /// Opens a model without its head, to compute vectors of texts: those of `pooling`, or those that a fine-tuned
    /// model reads, or else the mean.
    ///
    /// # Errors
    /// As [`open`](Self::open); if the model lacks weights that the pooling needs.
    pub fn open_to_read(base: &BaseModel, pooling: Option<Pooling>) -> Result<Self> {
        if base.trunk()?.is_some() {
            let (opened, _) = base.open()?;
            if opened.config().classifier_pairs != Pairs::Together {
                let message =
                    "is an adapter for pairs, which reads no single texts: merge it by `fnet convert` first";
                return Err(Error::file(&base.name(), message));
            }
            if pooling.is_some() {
                let message =
                    "is an adapter, which reads what it was trained to: no other pooling can be chosen";
                return Err(Error::file(&base.name(), message));
            }
            return Self::of(base, opened);
        }
        let (model, report) = pretrained::open_with(base.source(), Head::Encoder, 0, |config| {
            config.classifier_pairs = Pairs::Together;
            let own = Some(config.classifier_pooling.clone()).filter(|own| !own.is_first());
            let mean = || Pooling::new(vec![Pool::Mean]).unwrap_or_default();
            config.classifier_pooling = pooling.or(own).unwrap_or_else(mean);
        })?;
        if let [missing, ..] = report.missing.as_slice() {
            return Err(Error::file(&base.name(), format!("lacks {missing}: choose another pooling")));
        }
        Self::of(base, model)
    }

    fn of(base: &BaseModel, mut model: Model) -> Result<Self> {
        let tokenizer = base.tokenizer()?;
        check_vocabulary(&base.name(), &tokenizer, &model)?;
        let longest = base.longest(model.config().max_position_embeddings);
        if model.config().fixed_length().is_some() {
            tokenizer.check_padding()?;
            model.change_config(|config| config.padding_length = Some(longest))?;
        }
        let path = base.folder().map_or_else(|| base.name().into(), PathBuf::from);
        let long = Long::usual(model.config());
        let (batch_tokens, workspace) = (INFERENCE_TOKENS, Workspace::new());
        Ok(Self { path, model, tokenizer, longest, long, batch_tokens, workspace })
    }

    /// Pads every text to so many tokens and mixes the padding in, as some checkpoints were trained.
    ///
    /// # Errors
    /// If the model is shorter, or its tokenizer pads on the left.
    pub fn pad_to(&mut self, tokens: usize) -> Result<()> {
        let longest = self.model.config().max_position_embeddings;
        if !(3..=longest).contains(&tokens) {
            return Err(Error::usage(format!(
                "{} {tokens}: must be from 3 to the model's {longest}",
                setting("pad_to")
            )));
        }
        self.tokenizer.check_padding()?;
        self.model.change_config(|config| {
            (config.padding, config.padding_length) = (Padding::Fixed, Some(tokens));
        })?;
        self.longest = tokens;
        Ok(())
    }

    /// Sets how texts that are too long for the model are read.
    pub fn set_long(&mut self, long: Long) {
        self.long = long;
    }

    /// Sets how many tokens are run at once.
    pub fn set_batch_tokens(&mut self, tokens: usize) {
        self.batch_tokens = tokens.max(1);
    }

    /// The folder that it was opened from, or the shipped model's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to set how it computes.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Longest sequence in tokens.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// How texts become tokens.
    pub fn encoding(&self) -> Encoding<'_> {
        encoding(&self.model, &self.tokenizer, self.longest, self.long)
    }

    /// What is needed to run it, borrowed separately.
    pub(crate) fn parts(&mut self) -> (&Model, &Tokenizer, Encoding<'_>, &mut Workspace) {
        let encoding = encoding(&self.model, &self.tokenizer, self.longest, self.long);
        (&self.model, &self.tokenizer, encoding, &mut self.workspace)
    }

    /// What the model predicts.
    ///
    /// # Errors
    /// If it has no classifier, or labels without names.
    pub fn labels(&self) -> Result<Labels> {
        let config = || self.path.join(pretrained::CONFIG_FILE);
        let is_several = self.model.config().problem_type() == Some(MULTI_LABEL);
        match self.model.head() {
            Head::Regression => Ok(Labels::Number),
            Head::Classification { .. } => {
                let names = labels_of(self.model.config(), self.model.head());
                let names = names.map(if is_several { Labels::Several } else { Labels::Classes });
                names.ok_or_else(|| Error::file(&config(), "id2label does not name every class"))
            }
            Head::NextSentence => Ok(Labels::Classes(["is_next", "not_next"].map(String::from).to_vec())),
            Head::Tokens { .. } => Err(Error::file(&self.path, "labels positions, not whole texts")),
            Head::Encoder | Head::MaskedLm | Head::PreTraining => Err(Error::file(
                &self.path,
                "is a pretrained model without a classifier; run `fnet finetune` first",
            )),
        }
    }

    /// Predicts the label or number of each text.
    ///
    /// # Errors
    /// If the model predicts neither, or reads pairs in towers.
    pub fn predict(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<Prediction>> {
        self.predict_rows(&rows(texts.iter().map(|text| (text.as_ref(), None))))
    }

    /// Predicts the label or number of each pair of texts.
    ///
    /// # Errors
    /// As [`predict`](Self::predict), if the model reads no pairs.
    pub fn predict_pairs(&mut self, pairs: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Vec<Prediction>> {
        self.predict_rows(&rows(pairs.iter().map(|(first, second)| (first.as_ref(), Some(second.as_ref())))))
    }

    fn predict_rows(&mut self, rows: &[Row]) -> Result<Vec<Prediction>> {
        let labels = self.labels()?;
        let (outputs, _) = self.outputs(rows)?;
        let prediction = |output: &[f32]| match &labels {
            Labels::Number => Prediction::Number(output.first().copied().unwrap_or(f32::NAN)),
            Labels::Classes(names) => Prediction::Class {
                label: names.get(likeliest(output) as usize).cloned().unwrap_or_default(),
                probabilities: softmax(output),
            },
            Labels::Several(names) => Prediction::Labels {
                labels: label_sets::spell(names, output),
                probabilities: label_sets::probabilities(output),
            },
        };
        Ok(outputs.chunks(self.model.head().outputs().max(1)).map(prediction).collect())
    }

    /// The pooled vector of each text.
    ///
    /// # Errors
    /// If a text cannot be encoded.
    pub fn embed(&mut self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>> {
        let (vectors, _) = self.vectors(&rows(texts.iter().map(|text| (text.as_ref(), None))))?;
        Ok(vectors.chunks(self.model.pooled_width().max(1)).map(<[f32]>::to_vec).collect())
    }

    /// As [`outputs`](Self::outputs), in batches of so many tokens, with the classifier's outputs from `answer`.
    ///
    /// # Errors
    /// As [`outputs`](Self::outputs); what `answer` returns.
    pub fn outputs_by<'a>(
        &'a self,
        rows: &[Row],
        batch_tokens: usize,
        answer: impl FnMut(&'a Model, &Batch) -> Result<Vec<f32>>,
    ) -> Result<(Vec<f32>, LongOnes)> {
        let (examples, long) = self.encode(rows)?;
        Ok((predict_by(&self.model, &examples, batch_tokens, answer, |_| {})?, long))
    }

    /// The classifier's outputs, `[rows, outputs]`, and how many rows were too long for the model.
    ///
    /// # Errors
    /// If a row does not fit the model.
    pub fn outputs(&mut self, rows: &[Row]) -> Result<(Vec<f32>, LongOnes)> {
        let (examples, long) = self.encode(rows)?;
        let outputs = predict(&self.model, &examples, self.batch_tokens, &mut self.workspace, |_| {})?;
        Ok((outputs, long))
    }

    /// The pooled vectors of each row, `[rows, pooled_width]`, and how many rows were too long for the model.
    ///
    /// # Errors
    /// If a row does not fit the model.
    pub fn vectors(&mut self, rows: &[Row]) -> Result<(Vec<f32>, LongOnes)> {
        let (examples, long) = self.encode(rows)?;
        let width = self.model.pooled_width();
        let mut vectors = vec![0.0; rows.len() * width];
        run_batches(
            &self.model,
            &examples,
            self.batch_tokens,
            &mut self.workspace,
            |mut forward, numbers| {
                for (row, i) in forward.pooled().chunks_exact(width).zip(numbers) {
                    vectors[*i as usize * width..][..width].copy_from_slice(row);
                }
                Ok(())
            },
        )?;
        Ok((vectors, long))
    }

    fn encode(&self, rows: &[Row]) -> Result<(Vec<Example>, LongOnes)> {
        let encoding = self.encoding();
        let encoded: Vec<Encoded> =
            rows.par_iter().map(|row| encoding.encode(row, Vec::new())).collect::<Result<_>>()?;
        let mut long = LongOnes::default();
        let examples = encoded.into_iter().map(|encoded| long.take(encoded)).collect();
        Ok((examples, long))
    }
}

fn encoding<'a>(model: &Model, tokenizer: &'a Tokenizer, longest: usize, long: Long) -> Encoding<'a> {
    let config = model.config();
    Encoding { tokenizer, longest, fixed_length: config.fixed_length(), pairs: config.classifier_pairs, long }
}

fn rows<'a>(texts: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<Row> {
    texts
        .enumerate()
        .map(|(i, (first, second))| Row {
            line: i + 1,
            first: first.into(),
            second: second.map(String::from),
            label: None,
        })
        .collect()
}

/// Probabilities of logits.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f32> = logits.iter().map(|l| (l - largest).exp()).collect();
    let sum: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|s| *s /= sum);
    shares
}

/// Refuses a tokenizer with ids that the model does not have; `path` is the model's folder, or a file in it.
///
/// # Errors
/// Names the tokenizer's file.
pub fn check_vocabulary(path: &Path, tokenizer: &Tokenizer, model: &Model) -> Result<()> {
    if tokenizer.vocab_size() <= model.config().vocab_size {
        return Ok(());
    }
    let (tokens, rows) = (tokenizer.vocab_size(), model.config().vocab_size);
    Err(Error::file(
        &Tokenizer::file_of(pretrained::folder_of(path)),
        format!("has {tokens} tokens, the model {rows}: they do not belong together"),
    ))
}

/// Says on standard error which tensors of a weight file have no place in the model.
pub fn say_unused(path: &Path, report: &Report) {
    if !report.unused.is_empty() {
        eprintln!("{}: no place in the model for {}", path.display(), some_of(&report.unused));
    }
}

#[cfg(all(test, feature = "shipped-model"))]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_texts_do_not_depend_on_their_company() {
        let mut shipped = Predictor::open_to_read(&BaseModel::shipped().unwrap(), None).unwrap();
        let texts = ["She closed the door.", "", "a dog"];
        let together = shipped.embed(&texts).unwrap();
        shipped.set_batch_tokens(1);
        for (text, vector) in texts.iter().zip(&together) {
            assert_eq!(shipped.embed(&[text]).unwrap().first(), Some(vector));
        }
        assert!(together[0] != together[2] && together[0].len() == shipped.model().pooled_width());
        let mut shipped = Predictor::open(&BaseModel::shipped().unwrap()).unwrap();
        let message = shipped.predict(&texts).unwrap_err().to_string();
        assert!(message.contains("without a classifier"), "{message}");
        assert!(shipped.pad_to(1_000).is_err());
        let filled = shipped.fill_masks("the [MASK] saw the [MASK]", 3).unwrap();
        assert!(
            filled.masks.len() == 2 && filled.masks.iter().all(|guesses| guesses.len() == 3) && !filled.cut
        );
        assert!(shipped.fill_masks("no mask", 3).unwrap().masks.is_empty());
    }
}
