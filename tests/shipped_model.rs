//! The shipped model: what works without `--model`.

mod common;

use common::{fnet, json, root, run, sample};

#[test]
fn masks_are_filled_by_words_that_fit() {
    let place = tempfile::tempdir().unwrap();
    for (text, word) in [
        ("She closed the [MASK] behind her.", "door"),
        ("He shook his [MASK].", "head"),
        ("I do not [MASK] what you mean.", "know"),
    ] {
        let output = fnet(place.path(), "fill-mask --json").arg(text).output().unwrap();
        let guesses = json(&output)["masks"][0].clone();
        let tokens: Vec<&str> =
            guesses.as_array().unwrap().iter().filter_map(|g| g["token"].as_str()).collect();
        assert!(tokens.contains(&word), "{text}: {tokens:?}");
    }
}

#[test]
fn it_is_the_folder_in_the_repository_and_small() {
    let place = tempfile::tempdir().unwrap();
    let folder = root().join("models/mini");
    let of_folder = json(&run(place.path(), &format!("inspect {} --json", folder.display())));
    let own = json(&run(place.path(), "inspect --json"));
    for key in ["layers", "hidden_size", "vocabulary", "mixers", "parameters", "head"] {
        assert_eq!(own[key], of_folder[key], "{key}");
    }
    let bytes = |name: &str| std::fs::metadata(folder.join(name)).unwrap().len();
    assert!(bytes("model.safetensors") < 10_000_000);
    assert!(bytes("README.md") > 0, "its card");
    // A folder contains the code that opens it in Transformers; this copy must not fall behind.
    for name in ["modeling_fnet_mixing.py", "sentence_vectors.py"] {
        let code = |place: &str| std::fs::read(root().join(place).join(name)).unwrap();
        assert!(code("models/mini") == code("crates/fnet-encoder/src/pretrained"), "run fnet convert again");
    }
}

#[test]
fn rows_and_texts_need_no_model() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("texts.txt"), "the cat sat\n\na dog\n").unwrap();
    run(folder, "embed --input texts.txt --output own.npy --quiet");
    let data = sample("sentiment");
    let (train, dev) = (data.join("dev.tsv"), data.join("train.tsv"));
    let rows = format!("--train {} --dev {} --text sentence --label label", train.display(), dev.display());
    run(folder, &format!("finetune {rows} --epochs 1 --out own --quiet"));
    // A folder of float32 weights is the same model.
    run(folder, "convert --out mini");
    run(folder, &format!("finetune --model mini {rows} --epochs 1 --out from-folder --quiet"));
    run(folder, "embed --model mini --input texts.txt --output from-folder.npy --quiet");
    for (a, b) in [("own.npy", "from-folder.npy"), ("own/model.safetensors", "from-folder/model.safetensors")]
    {
        assert!(std::fs::read(folder.join(a)).unwrap() == std::fs::read(folder.join(b)).unwrap(), "{a}");
    }
    let evaluated = json(&run(folder, "evaluate --model own --json"));
    let trained = json(&run(folder, "inspect own --json"));
    assert_eq!(evaluated["accuracy"], trained["results"]["values"]["accuracy"]);
}
