use std::path::{Path, PathBuf};

use fnet_encoder::pretrained;
use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Head, Precision, Products};
use fnet_onnx::Weights;
use fnet_train::base_model::BaseModel;
use fnet_train::data::tasks::dataset::INFERENCE_TOKENS;
use fnet_train::runs::report::table;
use fnet_train::{Error, Result};

use super::common::say;
use super::convert::Dtype;
use super::evaluate::{judge, metrics_of};
use super::opened::Opened;
use super::opened_columns::ColumnFlags;

/// Write a model for another runtime
///
/// ONNX: inputs are input_ids, attention_mask and token_type_ids of any batch and length, padded on the right (for pairs in
/// towers [batch, 2, length]); each sequence is mixed at its own length. Tokenise by the model's tokenizer.json.
#[derive(clap::Args)]
pub struct Args {
    /// As an ONNX file, by standard operators of opset 17
    #[arg(long, required = true)]
    onnx: bool,
    /// Folder of the model, or a file of weights in it; an adapter is merged with its trunk. By default the model that
    /// ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The vectors of texts that `fnet embed` writes, instead of what the model's head says
    #[arg(long)]
    vectors: bool,
    /// How weights are stored: bfloat16 takes half of the space and keeps three digits
    #[arg(long, value_enum, default_value = "float32")]
    dtype: Dtype,
    /// Linear layers by products of 8-bit numbers: about a third of the space, and answers that differ a little
    #[arg(long, conflicts_with = "dtype")]
    int8: bool,
    /// Labelled rows: says first what the model scores on them here, in float32 and in 8 bits
    #[arg(long, value_name = "FILE", requires = "int8", conflicts_with = "vectors")]
    dev: Option<PathBuf>,
    /// Label column of those rows; by default the one it was fine-tuned on
    #[arg(long, value_name = "COLUMN", requires = "dev")]
    label: Option<String>,
    #[command(flatten)]
    columns: ColumnFlags,
    /// New file
    #[arg(long, value_name = "FILE.onnx")]
    out: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    overwrite: bool,
}

/// Runs `fnet export`.
pub fn run(args: &Args) -> Result<()> {
    if args.out.exists() && !args.overwrite {
        return Err(Error::file(&args.out, "is there already; give --overwrite to replace it"));
    }
    let ColumnFlags { task, text, no_header } = &args.columns;
    if args.dev.is_none() && (task.is_some() || !text.is_empty() || *no_header) {
        return Err(Error::usage("--task, --text, --no-header: are for the rows of --dev"));
    }
    let base = BaseModel::named(args.model.as_deref())?;
    if let Some(file) = &args.dev {
        say_loss(args, &base, file)?;
    }
    let model = if args.vectors && base.trunk()?.is_none() {
        pretrained::open_as(base.source(), Head::Sentence, 0)?.0
    } else {
        base.open()?.0
    };
    if args.vectors && model.head() != Head::Sentence {
        return Err(Error::usage(
            "--vectors: an adapter reads what it was trained to; merge it by `fnet convert` first",
        ));
    }
    let weights = match args.dtype {
        _ if args.int8 => Weights::Int8,
        Dtype::Float32 => Weights::Float32,
        Dtype::Bfloat16 => Weights::Bfloat16,
    };
    let bytes = fnet_onnx::export(&model, weights).map_err(|e| Error::file(&base.name(), e.to_string()))?;
    write_whole(&args.out, &bytes)?;
    if args.int8 && args.dev.is_none() && has_labels(model.head()) {
        eprintln!("answers in 8 bits differ a little: --dev FILE says what that costs on labelled rows");
    }
    say(format!("{}: {:.1} MB", args.out.display(), bytes.len() as f64 / 1e6))
}

fn has_labels(head: Head) -> bool {
    matches!(head, Head::Classification { .. } | Head::Regression)
}

/// What the model scores in float32, and in 8 bits by the products that the exported model has.
fn say_loss(args: &Args, base: &BaseModel, file: &Path) -> Result<()> {
    let mut opened = Opened::open(base)?;
    let metrics = metrics_of(&opened, &args.columns, args.label.as_deref())?;
    let columns = opened.labelled_columns(&args.columns, args.label.as_deref(), file)?;
    let mut scores = Vec::new();
    for precision in [Precision::F32, Precision::Int8] {
        opened.predictor.model_mut().set_products(Products::new(precision));
        scores.push(judge(&opened, file, &columns, &metrics, INFERENCE_TOKENS)?.1);
    }
    let rows = scores[0].iter().zip(&scores[1]).map(|((name, exact), (_, rounded))| {
        (name.clone(), format!("{exact:.4}, in 8 bits {rounded:.4} ({:+.4})", rounded - exact))
    });
    say(table(&rows.collect::<Vec<_>>()).trim_end())
}
