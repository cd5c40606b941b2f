//! Every mixer in a whole model: bits that depend on nothing else, gradients, memory, freezing.

use fnet_encoder::mixers::{Mixer, MixerBackward, MixerKind};
use fnet_encoder::{
    Batch, Buffers, Builder, Dropout, EncoderError, Head, Init, MlmTargets, Mode, Model, ModelConfig, Pass,
    Targets, Tensor, Workspace, pretrained,
};

fn config(mixer: MixerKind) -> ModelConfig {
    let mut config = ModelConfig {
        vocab_size: 60,
        hidden_size: 18,
        num_hidden_layers: 3,
        intermediate_size: 30,
        max_position_embeddings: 90,
        initializer_range: 0.3,
        num_attention_heads: Some(3),
        ..ModelConfig::default()
    };
    config.set_mixers(vec![mixer; 3]);
    config
}

fn sequence(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((seed * 31 + i * 17 + i * i * 5) % 56 + 4) as u32).collect()
}

const LENGTHS: [usize; 9] = [1, 2, 90, 5, 67, 1, 13, 31, 4];

fn batch_of(sequences: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::new();
    sequences.iter().for_each(|tokens| batch.push(tokens, &[]));
    batch
}

fn sequences() -> Vec<Vec<u32>> {
    LENGTHS.iter().enumerate().map(|(i, n)| sequence(i, *n)).collect()
}

fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn hidden(model: &Model, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let (batch, mut w) = (batch_of(sequences), Workspace::new());
    let all = model.forward(&batch, Mode::Infer, &mut w).unwrap().hidden().to_vec();
    batch.ranges().map(|range| all[range.start * 18..range.end * 18].to_vec()).collect()
}

/// Loss and gradients of a training step.
fn step(model: &Model, batch: &Batch, w: &mut Workspace) -> (f64, Vec<f32>) {
    let places: Vec<u32> = (0..batch.tokens().len() as u32).step_by(5).collect();
    let targets = MlmTargets { labels: places.iter().map(|p| p % 50 + 5).collect(), places };
    let mut gradients = vec![0.0; model.parameters().len()];
    let dropout = Dropout { rate: 0.1, key: 9 };
    let mut forward = model.forward(batch, Mode::Train(dropout), w).unwrap();
    let loss = forward.backward(Targets::masked(&targets, 1.0), &mut gradients).unwrap().masked;
    (loss.sum, gradients)
}

#[test]
fn an_example_is_the_same_alone_and_in_any_batch_at_any_number_of_threads() {
    for kind in MixerKind::ALL {
        let model = Model::new(config(kind), Head::MaskedLm, 1).unwrap();
        let sequences = sequences();
        let together = in_pool(1, || hidden(&model, &sequences));
        in_pool(3, || {
            assert!(hidden(&model, &sequences) == together, "{kind:?}: threads");
            for (i, expected) in together.iter().enumerate() {
                assert!(hidden(&model, &sequences[i..=i])[0] == *expected, "{kind:?}: {i} alone");
                let pair = [sequences[(i + 5) % 9].clone(), sequences[i].clone()];
                assert!(hidden(&model, &pair)[1] == *expected, "{kind:?}: {i} as the second of two");
            }
        });
        let batch = batch_of(&sequences);
        let one = in_pool(1, || step(&model, &batch, &mut Workspace::new()));
        let three = in_pool(3, || step(&model, &batch, &mut Workspace::new()));
        assert!(one == three, "{kind:?}: gradients depend on threads");
    }
}

#[test]
fn tokens_see_each_other_where_they_should() {
    for kind in MixerKind::ALL {
        let model = Model::new(config(kind), Head::MaskedLm, 1).unwrap();
        let mut tokens = sequence(3, 12);
        let before = hidden(&model, &[tokens.clone()]);
        tokens[11] = 59;
        let after = hidden(&model, &[tokens]);
        let sees = |token: usize| before[0][token * 18..][..18] != after[0][token * 18..][..18];
        if kind == MixerKind::Shift {
            assert!(sees(8) && !sees(7), "three layers see three tokens away");
        } else {
            assert_eq!(sees(0), !matches!(kind, MixerKind::None | MixerKind::FourierHidden), "{kind:?}");
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    for kind in MixerKind::ALL {
        let mut model = Model::new(config(kind), Head::MaskedLm, 5).unwrap();
        let (batch, mut w) = (batch_of(&[sequence(1, 7), sequence(2, 1), sequence(3, 33)]), Workspace::new());
        let (_, gradients) = step(&model, &batch, &mut w);
        // Along the gradient of all tensors, and along that of the mixers' own.
        let of_mixers = |name: &str| name.contains("mixing.") || name.contains("attention.self.query");
        for mixers_alone in [false, true] {
            let mut direction = gradients.clone();
            for tensor in model.parameters().table().iter().filter(|t| mixers_alone && !of_mixers(&t.name)) {
                direction[tensor.range()].fill(0.0);
            }
            let length = direction.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            if length == 0.0 {
                continue;
            }
            let start = model.parameters().values().to_vec();
            let mut moved = |by: f64| {
                let values = model.parameters_mut().values_mut();
                for ((w, s), d) in values.iter_mut().zip(&start).zip(&direction) {
                    *w = (f64::from(*s) + by * f64::from(*d) / length) as f32;
                }
                step(&model, &batch, &mut w).0
            };
            let measured = (moved(2e-3) - moved(-2e-3)) / 4e-3;
            moved(0.0);
            assert!((measured - length).abs() < 1e-2 * length, "{kind:?}: {measured}, expected {length}");
        }
    }
}

#[test]
fn memory_is_what_is_foretold() {
    for kind in MixerKind::ALL {
        let model = Model::new(config(kind), Head::MaskedLm, 5).unwrap();
        let batch = batch_of(&vec![sequence(1, 60); 10]);
        let mut w = Workspace::new();
        step(&model, &batch, &mut w);
        let foretold = model.workspace_bytes(600, 10, 120) as f64;
        let ratio = w.bytes() as f64 / foretold;
        // Sums over sequences, of a few tensors' size, are left out.
        assert!((0.9..1.25).contains(&ratio), "{kind:?}: {ratio} of what was foretold");
    }
}

#[test]
fn frozen_tensors_have_no_gradient() {
    for kind in MixerKind::ALL {
        let batch = batch_of(&sequences());
        let full = Model::new(config(kind), Head::MaskedLm, 1).unwrap();
        let (_, expected) = step(&full, &batch, &mut Workspace::new());
        for pattern in ["*.layer.1.*", "*.bias", "*.embeddings.*", "*.weight", "*.encoder.*", "*"] {
            let mut model = Model::new(config(kind), Head::MaskedLm, 1).unwrap();
            assert!(model.parameters_mut().freeze(pattern) > 0);
            let (_, gradients) = step(&model, &batch, &mut Workspace::new());
            for tensor in model.parameters().table() {
                let gradient = &gradients[tensor.range()];
                // Query, key and value are one product.
                if tensor.trainable {
                    assert!(gradient == &expected[tensor.range()], "{kind:?} {pattern}: {}", tensor.name);
                } else {
                    assert!(gradient.iter().all(|g| *g == 0.0), "{kind:?} {pattern}: {}", tensor.name);
                }
            }
        }
    }
}

#[test]
fn a_saved_model_is_the_same_model() {
    for kind in MixerKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::new(config(kind), Head::MaskedLm, 5).unwrap();
        pretrained::save(&model, folder.path()).unwrap();
        let again = pretrained::open(folder.path()).unwrap();
        assert!(hidden(&again, &sequences()) == hidden(&model, &sequences()), "{kind:?}");
        assert_eq!(again.parameters().table(), model.parameters().table(), "{kind:?}");
    }
}

#[test]
fn hybrids() {
    let mut config = config(MixerKind::None);
    config.set_mixers(vec![MixerKind::Attention, MixerKind::Fourier, MixerKind::Mlp]);
    assert_eq!(config.model_type, "fnet");
    let model = Model::new(config, Head::MaskedLm, 5).unwrap();
    let has = |name: &str| model.parameters().table().iter().any(|t| t.name.contains(name));
    assert!(has("fnet.encoder.layer.0.attention.self.query.weight"));
    assert!(has("layer.1.fourier.output.LayerNorm") && has("layer.2.mixing.in.weight"));
    assert!(!has("layer.1.attention"));
    step(&model, &batch_of(&sequences()), &mut Workspace::new());
}

/// A custom mixer: every token gets a trained multiple of its sequence's first token.
struct First {
    factor: Tensor,
}

impl First {
    fn new(b: &mut Builder, layer: usize) -> Self {
        let name = format!("first.{layer}.factor");
        let hidden = b.config().hidden_size;
        Self { factor: b.tensor(&name, &[hidden], Init::Normal(1.0)) }
    }
}

impl Mixer for First {
    fn forward(&self, p: Pass, x: &[f32], y: &mut [f32], kept: &mut Buffers) -> Result<(), EncoderError> {
        let factor = self.factor.of(p.values);
        let [kept_x] = kept.get([x.len()]);
        kept_x.copy_from_slice(x);
        for range in p.batch.ranges() {
            let first = &x[range.start * factor.len()..][..factor.len()];
            for y in y[range.start * factor.len()..range.end * factor.len()].chunks_exact_mut(factor.len()) {
                y.iter_mut().zip(first).zip(factor).for_each(|((y, x), f)| *y = x * f);
            }
        }
        Ok(())
    }

    fn backward_add(&self, back: MixerBackward) -> Result<(), EncoderError> {
        let MixerBackward { pass: p, gradients, dy, dx, kept, .. } = back;
        let factor = self.factor.of(p.values);
        let [x] = kept.get([dy.len()]);
        let mut d_factor = vec![0.0; factor.len()];
        for range in p.batch.ranges() {
            let first = range.start * factor.len();
            for dy in dy[first..range.end * factor.len()].chunks_exact(factor.len()) {
                for (i, dy) in dy.iter().enumerate() {
                    dx[first + i] += dy * factor[i];
                    d_factor[i] += dy * x[first + i];
                }
            }
        }
        if let Some(gradient) = gradients.of(self.factor) {
            gradient.iter_mut().zip(d_factor).for_each(|(g, d)| *g += d);
        }
        Ok(())
    }

    fn flops_per_token(&self, _: usize) -> f64 {
        18.0
    }
}

#[test]
fn a_mixer_of_ones_own() {
    let make = |b: &mut Builder, layer: usize| Ok(Box::new(First::new(b, layer)) as Box<dyn Mixer>);
    let mut model = Model::with_mixers(config(MixerKind::None), Head::MaskedLm, 5, make).unwrap();
    assert_eq!(model.parameters().get("first.2.factor").unwrap().len(), 18);
    let (batch, mut w) = (batch_of(&sequences()), Workspace::new());
    let (before, gradients) = step(&model, &batch, &mut w);
    for (w, g) in model.parameters_mut().values_mut().iter_mut().zip(&gradients) {
        *w -= 1e-5 * g;
    }
    assert!(step(&model, &batch, &mut w).0 < before);
}
