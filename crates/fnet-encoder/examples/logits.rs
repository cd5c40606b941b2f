//! The encoder as a library, below any text: reads sequences of token ids, one JSON object per line, and answers
//! each with the output of the model's head.
//!
//!     echo '{"tokens": [2, 17, 3], "segments": [0, 0, 0]}' | cargo run --release -p fnet-encoder --example logits -- DIR

use std::error::Error;
use std::io::BufRead;
use std::path::Path;

use fnet_encoder::{Batch, Mode, Workspace, pretrained};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("name a model folder")?;
    let model = pretrained::open(Path::new(&folder))?;
    let (mut batch, mut w) = (Batch::new(), Workspace::new());
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let ids =
            |key: &str| -> Result<Vec<u32>, serde_json::Error> { serde_json::from_value(line[key].clone()) };
        let (tokens, segments) = (ids("tokens")?, ids("segments")?);
        batch.clear();
        batch.push(&tokens, &segments);
        let mut forward = model.forward(&batch, Mode::Infer, &mut w)?;
        let places: Vec<u32> = (0..tokens.len() as u32).collect();
        let answer = json!({
            "hidden": forward.hidden(),
            "tokens": forward.mlm_logits(&places).unwrap_or_default(),
            "classes": forward.logits().unwrap_or_default(),
        });
        println!("{answer}");
    }
    Ok(())
}
