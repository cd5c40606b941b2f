use fnet_train::Result;
use fnet_train::search::dot;
use serde_json::json;

use super::common::{say, set_threads};
use super::opened::InferenceFlags;
use super::vector_flags::VectorFlags;

/// Say how alike two texts are: the cosine of their vectors
#[derive(clap::Args)]
pub struct Args {
    /// A text
    first: String,
    /// Another one
    second: String,
    #[command(flatten)]
    vectors: VectorFlags,
    #[command(flatten)]
    inference: InferenceFlags,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `fnet similarity`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    args.inference.check()?;
    let mut opened = args.vectors.open(true, &args.inference)?;
    let vectors = opened.predictor.embed(&[&args.first, &args.second])?;
    let similarity: f64 = match vectors.as_slice() {
        [a, b] => dot(a, b),
        _ => f64::NAN,
    };
    if args.json { say(json!({"similarity": similarity})) } else { say(format!("{similarity:.4}")) }
}
