//! What heads read of texts: every pooling, pairs in towers, windows, the second opinion of a bag of words.

use fnet_encoder::{
    Batch, ClassTargets, Dropout, Head, Mode, Model, ModelConfig, Pairs, Pooling, Targets, Workspace,
    pretrained,
};

const HIDDEN: usize = 12;
const PAD: u32 = 3;
const POOLINGS: [&str; 12] = [
    "first",
    "last",
    "mean",
    "max",
    "query",
    "embeddings",
    "mean+max+embeddings",
    "first+last",
    "layers+max",
    "weighted",
    "sqrt-mean",
    "position-mean+weighted",
];
const CLASSES: Head = Head::Classification { labels: 3 };

fn config(pooling: &str, pairs: Pairs, bag: bool) -> ModelConfig {
    ModelConfig {
        vocab_size: 50,
        hidden_size: HIDDEN,
        num_hidden_layers: 2,
        intermediate_size: 20,
        max_position_embeddings: 30,
        initializer_range: 0.3,
        classifier_pooling: pooling.parse().unwrap(),
        classifier_pairs: pairs,
        classifier_bag: bag,
        classifier_matching: pooling.contains("mean") || pooling == "embeddings",
        ..ModelConfig::default()
    }
}

fn sequence(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((seed * 31 + i * 17 + i * i * 5) % 46 + 4) as u32).collect()
}

/// Texts of one window each, except the second, which has two.
fn batch_of(texts: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::new();
    for (i, text) in texts.iter().enumerate() {
        match i {
            1 => {
                let (first, second) = text.split_at(text.len() / 2);
                batch.push_windows([(first, &[][..]), (second, &[][..])]);
            }
            _ => batch.push(text, &[]),
        }
    }
    batch
}

fn texts() -> Vec<Vec<u32>> {
    [5, 8, 1, 13, 3, 30].iter().enumerate().map(|(i, length)| sequence(i, *length)).collect()
}

fn every_model(mut check: impl FnMut(&str, Model)) {
    for pooling in POOLINGS {
        for pairs in [Pairs::Together, Pairs::Towers, Pairs::SymmetricTowers] {
            for head in [CLASSES, Head::Regression] {
                let bag = pooling != "max";
                let what = format!("{pooling}, {pairs:?}, {head:?}");
                check(&what, Model::new(config(pooling, pairs, bag), head, 5).unwrap());
            }
        }
    }
}

fn logits(model: &Model, batch: &Batch) -> Vec<f32> {
    let mut w = Workspace::new();
    model.forward(batch, Mode::Infer, &mut w).unwrap().logits().unwrap().to_vec()
}

fn loss(model: &Model, batch: &Batch, gradients: &mut [f32], w: &mut Workspace) -> f64 {
    loss_with(0.1, model, batch, gradients, w)
}

fn loss_with(rate: f32, model: &Model, batch: &Batch, gradients: &mut [f32], w: &mut Workspace) -> f64 {
    let dropout = Dropout { rate, key: 3 };
    let examples = batch.texts() / model.config().classifier_pairs.texts();
    let classes: Vec<u32> = (0..examples as u32).map(|i| i % 3).collect();
    let values: Vec<f32> = (0..examples).map(|i| i as f32 - 1.5).collect();
    let targets = match model.head() {
        Head::Regression => ClassTargets::Values(&values),
        _ => ClassTargets::Classes(&classes),
    };
    let mut forward = model.forward(batch, Mode::Train(dropout), w).unwrap();
    forward.backward(Targets::examples(targets, 1.0), gradients).unwrap().examples.sum
}

#[test]
fn gradients_of_every_readout() {
    let batch = batch_of(&texts());
    every_model(|what, mut model| {
        let mut w = Workspace::new();
        let mut gradients = vec![0.0; model.parameters().len()];
        loss(&model, &batch, &mut gradients, &mut w);
        let length = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(length > 0.0, "{what}");
        let start = model.parameters().values().to_vec();
        let mut moved = |by: f64| {
            let values = model.parameters_mut().values_mut();
            for ((w, s), g) in values.iter_mut().zip(&start).zip(&gradients) {
                *w = (f64::from(*s) + by * f64::from(*g) / length) as f32;
            }
            loss(&model, &batch, &mut vec![0.0; start.len()], &mut w)
        };
        // The position of a text's largest value may change within a step, so the step is short.
        let step = 5e-4;
        let measured = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((measured - length).abs() < 1e-2 * length, "{what}: measured {measured}, expected {length}");
    });
}

#[test]
fn an_example_is_the_same_alone_and_in_any_batch_at_any_number_of_threads() {
    let texts = texts();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    every_model(|what, model| {
        let together = pool(1).install(|| logits(&model, &batch_of(&texts)));
        let (outputs, step) = (model.head().outputs(), model.config().classifier_pairs.texts());
        for threads in [1, 3] {
            pool(threads).install(|| {
                assert!(logits(&model, &batch_of(&texts)) == together, "{what}, {threads} threads");
                // Each but the first example, whose batch would put the windows elsewhere.
                for (i, example) in texts.chunks(step).enumerate().skip(2 / step) {
                    let mut batch = Batch::new();
                    example.iter().for_each(|text| batch.push(text, &[]));
                    assert!(
                        logits(&model, &batch) == together[i * outputs..][..outputs],
                        "{what}, alone {i}"
                    );
                }
            });
        }
        let gradients = |threads| {
            pool(threads).install(|| {
                let mut gradients = vec![0.0; model.parameters().len()];
                loss(&model, &batch_of(&texts), &mut gradients, &mut Workspace::new());
                gradients
            })
        };
        assert!(gradients(1) == gradients(3), "{what}");
    });
}

#[test]
fn symmetric_towers_do_not_know_which_text_came_first() {
    for (pairs, same) in [(Pairs::SymmetricTowers, true), (Pairs::Towers, false)] {
        let model = Model::new(config("mean+embeddings", pairs, false), CLASSES, 1).unwrap();
        let (there, back) = ([sequence(1, 9), sequence(2, 7)], [sequence(2, 7), sequence(1, 9)]);
        let both = [there, back].map(|pair| {
            let mut batch = Batch::new();
            pair.iter().for_each(|text| batch.push(text, &[]));
            logits(&model, &batch)
        });
        assert_eq!(both[0] == both[1], same, "{pairs:?}");
    }
}

/// Vectors of each pooling for one text.
fn pooled(pooling: &str, windows: &[&[u32]]) -> (Vec<f32>, Vec<f32>, Model) {
    let model = Model::new(config(pooling, Pairs::Together, false), Head::Encoder, 2).unwrap();
    let (mut batch, mut w) = (Batch::new(), Workspace::new());
    batch.push_windows(windows.iter().map(|tokens| (*tokens, &[][..])));
    let mut forward = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    let (read, hidden) = (forward.pooled().to_vec(), forward.hidden().to_vec());
    (read, hidden, model)
}

#[test]
fn what_is_read_is_what_the_names_say() {
    let tokens = sequence(4, 9);
    let windows = [&tokens[..4], &tokens[4..]];
    let column =
        |hidden: &[f32], j: usize| -> Vec<f32> { hidden.iter().skip(j).step_by(HIDDEN).copied().collect() };
    let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
    let (first, hidden, _) = pooled("first", &windows);
    assert_eq!(first, hidden[..HIDDEN]);
    let (last, hidden, _) = pooled("last", &windows);
    assert_eq!(last, hidden[8 * HIDDEN..]);
    let (read, hidden, model) = pooled("mean+max+embeddings", &windows);
    let words = model.parameters().get("fnet.embeddings.word_embeddings.weight").unwrap();
    for j in 0..HIDDEN {
        let column = column(&hidden, j);
        assert!(close(read[j], column.iter().sum::<f32>() / 9.0));
        assert_eq!(read[HIDDEN + j], column.iter().copied().fold(f32::MIN, f32::max));
        let mean = tokens.iter().map(|id| words[*id as usize * HIDDEN + j]).sum::<f32>() / 9.0;
        assert!(close(read[2 * HIDDEN + j], mean));
    }
}

#[test]
fn layers_are_read_one_after_another() {
    let (mut padded, own) = (sequence(4, 9), 9 * HIDDEN);
    padded.resize(14, PAD);
    let (read, hidden, model) = pooled("layers", &[&padded]);
    let mean = |rows: &[f32], j: usize| rows.iter().skip(j).step_by(HIDDEN).sum::<f32>() / 9.0;
    let close = |block: usize, rows: &[f32]| {
        (0..HIDDEN).all(|j| (read[block * HIDDEN + j] - mean(&rows[..own], j)).abs() < 1e-5)
    };
    assert!(read.len() == 3 * HIDDEN && close(2, &hidden));
    // The output of the first layer is the last one of a model that ends there.
    let shorter = ModelConfig { num_hidden_layers: 1, ..model.config().clone() };
    let mut shorter = Model::new(shorter, Head::Encoder, 1).unwrap();
    let names = shorter.parameters().table().iter().map(|t| t.name.clone());
    let names: Vec<String> = names.filter(|name| !name.contains(".pooler.")).collect();
    for name in names {
        let values = model.parameters().get(&name).unwrap();
        shorter.parameters_mut().get_mut(&name).unwrap().copy_from_slice(values);
    }
    let mut batch = Batch::new();
    batch.push(&padded, &[0; 14]);
    let mut w = Workspace::new();
    let first = shorter.forward(&batch, Mode::Infer, &mut w).unwrap().hidden().to_vec();
    assert!(close(1, &first) && !close(0, &first));
}

#[test]
fn padding_is_mixed_but_not_read() {
    let (mut padded, tokens) = (sequence(4, 9), sequence(4, 9));
    padded.resize(14, PAD);
    for pooling in ["last", "mean", "max", "query", "embeddings"] {
        let (read, hidden, model) = pooled(pooling, &[&padded]);
        let own = &hidden[..9 * HIDDEN];
        let expected: Vec<f32> = match pooling {
            "last" => own[8 * HIDDEN..].to_vec(),
            "mean" => (0..HIDDEN).map(|j| own.iter().skip(j).step_by(HIDDEN).sum::<f32>() / 9.0).collect(),
            "max" => {
                let largest = |j: usize| own.iter().skip(j).step_by(HIDDEN).copied().fold(f32::MIN, f32::max);
                (0..HIDDEN).map(largest).collect()
            }
            "embeddings" => pooled(pooling, &[&tokens]).0,
            _ => {
                // Attention sums to one over the text's own tokens.
                let q = model.parameters().get("fnet.pooler.query").unwrap();
                let score =
                    |row: &[f32]| row.iter().zip(q).map(|(a, b)| a * b).sum::<f32>() / (HIDDEN as f32).sqrt();
                let weights: Vec<f32> = own.chunks(HIDDEN).map(|row| score(row).exp()).collect();
                let sum: f32 = weights.iter().sum();
                (0..HIDDEN)
                    .map(|j| own.chunks(HIDDEN).zip(&weights).map(|(row, a)| row[j] * a / sum).sum())
                    .collect()
            }
        };
        assert!(read.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{pooling}");
    }
}

#[test]
fn the_answer_is_the_mean_of_both_opinions() {
    let batch = batch_of(&texts());
    let model = Model::new(config("mean", Pairs::Together, true), CLASSES, 1).unwrap();
    let words = model.parameters().get("classifier.bag.words.weight").unwrap();
    let output = model.parameters().get("classifier.bag.output.weight").unwrap();
    let mut alone = Model::new(config("mean", Pairs::Together, false), CLASSES, 1).unwrap();
    let own: Vec<_> = alone.parameters().table().iter().map(|t| (t.name.clone(), t.range())).collect();
    for (name, range) in own {
        let values = model.parameters().get(&name).unwrap().to_vec();
        alone.parameters_mut().values_mut()[range].copy_from_slice(&values);
    }
    let (both, one) = (logits(&model, &batch), logits(&alone, &batch));
    for (i, text) in batch.text_ranges().enumerate() {
        for class in 0..3 {
            let vote = |id: &u32| -> f32 {
                (0..HIDDEN).map(|j| words[*id as usize * HIDDEN + j] * output[class * HIDDEN + j]).sum()
            };
            let votes: f32 = batch.tokens()[text.clone()].iter().map(vote).sum();
            let expected = 0.5 * (one[i * 3 + class] + votes / (text.len() as f32).sqrt());
            assert!((both[i * 3 + class] - expected).abs() < 1e-5, "text {i}, class {class}");
        }
    }
}

#[test]
fn more_positions_start_as_the_saved_ones() {
    let place = tempfile::tempdir().unwrap();
    let batch = batch_of(&texts());
    let model = Model::new(config("mean", Pairs::Together, false), CLASSES, 3).unwrap();
    pretrained::save(&model, place.path()).unwrap();
    let open = |positions| {
        pretrained::open_with(place.path(), CLASSES, 3, |config| config.max_position_embeddings = positions)
    };
    let (longer, report) = open(70).unwrap();
    assert!(report.missing.is_empty());
    let of = |model: &Model| {
        let name = "fnet.embeddings.position_embeddings.weight";
        model.parameters().get(name).unwrap().to_vec()
    };
    let expected: Vec<f32> = of(&model).into_iter().cycle().take(70 * HIDDEN).collect();
    assert_eq!(of(&longer), expected);
    assert_eq!(logits(&model, &batch), logits(&longer, &batch));
    assert!(open(20).is_err(), "positions are not thrown away");
}

#[test]
fn a_saved_readout_opens_again_and_a_new_one_starts_fresh() {
    let place = tempfile::tempdir().unwrap();
    let batch = batch_of(&texts());
    let model = Model::new(config("query+embeddings", Pairs::Towers, false), CLASSES, 3).unwrap();
    pretrained::save(&model, place.path()).unwrap();
    let opened = pretrained::open(place.path()).unwrap();
    // Transformers must not open it as what it knows.
    let saved = std::fs::read_to_string(place.path().join("config.json")).unwrap();
    assert!(saved.contains("\"model_type\": \"fnet-mixing\"") && saved.contains("auto_map"), "{saved}");
    assert!(place.path().join(pretrained::MODELING_FILE).exists());
    let plain = Model::new(config("first", Pairs::Together, false), CLASSES, 3).unwrap();
    let saved = pretrained::config_to_json(&plain, pretrained::WeightType::default());
    assert!(saved.contains("\"model_type\": \"fnet\"") && !saved.contains("auto_map"), "{saved}");
    assert_eq!(opened.config().classifier_pooling, "query+embeddings".parse::<Pooling>().unwrap());
    assert_eq!(logits(&model, &batch), logits(&opened, &batch));
    let (changed, report) = pretrained::open_with(place.path(), CLASSES, 3, |config| {
        config.classifier_pooling = "mean".parse().unwrap();
        config.classifier_pairs = Pairs::Together;
        config.classifier_bag = true;
    })
    .unwrap();
    let mut missing = report.missing.clone();
    missing.retain(|name| !name.starts_with("classifier."));
    assert_eq!(missing, ["fnet.pooler.dense.weight", "fnet.pooler.dense.bias"]);
    // The second opinion starts with the encoder's words.
    let of = |name| changed.parameters().get(name).unwrap();
    assert_eq!(of("classifier.bag.words.weight"), of("fnet.embeddings.word_embeddings.weight"));
    assert_eq!(logits(&changed, &batch).len(), 6 * 3);
}

#[test]
fn a_text_without_its_partner_is_refused() {
    let model = Model::new(config("mean", Pairs::Towers, false), CLASSES, 1).unwrap();
    let (batch, mut w) = (batch_of(&texts()[..3]), Workspace::new());
    let dropout = Dropout { rate: 0.0, key: 0 };
    let mut gradients = vec![0.0; model.parameters().len()];
    let targets = ClassTargets::Classes(&[0, 1]);
    let mut forward = model.forward(&batch, Mode::Train(dropout), &mut w).unwrap();
    assert!(forward.logits().is_err());
    assert!(forward.backward(Targets::examples(targets, 1.0), &mut gradients).is_err());
    let mut none = Batch::new();
    none.push_windows([]);
    assert!(model.forward(&none, Mode::Infer, &mut w).is_err());
    none.push(&[5], &[]);
    assert!(model.forward(&none, Mode::Infer, &mut w).is_err());
}

#[test]
fn standardised_values_are_a_scaled_dense_layer() {
    let plain = config("mean+max", Pairs::Together, false);
    let config = ModelConfig { classifier_standardized: true, ..plain.clone() };
    let mut standard = Model::new(config, CLASSES, 1).unwrap();
    let mut scaled = Model::new(plain, CLASSES, 1).unwrap();
    let width = 2 * HIDDEN;
    let mean: Vec<f32> = (0..width).map(|j| j as f32 / 10.0 - 1.0).collect();
    let deviation: Vec<f32> = (0..width).map(|j| 0.2 + (j % 5) as f32 / 4.0).collect();
    for (name, values) in [("mean", &mean), ("deviation", &deviation)] {
        let own = standard.parameters_mut().get_mut(&format!("fnet.pooler.{name}")).unwrap();
        own.copy_from_slice(values);
    }
    let weight = standard.parameters().get("fnet.pooler.dense.weight").unwrap().to_vec();
    let dense = scaled.parameters_mut().get_mut("fnet.pooler.dense.weight").unwrap();
    dense.iter_mut().zip(&weight).enumerate().for_each(|(i, (w, v))| *w = v / deviation[i % width]);
    let moved: Vec<f32> =
        dense.chunks(width).map(|row| row.iter().zip(&mean).map(|(w, m)| w * m).sum()).collect();
    let bias = scaled.parameters_mut().get_mut("fnet.pooler.dense.bias").unwrap();
    bias.iter_mut().zip(&moved).for_each(|(b, moved)| *b -= moved);
    let (batch, mut w) = (batch_of(&texts()), Workspace::new());
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
    assert!(close(&logits(&standard, &batch), &logits(&scaled, &batch)));
    // What is below learns the same, the dense layer by the chain rule, mean and deviation nothing.
    let gradients = [&standard, &scaled].map(|model| {
        let mut gradients = vec![0.0; model.parameters().len()];
        loss_with(0.0, model, &batch, &mut gradients, &mut w);
        gradients
    });
    let of = |i: usize, name: &str| {
        let model = [&standard, &scaled][i];
        let tensor = model.parameters().table().iter().find(|t| t.name == name).unwrap();
        gradients[i][tensor.range()].to_vec()
    };
    for name in ["fnet.embeddings.word_embeddings.weight", "fnet.encoder.layer.1.output.dense.weight"] {
        assert!(close(&of(0, name), &of(1, name)), "{name}");
    }
    let (whole, d_bias) = (of(1, "fnet.pooler.dense.weight"), of(1, "fnet.pooler.dense.bias"));
    let expected: Vec<f32> = (whole.iter().enumerate())
        .map(|(i, g)| (g - mean[i % width] * d_bias[i / width]) / deviation[i % width])
        .collect();
    assert!(close(&of(0, "fnet.pooler.dense.weight"), &expected));
    assert!(of(0, "fnet.pooler.mean").iter().chain(&of(0, "fnet.pooler.deviation")).all(|g| *g == 0.0));
    // Dropout changes nothing below the head, for mean and deviation are used without it.
    let dropout = Mode::Train(Dropout { rate: 0.5, key: 3 });
    let pooled = |model: &Model, mode| {
        let mut w = Workspace::new();
        model.forward(&batch, mode, &mut w).unwrap().pooled().to_vec()
    };
    assert_eq!(pooled(&standard, dropout), pooled(&standard, Mode::Infer));
    assert_ne!(pooled(&scaled, dropout), pooled(&scaled, Mode::Infer));
    let mut gradients = vec![0.0; standard.parameters().len()];
    let with = loss_with(0.5, &standard, &batch, &mut gradients, &mut w);
    assert_ne!(with, loss_with(0.0, &standard, &batch, &mut gradients, &mut w), "the head has it");
    let place = tempfile::tempdir().unwrap();
    pretrained::save(&standard, place.path()).unwrap();
    assert_eq!(logits(&pretrained::open(place.path()).unwrap(), &batch), logits(&standard, &batch));
}
