use std::path::PathBuf;

use fnet_encoder::{Batch, Mode, Workspace};
use fnet_train::base_model::BaseModel;
use fnet_train::{Error, Result};
use serde_json::json;

use super::common::{in_range, say};
use super::opened::{Opened, PaddingFlags};
use super::predict::softmax;

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

/// A guess: token, probability, and the text with it filled in.
#[derive(Debug, serde::Serialize)]
pub struct Guess {
    pub token: String,
    pub probability: f32,
    pub text: String,
}

/// Runs `fnet fill-mask`.
pub fn run(args: &Args) -> Result<()> {
    in_range("--top", Some(args.top as f64), 1.0, 1e6)?;
    let opened = Opened::open(&BaseModel::named(args.model.as_deref())?)?.padded(args.padding)?;
    let guesses = fill(&opened, &args.text, args.top)?;
    if args.json {
        return say(json!({"text": args.text, "masks": guesses}));
    }
    for (i, guesses) in guesses.iter().enumerate() {
        if i > 0 {
            say("")?;
        }
        for guess in guesses {
            say(format!("{:.4}  {:<16}  {}", guess.probability, guess.token, guess.text))?;
        }
    }
    Ok(())
}

/// The likeliest tokens at each mask, likeliest first.
pub fn fill(opened: &Opened, text: &str, top: usize) -> Result<Vec<Vec<Guess>>> {
    if !opened.model.head().predicts_tokens() {
        return Err(Error::file(&opened.path, "has no MLM head: give a pretrained model's folder"));
    }
    let ids = opened.tokenizer.encode(text)?;
    let (mut tokens, mut segments) = (Vec::new(), Vec::new());
    let encoding = opened.encoding();
    if opened.tokenizer.assemble(&ids, None, encoding.longest, &mut tokens, &mut segments) {
        eprintln!("the text was cut to the model's {} tokens", encoding.longest);
    }
    let mask = opened.tokenizer.special().mask;
    let places: Vec<u32> = (0..tokens.len() as u32).filter(|p| tokens[*p as usize] == mask).collect();
    if places.is_empty() {
        let message = format!("the text holds no {} within the model's length", opened.tokenizer.token(mask));
        return Err(Error::usage(message));
    }
    let content = tokens.len() - 1;
    let whole = tokens.clone();
    encoding.pad(&mut tokens, &mut segments);
    let mut batch = Batch::new();
    batch.push(&tokens, &segments);
    let mut w = Workspace::new();
    let vocabulary = opened.model.config().vocab_size;
    let mut forward = opened.model.forward(&batch, Mode::Infer, &mut w)?;
    let logits = forward.mlm_logits(&places)?;
    let guesses = places.iter().zip(logits.chunks(vocabulary)).map(|(place, logits)| {
        let shares = softmax(logits);
        let mut order: Vec<u32> = (0..opened.tokenizer.vocab_size() as u32).collect();
        order.sort_by(|a, b| shares[*b as usize].total_cmp(&shares[*a as usize]));
        let guess = |id: &u32| {
            let mut filled = whole.clone();
            filled[*place as usize] = *id;
            Guess {
                token: opened.tokenizer.token(*id),
                probability: shares[*id as usize],
                text: opened.tokenizer.decode(&filled[1..content]),
            }
        };
        order.iter().take(top).map(guess).collect()
    });
    Ok(guesses.collect())
}
