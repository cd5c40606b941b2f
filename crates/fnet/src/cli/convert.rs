use std::path::PathBuf;

use clap::ValueEnum;
use fnet_encoder::pretrained::{self, Report, WeightType};
use fnet_encoder::{Head, Model};
use fnet_train::base_model::{BaseModel, TrunkPlace};
use fnet_train::data::sentence_settings::SentenceSettings;
use fnet_train::data::tasks::rows::{self, Columns, only_text_column};
use fnet_train::folder::{RunFolder, check_is_not_model};
use fnet_train::predictor::{check_vocabulary, say_unused};
use fnet_train::signal_predictor::SignalPredictor;
use fnet_train::vector_maker::VectorMaker;
use fnet_train::{Error, Result};

use super::common::say;

/// Write a model as a folder of safetensors and tokenizer.json
///
/// Reads everything that the other commands read: shards, pytorch_model.bin (as data: nothing in it is run),
/// spiece.model, vocab.txt, half precision.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the model, or a file of weights in it; an adapter is merged with its trunk. By default the model that
    /// ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Head of the new model; by default the one it has
    #[arg(long, value_enum)]
    head: Option<HeadName>,
    /// Seed of weights that the new head needs and the model does not have
    #[arg(long, requires = "head")]
    seed: Option<u64>,
    /// Make the readout for vectors of texts anew, by how often words occur in these texts and how their vectors vary: .txt,
    /// .csv, .tsv or .jsonl, also .gz or .zst
    #[arg(long, value_name = "FILE")]
    vectors_from: Vec<PathBuf>,
    /// How weights are written: bfloat16 takes half of the space and keeps three digits
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    /// New folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace the model that --out holds
    #[arg(long)]
    overwrite: bool,
}

/// How weights are written.
#[derive(Clone, Copy, ValueEnum)]
pub enum Dtype {
    Float32,
    Bfloat16,
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
    /// Vectors of texts
    Sentence,
}

/// The model with a readout for vectors of texts, made from texts.
fn with_vectors(
    base: &BaseModel,
    head: Option<Head>,
    seed: u64,
    files: &[PathBuf],
) -> Result<(Model, Report)> {
    let refuse = |what: &str| Err(Error::usage(format!("--vectors-from: {base} {what}")));
    if base.trunk()?.is_some() {
        return refuse("is an adapter: merge it first");
    }
    if SignalPredictor::reads(base) {
        return refuse("reads signals, not texts");
    }
    let own = pretrained::inspect(base.source())?;
    let head = head.unwrap_or(own.head);
    if !head.keeps_sentence() {
        return refuse("predicts labels: give --head sentence, or the model that it was fine-tuned from");
    }
    let tokenizer = base.tokenizer()?;
    let mut maker = VectorMaker::new(&tokenizer, own.config.vocab_size);
    for file in files {
        let columns = match only_text_column(file)? {
            Some(name) => Columns::named(&[name], None, true)?,
            None => Columns::of_lines(),
        };
        rows::read_blocks(file, &columns, 4_096, |block| {
            for row in block {
                maker.add(&tokenizer.encode(&row.first)?);
            }
            Ok(())
        })?;
    }
    maker.open(base, head, seed)
}

/// Runs `fnet convert`.
pub fn run(args: &Args) -> Result<()> {
    let base = BaseModel::named(args.model.as_deref())?;
    if let Some(model) = &args.model {
        check_is_not_model(&args.out, model)?;
    }
    let trunk = base.trunk()?;
    if let Some(TrunkPlace::Folder(trunk)) = &trunk {
        check_is_not_model(&args.out, trunk)?;
    }
    if trunk.is_some() && args.head.is_some() {
        return Err(Error::usage("--head: an adapter keeps its head; merge it first"));
    }
    let folder = RunFolder::new(&args.out, args.overwrite)?;
    let head = args.head.map(|head| match head {
        HeadName::Encoder => Head::Encoder,
        HeadName::MaskedLm => Head::MaskedLm,
        HeadName::PreTraining => Head::PreTraining,
        HeadName::NextSentence => Head::NextSentence,
        HeadName::Sentence => Head::Sentence,
    });
    let seed = args.seed.unwrap_or(1);
    let (model, report) = match head {
        _ if !args.vectors_from.is_empty() => with_vectors(&base, head, seed, &args.vectors_from)?,
        None => base.open()?,
        Some(head) => pretrained::open_as(base.source(), head, seed)?,
    };
    say_unused(&base.name(), &report);
    if !report.missing.is_empty() {
        let missing = pretrained::some_of(&report.missing);
        eprintln!("{base}: fresh weights for {missing}");
    }
    let reads_text = !SignalPredictor::reads(&base);
    let tokenizer = reads_text.then(|| base.tokenizer()).transpose()?;
    if let Some(tokenizer) = &tokenizer {
        check_vocabulary(&base.name(), tokenizer, &model)?;
    }
    let stored = match args.dtype {
        Dtype::Float32 => WeightType::Float32,
        Dtype::Bfloat16 => WeightType::Bfloat16,
    };
    folder.replace(|staged| {
        let longest = base.longest(model.config().max_position_embeddings);
        tokenizer.iter().try_for_each(|tokenizer| tokenizer.save(staged.path(), longest))?;
        if let (Some(from), Some(_)) = (base.folder(), &model.config().sentence) {
            SentenceSettings::copy(from, staged.path())?;
        }
        Ok(pretrained::save_as(&model, staged.path(), stored)?)
    })?;
    say(format!("wrote {} weights to {}", model.parameters().len(), args.out.display()))
}
