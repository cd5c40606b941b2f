use std::path::{Path, PathBuf};

use fnet_encoder::whole_file::write_whole;
use fnet_train::Result;
use fnet_train::data::tokenizer::Kind;
use fnet_train::runs::pretrain::train_tokenizer;
use fnet_train::settings::existing_files;

use super::common::{check_not_an_input, say};
use super::output::check_replaceable;

/// Train a vocabulary on text
#[derive(clap::Args)]
pub struct Args {
    /// Text: .txt or .jsonl, also .gz or .zst
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Tokens in the vocabulary
    #[arg(long)]
    vocab_size: usize,
    /// Kind of vocabulary
    #[arg(long, value_enum, default_value = "wordpiece")]
    kind: Kind,
    /// Keep upper case apart from lower case
    #[arg(long)]
    cased: bool,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file that --out names
    #[arg(long)]
    overwrite: bool,
}

/// Runs `fnet tokenizer`.
pub fn run(args: &Args) -> Result<()> {
    let files = existing_files(&args.corpus)?;
    let inputs: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    check_not_an_input("--out", &args.out, &inputs)?;
    check_replaceable(&args.out, args.overwrite)?;
    eprintln!("training a {:?} vocabulary of {} tokens", args.kind, args.vocab_size);
    let tokenizer = train_tokenizer(args.kind, args.vocab_size, args.cased, &files, false)?;
    write_whole(&args.out, tokenizer.to_json()?.as_bytes())?;
    say(format!("{}: {} tokens", args.out.display(), tokenizer.vocab_size()))
}
