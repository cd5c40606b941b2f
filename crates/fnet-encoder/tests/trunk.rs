//! Adapters on one trunk: the bits of models that stand alone, one after another and in one pass.

use fnet_encoder::mixers::MixerKind;
use fnet_encoder::{
    Batch, ClassTargets, Dropout, Head, Mode, Model, ModelConfig, Pool, Pooling, Precision, Products,
    Targets, Trunk, Workspace,
};

const WIDTH: usize = 3;

fn config(mixers: [MixerKind; 2]) -> ModelConfig {
    let mut config = ModelConfig {
        vocab_size: 11,
        input_width: Some(WIDTH),
        hidden_size: 32,
        num_hidden_layers: 2,
        intermediate_size: 48,
        max_position_embeddings: 12,
        type_vocab_size: 1,
        initializer_range: 0.2,
        pad_token_id: None,
        num_attention_heads: Some(2),
        ..ModelConfig::default()
    };
    config.set_mixers(mixers.to_vec());
    config
}

fn pooled(config: &ModelConfig, pools: &[Pool]) -> ModelConfig {
    ModelConfig { classifier_pooling: Pooling::new(pools.to_vec()).unwrap(), ..config.clone() }
}

/// What frozen pretrained transformers train, by name.
fn is_own(name: &str) -> bool {
    !name.contains(".encoder.") || name.contains("LayerNorm.")
}

/// A model that stands alone, on the frozen layers of `trunk`, and the same as its adapter.
fn both(trunk: &Trunk, config: &ModelConfig, head: Head, seed: u64) -> [Model; 2] {
    let mut alone = Model::new(config.clone(), head, seed).unwrap();
    let table = alone.parameters().table().to_vec();
    for tensor in table.iter().filter(|tensor| !is_own(&tensor.name)) {
        let values = trunk.model().parameters().get(&tensor.name).unwrap().to_vec();
        alone.parameters_mut().get_mut(&tensor.name).unwrap().copy_from_slice(&values);
    }
    let own: Vec<&str> = table.iter().map(|t| t.name.as_str()).filter(|name| is_own(name)).collect();
    let mut adapter = trunk.adapter(config.clone(), head, &own).unwrap();
    for model in [&mut alone, &mut adapter] {
        for name in &own {
            let values = model.parameters_mut().get_mut(name).unwrap();
            let start = seed as usize * 31 + name.len();
            values.iter_mut().enumerate().for_each(|(i, v)| *v = ((start + i * 7) % 29) as f32 / 20.0 - 0.6);
        }
    }
    let count: usize = table.iter().filter(|t| is_own(&t.name)).map(|t| t.len()).sum();
    assert_eq!(adapter.parameters().len(), count, "its own alone");
    [alone, adapter]
}

fn batch(lens: &[usize], of_vectors: bool) -> Batch {
    let mut batch = Batch::new();
    for len in lens {
        let tokens: Vec<u32> = (0..*len as u32).map(|i| (i * 5 + 2) % 11).collect();
        if of_vectors {
            let values: Vec<f32> = (0..len * WIDTH).map(|i| (i % 7) as f32 / 3.0 - 1.0).collect();
            batch.push_vectors(&values, WIDTH).unwrap();
        } else {
            batch.push(&tokens, &[]);
        }
    }
    batch
}

fn logits(model: &Model, batch: &Batch) -> Vec<f32> {
    model.forward(batch, Mode::Infer, &mut Workspace::new()).unwrap().logits().unwrap().to_vec()
}

#[test]
fn several_adapters_in_one_pass_answer_as_alone() {
    use MixerKind::{Attention, Fourier, Linear, Mlp, Random, Reservoir, Shift};
    for mixers in [[Fourier, Fourier], [Attention, Shift], [Linear, Random], [Mlp, Reservoir]] {
        let config = config(mixers);
        let trunk = Trunk::new(Model::new(config.clone(), Head::Encoder, 1).unwrap());
        let heads = [
            (pooled(&config, &[Pool::First]), Head::Classification { labels: 3 }, batch(&[4, 1, 12], false)),
            (pooled(&config, &[Pool::Mean, Pool::Max]), Head::Regression, batch(&[7, 5], true)),
            (config.clone(), Head::Tokens { labels: 2 }, batch(&[3, 11], true)),
            (pooled(&config, &[Pool::Embeddings]), Head::Classification { labels: 2 }, batch(&[2, 9], false)),
            (pooled(&config, &[Pool::Layers, Pool::First]), Head::Regression, batch(&[3, 8], false)),
            (pooled(&config, &[Pool::Query]), Head::Classification { labels: 20 }, batch(&[6], false)),
        ];
        for precision in Precision::ALL {
            let mut models: Vec<_> =
                heads.iter().zip(1..).map(|(h, seed)| both(&trunk, &h.0, h.1, seed)).collect();
            models.iter_mut().flatten().for_each(|model| model.set_products(Products::new(precision)));
            let parts: Vec<_> = models.iter().zip(&heads).map(|([_, adapter], h)| (adapter, &h.2)).collect();
            let mut w = Workspace::new();
            let together = trunk.logits(&parts, &mut w).unwrap();
            for (([alone, adapter], (_, head, batch)), output) in models.iter().zip(&heads).zip(&together) {
                let expected = logits(alone, batch);
                assert!(expected.iter().any(|v| *v != 0.0));
                assert_eq!(&logits(adapter, batch), &expected, "{mixers:?} {head:?} {precision:?} alone");
                assert_eq!(output, &expected, "{mixers:?} {head:?} {precision:?} together");
            }
            // In another order, and without some of them.
            let other = trunk.logits(&[parts[4], parts[0]], &mut w).unwrap();
            assert!(other[0] == together[4] && other[1] == together[0]);
        }
    }
}

#[test]
fn an_adapter_learns_as_the_model_with_frozen_layers() {
    let config = pooled(&config([MixerKind::Attention, MixerKind::Fourier]), &[Pool::Mean]);
    let trunk = Trunk::new(Model::new(config.clone(), Head::Encoder, 1).unwrap());
    let [mut alone, adapter] = both(&trunk, &config, Head::Classification { labels: 3 }, 5);
    alone.parameters_mut().freeze_where(|name| !is_own(name));
    let (batch, mut w) = (batch(&[4, 7], true), Workspace::new());
    let gradients = |model: &Model, w: &mut Workspace| {
        let mut gradients = vec![0.0; model.parameters().len()];
        let mode = Mode::Train(Dropout { rate: 0.1, key: 3 });
        let mut forward = model.forward(&batch, mode, w).unwrap();
        let losses =
            forward.backward(Targets::examples(ClassTargets::Classes(&[2, 0]), 0.5), &mut gradients).unwrap();
        (losses, gradients)
    };
    let ((whole, all), (own, d_own)) = (gradients(&alone, &mut w), gradients(&adapter, &mut w));
    assert_eq!(whole, own);
    for tensor in adapter.parameters().table() {
        let same = alone.parameters().table().iter().find(|t| t.name == tensor.name).unwrap();
        assert_eq!(all[same.range()], d_own[tensor.range()], "{}", tensor.name);
    }
    assert!(d_own.iter().any(|d| *d != 0.0));
}

#[test]
fn what_is_no_adapter_of_the_trunk_is_refused() {
    let config = config([MixerKind::Fourier, MixerKind::Fourier]);
    let trunk = Trunk::new(Model::new(config.clone(), Head::Encoder, 1).unwrap());
    let head = Head::Classification { labels: 2 };
    let fails = |result: Result<Model, fnet_encoder::EncoderError>, says: &str| {
        let message = result.err().unwrap().to_string();
        assert!(message.contains(says), "{message}");
    };
    let own = ["classifier.weight"];
    let mut other = config.clone();
    other.set_mixers(vec![MixerKind::Attention; 2]);
    fails(trunk.adapter(other, head, &own), "layers are not the trunk's");
    let wide = ModelConfig { intermediate_size: 64, ..config.clone() };
    fails(trunk.adapter(wide, head, &own), "layers are not the trunk's");
    let trained = ["fnet.encoder.layer.1.output.dense.weight"];
    fails(trunk.adapter(config.clone(), head, &trained), "layer.1.output.dense.weight is not the trunk's");
    // Another trunk's adapter, and a model of its own.
    let twin = Trunk::new(Model::new(config.clone(), Head::Encoder, 1).unwrap());
    let batch = batch(&[3], false);
    for model in
        [twin.adapter(config.clone(), head, &own).unwrap(), Model::new(config.clone(), head, 1).unwrap()]
    {
        let error = trunk.logits(&[(&model, &batch)], &mut Workspace::new()).unwrap_err();
        assert!(error.to_string().contains("no adapter of this trunk"), "{error}");
    }
    // A batch that does not fit is refused as alone.
    let adapter = trunk.adapter(config, head, &own).unwrap();
    let long = self::batch(&[13], false);
    assert!(trunk.logits(&[(&adapter, &long)], &mut Workspace::new()).is_err());
    assert_eq!(trunk.logits(&[], &mut Workspace::new()).unwrap(), Vec::<Vec<f32>>::new());
}
