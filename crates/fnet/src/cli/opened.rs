//! A model folder opened for use: model, tokenizer, and what it was trained on.

use std::path::Path;

use clap::Args;
use fnet_encoder::{Pooling, Products};
use fnet_train::Result;
use fnet_train::base_model::BaseModel;
use fnet_train::data::tasks::dataset::INFERENCE_TOKENS;
use fnet_train::data::tasks::encoding::{Long, LongOnes};
use fnet_train::folder::RunFolder;
use fnet_train::predictor::{Predictor, say_unused};
use fnet_train::runs::finetune::FinetuneSettings;
use fnet_train::runs::similarity::SimilaritySettings;
use fnet_train::settings::{in_range, refused};
use fnet_train::together::Trunks;

use super::product_flags::ProductFlags;

/// How a model is run.
#[derive(Args)]
pub struct InferenceFlags {
    #[command(flatten)]
    products: ProductFlags,
    /// Tokens in a batch, of texts of similar length
    #[arg(long, default_value_t = INFERENCE_TOKENS)]
    pub batch_tokens: usize,
    #[command(flatten)]
    padding: PaddingFlags,
    /// How texts longer than the model are read; by default as in fine-tuning, else in windows, unless only a text's
    /// ends are read
    #[arg(long, value_enum)]
    long: Option<Long>,
}

impl InferenceFlags {
    /// The products that are asked for.
    pub fn products(&self) -> Result<Products> {
        self.products.products()
    }

    /// Refuses flags of texts, for a model of signals.
    pub fn check_for_signals(&self) -> Result<()> {
        let of_texts = [("pad_to", self.padding.pad_to.is_some()), ("long", self.long.is_some())];
        match of_texts.into_iter().find(|flag| flag.1) {
            Some((flag, _)) => Err(refused(flag, "is for texts; the model reads signals")),
            None => self.check(),
        }
    }

    /// Refuses what cannot be followed.
    pub fn check(&self) -> Result<()> {
        if self.long == Some(Long::Extend) {
            return Err(refused(
                "long extend",
                "is for fine-tuning: a model keeps the positions that it has",
            ));
        }
        in_range("batch_tokens", self.batch_tokens as f64, 1.0, 1e9)
    }
}

/// How long sequences are.
#[derive(Args, Clone, Copy)]
pub struct PaddingFlags {
    /// Pad every text to this many tokens and mix the padding in, as Google's FNet checkpoints were trained (512)
    #[arg(long, value_name = "TOKENS")]
    pad_to: Option<usize>,
}

/// Settings of the fine-tuning run that made a folder.
pub fn trained(folder: &Path) -> Option<FinetuneSettings> {
    let folder = RunFolder::at(folder);
    if folder.settings_table().is_ok_and(|table| table.contains_key("objective")) {
        // Of vectors of texts nothing but this is of use later.
        let long = folder.settings::<SimilaritySettings>().ok()?.long;
        return Some(FinetuneSettings { long, ..FinetuneSettings::default() });
    }
    let settings = folder.settings::<FinetuneSettings>().ok();
    settings.filter(|settings| settings.task.is_some() || settings.train.is_some())
}

/// A model opened to be used from the command line.
pub struct Opened {
    pub predictor: Predictor,
    /// Settings of the fine-tuning run, where the folder has them.
    pub trained: Option<FinetuneSettings>,
}

impl Opened {
    /// Opens a model with its head; says which tensors have no place in it.
    pub fn open(base: &BaseModel) -> Result<Self> {
        let (predictor, report) = Predictor::open_reported(base)?;
        say_unused(&base.name(), &report);
        Self::of(base, predictor)
    }

    /// Opens a folder to be run in a certain way, an adapter on a shared trunk.
    pub fn open_on(base: &BaseModel, trunks: Option<&mut Trunks>, flags: &InferenceFlags) -> Result<Self> {
        match trunks {
            Some(trunks) => Self::of(base, Predictor::open_on(base, trunks)?)?.run_by(flags),
            None => Self::open(base)?.run_by(flags),
        }
    }

    /// As [`open`](Self::open), without its head and with another readout, for the vectors of texts.
    pub fn open_to_read(base: &BaseModel, pooling: Option<Pooling>, flags: &InferenceFlags) -> Result<Self> {
        Self::of(base, Predictor::open_to_read(base, pooling)?)?.run_by(flags)
    }

    /// Opens a folder to be run in a certain way.
    pub fn open_for(path: &Path, flags: &InferenceFlags) -> Result<Self> {
        Self::open(&BaseModel::at(path))?.run_by(flags)
    }

    fn of(base: &BaseModel, mut predictor: Predictor) -> Result<Self> {
        let trained = base.folder().and_then(trained);
        if let Some(long) = trained.as_ref().and_then(|t| t.long) {
            predictor.set_long(long);
        }
        Ok(Self { predictor, trained })
    }

    fn run_by(self, flags: &InferenceFlags) -> Result<Self> {
        let products = flags.products()?;
        let mut opened = self.padded(flags.padding)?;
        opened.predictor.model_mut().set_products(products);
        opened.predictor.set_batch_tokens(flags.batch_tokens);
        if let Some(long) = flags.long {
            opened.predictor.set_long(long);
        }
        Ok(opened)
    }

    /// For sequences of a given length.
    pub fn padded(mut self, flags: PaddingFlags) -> Result<Self> {
        if let Some(tokens) = flags.pad_to {
            self.predictor.pad_to(tokens)?;
        }
        Ok(self)
    }

    /// What was done with long examples, as a line on standard error.
    pub fn say_long(&self, long: LongOnes, file: &Path, all: usize) {
        if let Some(sentence) = long.sentence(file, all, self.predictor.longest()) {
            eprintln!("{sentence}");
        }
    }
}
