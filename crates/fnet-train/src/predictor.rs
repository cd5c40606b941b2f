//! A model opened for use: texts in, labels, numbers or vectors out, batched automatically.

use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, MULTI_LABEL, Report, labels_of, some_of};
use fnet_encoder::{Batch, Head, Model, Padding, Pairs, Pool, Pooling, Workspace};
use rayon::prelude::*;

use crate::base_model::BaseModel;
use crate::data::sentence_settings::SentenceSettings;
use crate::data::tasks::dataset::{self, INFERENCE_TOKENS, Labels, likeliest, predict, predict_by};
use crate::data::tasks::encoding::{Encoded, Encoding, Example, Long, LongOnes};
use crate::data::tasks::label_sets;
use crate::data::tasks::rows::Row;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::random::{self, Fingerprint};
use crate::settings::{refused, setting};
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
    sentence: SentenceSettings,
    /// What stands before every text.
    prompt: String,
    /// Leading values of a vector that are kept, if not all.
    dimensions: Option<usize>,
    /// Whether vectors are scaled to length one.
    normalizes: bool,
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
        if pooling.is_none() && pretrained::read_config(base.source())?.sentence.is_some() {
            return Self::of(base, pretrained::open_as(base.source(), Head::Sentence, 0)?.0);
        }
        let (model, report) = pretrained::open_with(base.source(), Head::Encoder, 0, |config| {
            config.classifier_pairs = Pairs::Together;
            let own = Some(config.classifier_pooling.clone()).filter(|own| !own.is_first());
            let mean = || Pooling::new(vec![Pool::Mean]).unwrap_or_default();
            config.classifier_pooling = pooling.or(own).unwrap_or_else(mean);
        })?;
        // The pooler's dense layer comes after what is read.
        if let Some(missing) = report.missing.iter().find(|name| !name.contains(".pooler.dense.")) {
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
        let sentence = model.config().sentence.as_ref().filter(|_| model.head() == Head::Sentence);
        let pooling = sentence.map_or(&model.config().classifier_pooling, |sentence| &sentence.pooling);
        let long = Long::usual(pooling);
        let (batch_tokens, workspace) = (INFERENCE_TOKENS, Workspace::new());
        let (sentence, normalizes) = match sentence {
            Some(config) => (
                base.folder().map_or_else(|| Ok(SentenceSettings::default()), SentenceSettings::read)?,
                config.normalize,
            ),
            None => (SentenceSettings::default(), false),
        };
        let longest = sentence.longest.map_or(longest, |most| longest.min(most));
        let (long, prompt) = (if sentence.cuts { Long::Cut } else { long }, sentence.prompt(None)?);
        Ok(Self {
            path,
            model,
            tokenizer,
            longest,
            long,
            batch_tokens,
            sentence,
            prompt,
            dimensions: None,
            normalizes,
            workspace,
        })
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

    /// Puts the prompt of that name before every text.
    ///
    /// # Errors
    /// If the model's folder has no such prompt.
    pub fn set_prompt(&mut self, name: &str) -> Result<()> {
        self.prompt = self.sentence.prompt(Some(name))?;
        Ok(())
    }

    /// Sets how many of the leading values of a vector are kept, and whether it is scaled to length one even if the model
    /// does not ask for it.
    ///
    /// # Errors
    /// If vectors have fewer values.
    pub fn set_vectors(&mut self, dimensions: Option<usize>, normalize: bool) -> Result<()> {
        let width = self.raw_width();
        if let Some(size) = dimensions.filter(|size| !(1..=width).contains(size)) {
            return Err(refused(
                &format!("dimensions {size}"),
                format!("must be from 1 to the model's {width}"),
            ));
        }
        self.dimensions = dimensions;
        self.normalizes |= normalize;
        Ok(())
    }

    /// Whether vectors have length one.
    pub fn normalizes(&self) -> bool {
        self.normalizes
    }

    /// Whether an example is a pair of texts, each read on its own.
    pub fn reads_pairs(&self) -> bool {
        self.model.config().classifier_pairs != Pairs::Together
    }

    /// A fingerprint of all that vectors of texts depend on: what it was computed from must be the same where they are
    /// compared.
    ///
    /// # Errors
    /// If the tokenizer cannot be written.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut fingerprint = Fingerprint::default();
        let mut add = |bytes: &[u8]| fingerprint.add(random::fingerprint(bytes));
        let config = serde_json::to_string(self.model.config()).unwrap_or_default();
        add(config.as_bytes());
        add(self.tokenizer.to_json()?.as_bytes());
        let (head, lowers) = (self.model.head(), self.sentence.lower_case);
        let made = (self.dimensions, self.normalizes);
        let how = (self.longest, self.long, made, &self.prompt, head, lowers);
        add(format!("{how:?}").as_bytes());
        self.model.parameters().values().iter().for_each(|v| fingerprint.add(u64::from(v.to_bits())));
        Ok(fingerprint.value())
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
            Head::Sentence => {
                Err(Error::file(&self.path, "makes vectors of texts, which `fnet embed` writes"))
            }
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
        Ok(vectors.chunks(self.vector_width().max(1)).map(<[f32]>::to_vec).collect())
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

    /// Number of values of a text's vector.
    pub fn vector_width(&self) -> usize {
        self.dimensions.unwrap_or(self.raw_width())
    }

    /// The vector of each row, `[rows, vector_width]`, and how many rows were too long for the model: of a model with a
    /// readout for vectors of texts as that says, of others what is pooled.
    ///
    /// # Errors
    /// If a row does not fit the model.
    pub fn vectors(&mut self, rows: &[Row]) -> Result<(Vec<f32>, LongOnes)> {
        let (examples, long) = self.encode(rows)?;
        let mut w = std::mem::take(&mut self.workspace);
        let vectors = self.vectors_of(&examples, &mut w);
        self.workspace = w;
        Ok((vectors?, long))
    }

    /// As [`vectors`](Self::vectors), of texts that are encoded.
    ///
    /// # Errors
    /// If one does not fit the model.
    pub fn vectors_of(&self, examples: &[Example], w: &mut Workspace) -> Result<Vec<f32>> {
        let raw = self.raw_vectors_of(examples, w)?;
        let (whole, width) = (self.raw_width(), self.vector_width());
        let mut vectors: Vec<f32> = if whole == width {
            raw
        } else {
            raw.chunks_exact(whole.max(1)).flat_map(|row| row[..width].iter().copied()).collect()
        };
        if self.normalizes {
            vectors.chunks_exact_mut(width.max(1)).for_each(normalize);
        }
        Ok(vectors)
    }

    /// Vectors of texts that are encoded, all their values, before they are scaled.
    ///
    /// # Errors
    /// If one does not fit the model.
    pub fn raw_vectors_of(&self, examples: &[Example], w: &mut Workspace) -> Result<Vec<f32>> {
        dataset::vectors(&self.model, examples, self.batch_tokens, w)
    }

    /// Number of values of a vector before any is left out.
    fn raw_width(&self) -> usize {
        self.model.vector_width().unwrap_or(self.model.pooled_width())
    }

    fn encode(&self, rows: &[Row]) -> Result<(Vec<Example>, LongOnes)> {
        let encoding = self.encoding();
        let encode = |row: &Row| self.encode_row(row, &encoding, &self.prompt);
        Ok(Self::counted(rows.par_iter().map(encode).collect::<Result<_>>()?))
    }

    /// Encodes rows on this thread, with the prompt of a name, and long texts read in a way, if they are not to be as this was
    /// set up; counts those that were too long.
    ///
    /// # Errors
    /// If a text cannot be encoded, or there is no such prompt.
    pub fn encode_by(
        &self,
        rows: &[Row],
        prompt: Option<&str>,
        long: Option<Long>,
    ) -> Result<(Vec<Example>, LongOnes)> {
        let encoding = Encoding { long: long.unwrap_or(self.long), ..self.encoding() };
        let prompt = match prompt {
            Some(name) => self.sentence.prompt(Some(name))?,
            None => self.prompt.clone(),
        };
        let encoded = rows.iter().map(|row| self.encode_row(row, &encoding, &prompt));
        Ok(Self::counted(encoded.collect::<Result<_>>()?))
    }

    fn encode_row(&self, row: &Row, encoding: &Encoding, prompt: &str) -> Result<Encoded> {
        match self.prepared(row, prompt) {
            Some(row) => encoding.encode(&row, Vec::new()),
            None => encoding.encode(row, Vec::new()),
        }
    }

    fn counted(encoded: Vec<Encoded>) -> (Vec<Example>, LongOnes) {
        let mut long = LongOnes::default();
        let examples = encoded.into_iter().map(|encoded| long.take(encoded)).collect();
        (examples, long)
    }

    /// A row with its prompt, lower-cased if the model asks for it; `None` if it stays as it is.
    fn prepared(&self, row: &Row, prompt: &str) -> Option<Row> {
        if prompt.is_empty() && !self.sentence.lower_case {
            return None;
        }
        let prepare = |text: &String| {
            let text = format!("{prompt}{text}");
            if self.sentence.lower_case { text.to_lowercase() } else { text }
        };
        Some(Row { first: prepare(&row.first), second: row.second.as_ref().map(prepare), ..row.clone() })
    }
}

/// Scales a vector to length one; one without a direction stays.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
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

/// As [`say_unused`], without the heads of pretraining, which are left behind as a matter of course.
pub(crate) fn say_unused_body(path: &Path, report: &Report) {
    let is_head = |name: &str| name.starts_with("cls.") || name.contains(".pooler.");
    let unused = report.unused.iter().filter(|name| !is_head(name)).cloned().collect();
    say_unused(path, &Report { unused, ..Report::default() });
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
