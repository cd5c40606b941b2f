//! A small program around a model folder: reads a text a line on standard input and answers each with one JSON line,
//! the tokens at its masks, its class, or, with `--embed`, a vector.
//!
//!     echo "the [MASK] was cold" | cargo run --release -p fnet-train --example answer_lines -- DIR

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;

use fnet_encoder::pretrained::{self, labels_of};
use fnet_encoder::{Batch, Forward, Mode, Model, Workspace};
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

    /// Runs the encoder on one text; its tokens are in the batch.
    fn run(&mut self, text: &str) -> Result<Forward<'_>, Box<dyn Error>> {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let longest = self.model.config().max_position_embeddings;
        self.tokenizer.assemble(&self.tokenizer.encode(text)?, None, longest, &mut tokens, &mut segments);
        self.batch.clear();
        self.batch.push(&tokens, &segments);
        Ok(self.model.forward(&self.batch, Mode::Infer, &mut self.workspace)?)
    }

    /// The mean of the last layer over the text's tokens.
    fn embed(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        let hidden = self.model.config().hidden_size;
        let mut mean = vec![0.0; hidden];
        let mut forward = self.run(text)?;
        let rows = forward.hidden();
        let tokens = (rows.len() / hidden) as f32;
        for row in rows.chunks_exact(hidden) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v / tokens);
        }
        Ok(json!({"vector": mean}))
    }

    /// The likeliest token at each mask.
    fn fill_masks(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        let (mask, vocab_size) = (self.tokenizer.special().mask, self.model.config().vocab_size);
        let mut forward = self.run(text)?;
        let tokens = forward.batch().tokens();
        let places: Vec<u32> = (0..tokens.len() as u32).filter(|p| tokens[*p as usize] == mask).collect();
        let best = forward.mlm_logits(&places)?.chunks_exact(vocab_size).map(largest).collect::<Vec<_>>();
        let tokens: Vec<String> = best.into_iter().map(|id| self.tokenizer.token(id as u32)).collect();
        Ok(json!({"tokens": tokens}))
    }

    /// The class, or the number that a regression model gives.
    fn classify(&mut self, text: &str) -> Result<Value, Box<dyn Error>> {
        let names = labels_of(self.model.config(), self.model.head()).unwrap_or_default();
        let mut forward = self.run(text)?;
        let outputs = forward.logits()?;
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
