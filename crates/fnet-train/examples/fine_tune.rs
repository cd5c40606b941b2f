//! Fine-tuning from code, without the program: opens a pretrained folder, trains a classifier on rows made here,
//! and saves a folder that Transformers opens too.
//!
//!     cargo run --release -p fnet-train --example fine_tune -- PRETRAINED OUT

use std::error::Error;
use std::path::Path;

use fnet_encoder::pretrained::{self, set_labels};
use fnet_encoder::{AdamW, Mode, Moments, Targets, gradient_norm};
use fnet_encoder::{Batch, ClassTargets, Dropout, Head, Workspace};
use fnet_train::data::tokenizer::Tokenizer;

const STEPS: u64 = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, out] = arguments.as_slice() else {
        return Err("name a pretrained folder and a new one".into());
    };
    let (base, out) = (Path::new(base), Path::new(out));

    // The encoder keeps its weights, the classifier starts fresh.
    let tokenizer = Tokenizer::of_folder(base)?;
    let (mut model, report) = pretrained::open_as(base, Head::Classification { labels: 2 }, 1)?;
    println!("fresh: {}", report.missing.join(", "));
    model.change_config(|config| set_labels(config, &["cold".into(), "warm".into()]))?;

    let texts = ["a cold day", "the cold rain", "so cold", "a warm day", "the warm rain", "so warm"];
    let classes = [0, 0, 0, 1, 1, 1];
    let longest = model.config().max_position_embeddings;
    let (mut batch, mut tokens, mut segments) = (Batch::new(), Vec::new(), Vec::new());
    for text in texts {
        tokenizer.assemble(&tokenizer.encode(text)?, None, longest, &mut tokens, &mut segments);
        batch.push(&tokens, &segments);
    }

    // A step: forward, loss with gradients, clipping, AdamW with a rate that falls to zero.
    let mut w = Workspace::new();
    let mut moments = Moments::new(model.parameters());
    let mut gradients = vec![0.0; model.parameters().len()];
    for step in 1..=STEPS {
        let dropout = Dropout { rate: 0.1, key: step };
        let targets = Targets::examples(ClassTargets::Classes(&classes), 1.0 / texts.len() as f32);
        let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w)?;
        let loss = forward.backward(targets, &mut gradients)?.examples;
        let clip = (1.0 / gradient_norm(model.parameters(), &gradients)).min(1.0) as f32;
        let rate = 1e-3 * (1.0 - step as f32 / STEPS as f32);
        // The optimiser leaves the gradients at zero for the next step.
        AdamW::default().step(model.parameters_mut(), &mut gradients, &mut moments, step, rate, clip);
        if step % 20 == 0 || step == 1 {
            println!("step {step}: loss {:.4}", loss.mean());
        }
    }

    std::fs::create_dir_all(out)?;
    pretrained::save(&model, out)?;
    tokenizer.save(out, longest)?;
    println!("saved {}", out.display());
    Ok(())
}
