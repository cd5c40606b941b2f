//! Whole models against PyTorch: hidden states, logits, loss, gradients and five AdamW steps, from
//! examples that tests/parity/make_examples.py stored. Needs no Python.

use std::path::{Path, PathBuf};

use fnet_encoder::mixers::{MixerKind, Reservoir, ReservoirConfig};
use fnet_encoder::pretrained;
use fnet_encoder::{AdamW, Moments, gradient_norm};
use fnet_encoder::{Batch, ClassTargets, Dropout, Head, Loss, MlmTargets, Mode, Model, Targets, Workspace};
use safetensors::{Dtype, SafeTensors};

const NO_DROPOUT: Dropout = Dropout { rate: 0.0, key: 0 };

struct Example {
    bytes: Vec<u8>,
}

impl Example {
    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        tensor.data().as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }

    fn batch(&self) -> Batch {
        let [_, seq_len] = self.tensors().tensor("ids").unwrap().shape().try_into().unwrap();
        let unsigned = |name| self.integers(name).iter().map(|v| *v as u32).collect::<Vec<_>>();
        let (ids, segments) = (unsigned("ids"), unsigned("segments"));
        let mut batch = Batch::new();
        for (ids, segments) in ids.chunks(seq_len).zip(segments.chunks(seq_len)) {
            batch.push(ids, segments);
        }
        batch
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/examples").join(name)
}

fn load(name: &str) -> (Model, Example) {
    let folder = folder(name);
    let example = Example { bytes: std::fs::read(folder.join("example.safetensors")).unwrap() };
    (pretrained::open(&folder).unwrap(), example)
}

enum Labels {
    Mlm(MlmTargets),
    PreTraining(MlmTargets, Vec<u32>),
    Classes(Vec<u32>),
    Values(Vec<f32>),
}

fn targets(example: &Example, head: Head) -> Labels {
    let classes = |name| example.integers(name).iter().map(|l| *l as u32).collect();
    let masked = || {
        let labels = example.integers("labels");
        let masked = labels.iter().enumerate().filter(|(_, l)| **l >= 0);
        let (places, labels) = masked.map(|(i, l)| (i as u32, *l as u32)).unzip();
        MlmTargets { places, labels }
    };
    match head {
        Head::MaskedLm => Labels::Mlm(masked()),
        Head::PreTraining => Labels::PreTraining(masked(), classes("next_sentence_label")),
        Head::Encoder | Head::Sentence | Head::NextSentence | Head::Tokens { .. } => {
            panic!("compared on its own")
        }
        Head::Classification { .. } => Labels::Classes(classes("labels")),
        Head::Regression => Labels::Values(example.floats("labels")),
    }
}

/// Mean loss, with its gradient added to `gradients`.
fn step(model: &Model, batch: &Batch, targets: &Labels, gradients: &mut [f32], w: &mut Workspace) -> f64 {
    let scale = |count: usize| 1.0 / count as f32;
    let both = match targets {
        Labels::PreTraining(t, classes) => Targets::masked(t, scale(t.places.len()))
            .and_examples(ClassTargets::Classes(classes), scale(classes.len())),
        Labels::Mlm(t) => Targets::masked(t, scale(t.places.len())),
        Labels::Classes(t) => Targets::examples(ClassTargets::Classes(t), scale(t.len())),
        Labels::Values(t) => Targets::examples(ClassTargets::Values(t), scale(t.len())),
    };
    let mut forward = model.forward(batch, Mode::Train(NO_DROPOUT), w).unwrap();
    let losses = forward.backward(both, gradients).unwrap();
    [losses.masked, losses.examples].into_iter().filter(|loss| loss.count > 0).map(Loss::mean).sum()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn check(name: &str) {
    let (mut model, example) = load(name);
    model.parameters_mut().freeze("*.alpha_*"); // xIELU's, as in the example
    let (batch, mut w) = (example.batch(), Workspace::new());
    let mut forward = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    let difference = largest_difference(forward.hidden(), &example.floats("hidden"));
    assert!(difference < 1e-4, "{name}: hidden states differ by {difference}");

    let all: Vec<u32> = (0..batch.tokens().len() as u32).collect();
    if model.head() == Head::PreTraining {
        let logits = forward.logits().unwrap();
        let difference = largest_difference(logits, &example.floats("next_sentence_logits"));
        assert!(difference < 1e-4, "{name}: logits of pairs differ by {difference}");
    }
    let logits = match model.head() {
        Head::MaskedLm | Head::PreTraining => forward.mlm_logits(&all).unwrap(),
        _ => forward.logits().unwrap(),
    };
    let difference = largest_difference(logits, &example.floats("logits"));
    assert!(difference < 1e-4, "{name}: logits differ by {difference}");

    let targets = targets(&example, model.head());
    let mut gradients = vec![0.0; model.parameters().len()];
    let loss = step(&model, &batch, &targets, &mut gradients, &mut w);
    let expected = f64::from(example.floats("loss")[0]);
    assert!((loss - expected).abs() < 1e-5 * expected, "{name}: loss {loss}, torch {expected}");

    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    // A bias that the next norm cancels has no gradient but rounding errors, there as here.
    let nothing = 1e-6 * norm(&mut gradients.iter().copied());
    let mut compared = 0;
    for tensor in model.parameters().table() {
        let stored = format!("gradient.{}", tensor.name);
        if example.tensors().tensor(&stored).is_err() {
            assert!(!tensor.trainable, "{name}: torch has no gradient of {}", tensor.name);
            continue;
        }
        let expected = example.floats(&stored);
        let ours = &gradients[tensor.range()];
        let error = norm(&mut ours.iter().zip(&expected).map(|(a, b)| a - b));
        let size = norm(&mut expected.iter().copied());
        assert!(
            error <= (1e-4 * size).max(nothing),
            "{name}: gradient of {}: {:e}",
            tensor.name,
            error / size
        );
        compared += 1;
    }
    assert!(compared > 15);

    let mut moments = Moments::new(model.parameters());
    gradients.fill(0.0);
    for (i, expected) in example.floats("losses").iter().enumerate() {
        let loss = step(&model, &batch, &targets, &mut gradients, &mut w);
        let difference = (loss - f64::from(*expected)).abs();
        assert!(difference < 1e-3, "{name}: loss {loss} after {i} steps, torch {expected}");
        let norm = gradient_norm(model.parameters(), &gradients);
        let scale = (1.0 / norm).min(1.0) as f32;
        let adam = AdamW::default();
        adam.step(model.parameters_mut(), &mut gradients, &mut moments, i as u64 + 1, 1e-2, scale);
    }
}

#[test]
fn masked_lm_matches_pytorch() {
    check("mlm");
    check("mlm_odd");
}

#[test]
fn pretraining_on_pairs_matches_pytorch() {
    check("pretraining");
}

#[test]
fn classification_matches_pytorch() {
    check("classification");
}

#[test]
fn regression_matches_pytorch() {
    check("regression");
}

#[test]
fn other_mixers_match_pytorch() {
    for kind in MixerKind::ALL {
        if !matches!(kind, MixerKind::Fourier | MixerKind::Attention) {
            check(kind.name());
        }
    }
}

#[test]
fn activations_with_weights_match_pytorch() {
    check("prelu");
    check("xielu");
}

#[test]
fn attention_matches_bert_in_transformers() {
    check("bert");
}

/// A saved model relies on these weights, which it does not hold: make_examples.py has them from this file.
#[test]
fn reservoirs_are_those_of_earlier_versions() {
    let bytes = std::fs::read(folder("reservoir").join("weights.safetensors")).unwrap();
    let stored = Example { bytes };
    for layer in 0..2 {
        let weights = Reservoir::new(15, layer, ReservoirConfig::default()).unwrap().weights();
        for (part, values) in ["input", "forwards", "backwards"].into_iter().zip(&weights) {
            assert!(stored.floats(&format!("{part}.{layer}")) == values.to_vec(), "{part}.{layer}");
        }
    }
}

#[test]
fn vectors_and_labels_of_positions_match_pytorch() {
    let (model, example) = load("vectors");
    let [sequences, positions, width] =
        example.tensors().tensor("vectors").unwrap().shape().try_into().unwrap();
    let (mut batch, mut w) = (Batch::new(), Workspace::new());
    for sequence in example.floats("vectors").chunks(positions * width) {
        batch.push_vectors(sequence, width).unwrap();
    }
    let logits = model.forward(&batch, Mode::Infer, &mut w).unwrap().logits().unwrap().to_vec();
    assert!(largest_difference(&logits, &example.floats("logits")) < 1e-5);
    let labels = example.floats("labels");
    let scale = 1.0 / labels.len() as f32;
    let targets = Targets::examples(ClassTargets::Labels(&labels), scale);
    let mut gradients = vec![0.0; model.parameters().len()];
    let mut forward = model.forward(&batch, Mode::Train(NO_DROPOUT), &mut w).unwrap();
    let loss = forward.backward(targets, &mut gradients).unwrap().examples;
    assert_eq!(loss.count, sequences * positions * 3);
    assert!((loss.mean() - f64::from(example.floats("loss")[0])).abs() < 1e-5);
    let mut compared = 0;
    for tensor in model.parameters().table().iter().filter(|t| !t.name.contains("word_embeddings")) {
        let name = format!("gradient.{}", tensor.name);
        if example.tensors().names().contains(&name.as_str()) {
            let (ours, theirs) = (&gradients[tensor.range()], example.floats(&name));
            let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let difference: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
            assert!(norm(&difference) <= 1e-4 * norm(&theirs), "{name}");
            compared += 1;
        }
    }
    // Two projections, norms, positions, segments, two layers, the classifier.
    assert!(compared >= 2 + 2 + 2 + 2 + 2 * 8 + 2, "{compared}");
}

#[test]
fn a_saved_folder_is_the_same_model() {
    for name in ["mlm", "pretraining", "classification", "regression", "vectors"] {
        let (model, _) = load(name);
        let place = tempfile::tempdir().unwrap();
        pretrained::save(&model, place.path()).unwrap();
        let again = pretrained::open(place.path()).unwrap();
        assert_eq!(again.head(), model.head());
        assert!(again.parameters().values() == model.parameters().values());
    }
}
