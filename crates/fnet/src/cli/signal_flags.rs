//! Flags of fine-tuning on what is no plain text.

use clap::Args;
use fnet_train::data::signals::Layout;
use fnet_train::runs::finetune::Tokens;
use serde::Serialize;

/// Flags over the fields of `SignalSettings`.
#[derive(Args, Serialize)]
pub struct SignalFlags {
    /// Instead of --model: a random trunk of this size (tiny, mini, small, medium, base, large), to learn from signals
    #[arg(long, conflicts_with = "model")]
    preset: Option<String>,
    /// Mixer of the random trunk, as in fnet pretrain; fourier by default
    #[arg(long, requires = "preset")]
    mixer: Option<String>,
    /// Layers of the random trunk, instead of its preset's
    #[arg(long, requires = "preset")]
    layers: Option<usize>,
    /// Hidden size of the random trunk, instead of its preset's
    #[arg(long, requires = "preset")]
    hidden_size: Option<usize>,
    /// Seed of the random trunk, from which its frozen weights follow; trained ones follow from --seed
    #[arg(long, value_name = "SEED", requires = "preset")]
    trunk_seed: Option<u64>,
    /// Side of an image's patches in pixels; 4 by default, in pathfinder 1
    #[arg(long, value_name = "PIXELS")]
    patch: Option<usize>,
    /// Make coloured images grey
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    grey: bool,
    /// Resize images to squares of this side
    #[arg(long, value_name = "PIXELS")]
    resize: Option<usize>,
    /// Mirror half of the training images left to right, drawn anew in each epoch
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    flip: bool,
    /// Move training images by up to this many pixels each way, drawn anew in each epoch
    #[arg(long, value_name = "PIXELS")]
    crop: Option<usize>,
    /// The head reads at least so many random features (filters over every place of an image or series, rectified and pooled)
    /// instead of a trunk's output: a strong and cheap baseline, with --recipe ridge
    #[arg(long, value_name = "FEATURES")]
    random_features: Option<usize>,
    /// Let the head read how each series moves: the model of its own reservoir states, in so many dimensions (40 is usual);
    /// with --recipe ridge, learnt in seconds. --trunk-seed is the seed of the reservoir
    #[arg(long, value_name = "DIMENSIONS", conflicts_with = "random_features")]
    model_space: Option<usize>,
    /// The rows are series: one a row (wide, a step a column) or a step a row (long, a channel a column)
    #[arg(long, value_enum, value_name = "LAYOUT")]
    series: Option<Layout>,
    /// Column that says to which series a step belongs, with --series long
    #[arg(long, value_name = "COLUMN")]
    series_id: Option<String>,
    /// Read texts symbol by symbol instead of by words: proteins, formulas, raw text
    #[arg(long, value_enum)]
    tokens: Option<Tokens>,
    /// Each word has a label (JSONL with lists of words and labels, or .conll with a word a line), or with --tokens each
    /// symbol (the label is a string as long as the text), or each step of a series (--series long, or .npy)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    per_position: bool,
    /// Label of a symbol or step of which nothing is known, with --per-position
    #[arg(long, value_name = "LABEL", allow_hyphen_values = true)]
    ignored_label: Option<String>,
    /// Strings of bit-memory; 5 by default
    #[arg(long)]
    strings: Option<usize>,
    /// Bits in a string; by default 1000 in bit-memory, 5 in bit-xor
    #[arg(long)]
    bits: Option<usize>,
    /// Fewest symbols of an expression of listops, 500 by default; most are --max-length, 2000 by default
    #[arg(long, value_name = "SYMBOLS")]
    min_length: Option<usize>,
    /// Lists within lists of listops; 10 by default
    #[arg(long)]
    depth: Option<usize>,
    /// Most arguments of a list of listops; 10 by default
    #[arg(long)]
    arguments: Option<usize>,
    /// Dashes of a path of pathfinder; 6 by default
    #[arg(long)]
    dashes: Option<usize>,
}
