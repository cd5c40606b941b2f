use std::path::PathBuf;

use clap::ValueEnum;
use fnet_encoder::{Head, pretrained};
use fnet_train::folder::RunFolder;
use fnet_train::tokenizer::Tokenizer;
use fnet_train::{Error, Result};

use super::common::{check_vocabulary, say, say_unused};

/// Write a model as a folder of float32 safetensors and tokenizer.json
///
/// Reads everything that the other commands read: shards, pytorch_model.bin (as data: nothing in it is run),
/// spiece.model, vocab.txt, half precision.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the model, or a file of weights in it
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Head of the new model; by default the one it has
    #[arg(long, value_enum)]
    head: Option<HeadName>,
    /// Seed of weights that the new head needs and the model does not have
    #[arg(long, requires = "head")]
    seed: Option<u64>,
    /// New folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum HeadName {
    /// None: hidden states
    Encoder,
    /// Tokens at masked places
    MaskedLm,
    /// Masked tokens and the next sentence
    PreTraining,
    /// The next sentence alone
    NextSentence,
}

/// Runs `fnet convert`.
pub fn run(args: &Args) -> Result<()> {
    let folder = RunFolder::new(&args.out, false)?;
    let (model, report) = match args.head {
        None => pretrained::open_reported(&args.model)?,
        Some(head) => {
            let head = match head {
                HeadName::Encoder => Head::Encoder,
                HeadName::MaskedLm => Head::MaskedLm,
                HeadName::PreTraining => Head::PreTraining,
                HeadName::NextSentence => Head::NextSentence,
            };
            pretrained::open_as(&args.model, head, args.seed.unwrap_or(1))?
        }
    };
    say_unused(&args.model, &report);
    if !report.missing.is_empty() {
        let missing = pretrained::some_of(&report.missing);
        eprintln!("{}: fresh weights for {missing}", args.model.display());
    }
    let from = pretrained::folder_of(&args.model);
    let tokenizer = Tokenizer::of_folder(from)?;
    check_vocabulary(from, &tokenizer, &model)?;
    std::fs::create_dir_all(folder.path()).map_err(Error::io(folder.path()))?;
    let longest = Tokenizer::longest_of(from, model.config().max_position_embeddings);
    tokenizer.save(folder.path(), longest)?;
    folder.save_model(&model)?;
    say(format!("wrote {} weights to {}", model.parameters().len(), args.out.display()))
}
