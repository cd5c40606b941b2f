//! Files that other programs wrote: PyTorch's own, shards, half precision, SentencePiece models.

mod common;

use std::path::Path;

use common::{fails, fnet, json, root, run, sample, tiny_pretraining};
use fnet_encoder::{Mode, Model, pretrained};
use fnet_train::data::tokenizer::Tokenizer;
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

/// Puts files into a folder, by their names.
fn write(folder: &Path, files: &Value) {
    for (name, text) in files.as_object().unwrap() {
        std::fs::write(folder.join(name), text.as_str().unwrap()).unwrap();
    }
}

#[test]
fn settings_of_tokenizers_are_followed_as_transformers_follows_them() {
    let stored = std::fs::read_to_string(files().join("tokenizer_settings.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    for example in stored["examples"].as_array().unwrap() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), &example["files"]);
        let tokenizer =
            Tokenizer::of_folder(place.path()).unwrap_or_else(|e| panic!("{}: {e}", example["what"]));
        // The saved tokenizer gives the same ids.
        let saved = tempfile::tempdir().unwrap();
        tokenizer.save(saved.path(), 128).unwrap();
        for tokenizer in [tokenizer, Tokenizer::of_folder(saved.path()).unwrap()] {
            let (mut tokens, mut segments) = (Vec::new(), Vec::new());
            let texts = stored["texts"].as_array().unwrap();
            let encode = |i: usize| tokenizer.encode(texts[i].as_str().unwrap()).unwrap();
            for (i, ids) in example["ids"].as_array().unwrap().iter().enumerate() {
                tokenizer.assemble(&encode(i), None, usize::MAX, &mut tokens, &mut segments);
                assert_eq!(serde_json::json!(tokens), *ids, "{}: {}", example["what"], texts[i]);
            }
            tokenizer.check_pairs().unwrap();
            tokenizer.assemble(&encode(0), Some(&encode(1)), usize::MAX, &mut tokens, &mut segments);
            assert_eq!(serde_json::json!([tokens, segments]), example["pair"], "{}", example["what"]);
        }
    }
}

#[test]
fn tokenizers_that_cannot_be_followed_are_refused_by_name() {
    let stored = std::fs::read_to_string(files().join("tokenizer_settings.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let (lines, whole) = (&stored["examples"][0]["files"], &stored["examples"][2]["files"]);
    let opened = |files: &Value, config: &str| {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), files);
        std::fs::write(place.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::of_folder(place.path())
    };
    for (files, config, says) in [
        (lines, r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#, "BertJapaneseTokenizer"),
        (lines, r#"{"tokenizer_class": "RobertaTokenizer"}"#, "RobertaTokenizer"),
        (whole, r#"{"tokenizer_class": "BertJapaneseTokenizer"}"#, "BertJapaneseTokenizer"),
        (whole, r#"{"auto_map": {"AutoTokenizer": "mine.Mine"}}"#, "code of its own"),
        (lines, r#"{"added_tokens_decoder": {"900": {"content": "far"}}}"#, "`far` is to have id 900"),
        (lines, r#"{"added_tokens_decoder": {"x": {"content": "far"}}}"#, "`x` is no id"),
        (lines, r#"{"truncation_side": "middle"}"#, "truncation_side"),
        (lines, "[]", "is no JSON object"),
    ] {
        let message = opened(files, config).map(drop).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
    let generic = r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#;
    let with = |post_processor: Value| {
        let mut json: Value = serde_json::from_str(whole["tokenizer.json"].as_str().unwrap()).unwrap();
        json["post_processor"] = post_processor;
        opened(&serde_json::json!({"tokenizer.json": json.to_string()}), generic)
    };
    let message = with(Value::Null).map(drop).unwrap_err().to_string();
    assert!(message.contains("has no post-processor"), "{message}");
    // As RoBERTa has it: one text is read as here, two are not.
    let roberta = with(serde_json::json!({
        "type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": true, "add_prefix_space": false
    }));
    let message = roberta.unwrap().check_pairs().unwrap_err().to_string();
    assert!(message.contains("[SEP]:0 [SEP]:0"), "{message}");
}

#[test]
fn long_texts_lose_the_side_that_the_folder_names() {
    let stored = std::fs::read_to_string(files().join("tokenizer_settings.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    let place = tempfile::tempdir().unwrap();
    write(place.path(), &stored["examples"][0]["files"]);
    std::fs::write(place.path().join("tokenizer_config.json"), r#"{"truncation_side": "left"}"#).unwrap();
    let by_settings = Tokenizer::of_folder(place.path()).unwrap();
    // Or as `tokenizer.json` has it, where the settings say nothing.
    let json = stored["examples"][2]["files"]["tokenizer.json"].as_str().unwrap();
    let mut json: Value = serde_json::from_str(json).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
    let by_file = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
    for tokenizer in [by_settings, by_file] {
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let cut = tokenizer.assemble(&[10, 11, 12, 13], Some(&[20, 21, 22]), 7, &mut tokens, &mut segments);
        assert!(cut);
        assert_eq!(tokens, [2, 12, 13, 3, 21, 22, 3]);
    }
}

#[test]
fn weights_and_configurations_of_old_releases_open() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let read = |name: &str| std::fs::read(files().join("../bert").join(name)).unwrap();
    let (config, weights) = (read("config.json"), read("model.safetensors"));
    let config: Value = serde_json::from_slice(&config).unwrap();
    let open = |config: &Value, weights: &[u8]| {
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), weights).unwrap();
        pretrained::open(folder).map_err(|e| e.to_string())
    };
    let expected = open(&config, &weights).unwrap();
    let same = |model: Model| assert!(model.parameters().values() == expected.parameters().values());
    // Without a type it is known by its class, or by its weights.
    for keys in [&["model_type"][..], &["model_type", "architectures"]] {
        let mut old = config.clone();
        keys.iter().for_each(|key| drop(old.as_object_mut().unwrap().remove(*key)));
        let opened = open(&old, &weights).unwrap();
        assert_eq!(opened.config().model_type, "bert");
        assert_eq!(opened.head(), expected.head());
        same(opened);
    }
    // The output's bias under its other name; both are as long, with blanks after the shorter.
    let (own, other) = ("cls.predictions.bias", "cls.predictions.decoder.bias");
    let header = u64::from_le_bytes(*weights.first_chunk().unwrap()) as usize;
    let text = std::str::from_utf8(&weights[8..8 + header]).unwrap();
    assert!(text.contains(&format!("\"{own}\"")) && !text.contains(other));
    let text = text.trim_end().replace(own, other);
    let text = format!("{text:<width$}", width = text.len().next_multiple_of(8));
    let mut renamed = (text.len() as u64).to_le_bytes().to_vec();
    renamed.extend(text.bytes().chain(weights[8 + header..].iter().copied()));
    same(open(&config, &renamed).unwrap());

    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let refused = open(&config, pointer).map(drop).unwrap_err();
    assert!(refused.contains("git lfs pull"), "{refused}");

    let mut labelled = config;
    labelled["architectures"] = serde_json::json!(["BertForSequenceClassification"]);
    labelled["id2label"] = serde_json::json!({"0": 3, "1": true, "2": "x"});
    let labelled: fnet_encoder::ModelConfig = serde_json::from_value(labelled).unwrap();
    let names = pretrained::labels_of(&labelled, fnet_encoder::Head::Classification { labels: 3 }).unwrap();
    assert_eq!(names, ["3", "true", "x"]);
}

/// Transformers masks the padding of a BERT's sequences, so each comes out as if it were alone.
#[test]
fn padding_is_masked_by_attention_and_mixed_in_by_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("texts.txt"), "the fox\nthe owl saw it\n").unwrap();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for (mixer, is_same) in [("attention", true), ("fourier", false)] {
        run(folder, &format!("{} --steps 2 --mixer {mixer} --overwrite --out model", tiny_pretraining()));
        run(folder, "embed --model model --input texts.txt --output own.npy --overwrite --quiet");
        run(
            folder,
            "embed --model model --input texts.txt --output padded.npy --overwrite --quiet --pad-to 32",
        );
        assert_eq!(read("own.npy") == read("padded.npy"), is_same, "{mixer}");
    }
    let mut model = pretrained::open(&folder.join("model")).unwrap();
    let fixed = |config: &mut fnet_encoder::ModelConfig| {
        (config.padding, config.padding_length) = (fnet_encoder::Padding::Fixed, Some(6));
    };
    model.change_config(fixed).unwrap();
    let (mut batch, mut w) = (fnet_encoder::Batch::new(), fnet_encoder::Workspace::new());
    batch.push(&[2, 5, 3], &[]);
    let message = model.forward(&batch, Mode::Infer, &mut w).map(drop).unwrap_err().to_string();
    assert!(message.contains("padding is fixed: fill it up to 6"), "{message}");
    batch.clear();
    batch.push(&[2, 5, 3, 0, 0, 0], &[]);
    model.forward(&batch, Mode::Infer, &mut w).unwrap();
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
    run(folder, "convert --model model --out bare --overwrite");
    fails(folder, "convert --model model --out model --overwrite", "own folder");
    // A tensor that the model does not use is named.
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
