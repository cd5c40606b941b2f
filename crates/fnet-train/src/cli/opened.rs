//! A model folder opened for use: model, tokenizer, and what it was trained on.

use std::path::{Path, PathBuf};

use clap::Args;
use fnet_encoder::pretrained::{self, labels_of};
use fnet_encoder::{Head, Model};
use fnet_train::folder::RunFolder;
use fnet_train::tasks::dataset::{Encoding, INFERENCE_TOKENS, Labels};
use fnet_train::tasks::rows::Columns;
use fnet_train::tokenizer::{TOKENIZER_FILE, Tokenizer};
use fnet_train::{Error, Result};

use super::common::{ProductFlags, check_vocabulary};
use super::finetune;
use super::task::{find_task, own_columns};

/// Which columns of a file hold the texts.
#[derive(Args)]
pub struct ColumnFlags {
    /// GLUE task whose columns the file has; by default the task the model was fine-tuned on
    #[arg(long)]
    pub task: Option<String>,
    /// One or two text columns, with a comma; by default those the model was fine-tuned on
    #[arg(long, value_delimiter = ',', value_name = "COLUMN", conflicts_with = "task")]
    pub text: Vec<String>,
}

/// How a model is run.
#[derive(Args)]
pub struct InferenceFlags {
    #[command(flatten)]
    products: ProductFlags,
    /// Tokens that are run at once, in texts of similar length
    #[arg(long, default_value_t = INFERENCE_TOKENS)]
    pub batch_tokens: usize,
}

/// A model folder.
pub struct Opened {
    pub path: PathBuf,
    pub model: Model,
    pub tokenizer: Tokenizer,
    /// Settings of the fine-tuning run, where the folder has them.
    pub trained: Option<finetune::Settings>,
}

impl Opened {
    pub fn open(path: &Path) -> Result<Self> {
        let model = pretrained::open(path)?;
        let tokenizer = Tokenizer::read(&path.join(TOKENIZER_FILE))?;
        check_vocabulary(path, &tokenizer, &model)?;
        let trained =
            RunFolder::new(path, true)?.settings::<finetune::Settings>().ok().filter(|s| s.model.is_some());
        Ok(Self { path: path.into(), model, tokenizer, trained })
    }

    /// Opens a folder to be run in a certain way.
    pub fn open_for(path: &Path, flags: &InferenceFlags) -> Result<Self> {
        let products = { flags.products }.resolve()?;
        let mut opened = Self::open(path)?;
        opened.model.set_products(products);
        Ok(opened)
    }

    pub fn encoding(&self) -> Encoding<'_> {
        let config = self.model.config();
        let trained = self.trained.as_ref().and_then(|t| t.max_length).unwrap_or(usize::MAX);
        Encoding {
            tokenizer: &self.tokenizer,
            longest: trained.min(config.max_position_embeddings),
            padding: config.padding,
        }
    }

    /// The model's labels; an error for a model that was not fine-tuned.
    pub fn labels(&self) -> Result<Labels> {
        match self.model.head() {
            Head::Regression => Ok(Labels::Number),
            Head::Classification { labels } => {
                let names = labels_of(self.model.config()).filter(|names| names.len() == labels);
                names.map(Labels::Classes).ok_or_else(|| {
                    Error::file(&self.path.join("config.json"), "id2label does not name every class")
                })
            }
            Head::MaskedLm | Head::PreTraining => Err(Error::file(
                &self.path,
                "is a pretrained model without a classifier; run `fnet finetune` first",
            )),
        }
    }

    /// Name of the GLUE task, given or trained on.
    pub fn task<'a>(&'a self, flags: &'a ColumnFlags) -> Option<&'a str> {
        if !flags.text.is_empty() {
            return None;
        }
        let trained = || self.trained.as_ref().and_then(|t| t.task.as_deref());
        flags.task.as_deref().or_else(trained)
    }

    /// The columns of a file.
    pub fn columns(&self, flags: &ColumnFlags, label: Option<&str>, file: &Path) -> Result<Columns> {
        if let Some(task) = self.task(flags) {
            let name = file.file_name().map_or("".into(), |n| n.to_string_lossy());
            return Ok(find_task(task)?.columns(&name));
        }
        let trained = self.trained.as_ref();
        let text = match trained {
            Some(trained) if flags.text.is_empty() => &trained.text,
            _ => &flags.text,
        };
        own_columns(text, label.or_else(|| trained.and_then(|t| t.label.as_deref())))
    }
}
