//! Exported models against our own answers, by onnxruntime where there is one.

mod common;

use std::process::Command;

use common::{fails, fnet, run};
use fnet_encoder::mixers::{MixerKind, ReservoirConfig};
use fnet_encoder::{
    Batch, Head, Mode, Model, ModelConfig, Padding, Pairs, Pool, Pooling, Precision, Products,
    SentenceConfig, SentenceDense, Workspace,
};
use fnet_onnx::Weights;
use rand::Rng;
use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const MIXERS: [MixerKind; 11] = [
    MixerKind::Fourier,
    MixerKind::FourierSeq,
    MixerKind::FourierHidden,
    MixerKind::Hartley,
    MixerKind::Attention,
    MixerKind::Linear,
    MixerKind::Random,
    MixerKind::Mlp,
    MixerKind::Reservoir,
    MixerKind::Shift,
    MixerKind::None,
];
const ACTIVATIONS: [&str; 9] =
    ["gelu_new", "gelu", "relu", "silu", "quick_gelu", "mish", "prelu", "laplace", "xielu"];
const VOCABULARY: usize = 60;
const LONGEST: usize = 300;

/// Model `number` of the test, with weights large enough to matter.
fn random_model(number: usize, random: &mut ChaCha8Rng) -> Model {
    let heads = [
        Head::Encoder,
        Head::MaskedLm,
        Head::PreTraining,
        Head::NextSentence,
        Head::Classification { labels: 3 },
        Head::Regression,
        Head::Tokens { labels: 4 },
        Head::Sentence,
    ];
    let head = heads[number % heads.len()];
    let hidden = random.random_range(4..40);
    let layers = random.random_range(1..4);
    let is_bert = number % 7 == 6;
    let mut config = ModelConfig {
        model_type: if is_bert { "bert" } else { "fnet" }.into(),
        vocab_size: VOCABULARY,
        hidden_size: hidden,
        num_hidden_layers: layers,
        intermediate_size: random.random_range(3..70),
        hidden_act: (*ACTIVATIONS.choose(random).unwrap()).into(),
        max_position_embeddings: LONGEST,
        type_vocab_size: 2,
        num_attention_heads: Some(if hidden % 2 == 0 { 2 } else { 1 }),
        pad_token_id: Some(0),
        tie_word_embeddings: random.random(),
        reservoir: Some(ReservoirConfig::default()),
        ..ModelConfig::default()
    };
    if !is_bert {
        config.mixers = (0..layers).map(|layer| MIXERS[(number + 3 * layer) % MIXERS.len()]).collect();
    }
    let mut pools: Vec<Pool> = Pool::ALL.into_iter().filter(|pool| *pool != Pool::Input).collect();
    pools.shuffle(random);
    pools.truncate(random.random_range(1..4));
    let pooling = Pooling::new(pools).unwrap();
    match head {
        Head::Classification { .. } | Head::Regression => {
            config.classifier_pooling = pooling;
            config.classifier_pairs =
                *[Pairs::Together, Pairs::Towers, Pairs::SymmetricTowers].choose(random).unwrap();
            let is_single = config.classifier_pairs == Pairs::Together;
            config.classifier_matching = !is_single && random.random();
            config.classifier_bag = is_single && head != Head::Regression && random.random();
            config.classifier_linear = is_single && random.random();
            config.classifier_standardized = random.random();
        }
        Head::Sentence => {
            let dense = |outputs, activation: &str| SentenceDense { outputs, activation: activation.into() };
            let dense = if random.random() { vec![dense(7, "tanh"), dense(5, "linear")] } else { vec![] };
            config.sentence = Some(SentenceConfig { pooling, dense, normalize: random.random() });
        }
        _ => {}
    }
    if !is_bert && number % 5 == 4 && head == Head::Encoder {
        config.padding = Padding::Fixed;
        config.padding_length = Some(40);
    }
    let mut model = Model::new(config, head, number as u64).unwrap();
    let names: Vec<String> = model.parameters().table().iter().map(|tensor| tensor.name.clone()).collect();
    for name in names.iter().filter(|name| !name.contains(".reservoir.")) {
        let is_positive = name.ends_with("deviation") || name.ends_with("matching.weight");
        for value in model.parameters_mut().get_mut(name).unwrap() {
            *value += random.random_range(-0.3..0.3);
            *value = if is_positive { value.abs() + 0.2 } else { *value };
        }
    }
    model
}

/// So that tables which are stored so stay as they are.
fn round_to_bfloat16(model: &mut Model) {
    let names: Vec<String> = model.parameters().table().iter().map(|tensor| tensor.name.clone()).collect();
    for name in names {
        for value in model.parameters_mut().get_mut(&name).unwrap() {
            *value = f32::from_bits(value.to_bits() & 0xFFFF_0000);
        }
    }
}

/// Answers of one example by name, each flat, and the example.
fn answers(model: &Model, texts: &[(Vec<u32>, Vec<u32>)]) -> Vec<(&'static str, Vec<f32>)> {
    let mut batch = Batch::new();
    for (ids, segments) in texts {
        let (mut ids, mut segments) = (ids.clone(), segments.clone());
        if let Some(length) = model.config().fixed_length() {
            ids.resize(length, 0);
            segments.resize(length, 0);
        }
        batch.push(&ids, &segments);
    }
    let mut w = Workspace::new();
    let mut forward = model.forward(&batch, Mode::Infer, &mut w).unwrap();
    let own = texts[0].0.len();
    let places: Vec<u32> = (0..own as u32).collect();
    match model.head() {
        Head::Encoder => {
            let width = model.config().hidden_size;
            vec![("last_hidden_state", forward.hidden()[..own * width].to_vec())]
        }
        Head::MaskedLm => vec![("logits", forward.mlm_logits(&places).unwrap().to_vec())],
        Head::PreTraining => {
            let tokens = forward.mlm_logits(&places).unwrap().to_vec();
            vec![
                ("prediction_logits", tokens),
                ("seq_relationship_logits", forward.logits().unwrap().to_vec()),
            ]
        }
        Head::Sentence => {
            let mut vector = forward.vectors().unwrap().to_vec();
            if model.config().sentence.as_ref().is_some_and(|sentence| sentence.normalize) {
                fnet_train::predictor::normalize(&mut vector);
            }
            vec![("sentence_embedding", vector)]
        }
        _ => vec![("logits", forward.logits().unwrap().to_vec())],
    }
}

#[test]
fn random_models_answer_as_ours_do() {
    let python = std::env::var("FNET_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_runtime = Command::new(&python).args(["-c", "import onnx, onnxruntime"]).output();
    let place = tempfile::tempdir().unwrap();
    // The last ones in 8 bits.
    for number in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(number as u64);
        let mut model = random_model(number, &mut random);
        let weights = if number < 48 { Weights::Float32 } else { Weights::Int8 };
        if weights == Weights::Int8 {
            round_to_bfloat16(&mut model);
        }
        let [int8, float32] = [Precision::Int8, Precision::F32].map(Products::new);
        let config = model.config().clone();
        let is_pair = config.classifier_pairs != Pairs::Together;
        let longest = config.fixed_length().unwrap_or([12, 40, LONGEST][number % 3]);
        let (mut outputs, mut in_float32) = (serde_json::Map::new(), serde_json::Map::new());
        let mut examples = Vec::new();
        for example in 0..4 {
            let text = |random: &mut ChaCha8Rng| {
                let length = if example == 0 { 1 } else { random.random_range(1..=longest) };
                let ids: Vec<u32> = (0..length).map(|_| random.random_range(1..VOCABULARY as u32)).collect();
                let segments = (0..length).map(|i| u32::from(2 * i > length)).collect();
                (ids, segments)
            };
            let texts: Vec<(Vec<u32>, Vec<u32>)> =
                (0..1 + usize::from(is_pair)).map(|_| text(&mut random)).collect();
            for (products, outputs) in [(int8, &mut outputs), (float32, &mut in_float32)] {
                model.set_products(if weights == Weights::Int8 { products } else { float32 });
                for (name, values) in answers(&model, &texts) {
                    assert!(values.iter().all(|v| v.is_finite()), "{number} {name}");
                    let all = outputs.entry(name).or_insert_with(|| json!([]));
                    all.as_array_mut().unwrap().push(json!(values));
                }
            }
            let texts = texts.into_iter().map(|(ids, segments)| json!({"ids": ids, "segments": segments}));
            examples.push(Value::Array(texts.collect()));
        }
        let bytes = fnet_onnx::export(&model, weights).unwrap();
        std::fs::write(place.path().join(format!("{number:02}.onnx")), bytes).unwrap();
        let about = format!("{number}: {:?} {}", model.head(), serde_json::to_string(&config).unwrap());
        let told = json!({
            "about": about, "texts": 1 + usize::from(is_pair), "padded": config.fixed_length(),
            "examples": examples, "outputs": outputs, "in_float32": in_float32,
        });
        std::fs::write(place.path().join(format!("{number:02}.json")), told.to_string()).unwrap();
    }
    if !has_runtime.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no onnx and onnxruntime; name one that has by FNET_CLIENTS_PYTHON");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/onnx_check.py");
    let output = Command::new(python).arg(script).arg(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_program_exports_its_own_model() {
    let place = tempfile::tempdir().unwrap();
    let sizes = ["", "--dtype bfloat16", "--int8", "--vectors"].map(|how| {
        run(place.path(), &format!("export --onnx --out model.onnx --overwrite {how}"));
        std::fs::metadata(place.path().join("model.onnx")).unwrap().len()
    });
    assert!(sizes[1] < sizes[0] * 6 / 10 && sizes[2] < sizes[0] * 7 / 10, "{sizes:?}");
    fails(place.path(), "export --onnx --out model.onnx", "--overwrite");
    fails(place.path(), "export --onnx --model nowhere --out other.onnx", "nowhere");
    fails(place.path(), "export --onnx --out none/other.onnx", "none");
    assert!(!fnet(place.path(), "export --out other.onnx").output().unwrap().status.success());
}
