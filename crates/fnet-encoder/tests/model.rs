//! Whole models: bits that depend on nothing else, gradients, and refusals.

use fnet_encoder::mixers::{MixerKind, ReservoirConfig};
use fnet_encoder::{
    Batch, ClassTargets, Dropout, EncoderError, Head, MlmTargets, Mode, Model, ModelConfig, Precision,
    Products, Targets, Workspace,
};

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 60,
        hidden_size: 20,
        num_hidden_layers: 2,
        intermediate_size: 36,
        max_position_embeddings: 40,
        initializer_range: 0.3,
        ..ModelConfig::default()
    }
}

fn sequence(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((seed * 31 + i * 17 + i * i * 5) % 56 + 4) as u32).collect()
}

fn batch_of(sequences: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::new();
    for tokens in sequences {
        let segments: Vec<u32> = (0..tokens.len()).map(|i| (i % 2) as u32).collect();
        batch.push(tokens, &segments);
    }
    batch
}

fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Hidden states, logits and MLM logits of a batch, sequence by sequence.
fn outputs(model: &Model, mlm: &Model, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let (batch, mut w) = (batch_of(sequences), Workspace::new());
    let mut forward = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    let hidden = forward.hidden().to_vec();
    let first_tokens = forward.first_tokens().to_vec();
    let logits = forward.logits().unwrap().to_vec();
    let first: Vec<u32> = batch.ranges().map(|r| r.start as u32).collect();
    let mut forward = mlm.forward(&batch, Mode::Infer, &mut w).unwrap();
    let words = forward.mlm_logits(&first).unwrap().to_vec();
    batch
        .ranges()
        .enumerate()
        .map(|(i, range)| {
            let mut all = hidden[range.start * 20..range.end * 20].to_vec();
            assert!(first_tokens[i * 20..][..20] == all[..20]);
            all.extend_from_slice(&logits[i * 3..][..3]);
            all.extend_from_slice(&words[i * 60..][..60]);
            all
        })
        .collect()
}

#[test]
fn an_example_is_the_same_alone_and_in_any_batch_at_any_number_of_threads() {
    let model = Model::new(config(), Head::Classification { labels: 3 }, 1).unwrap();
    let mlm = Model::new(config(), Head::MaskedLm, 1).unwrap();
    let sequences: Vec<_> =
        [1, 2, 3, 5, 40, 7, 31, 1, 12, 37, 6, 9].iter().enumerate().map(|(i, n)| sequence(i, *n)).collect();
    let together = in_pool(1, || outputs(&model, &mlm, &sequences));
    for threads in [1, 2, 5] {
        in_pool(threads, || {
            assert!(outputs(&model, &mlm, &sequences) == together, "{threads} threads");
            for (i, expected) in together.iter().enumerate() {
                assert!(outputs(&model, &mlm, &sequences[i..=i])[0] == *expected, "alone {i}");
                let pair = [sequences[(i + 5) % 12].clone(), sequences[i].clone()];
                assert!(outputs(&model, &mlm, &pair)[1] == *expected, "second of two {i}");
            }
        });
    }
}

#[test]
fn gradients_do_not_depend_on_threads() {
    let model = Model::new(config(), Head::MaskedLm, 2).unwrap();
    let batch = batch_of(&(0..30).map(|i| sequence(i, i + 4)).collect::<Vec<_>>());
    let targets = MlmTargets { places: vec![1, 5, 9, 100, 101], labels: vec![4, 5, 6, 7, 59] };
    let run = |threads| {
        in_pool(threads, || {
            let (mut w, mut gradients) = (Workspace::new(), vec![0.0; model.parameters().len()]);
            let dropout = Dropout { rate: 0.1, key: 9 };
            let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
            let loss = forward.backward(Targets::masked(&targets, 0.2), &mut gradients).unwrap().masked;
            (loss, gradients)
        })
    };
    let one = run(1);
    assert!(one.1.iter().any(|g| *g != 0.0));
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

/// The gradient of the loss along itself, against central differences, with dropout.
fn check_gradient(model: &mut Model, mut loss: impl FnMut(&Model, &mut [f32]) -> f64) {
    let mut gradients = vec![0.0; model.parameters().len()];
    loss(model, &mut gradients);
    let length = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let start = model.parameters().values().to_vec();
    let mut moved = |model: &mut Model, by: f64| {
        for ((w, s), g) in model.parameters_mut().values_mut().iter_mut().zip(&start).zip(&gradients) {
            *w = (f64::from(*s) + by * f64::from(*g) / length) as f32;
        }
        let mut unused = vec![0.0; start.len()];
        loss(model, &mut unused)
    };
    let step = 2e-3;
    let measured = (moved(model, step) - moved(model, -step)) / (2.0 * step);
    assert!((measured - length).abs() < 1e-2 * length, "measured {measured}, expected {length}");
}

#[test]
fn whole_model_gradients() {
    let mixers = vec![MixerKind::Fourier, MixerKind::None];
    let config = ModelConfig { mixers, ..config() };
    let dropout = Dropout { rate: 0.1, key: 3 };
    let batch = batch_of(&[sequence(1, 7), sequence(2, 1), sequence(3, 13)]);
    let mut w = Workspace::new();

    let mut model = Model::new(config.clone(), Head::MaskedLm, 5).unwrap();
    let targets = MlmTargets { places: vec![0, 6, 7, 20], labels: vec![8, 9, 10, 11] };
    check_gradient(&mut model, |m, gradients| {
        let mut forward = m.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
        forward.backward(Targets::masked(&targets, 1.0), gradients).unwrap().masked.sum
    });

    let mut model = Model::new(config.clone(), Head::Classification { labels: 2 }, 5).unwrap();
    check_gradient(&mut model, |m, gradients| {
        let mut forward = m.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
        let targets = ClassTargets::Classes(&[0, 1, 1]);
        forward.backward(Targets::examples(targets, 1.0), gradients).unwrap().examples.sum
    });
    let classes = [0, 1, 1];
    let mut weighted = |m: &Model, weights: &[f32], gradients: &mut [f32]| {
        let mut forward = m.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
        let targets = ClassTargets::Weighted(&classes, weights);
        forward.backward(Targets::examples(targets, 1.0), gradients).unwrap().examples.sum
    };
    check_gradient(&mut model, |m, gradients| weighted(m, &[3.0, 0.5], gradients));
    let mut unused = vec![0.0; model.parameters().len()];
    let [zero, one, both] =
        [[1.0, 0.0], [0.0, 1.0], [3.0, 0.5]].map(|weights| weighted(&model, &weights, &mut unused));
    assert!(zero > 0.0 && one > 0.0 && (3.0 * zero + 0.5 * one - both).abs() < 1e-5);

    let mut model = Model::new(config, Head::Regression, 5).unwrap();
    check_gradient(&mut model, |m, gradients| {
        let mut forward = m.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
        let targets = ClassTargets::Values(&[0.5, -1.0, 2.0]);
        forward.backward(Targets::examples(targets, 1.0), gradients).unwrap().examples.sum
    });
}

/// With wide steps for xIELU, whose weights act through bfloat16.
#[test]
fn gradients_of_weights_of_activations() {
    let batch = batch_of(&[sequence(1, 7), sequence(2, 13)]);
    let targets = MlmTargets { places: vec![0, 6, 7, 19], labels: vec![8, 9, 10, 11] };
    let no_dropout = Dropout { rate: 0.0, key: 0 };
    for (hidden_act, weights, step, tolerance) in [("prelu", 1, 0.01, 0.01), ("xielu", 2, 0.1, 0.1)] {
        let config = ModelConfig { hidden_act: hidden_act.into(), ..config() };
        let mut model = Model::new(config, Head::MaskedLm, 5).unwrap();
        let mut w = Workspace::new();
        let mut run = |model: &Model, gradients: &mut [f32]| {
            let mut forward = model.forward(&batch, Mode::Train(no_dropout), &mut w).unwrap();
            forward.backward(Targets::masked(&targets, 1.0), gradients).unwrap().masked.sum
        };
        let mut gradients = vec![0.0; model.parameters().len()];
        run(&model, &mut gradients);
        let learnt = model.parameters().table().iter().filter(|t| t.name.contains("act_fn") && t.trainable);
        let learnt: Vec<_> = learnt.cloned().collect();
        assert_eq!(learnt.len(), 3 * weights); // two layers and the head
        for tensor in learnt {
            let mut moved = |by: f32| {
                model.parameters_mut().values_mut()[tensor.offset] += by;
                let loss = run(&model, &mut vec![0.0; gradients.len()]);
                model.parameters_mut().values_mut()[tensor.offset] -= by;
                loss
            };
            let measured = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            let expected = f64::from(gradients[tensor.offset]);
            let error = (measured - expected).abs();
            assert!(error < tolerance * expected.abs() + 0.01, "{}: {measured}, {expected}", tensor.name);
        }
    }
}

#[test]
fn a_workspace_is_not_reallocated_once_it_has_seen_its_largest_batch() {
    let model = Model::new(config(), Head::MaskedLm, 1).unwrap();
    let large = batch_of(&[sequence(1, 40), sequence(2, 33)]);
    let small = batch_of(&[sequence(3, 9)]);
    let dropout = Dropout { rate: 0.1, key: 1 };
    let mut w = Workspace::new();
    let mut place =
        |batch: &Batch| model.forward(batch, Mode::Train(dropout), &mut w).unwrap().hidden().as_ptr();
    let first = place(&large);
    for batch in [&small, &large, &small, &large] {
        assert_eq!(place(batch), first);
    }
}

#[test]
fn bad_batches_are_refused() {
    let model = Model::new(config(), Head::Classification { labels: 2 }, 1).unwrap();
    let mut w = Workspace::new();
    let mut refused = |tokens: &[u32], segments: &[u32], says: &str| {
        let mut batch = Batch::new();
        batch.push(&[5, 6], &[]);
        batch.push(tokens, segments);
        let error = model.forward(&batch, Mode::Infer, &mut w).map(drop).unwrap_err().to_string();
        assert!(error.contains("sequence 1") && error.contains(says), "{error}");
    };
    refused(&[], &[], "no tokens");
    refused(&[60], &[], "token 60 is outside the vocabulary of 60");
    refused(&[5], &[4], "segment 4");
    refused(&sequence(1, 41), &[], "41 tokens are more than the model's 40");

    let mut gradients = vec![0.0; model.parameters().len()];
    let batch = batch_of(&[sequence(1, 4)]);
    let none = Dropout { rate: 0.0, key: 0 };
    let mut forward = model.forward(&batch, Mode::Train(none), &mut w).unwrap();
    for targets in [ClassTargets::Classes(&[2]), ClassTargets::Classes(&[]), ClassTargets::Values(&[0.0])] {
        let result = forward.backward(Targets::examples(targets, 1.0), &mut gradients);
        assert!(matches!(result, Err(EncoderError::Batch(_))));
    }
    let targets = Targets::examples(ClassTargets::Classes(&[1]), 1.0);
    assert!(forward.backward(targets, &mut [0.0]).is_err());
    let unweighted = ClassTargets::Weighted(&[1], &[1.0]);
    assert!(forward.loss(Targets::examples(unweighted, 1.0)).is_err());
    assert!(forward.mlm_logits(&[0]).is_err(), "there is no MLM head");
    // A pass that keeps nothing has no backward pass.
    let mut forward = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    assert!(forward.loss(targets).is_ok() && forward.backward(targets, &mut gradients).is_err());
    for rate in [1.0, -0.1, f32::NAN] {
        assert!(model.forward(&batch, Mode::Train(Dropout { rate, key: 0 }), &mut w).is_err());
    }
    let mlm = Model::new(config(), Head::MaskedLm, 1).unwrap();
    let mut forward = mlm.forward(&batch, Mode::Infer, &mut w).unwrap();
    assert!(
        forward.mlm_logits(&[3]).is_ok() && forward.mlm_logits(&[4]).is_err() && forward.logits().is_err()
    );
    let outside = MlmTargets { places: vec![0], labels: vec![60] };
    assert!(forward.loss(Targets::masked(&outside, 1.0)).is_err());
    model.forward(&Batch::new(), Mode::Infer, &mut w).unwrap();
}

#[test]
fn a_models_shape_stays() {
    let mut model = Model::new(config(), Head::MaskedLm, 1).unwrap();
    model.change_config(|config| config.hidden_dropout_prob = 0.5).unwrap();
    assert!(model.change_config(|config| config.hidden_dropout_prob = 1.5).is_err());
    assert!(model.change_config(|config| config.vocab_size = 1_000).is_err());
    assert_eq!((model.config().hidden_dropout_prob, model.config().vocab_size), (0.5, 60));
}

#[test]
fn bad_configurations_are_refused() {
    for (config, says) in [
        (ModelConfig { hidden_size: 0, ..config() }, "hidden_size is 0"),
        (ModelConfig { vocab_size: usize::MAX, ..config() }, "vocab_size"),
        (ModelConfig { vocab_size: 1 << 31, hidden_size: 1 << 31, ..config() }, "weights"),
        (ModelConfig { num_hidden_layers: 1 << 20, ..config() }, "weights"),
        (ModelConfig { hidden_act: "snake".into(), ..config() }, "hidden_act"),
        (ModelConfig { hidden_dropout_prob: f32::NAN, ..config() }, "hidden_dropout_prob"),
        (ModelConfig { layer_norm_eps: 0.0, ..config() }, "layer_norm_eps"),
        (ModelConfig { model_type: "gpt".into(), ..config() }, "model_type"),
        (
            ModelConfig { model_type: "bert".into(), mixers: vec![MixerKind::Mlp; 2], ..config() },
            "model_type",
        ),
        (
            ModelConfig { mixers: vec![MixerKind::Attention; 2], num_attention_heads: Some(3), ..config() },
            "3 attention heads do not divide the hidden size 20",
        ),
        (
            ModelConfig { mixers: vec![MixerKind::Linear; 2], max_position_embeddings: 1 << 20, ..config() },
            "weights",
        ),
        (
            ModelConfig { reservoir: Some(ReservoirConfig { leak: 0.0, ..Default::default() }), ..config() },
            "leak is 0",
        ),
        (ModelConfig { mixers: vec![MixerKind::None], ..config() }, "mixers lists 1 layers"),
    ] {
        let error = Model::new(config, Head::MaskedLm, 1).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn freezing_is_by_name() {
    let mut model = Model::new(config(), Head::MaskedLm, 1).unwrap();
    let all = model.parameters().trainable_len();
    assert!(all < model.parameters().len(), "the pooler is not trained");
    assert_eq!(model.parameters_mut().freeze("fnet.encoder.layer.0.*"), 8);
    assert!(model.parameters().trainable_len() < all);
    assert_eq!(model.parameters_mut().freeze("nothing"), 0);
}

#[test]
fn recomputing_gives_the_same_bits_and_the_memory_that_is_foretold() {
    let config = ModelConfig { num_hidden_layers: 4, hidden_size: 64, intermediate_size: 256, ..config() };
    let mut model = Model::new(config, Head::MaskedLm, 2).unwrap();
    let batch = batch_of(&(0..30).map(|i| sequence(i, i + 4)).collect::<Vec<_>>());
    let places: Vec<u32> = (0..batch.tokens().len() as u32).step_by(7).collect();
    let targets = MlmTargets { labels: vec![5; places.len()], places };
    let dropout = Dropout { rate: 0.1, key: 9 };
    let mut run = |recompute| {
        model.set_recompute(recompute);
        let (mut w, mut gradients) = (Workspace::new(), vec![0.0; model.parameters().len()]);
        let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
        let loss = forward.backward(Targets::masked(&targets, 0.2), &mut gradients).unwrap().masked;
        let foretold = model.workspace_bytes(batch.tokens().len(), batch.len(), targets.places.len()) as f64;
        let ratio = w.bytes() as f64 / foretold;
        assert!((0.95..1.05).contains(&ratio), "{ratio} of what was foretold");
        (loss, gradients, w.bytes())
    };
    let (kept, again) = (run(false), run(true));
    assert!(kept.0 == again.0 && kept.1 == again.1);
    assert!((again.2 as f64) < 0.75 * kept.2 as f64, "{} and {}", again.2, kept.2);
}

#[test]
fn bfloat16_is_near_float32() {
    let batch = batch_of(&(0..30).map(|i| sequence(i, i + 4)).collect::<Vec<_>>());
    let targets = MlmTargets { places: vec![1, 5, 9, 100, 101], labels: vec![4, 5, 6, 7, 59] };
    // Rows that end within a pair and within a block of what is stored as bfloat16.
    for (intermediate_size, activation) in [(36, "gelu_new"), (1, "tanh"), (65, "gelu"), (131, "silu")] {
        let config = ModelConfig { intermediate_size, hidden_act: activation.into(), ..config() };
        let mut model = Model::new(config, Head::MaskedLm, 2).unwrap();
        let mut run = |products, recompute| {
            model.set_products(products);
            model.set_recompute(recompute);
            let (mut w, mut gradients) = (Workspace::new(), vec![0.0; model.parameters().len()]);
            let dropout = Dropout { rate: 0.0, key: 0 };
            let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
            let loss = forward.backward(Targets::masked(&targets, 0.2), &mut gradients).unwrap().masked;
            (loss.mean(), gradients)
        };
        let (loss, gradients) = run(Products::new(Precision::F32), false);
        let size: f64 = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // Through 8 bits gradients pass as if nothing were rounded.
        for products in Products::all(Precision::Bf16).chain(Products::all(Precision::Int8)) {
            let (rounded_loss, rounded) = run(products, false);
            let case = format!("{products:?}, {activation} of {intermediate_size}");
            // A bfloat16 has 8 bits, so each operand is off by up to 1/256 and a gradient by a few of these.
            assert!((loss - rounded_loss).abs() < 0.02 * loss, "{case}: {rounded_loss}, in float32 {loss}");
            assert!(rounded_loss != loss, "{case} rounds nothing");
            let error: f64 =
                gradients.iter().zip(&rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
            let most = if products.precision() == Precision::Int8 { 0.08 } else { 0.03 };
            assert!(error < most * size, "{case}: gradients differ by {}", error / size);
            assert!((rounded_loss, rounded) == run(products, true), "{case}: computed again");
        }
    }
}
