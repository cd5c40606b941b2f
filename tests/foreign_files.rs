//! Files that other programs wrote: PyTorch's own, shards, half precision, SentencePiece models.

mod common;

use std::path::Path;

use common::{fails, fnet, json, root, run, sample, tiny_pretraining};
use fnet_encoder::{Model, pretrained};
use fnet_train::tokenizer::Tokenizer;
use serde_json::Value;

fn files() -> std::path::PathBuf {
    root().join("tests/parity/examples/files")
}

fn open(path: &Path) -> Model {
    pretrained::open(path).unwrap_or_else(|e| panic!("{e}"))
}

fn copy(names: &[&str], folder: &Path) {
    for name in names {
        let to = folder.join(Path::new(name).file_name().unwrap());
        std::fs::copy(files().join(name), to).unwrap();
    }
}

#[test]
fn one_model_in_every_kind_of_file() {
    let exact = open(&files().join("../mlm_odd"));
    let values = exact.parameters().values();
    for path in ["pytorch_model.bin", "shards", "../mlm_odd/model.safetensors", ""] {
        assert!(open(&files().join(path)).parameters().values() == values, "{path}");
    }
    let half = open(&files().join("half.bin"));
    for (half, exact) in half.parameters().values().iter().zip(values) {
        assert!((half - exact).abs() <= 5e-4 * exact.abs() + 1e-7);
    }
}

#[test]
fn what_is_no_list_of_tensors_is_refused() {
    for (name, says) in [
        ("old.bin", "is no zip archive"),
        ("object.bin", "its pickle holds the opcode 0x81"), // builds an object
    ] {
        let error = pretrained::open(&files().join(name)).map(drop).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    copy(&["config.json"], folder);
    let index = folder.join("model.safetensors.index.json");
    for (text, says) in [
        (r#"{"weight_map": {"a": "../../secret"}}"#, "does not lie beside it"),
        (r#"{"weight_map": {"a": ".."}}"#, "does not lie beside it"),
        (r#"{"weight_map": {"a": "gone.safetensors"}}"#, "gone.safetensors"),
        ("{}", "has no weight_map"),
    ] {
        std::fs::write(&index, text).unwrap();
        let error = pretrained::open(folder).map(drop).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    std::fs::remove_file(&index).unwrap();
    let error = pretrained::open(folder).map(drop).unwrap_err().to_string();
    assert!(error.contains("holds no weights"), "{error}");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    copy(&["pytorch_model.bin"], folder);
    let config = std::fs::read_to_string(files().join("config.json")).unwrap();
    let wider = config.replace("\"intermediate_size\": 31", "\"intermediate_size\": 32");
    assert_ne!(wider, config);
    std::fs::write(folder.join("config.json"), wider).unwrap();
    let error = pretrained::open(folder).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("layer.0.intermediate.dense.weight is [31, 15], config.json says [32, 15]"),
        "{error}"
    );
    assert!(error.contains("and 1 more"), "{error}");
    let all = pretrained::inspect(folder).unwrap().report.misshapen;
    assert!(all.len() == 9 && all[8].starts_with("fnet.encoder.layer.2.output.dense.weight"), "{all:?}");
    let shorter = config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    std::fs::write(folder.join("config.json"), shorter).unwrap();
    let report = pretrained::open_reported(folder).unwrap().1;
    assert!(report.unused.iter().all(|name| name.starts_with("fnet.encoder.layer.2.")));
    assert_eq!(report.unused.len(), 8);
}

#[test]
fn a_sentencepiece_model_gives_the_ids_of_transformers() {
    let tokenizer = Tokenizer::of_folder(&files()).unwrap();
    let stored = std::fs::read_to_string(files().join("spiece.json")).unwrap();
    let stored: Vec<Value> = serde_json::from_str(&stored).unwrap();
    for example in &stored {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let ids = tokenizer.encode(example["text"].as_str().unwrap()).unwrap();
        tokenizer.assemble(&ids, None, usize::MAX, &mut tokens, &mut segments);
        assert_eq!(serde_json::json!(tokens), example["tokens"], "{}", example["text"]);
    }
}

#[test]
fn convert_writes_a_folder_that_every_command_opens() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    run(folder, "convert --model model --head next-sentence --out next");
    let config = std::fs::read_to_string(folder.join("next/config.json")).unwrap();
    assert!(config.contains("FNetForNextSentencePrediction"), "{config}");
    run(folder, "convert --model model/model.safetensors --head encoder --out bare");
    let inspected = json(&run(folder, "inspect bare --json"));
    assert_eq!(
        (&inspected["head"], &inspected["missing_tensors"]),
        (&"Encoder".into(), &serde_json::json!([]))
    );
    std::fs::write(folder.join("texts.txt"), "the fox\nthe owl saw it\n").unwrap();
    run(folder, "embed --model bare --input texts.txt --output own.npy --quiet");
    run(folder, "embed --model model --input texts.txt --output same.npy --quiet");
    run(folder, "embed --model bare --input texts.txt --output padded.npy --quiet --pad-to 32");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(read("own.npy") == read("same.npy"), "the same encoder");
    assert!(read("own.npy") != read("padded.npy"), "padding is mixed in");
    fails(
        folder,
        "embed --model bare --input texts.txt --output x.npy --pad-to 33",
        "--pad-to 33: must be from 3",
    );
    fails(folder, "convert --model model --out bare", "holds another run");
    // A tensor that has no place is named.
    let output = fnet(folder, "evaluate --model model --file texts.txt").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("without a classifier"));
    run(folder, "convert --model model --head pre-training --out pairs");
    let config = read("model/config.json");
    std::fs::write(folder.join("pairs/config.json"), config).unwrap();
    let output = run(folder, "fill-mask --model pairs the[MASK]");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("no place in the model for cls.seq_relationship.bias, cls.seq_relationship.weight"),
        "{said}"
    );
}

#[test]
fn a_model_card_stands_beside_the_model() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    let card = std::fs::read_to_string(folder.join("model/README.md")).unwrap();
    assert!(card.contains("valid.txt") && card.contains("validation_loss") && card.contains("fill-mask"));
    assert!(!card.contains(&sample("").display().to_string()), "no folders: {card}");
    std::fs::write(folder.join("model/README.md"), "mine").unwrap();
    run(folder, &format!("{} --steps 3 --out model --overwrite", tiny_pretraining()));
    assert_eq!(std::fs::read_to_string(folder.join("model/README.md")).unwrap(), "mine");
}
