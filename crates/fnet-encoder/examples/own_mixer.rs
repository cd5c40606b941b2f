//! A mixer of one's own, inside an encoder that is otherwise the library's: every token gets the mean of its
//! sequence, which needs no weights. Trains a small model with it on a toy rule and prints the loss.
//!
//!     cargo run --release -p fnet-encoder --example own_mixer

use fnet_encoder::mixers::Mixer;
use fnet_encoder::{
    Batch, Buffers, ClassTargets, Dropout, EncoderError, Gradients, Head, Model, ModelConfig, Pass, Scratch,
    Workspace,
};

/// `y = mean of x over the sequence`, at every place. Symmetric, so its gradient is itself.
struct Mean {
    hidden: usize,
}

impl Mean {
    fn add(&self, batch: &Batch, x: &[f32], y: &mut [f32]) {
        for range in batch.ranges() {
            let share = 1.0 / range.len() as f32;
            let rows = range.start * self.hidden..range.end * self.hidden;
            let mut mean = vec![0.0; self.hidden];
            for row in x[rows.clone()].chunks_exact(self.hidden) {
                mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += share * x);
            }
            for row in y[rows].chunks_exact_mut(self.hidden) {
                row.iter_mut().zip(&mean).for_each(|(y, mean)| *y += mean);
            }
        }
    }
}

impl Mixer for Mean {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        y.fill(0.0);
        self.add(p.batch, x, y);
        Ok(())
    }

    fn backward_add(
        &self,
        p: Pass,
        _: &mut Gradients,
        dy: &mut [f32],
        dx: &mut [f32],
        _: &mut Buffers,
        _: &mut Scratch,
    ) -> Result<(), EncoderError> {
        self.add(p.batch, dy, dx);
        Ok(())
    }

    fn flops_per_token(&self, _seq_len: usize) -> f64 {
        3.0 * self.hidden as f64
    }
}

fn main() -> Result<(), EncoderError> {
    let config = ModelConfig {
        vocab_size: 20,
        hidden_size: 16,
        num_hidden_layers: 2,
        intermediate_size: 32,
        max_position_embeddings: 8,
        initializer_range: 0.1,
        ..ModelConfig::default()
    };
    let hidden = config.hidden_size;
    let make = |_: &mut fnet_encoder::Builder, _| Ok(Box::new(Mean { hidden }) as Box<dyn Mixer>);
    let mut model = Model::with_mixers(config, Head::Classification { labels: 2 }, 1, make)?;

    // Class 1 where token 7 stands anywhere but first, where the classifier looks.
    let mut batch = Batch::new();
    let mut classes = Vec::new();
    for i in 0..16_u32 {
        let tokens = [2, 4 + i % 3, if i % 2 == 1 { 7 } else { 8 }, 9 + i % 5];
        batch.push(&tokens, &[0; 4]);
        classes.push(i % 2);
    }
    let mut w = Workspace::new();
    for step in 0..300 {
        let dropout = Dropout { rate: 0.0, key: step };
        let mut gradients = vec![0.0; model.parameters().len()];
        model.forward(&batch, Some(dropout), &mut w)?;
        let targets = ClassTargets::Classes(&classes);
        let loss = model.class_loss(&batch, targets, 1.0 / 16.0, dropout, &mut gradients, &mut w)?;
        for (value, gradient) in model.parameters_mut().values_mut().iter_mut().zip(&gradients) {
            *value -= 0.1 * gradient;
        }
        if step % 50 == 0 || step == 299 {
            println!("step {step}: loss {:.4}", loss.mean());
        }
    }
    Ok(())
}
