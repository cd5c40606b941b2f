use std::path::PathBuf;

use fnet_train::base_model::BaseModel;
use fnet_train::fill_mask::Filled;
use fnet_train::settings::in_range;
use fnet_train::{Error, Result};
use serde_json::json;

use super::common::say;
use super::opened::{Opened, PaddingFlags};

/// Guess the token at each [MASK] of a text
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the pretrained model; by default the one that ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Guesses for each mask
    #[arg(long, default_value_t = 5)]
    top: usize,
    #[command(flatten)]
    padding: PaddingFlags,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// A text with one or more [MASK]
    text: String,
}

/// Runs `fnet fill-mask`.
pub fn run(args: &Args) -> Result<()> {
    in_range("top", args.top as f64, 1.0, 1e6)?;
    let mut opened = Opened::open(&BaseModel::named(args.model.as_deref())?)?.padded(args.padding)?;
    let Filled { masks, cut } = opened.predictor.fill_masks(&args.text, args.top)?;
    if cut {
        eprintln!("the text was cut to the model's {} tokens", opened.predictor.longest());
    }
    if masks.is_empty() {
        let tokenizer = opened.predictor.tokenizer();
        let mask = tokenizer.token(tokenizer.special().mask);
        return Err(Error::usage(format!("the text holds no {mask} within the model's length")));
    }
    if args.json {
        return say(json!({"text": args.text, "masks": masks}));
    }
    for (i, guesses) in masks.iter().enumerate() {
        if i > 0 {
            say("")?;
        }
        for guess in guesses {
            say(format!("{:.4}  {:<16}  {}", guess.probability, guess.token, guess.text))?;
        }
    }
    Ok(())
}
