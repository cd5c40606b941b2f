//! A mixer of your own in an encoder that is otherwise the library's: every token gets its right neighbour, which
//! needs no weights. Trains a small model with it on a toy rule and prints the loss.
//!
//!     cargo run --release -p fnet-encoder --example own_mixer

use fnet_encoder::mixers::{Mixer, MixerBackward};
use fnet_encoder::{
    Batch, Buffers, ClassTargets, Dropout, EncoderError, Head, Mode, Model, ModelConfig, Pass, Targets,
    Workspace,
};

/// `y` at a place is `x` at the next one, and zero at a sequence's last.
struct RightNeighbour {
    hidden: usize,
}

impl Mixer for RightNeighbour {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], _: &mut Buffers) -> Result<(), EncoderError> {
        y.fill(0.0);
        for range in p.batch.ranges() {
            let (start, second, end) = (range.start, range.start + 1, range.end);
            y[start * self.hidden..(end - 1) * self.hidden]
                .copy_from_slice(&x[second * self.hidden..end * self.hidden]);
        }
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass: p, dy, dx, .. } = back;
        for range in p.batch.ranges() {
            let (start, second, end) = (range.start, range.start + 1, range.end);
            let dy = &dy[start * self.hidden..(end - 1) * self.hidden];
            let dx = &mut dx[second * self.hidden..end * self.hidden];
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
        }
        Ok(())
    }

    fn flops_per_token(&self, _seq_len: usize) -> f64 {
        0.0
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
    let make = |_: &mut fnet_encoder::Builder, _| Ok(Box::new(RightNeighbour { hidden }) as Box<dyn Mixer>);
    let mut model = Model::with_mixers(config, Head::Classification { labels: 2 }, 1, make)?;

    // Class 1 if the third token is 7; the classifier looks at the first, two layers away.
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
        let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w)?;
        let targets = Targets::examples(ClassTargets::Classes(&classes), 1.0 / 16.0);
        let loss = forward.backward(targets, &mut gradients)?.examples;
        for (value, gradient) in model.parameters_mut().values_mut().iter_mut().zip(&gradients) {
            *value -= 0.1 * gradient;
        }
        if step % 50 == 0 || step == 299 {
            println!("step {step}: loss {:.4}", loss.mean());
        }
    }
    Ok(())
}
