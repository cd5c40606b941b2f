//! A small program around a model folder: reads a text a line on standard input and answers each with one JSON line,
//! the tokens at its masks, its class, or, with `--embed`, a vector.
//!
//!     echo "the [MASK] was cold" | cargo run --release -p fnet-train --example answer_lines -- DIR

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;

use fnet_encoder::pretrained::{self, labels_of};
use fnet_encoder::{Batch, Model, Workspace};
use fnet_train::tokenizer::Tokenizer;
use serde_json::{Value, json};

struct Program {
    model: Model,
    tokenizer: Tokenizer,
    batch: Batch,
    workspace: Workspace,
}

impl Program {
    fn open(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let (model, tokenizer) = (pretrained::open(folder)?, Tokenizer::of_folder(folder)?);
        Ok(Self { model, tokenizer, batch: Batch::new(), workspace: Workspace::new() })
    }

    /// Runs the encoder on one text; returns its tokens.
    fn run(&mut self, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let longest = self.model.config().max_position_embeddings;
        self.tokenizer.assemble(&self.tokenizer.encode(text)?, None, longest, &mut tokens, &mut segments);
        self.batch.clear();
        self.batch.push(&tokens, &segments);
        self.model.forward(&self.batch, None, &mut self.workspace)?;
        Ok(tokens)
    }

    /// The mean of the last layer over the text's tokens.
    fn embed(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        let tokens = self.run(text)?.len() as f32;
        let hidden = self.model.config().hidden_size;
        let mut mean = vec![0.0; hidden];
        for row in self.model.hidden(&self.batch, &mut self.workspace).chunks_exact(hidden) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v / tokens);
        }
        Ok(json!({"vector": mean}))
    }

    /// The likeliest token at each mask.
    fn fill_masks(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        let tokens = self.run(text)?;
        let mask = self.tokenizer.special().mask;
        let places: Vec<u32> = (0..tokens.len() as u32).filter(|p| tokens[*p as usize] == mask).collect();
        let vocab_size = self.model.config().vocab_size;
        let logits = self.model.mlm_logits(&self.batch, &places, &mut self.workspace);
        let best = logits.chunks_exact(vocab_size).map(|logits| self.tokenizer.token(largest(logits) as u32));
        Ok(json!({"tokens": best.collect::<Vec<_>>()}))
    }

    /// The class, or the number that a regression model gives.
    fn classify(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        self.run(text)?;
        let outputs = self.model.classify(&self.batch, None, &mut self.workspace);
        let names = labels_of(self.model.config(), self.model.head()).unwrap_or_default();
        Ok(match outputs {
            [number] => json!({"value": number}),
            _ => json!({"label": names.get(largest(outputs)), "logits": outputs}),
        })
    }
}

fn largest(values: &[f32]) -> usize {
    (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let embed = arguments.iter().any(|a| a == "--embed");
    let folder = arguments.iter().find(|a| *a != "--embed").ok_or("name a model folder")?;
    let mut program = Program::open(Path::new(folder))?;
    let fills_masks = program.model.head().predicts_tokens();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match (embed, fills_masks) {
            (true, _) => program.embed(&line)?,
            (false, true) => program.fill_masks(&line)?,
            (false, false) => program.classify(&line)?,
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
