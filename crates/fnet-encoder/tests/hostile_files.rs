//! Broken or malicious model folders: each is refused with a line that names the file.

use std::path::Path;

use fnet_encoder::pretrained::{self, CONFIG_FILE, Source, WEIGHTS_FILE, WeightType};
use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Head, Model, ModelConfig};

fn model() -> Model {
    let config = ModelConfig {
        vocab_size: 30,
        hidden_size: 8,
        num_hidden_layers: 2,
        intermediate_size: 12,
        max_position_embeddings: 10,
        ..ModelConfig::default()
    };
    Model::new(config, Head::MaskedLm, 1).unwrap()
}

fn refused(folder: &Path, says: &str) {
    let error = pretrained::open(folder).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(says), "expected `{says}` in: {error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn hostile_files_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (weights, config) = (folder.join("model.safetensors"), folder.join("config.json"));
    refused(folder, "config.json");
    pretrained::save(&model(), folder).unwrap();
    pretrained::open(folder).unwrap();
    let good_weights = std::fs::read(&weights).unwrap();
    let good_config = std::fs::read_to_string(&config).unwrap();

    let with_weights = |bytes: &[u8], says: &str| {
        std::fs::write(&weights, bytes).unwrap();
        refused(folder, says);
        std::fs::write(&weights, &good_weights).unwrap();
    };
    with_weights(b"", "holds 0 bytes");
    with_weights(b"1234567", "holds 7 bytes");
    for cut in [9, 100, good_weights.len() / 2, good_weights.len() - 1] {
        with_weights(&good_weights[..cut], "model.safetensors");
    }
    // A header of gigabytes, and of all of memory.
    for header in [4_u64 << 30, u64::MAX, good_weights.len() as u64] {
        let mut bytes = good_weights.clone();
        bytes[..8].copy_from_slice(&header.to_le_bytes());
        with_weights(&bytes, "names a header of");
    }
    let with_header = |header: &str, says: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 64]);
        with_weights(&bytes, says);
    };
    with_header("not json", "not a whole safetensors file");
    let words = "fnet.embeddings.word_embeddings.weight";
    let huge = u64::MAX / 2;
    with_header(
        &format!(r#"{{"{words}":{{"dtype":"F32","shape":[{huge},8],"data_offsets":[0,64]}}}}"#),
        "not a whole safetensors file",
    );
    with_header(
        &format!(r#"{{"{words}":{{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]}}}}"#),
        "config.json says [30, 8]",
    );
    with_header(r#"{"x":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}"#, "lacks fnet.embeddings");

    for value in [f32::NAN, f32::INFINITY] {
        let mut bytes = good_weights.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        with_weights(&bytes, "the weights are broken");
    }

    let with_config = |text: &str, says: &str| {
        std::fs::write(&config, text).unwrap();
        refused(folder, says);
        std::fs::write(&config, &good_config).unwrap();
    };
    with_config("", "config.json");
    with_config("[]", "not a model configuration");
    with_config(r#"{"hidden_size": -1}"#, "not a model configuration");
    with_config(r#"{"hidden_size": 1e99}"#, "not a model configuration");
    with_config(&good_config.replace("\"hidden_size\": 8", "\"hidden_size\": 0"), "hidden_size is 0");
    with_config(
        &good_config.replace("\"hidden_size\": 8", "\"hidden_size\": 4000000000"),
        "more than this program will allocate",
    );
    with_config(&good_config.replace("\"vocab_size\": 30", "\"vocab_size\": 31"), "config.json says [31, 8]");
    with_config(
        &good_config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        "lacks layer 2 of the 3",
    );
    with_config(
        &good_config.replace("\"intermediate_size\": 12", "\"intermediate_size\": 13"),
        "config.json says [13, 8]",
    );
    with_config(
        &good_config.replace("\"max_position_embeddings\": 10", "\"max_position_embeddings\": 90000000"),
        "too few for the",
    );
    with_config(&good_config.replace("\"fnet\"", "\"gpt2\""), "only `fnet` and `bert` can be opened");
    let bert = good_config.replace("\"fnet\"", "\"bert\"");
    with_config(&bert, "12 attention heads do not divide the hidden size 8"); // as BERT has by default
    with_config(&bert.replace("\"bert\"", "\"bert\", \"num_attention_heads\": 2"), "lacks bert.embeddings");
    pretrained::open(folder).unwrap();
}

#[test]
fn another_head_starts_fresh_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    pretrained::save(&model(), place.path()).unwrap();
    let head = Head::Classification { labels: 3 };
    let (opened, report) = pretrained::open_as(place.path(), head, 7).unwrap();
    assert_eq!(report.missing, ["classifier.weight", "classifier.bias"]);
    assert!(report.unused.iter().all(|name| name.starts_with("cls.predictions.")));
    let words = "fnet.embeddings.word_embeddings.weight";
    assert!(opened.parameters().get(words) == model().parameters().get(words));
    pretrained::save(&opened, place.path()).unwrap();
    assert_eq!(pretrained::open(place.path()).unwrap().head(), head);
}

#[test]
fn half_the_size_keeps_three_digits_and_opens_from_memory() {
    let place = tempfile::tempdir().unwrap();
    let saved = model();
    let read = |name| std::fs::read(place.path().join(name)).unwrap();
    pretrained::save_as(&saved, place.path(), WeightType::Bfloat16).unwrap();
    let (config, weights) = (read(CONFIG_FILE), read(WEIGHTS_FILE));
    assert!(String::from_utf8_lossy(&config).contains("\"dtype\": \"bfloat16\""));
    let header = 8 + u64::from_le_bytes(*weights.first_chunk().unwrap()) as usize;
    assert_eq!(weights.len() - header, 2 * saved.parameters().len());
    let source = Source::Memory { config: &config, weights: &weights };
    let (from_memory, from_files) =
        (pretrained::open(source).unwrap(), pretrained::open(place.path()).unwrap());
    assert_eq!(from_memory.parameters().values(), from_files.parameters().values());
    for (a, b) in from_memory.parameters().values().iter().zip(saved.parameters().values()) {
        assert!((a - b).abs() <= b.abs() / 256.0, "{a} for {b}");
    }
    // Saved again it is the same: nothing is lost twice.
    pretrained::save_as(&from_memory, place.path(), WeightType::Bfloat16).unwrap();
    assert!(read(WEIGHTS_FILE) == weights);
    let source = Source::Memory { config: &config, weights: &weights[..weights.len() - 9] };
    let error = pretrained::open(source).map(drop).unwrap_err().to_string();
    assert!(error.contains("model.safetensors") && error.contains("not a whole"), "{error}");
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    write_whole(&path, b"old").unwrap();
    std::fs::create_dir(place.path().join("file.fnet-part")).unwrap();
    assert!(write_whole(&path, b"new").is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
}
