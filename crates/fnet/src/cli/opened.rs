//! A model folder opened for use: model, tokenizer, and what it was trained on.

use std::path::{Path, PathBuf};

use clap::Args;
use fnet_encoder::pretrained::{self, MULTI_LABEL, labels_of};
use fnet_encoder::{Head, Model, Padding, Pairs, Pool, Pooling};
use fnet_train::base_model::BaseModel;
use fnet_train::folder::RunFolder;
use fnet_train::tasks::dataset::{INFERENCE_TOKENS, Labels};
use fnet_train::tasks::encoding::{Encoding, Long, LongOnes};
use fnet_train::tokenizer::Tokenizer;
use fnet_train::{Error, Result};

use super::common::{ProductFlags, check_vocabulary, in_range, say_unused};
use super::finetune;

/// How a model is run.
#[derive(Args)]
pub struct InferenceFlags {
    #[command(flatten)]
    products: ProductFlags,
    /// Tokens that are run at once, in texts of similar length
    #[arg(long, default_value_t = INFERENCE_TOKENS)]
    pub batch_tokens: usize,
    #[command(flatten)]
    padding: PaddingFlags,
    /// What becomes of texts longer than the model; by default as in fine-tuning, else windows wherever more than a
    /// text's ends is read
    #[arg(long, value_enum)]
    long: Option<Long>,
}

impl InferenceFlags {
    /// Refuses what cannot be followed.
    pub fn check(&self) -> Result<()> {
        in_range("--batch-tokens", Some(self.batch_tokens as f64), 1.0, 1e9)
    }
}

/// How long sequences are.
#[derive(Args, Clone, Copy)]
pub struct PaddingFlags {
    /// Fill every text up to so many tokens and mix the padding in, as Google's FNet checkpoints were trained (512)
    #[arg(long, value_name = "TOKENS")]
    pad_to: Option<usize>,
}

/// Settings of the fine-tuning run that made a folder.
fn trained(folder: &Path) -> Result<Option<finetune::Settings>> {
    Ok(RunFolder::at(folder)
        .settings::<finetune::Settings>()
        .ok()
        .filter(|s| s.task.is_some() || s.train.is_some()))
}

/// A model folder.
pub struct Opened {
    pub path: PathBuf,
    pub model: Model,
    pub tokenizer: Tokenizer,
    /// Settings of the fine-tuning run, where the folder has them.
    pub trained: Option<finetune::Settings>,
    longest: usize,
    long: Long,
}

impl Opened {
    /// Opens a model with its head; says which tensors have no place in it.
    pub fn open(base: &BaseModel) -> Result<Self> {
        let (model, report) = pretrained::open_reported(base.source())?;
        say_unused(&base.name(), &report);
        Self::around(base, model)
    }

    /// As [`open`](Self::open), without its head and with another readout, for the vectors of texts.
    pub fn open_to_read(base: &BaseModel, pooling: Option<Pooling>, flags: &InferenceFlags) -> Result<Self> {
        let (model, report) = pretrained::open_with(base.source(), Head::Encoder, 0, |config| {
            config.classifier_pairs = Pairs::Together;
            let own = Some(config.classifier_pooling.clone()).filter(|own| !own.is_first());
            let mean = || Pooling::new(vec![Pool::Mean]).unwrap_or_default();
            config.classifier_pooling = pooling.or(own).unwrap_or_else(mean);
        })?;
        if let [missing, ..] = report.missing.as_slice() {
            return Err(Error::file(&base.name(), format!("lacks {missing}: choose another --pooling")));
        }
        Self::around(base, model)?.run_by(flags)
    }

    /// What was done with long examples, as a line on standard error.
    pub fn say_long(&self, long: LongOnes, file: &Path, all: usize) {
        if let Some(sentence) = long.sentence(file, all, self.longest) {
            eprintln!("{sentence}");
        }
    }

    fn around(base: &BaseModel, mut model: Model) -> Result<Self> {
        let tokenizer = base.tokenizer()?;
        check_vocabulary(&base.name(), &tokenizer, &model)?;
        let trained = base.folder().map(trained).transpose()?.flatten();
        let longest = base.longest(model.config().max_position_embeddings);
        if model.config().fixed_length().is_some() {
            tokenizer.check_padding()?;
            model.change_config(|config| config.padding_length = Some(longest))?;
        }
        let config = model.config();
        let path = base.folder().map_or_else(|| base.name().into(), PathBuf::from);
        let long = trained.as_ref().and_then(|t| t.long).unwrap_or(Long::usual(config));
        Ok(Self { path, model, tokenizer, trained, longest, long })
    }

    /// Opens a folder to be run in a certain way.
    pub fn open_for(path: &Path, flags: &InferenceFlags) -> Result<Self> {
        Self::open(&BaseModel::at(path))?.run_by(flags)
    }

    fn run_by(self, flags: &InferenceFlags) -> Result<Self> {
        let products = { flags.products }.resolve()?;
        let mut opened = self.padded(flags.padding)?;
        opened.model.set_products(products);
        opened.long = flags.long.unwrap_or(opened.long);
        Ok(opened)
    }

    /// For sequences of a given length.
    pub fn padded(mut self, flags: PaddingFlags) -> Result<Self> {
        if let Some(tokens) = flags.pad_to {
            let longest = self.model.config().max_position_embeddings;
            if !(3..=longest).contains(&tokens) {
                return Err(Error::usage(format!(
                    "--pad-to {tokens}: must be from 3 to the model's {longest}"
                )));
            }
            self.tokenizer.check_padding()?;
            self.model.change_config(|config| {
                (config.padding, config.padding_length) = (Padding::Fixed, Some(tokens));
            })?;
            self.longest = tokens;
        }
        Ok(self)
    }

    pub fn encoding(&self) -> Encoding<'_> {
        Encoding {
            tokenizer: &self.tokenizer,
            longest: self.longest,
            fixed_length: self.model.config().fixed_length(),
            pairs: self.model.config().classifier_pairs,
            long: self.long,
        }
    }

    /// The model's labels; an error for a model that was not fine-tuned.
    pub fn labels(&self) -> Result<Labels> {
        if self.model.config().problem_type() == Some(MULTI_LABEL) {
            let message = format!("problem_type is {MULTI_LABEL}; one class or one number is predicted here");
            return Err(Error::file(&self.path.join("config.json"), message));
        }
        match self.model.head() {
            Head::Regression => Ok(Labels::Number),
            Head::Classification { .. } => {
                let names = labels_of(self.model.config(), self.model.head());
                names.map(Labels::Classes).ok_or_else(|| {
                    Error::file(&self.path.join("config.json"), "id2label does not name every class")
                })
            }
            Head::NextSentence => Ok(Labels::Classes(["is_next", "not_next"].map(String::from).to_vec())),
            Head::Encoder | Head::MaskedLm | Head::PreTraining => Err(Error::file(
                &self.path,
                "is a pretrained model without a classifier; run `fnet finetune` first",
            )),
        }
    }
}
