//! Vectors of texts: gradients, batches, folders, losses against PyTorch, folders of sentence-transformers.

use std::path::Path;

use fnet_encoder::similarity::{Contrast, ContrastGradients, ScoredLoss, contrastive, scored};
use fnet_encoder::{
    Batch, Dropout, Head, Mode, Model, ModelConfig, SentenceConfig, SentenceDense, Workspace, pretrained,
};
use serde_json::Value;

const HIDDEN: usize = 12;
const POOLINGS: [&str; 6] =
    ["mean", "weighted", "max+embeddings", "layers+weighted", "first+last+query", "sqrt-mean+position-mean"];

fn dense(outputs: usize, activation: &str) -> SentenceDense {
    SentenceDense { outputs, activation: activation.into() }
}

fn model(pooling: &str, dense: Vec<SentenceDense>) -> Model {
    let sentence = SentenceConfig { pooling: pooling.parse().unwrap(), dense, normalize: false };
    let config = ModelConfig {
        vocab_size: 50,
        hidden_size: HIDDEN,
        num_hidden_layers: 2,
        intermediate_size: 20,
        max_position_embeddings: 30,
        initializer_range: 0.3,
        sentence: Some(sentence),
        ..ModelConfig::default()
    };
    let mut model = Model::new(config, Head::Sentence, 5).unwrap();
    if let Some(weights) = model.parameters_mut().get_mut("fnet.sentence.word_weights") {
        weights
            .iter_mut()
            .enumerate()
            .for_each(|(i, w)| *w = if i % 9 == 0 { 0.0 } else { 0.1 + i as f32 / 50.0 });
    }
    model
}

fn text(seed: usize, length: usize) -> Vec<u32> {
    (0..length).map(|i| ((seed * 31 + i * 17 + i * i * 5) % 46 + 4) as u32).collect()
}

fn batch() -> Batch {
    let mut batch = Batch::new();
    for (i, length) in [5, 8, 1, 13, 3].into_iter().enumerate() {
        let tokens = text(i, length);
        if i == 1 {
            let (first, second) = tokens.split_at(3);
            batch.push_windows([(first, &[][..]), (second, &[][..])]);
        } else {
            batch.push(&tokens, &[]);
        }
    }
    batch
}

/// A loss whose gradient by the vectors is `2 v`.
fn squares(model: &Model, batch: &Batch, gradients: &mut [f32]) -> f64 {
    let mut w = Workspace::new();
    let dropout = Dropout { rate: 0.1, key: 3 };
    let mut forward = model.forward(batch, Mode::Train(dropout), &mut w).unwrap();
    let vectors = forward.vectors().unwrap().to_vec();
    let d: Vec<f32> = vectors.iter().map(|v| 2.0 * v).collect();
    forward.backward_vectors(&d, gradients).unwrap();
    vectors.iter().map(|v| f64::from(*v).powi(2)).sum()
}

#[test]
fn gradients_of_vectors() {
    let batch = batch();
    for pooling in POOLINGS {
        for dense in [vec![], vec![dense(7, "linear")], vec![dense(9, "tanh"), dense(4, "gelu")]] {
            let what = format!("{pooling}, {dense:?}");
            let mut model = model(pooling, dense);
            let mut gradients = vec![0.0; model.parameters().len()];
            squares(&model, &batch, &mut gradients);
            let length = gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(length > 0.0, "{what}");
            let start = model.parameters().values().to_vec();
            let mut moved = |by: f64| {
                let values = model.parameters_mut().values_mut();
                for ((w, s), g) in values.iter_mut().zip(&start).zip(&gradients) {
                    *w = (f64::from(*s) + by * f64::from(*g) / length) as f32;
                }
                squares(&model, &batch, &mut vec![0.0; start.len()])
            };
            let measured = (moved(5e-4) - moved(-5e-4)) / 1e-3;
            assert!(
                (measured - length).abs() < 1e-2 * length,
                "{what}: measured {measured}, expected {length}"
            );
        }
    }
}

#[test]
fn a_text_has_the_same_vector_in_any_company_and_after_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch();
    for pooling in POOLINGS {
        let model = model(pooling, vec![dense(7, "linear")]);
        let mut w = Workspace::new();
        let all = model.forward(&batch, Mode::Infer, &mut w).unwrap().vectors().unwrap().to_vec();
        assert_eq!((all.len(), model.vector_width()), (5 * 7, Some(7)));
        let mut alone = Batch::new();
        alone.push(&text(3, 13), &[]);
        let one = model.forward(&alone, Mode::Infer, &mut w).unwrap().vectors().unwrap().to_vec();
        assert_eq!(one, all[3 * 7..4 * 7], "{pooling}");
        pretrained::save(&model, folder.path()).unwrap();
        let opened = pretrained::open(folder.path()).unwrap();
        assert_eq!(opened.head(), Head::Sentence);
        let again = opened.forward(&batch, Mode::Infer, &mut w).unwrap().vectors().unwrap().to_vec();
        assert_eq!(again, all, "{pooling}");
    }
}

#[test]
fn another_head_keeps_or_drops_the_readout_and_words_alone_run_no_layer() {
    let model = model("weighted", vec![dense(7, "linear")]);
    let trained =
        |name: &str| model.parameters().table().iter().any(|t| t.name.contains(name) && t.trainable);
    assert!(trained(".sentence.0.weight") && trained("word_embeddings") && !trained(".layer."));
    let folder = tempfile::tempdir().unwrap();
    pretrained::save(&model, folder.path()).unwrap();
    let (mlm, _) = pretrained::open_as(folder.path(), Head::MaskedLm, 1).unwrap();
    let own = |model: &Model| model.parameters().get("fnet.sentence.0.weight").map(<[f32]>::to_vec);
    assert_eq!(own(&mlm), own(&model));
    assert!(mlm.parameters().table().iter().all(|t| !t.name.contains(".sentence.") || !t.trainable));
    let (class, report) = pretrained::open_as(folder.path(), Head::Classification { labels: 2 }, 1).unwrap();
    assert!(own(&class).is_none() && class.config().sentence.is_none() && report.unused.is_empty());
    let error = pretrained::open_with(folder.path(), Head::Sentence, 1, |config| config.sentence = None);
    assert!(error.err().unwrap().to_string().contains("sentence"));
    let batch = batch();
    let mut w = Workspace::new();
    assert!(mlm.forward(&batch, Mode::Infer, &mut w).unwrap().vectors().is_err());
    let mut infer = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    assert!(infer.backward_vectors(&[0.0; 35], &mut vec![0.0; model.parameters().len()]).is_err());
    let mut vectors = Batch::new();
    vectors.push_vectors(&[0.5; 6], 3).unwrap();
    assert!(model.forward(&vectors, Mode::Infer, &mut w).is_err(), "no vectors are read here");
}

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/examples").join(name)
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    assert!(off <= 1e-5 * (1.0 + norm(&mut expected.iter().copied())), "{what}: off by {off}");
}

#[test]
fn losses_and_their_gradients_are_those_of_pytorch() {
    let text = std::fs::read_to_string(example("similarity/example.json")).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    let width = stored["width"].as_u64().unwrap() as usize;
    let (vectors, scores) = (numbers(&stored["vectors"]), numbers(&stored["scores"]));
    for (name, loss) in [("cosent", ScoredLoss::Cosent), ("cosine", ScoredLoss::Cosine)] {
        let mut d = vec![0.0; vectors.len()];
        let value = scored(loss, &vectors, width, &scores, 20.0, 1.0, &mut d);
        close(name, &[value as f32], &numbers(&stored[name]["loss"]));
        close(name, &d, &numbers(&stored[name]["gradient"]));
    }
    let (anchors, candidates) = (numbers(&stored["anchors"]), numbers(&stored["candidates"]));
    let (mut da, mut dc) = (vec![0.0; anchors.len()], vec![0.0; candidates.len()]);
    let groups: Vec<u32> = (0..(candidates.len() / width) as u32).collect();
    let contrast = Contrast {
        anchors: &anchors,
        candidates: &candidates,
        anchor_groups: &groups[..anchors.len() / width],
        candidate_groups: &groups,
    };
    let d = ContrastGradients { anchors: &mut da, candidates: &mut dc };
    let (value, _) = contrastive(contrast, width, 20.0, 1.0, d);
    close("contrastive", &[value as f32], &numbers(&stored["contrastive"]["loss"]));
    close("anchors", &da, &numbers(&stored["contrastive"]["anchors"]));
    close("candidates", &dc, &numbers(&stored["contrastive"]["candidates"]));
}

#[test]
fn a_folder_of_sentence_transformers_gives_its_vectors() {
    let folder = example("sentence_transformers");
    let model = pretrained::open(folder.as_path()).unwrap();
    let stored: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("example.json")).unwrap()).unwrap();
    let (mut batch, mut w) = (Batch::new(), Workspace::new());
    for ids in stored["tokens"].as_array().unwrap() {
        let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        batch.push(&ids, &[]);
    }
    let expected = numbers(&stored["vectors"]);
    let found = model.forward(&batch, Mode::Infer, &mut w).unwrap().vectors().unwrap().to_vec();
    assert!(model.config().sentence.as_ref().unwrap().normalize);
    let width = model.vector_width().unwrap();
    let scaled: Vec<f32> = found
        .chunks_exact(width)
        .flat_map(|row| {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter().map(move |v| v / length)
        })
        .collect();
    close("vectors", &scaled, &expected);
}

#[test]
fn modules_that_are_not_computed_are_named() {
    let source = example("sentence_transformers");
    let place = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for file in from.read_dir().unwrap().flatten().filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    copy(&source, place.path());
    for part in ["1_Pooling", "2_Dense"] {
        copy(&source.join(part), &place.path().join(part));
    }
    assert!(pretrained::open(place.path()).is_ok());
    let modules = std::fs::read_to_string(place.path().join("modules.json")).unwrap();
    for (file, from, to, says) in [
        ("modules.json", "normalize.Normalize", "lstm.LSTM", "has the module LSTM"),
        ("modules.json", "transformer.Transformer", "static.StaticEmbedding", "begins with StaticEmbedding"),
        ("modules.json", "1_Pooling", "../1_Pooling", "does not lie in this one"),
        ("modules.json", "[", "{", "modules.json"),
        ("1_Pooling/config.json", "\"lasttoken\"", "\"magic\"", "pools by `magic`"),
        (
            "1_Pooling/config.json",
            "\"include_prompt\": true",
            "\"include_prompt\": false",
            "leaves the prompt out",
        ),
        ("2_Dense/config.json", "activation.Tanh", "activation.Softplus", "Softplus"),
        ("2_Dense/config.json", "\"out_features\": 8", "\"out_features\": 9", "config.json says"),
        ("2_Dense/config.json", "\"out_features\": 8", "\"out_features\": 99999999999", "outputs"),
    ] {
        let path = place.path().join(file);
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(whole.contains(from), "{file} {whole}");
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let message = pretrained::open(place.path()).err().unwrap().to_string();
        assert!(message.contains(says), "{message}");
        std::fs::write(&path, whole).unwrap();
    }
    assert!(modules.contains("Pooling") && pretrained::open(place.path()).is_ok());
}
