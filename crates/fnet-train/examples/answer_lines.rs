//! A small program around a model folder: reads one text per line from standard input and answers each with one
//! JSON line: the tokens at its masks, its class or, with `--embed`, a vector.
//!
//!     echo "the [MASK] was cold" | cargo run --release -p fnet-train --example answer_lines -- DIR

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;

use fnet_train::base_model::BaseModel;
use fnet_train::predictor::{Prediction, Predictor};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let embed = arguments.iter().any(|a| a == "--embed");
    let folder = arguments.iter().find(|a| *a != "--embed").ok_or("name a model folder")?;
    let base = BaseModel::at(Path::new(folder));
    let mut predictor = if embed { Predictor::open_to_read(&base, None)? } else { Predictor::open(&base)? };
    let fills_masks = predictor.model().head().predicts_tokens();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match (embed, fills_masks) {
            (true, _) => json!({"vector": predictor.embed(&[line])?[0]}),
            (false, true) => tokens_at_masks(&mut predictor, &line)?,
            (false, false) => match predictor.predict(&[line])?.remove(0) {
                Prediction::Class { label, probabilities } => {
                    json!({"label": label, "probabilities": probabilities})
                }
                Prediction::Labels { labels, probabilities } => {
                    json!({"labels": labels, "probabilities": probabilities})
                }
                Prediction::Number(value) => json!({"value": value}),
            },
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn tokens_at_masks(predictor: &mut Predictor, text: &str) -> Result<Value, Box<dyn Error>> {
    let masks = predictor.fill_masks(text, 1)?.masks;
    let tokens: Vec<&String> = masks.iter().flatten().map(|guess| &guess.token).collect();
    Ok(json!({"tokens": tokens}))
}
