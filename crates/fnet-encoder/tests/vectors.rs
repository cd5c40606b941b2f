//! Sequences of vectors, alone and beside sequences of tokens.

use fnet_encoder::{
    Batch, ClassTargets, Dropout, Head, Mode, Model, ModelConfig, Pool, Pooling, Targets, Workspace,
    pretrained,
};

const WIDTH: usize = 5;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 11,
        input_width: Some(WIDTH),
        hidden_size: 12,
        num_hidden_layers: 2,
        intermediate_size: 18,
        max_position_embeddings: 9,
        type_vocab_size: 1,
        initializer_range: 0.3,
        pad_token_id: None,
        classifier_pooling: Pooling::new(vec![Pool::Mean, Pool::Max]).unwrap(),
        ..ModelConfig::default()
    }
}

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 91) % 23) as f32 / 11.0 - 1.0).collect()
}

fn logits(model: &Model, batch: &Batch) -> Vec<f32> {
    model.forward(batch, Mode::Infer, &mut Workspace::new()).unwrap().logits().unwrap().to_vec()
}

#[test]
fn both_kinds_side_by_side_are_what_they_are_alone() {
    for head in [Head::Classification { labels: 3 }, Head::Tokens { labels: 3 }] {
        let model = Model::new(config(), head, 1).unwrap();
        let (image, series) = (values(4 * WIDTH, 1), values(7 * WIDTH, 2));
        let mut all = Batch::new();
        all.push_vectors(&image, WIDTH).unwrap();
        all.push(&[3, 10, 0], &[]);
        all.push_vectors(&series, WIDTH).unwrap();
        let mut alone = Vec::new();
        for part in 0..3 {
            let mut one = Batch::new();
            match part {
                0 => one.push_vectors(&image, WIDTH).unwrap(),
                1 => one.push(&[3, 10, 0], &[]),
                _ => one.push_vectors(&series, WIDTH).unwrap(),
            }
            alone.extend(logits(&model, &one));
        }
        assert_eq!(logits(&model, &all), alone);
    }
}

#[test]
fn gradients_are_those_of_the_loss() {
    for (head, per_text) in [(Head::Classification { labels: 2 }, true), (Head::Tokens { labels: 2 }, false)]
    {
        // The maximum has kinks, which differences see.
        let mean = Pooling::new(vec![Pool::Mean]).unwrap();
        let mut model = Model::new(ModelConfig { classifier_pooling: mean, ..config() }, head, 5).unwrap();
        let mut batch = Batch::new();
        batch.push(&[4, 4], &[]);
        batch.push_vectors(&values(3 * WIDTH, 3), WIDTH).unwrap();
        let examples = if per_text { 2 } else { 5 };
        let labels: Vec<f32> = (0..2 * examples).map(|i| [0.0, 1.0, f32::NAN][i % 3]).collect();
        let targets = Targets::examples(ClassTargets::Labels(&labels), 1.0);
        let mut gradients = vec![0.0; model.parameters().len()];
        let mut w = Workspace::new();
        let mode = Mode::Train(Dropout { rate: 0.0, key: 0 });
        model.forward(&batch, mode, &mut w).unwrap().backward(targets, &mut gradients).unwrap();
        for name in
            ["input_projection.weight", "input_projection.bias", "position_embeddings", "classifier.weight"]
        {
            let tensor = model.parameters().table().iter().find(|t| t.name.contains(name)).unwrap().clone();
            for i in tensor.range().step_by(tensor.len().div_ceil(7)) {
                let mut loss = |by: f32| {
                    model.parameters_mut().values_mut()[i] += by;
                    let loss = model
                        .forward(&batch, Mode::Infer, &mut w)
                        .unwrap()
                        .loss(targets)
                        .unwrap()
                        .examples
                        .sum;
                    model.parameters_mut().values_mut()[i] -= by;
                    loss
                };
                let numeric = (loss(4e-3) - loss(-4e-3)) / 8e-3;
                let error = (numeric - f64::from(gradients[i])).abs();
                assert!(error < 1e-2 * numeric.abs().max(0.2), "{name} {i}: {numeric} {}", gradients[i]);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = Model::new(config(), Head::Classification { labels: 2 }, 1).unwrap();
    let says = |model: &Model, batch: &Batch| {
        let error = model.forward(batch, Mode::Infer, &mut Workspace::new()).err().unwrap();
        error.to_string()
    };
    let mut batch = Batch::new();
    assert!(batch.push_vectors(&[1.0; 7], 3).is_err() && batch.push_vectors(&[], 0).is_err());
    batch.push_vectors(&[1.0; 6], 3).unwrap();
    assert!(batch.push_vectors(&[1.0; 10], 5).is_err(), "two widths");
    assert!(says(&model, &batch).contains("input_width is 5"));
    let text = Model::new(ModelConfig { input_width: None, ..config() }, Head::Encoder, 1).unwrap();
    assert!(says(&text, &batch).contains("tokens alone"));
    let embeddings = Pooling::new(vec![Pool::Embeddings]).unwrap();
    let words = ModelConfig { classifier_pooling: embeddings, ..config() };
    let words = Model::new(words, Head::Regression, 1).unwrap();
    let mut fits = Batch::new();
    fits.push_vectors(&[1.0; 5], WIDTH).unwrap();
    assert!(says(&words, &fits).contains("word embeddings"));
    let mut made_up = Batch::new();
    made_up.push(&[Batch::FIRST_VECTOR], &[]);
    assert!(says(&model, &made_up).contains("outside the vocabulary"));
    let mut beyond = fits.clone();
    beyond.push(&[Batch::FIRST_VECTOR + 1], &[]);
    assert!(says(&model, &beyond).contains("no such vector"));
    let mut twice = fits.clone();
    twice.push(&[Batch::FIRST_VECTOR], &[]);
    assert!(says(&model, &twice).contains("no such vector"));
    let mut long = Batch::new();
    long.push_vectors(&[0.0; 10 * WIDTH], WIDTH).unwrap();
    assert!(says(&model, &long).contains("more than the model's 9"));
}

#[test]
fn a_text_model_learns_to_read_vectors() {
    let place = tempfile::tempdir().unwrap();
    let text = Model::new(ModelConfig { input_width: None, ..config() }, Head::MaskedLm, 1).unwrap();
    pretrained::save(&text, place.path()).unwrap();
    let (model, report) =
        pretrained::open_with(place.path(), Head::Tokens { labels: 4 }, 2, |c| c.input_width = Some(WIDTH))
            .unwrap();
    assert_eq!(report.missing.len(), 4, "{:?}", report.missing);
    pretrained::save(&model, place.path()).unwrap();
    let again = pretrained::open(place.path()).unwrap();
    assert_eq!(again.head(), Head::Tokens { labels: 4 });
    assert!(again.parameters().values() == model.parameters().values());
}

#[test]
fn a_head_learns_from_pooled_vectors_as_from_all() {
    let mut model = Model::new(config(), Head::Classification { labels: 3 }, 1).unwrap();
    let (image, series, mut w) = (values(4 * WIDTH, 1), values(7 * WIDTH, 2), Workspace::new());
    let mut batch = Batch::new();
    batch.push_vectors(&image, WIDTH).unwrap();
    batch.push_vectors(&series, WIDTH).unwrap();
    let mut counted = Batch::new();
    (0..2).for_each(|_| counted.push(&[0], &[]));
    let pooled = model.forward(&batch, Mode::Infer, &mut w).unwrap().pooled().to_vec();
    let targets = Targets::examples(ClassTargets::Classes(&[2, 0]), 0.5);
    assert!(model.forward_pooled(&counted, &pooled, Mode::Infer, &mut w).is_err(), "everything is trained");
    model.parameters_mut().freeze_where(|name| !name.contains("pooler") && !name.contains("classifier"));
    let mode = Mode::Train(Dropout { rate: 0.0, key: 3 });
    let (mut whole, mut head) = (vec![0.0; model.parameters().len()], vec![0.0; model.parameters().len()]);
    let losses = model.forward(&batch, mode, &mut w).unwrap().backward(targets, &mut whole).unwrap();
    let same =
        model.forward_pooled(&counted, &pooled, mode, &mut w).unwrap().backward(targets, &mut head).unwrap();
    assert!(losses == same && whole == head && head.iter().any(|d| *d != 0.0));
    let logits = logits(&model, &batch);
    let mut forward = model.forward_pooled(&counted, &pooled, Mode::Infer, &mut w).unwrap();
    assert_eq!(forward.logits().unwrap(), logits);
    assert_eq!(forward.pooled(), pooled);
    assert!(model.forward_pooled(&counted, &pooled[1..], Mode::Infer, &mut w).is_err());
    // The next batch is read as a whole again.
    assert_eq!(model.forward(&batch, Mode::Infer, &mut w).unwrap().logits().unwrap(), logits);
}
