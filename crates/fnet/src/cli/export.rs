use std::path::PathBuf;

use fnet_encoder::Head;
use fnet_encoder::pretrained;
use fnet_encoder::whole_file::write_whole;
use fnet_onnx::Weights;
use fnet_train::base_model::BaseModel;
use fnet_train::{Error, Result};

use super::common::say;
use super::convert::Dtype;

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
    /// Linear layers by products of 8-bit numbers: a quarter of the space, and answers that differ a little
    #[arg(long, conflicts_with = "dtype")]
    int8: bool,
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
    let base = BaseModel::named(args.model.as_deref())?;
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
    say(format!("{}: {:.1} MB", args.out.display(), bytes.len() as f64 / 1e6))
}
