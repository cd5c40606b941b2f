//! Vectors of texts from the command line: trained, the same bytes always, embedded, searched.

mod common;

use std::path::Path;
use std::process::Command;

use common::{fails, fnet, json, root, run, sample};
use fnet_train::search::Index;

fn array(path: &Path) -> (usize, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..128]).into_owned();
    let shape = header.split_once("'shape': (").unwrap().1;
    let width = shape.split([',', ')']).nth(1).unwrap().trim().parse().unwrap();
    let values = bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (width, values.collect())
}

/// Files of every kind, of words that go together or do not.
fn write_rows(folder: &Path) {
    let words = ["red", "blue", "house", "garden", "water", "stone", "horse", "letter"];
    let text = |i: usize| format!("the {} by the {}", words[i % 8], words[(i * 3 + 1) % 8]);
    let mut files = [String::from("one,two,score\n"), "a\tb\n".into(), String::new(), String::new()];
    for i in 0..40 {
        let (own, other) = (text(i), text(i + 3));
        files[0] += &format!("{own},\"{own}, again\",5\n{own},{other},{}\n", i % 3);
        files[1] += &format!("{own}\ta {own} {i}\n");
        files[2] += &serde_json::json!({"q": own, "good": format!("one {own}"), "bad": other}).to_string();
        files[2] += "\n";
        files[3] += &format!("{own} and {other}\n");
    }
    for (name, rows) in ["scored.csv", "pairs.tsv", "triplets.jsonl", "texts.txt"].iter().zip(files) {
        std::fs::write(folder.join(name), rows).unwrap();
    }
}

const ALL: &str =
    "finetune --objective similarity --train scored.csv pairs.tsv triplets.jsonl texts.txt --quiet";

#[test]
fn every_kind_of_rows_is_learnt_with_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_rows(folder);
    let settings = format!("{ALL} --held-out 0.2 --dimensions 128,32 --epochs 2 --batch-size 16");
    let results = json(&run(folder, &format!("{settings} --threads 1 --out one --json")));
    let values = &results["values"];
    for name in
        ["spearman_scored", "mrr_pairs", "recall_1_triplets", "spearman_at_32_scored", "mrr_at_128_pairs"]
    {
        assert!(values[name].as_f64().is_some_and(|v| (-1.0..=1.0).contains(&v)), "{name} in {values}");
    }
    assert!(results["bag_of_words"]["mrr_pairs"].as_f64().is_some(), "{results}");
    let weights = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    run(folder, &format!("{settings} --threads 2 --out two"));
    assert!(weights("one") == weights("two"), "threads change the weights");

    // A batch in parts learns the same but for rounding, and what a kill left goes on to the same bytes.
    let small = format!("{settings} --pass-tokens 40 --checkpoint-minutes 0");
    run(folder, &format!("{small} --out parts"));
    let killed = folder.join("killed");
    for _ in 0..2 {
        let resume =
            if killed.join("training.toml").exists() { "finetune --resume killed --quiet" } else { "" };
        let start = format!("{small} --out killed");
        let mut child = fnet(folder, if resume.is_empty() { &start } else { resume }).spawn().unwrap();
        common::wait_for(|| common::has_logged(&killed));
        std::thread::sleep(std::time::Duration::from_millis(120));
        let _ = child.kill();
        child.wait().unwrap();
    }
    if !killed.join("results.json").exists() {
        run(folder, "finetune --resume killed --quiet");
    }
    assert!(weights("killed") == weights("parts"), "kills change the weights");
    // With layers that are read, dropout and several losses.
    run(
        folder,
        &format!("{ALL} --pooling weighted+mean --loss cosent --hide-rate 0.1 --steps 4 --out layers"),
    );
    run(folder, "embed --model layers --input texts.txt --output layers.npy --quiet");
    assert_eq!(array(&folder.join("layers.npy")).0, 512);
}

#[test]
fn what_means_nothing_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_rows(folder);
    std::fs::write(folder.join("one.csv"), "a,b,score\nx,y,high\n").unwrap();
    let own = "finetune --objective similarity --out bad";
    for (arguments, says) in [
        ("--train one.csv", "one.csv:2: the score `high` is not a number"),
        ("--train missing.csv", "missing.csv"),
        ("--train pairs.tsv --bag true", "--bag: does not apply to --objective similarity"),
        ("--train pairs.tsv --recipe ridge", "--recipe ridge"),
        ("--train pairs.tsv --dimensions 999", "--dimensions 999: the vectors have 256 values"),
        ("--train pairs.tsv --dev texts.txt", "texts alone, by which nothing can be judged"),
        ("--train pairs.tsv --scale 0", "--scale 0"),
        ("--train pairs.tsv --accumulate 2", "--accumulate"),
        ("--task sst2 --data .", "has no scores"),
        ("", "give --train"),
    ] {
        fails(folder, &format!("{own} {arguments}"), says);
        assert!(!folder.join("bad").join("training.toml").exists());
    }
    let rows = format!("--train {} --text sentence --label label", sample("sentiment/dev.tsv").display());
    fails(folder, &format!("finetune {rows} --scale 3 --out bad"), "--scale: is for --objective similarity");
    fails(folder, &format!("finetune {rows} --train pairs.tsv --out bad"), "several files are for");
}

#[test]
fn texts_are_found_in_memory_and_in_a_file() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_rows(folder);
    std::fs::write(folder.join("queries.txt"), "a red house\nthe letter\n").unwrap();
    let find =
        |arguments: &str| String::from_utf8(run(folder, &format!("search {arguments}")).stdout).unwrap();
    let plain = find("--corpus texts.txt --queries queries.txt --top 3 --quiet");
    assert_eq!(plain.lines().filter(|line| line.split('\t').count() == 3).count(), 6, "{plain}");
    assert_eq!(find("--corpus texts.txt --index texts.index --queries queries.txt --top 3 --quiet"), plain);
    assert_eq!(find("--index texts.index --queries queries.txt --top 3"), plain);
    let output =
        fnet(folder, "search --index texts.index --top 2 --json").arg("a red house").output().unwrap();
    let answer = json(&output);
    assert_eq!(answer["found"][0]["text"], plain.lines().next().unwrap().split('\t').nth(2).unwrap());
    // Against plain cosines of what `embed` writes.
    run(folder, "embed --input texts.txt --output texts.npy --quiet");
    let (width, vectors) = array(&folder.join("texts.npy"));
    let index = Index::open(&folder.join("texts.index")).unwrap();
    assert_eq!((index.width(), index.len()), (width, 40));
    assert!(index.vectors() == vectors, "an index holds what embed writes");
    let length: f32 = vectors[..width].iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5, "the shipped model's vectors have length one");
    run(folder, "embed --input texts.txt --output short.npy --dimensions 64 --quiet");
    let (short_width, short) = array(&folder.join("short.npy"));
    let own = vectors[..64].iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!(short_width == 64 && (short[3] - vectors[3] / own).abs() < 1e-6);

    fails(folder, "search --index texts.index --dimensions 64 x", "was made by another model");
    fails(folder, "search --corpus texts.txt --index texts.index x", "--overwrite");
    fails(folder, "search --index queries.txt x", "is no index of texts");
    fails(folder, "search --corpus texts.txt --prompt query x", "has no prompt `query`");
    let pairs = find("--corpus texts.txt --pairs-above 0.999 --quiet");
    assert!(
        pairs.lines().count() >= 20 && pairs.lines().all(|line| line.split('\t').count() == 5),
        "{pairs}"
    );
    let alike = |a: &str, b: &str| -> f64 {
        let output = fnet(folder, "similarity --json").args([a, b]).output().unwrap();
        json(&output)["similarity"].as_f64().unwrap()
    };
    assert!((alike("a red house", "a red house") - 1.0).abs() < 1e-6);
    assert!(alike("the old horse", "the horse was old") > alike("the old horse", "a letter from the bank"));
}

#[test]
fn a_folder_of_sentence_transformers_is_used_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let model = root().join("tests/parity/examples/sentence_transformers");
    let stored: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(model.join("example.json")).unwrap()).unwrap();
    let rows: Vec<String> =
        stored["texts"].as_array().unwrap().iter().map(|t| format!("{{\"t\": {t}}}\n")).collect();
    std::fs::write(folder.join("texts.jsonl"), rows.concat()).unwrap();
    std::fs::write(folder.join("prompted.txt"), stored["prompted"].as_str().unwrap()).unwrap();
    let embed = format!("embed --model {} --quiet", model.display());
    run(folder, &format!("{embed} --input texts.jsonl --text t --output a.npy"));
    run(folder, &format!("{embed} --input prompted.txt --prompt query --output b.npy"));
    let (width, mut found) = array(&folder.join("a.npy"));
    found.extend(array(&folder.join("b.npy")).1);
    let expected = stored["vectors"].as_array().unwrap();
    for (row, expected) in found.chunks_exact(width).zip(expected) {
        for (a, b) in row.iter().zip(expected.as_array().unwrap()) {
            assert!((f64::from(*a) - b.as_f64().unwrap()).abs() < 1e-5, "{row:?} {expected}");
        }
    }
    // Trained further, it is a folder of ours, which says the same of itself.
    write_rows(folder);
    let train =
        format!("finetune --objective similarity --model {} --train pairs.tsv --steps 2", model.display());
    run(folder, &format!("{train} --batch-size 4 --quiet --out own"));
    assert!(folder.join("own/sentence_vectors.py").exists() && folder.join("own/modules.json").exists());
    run(folder, "embed --model own --input texts.txt --output own.npy --quiet");
    assert_eq!(array(&folder.join("own.npy")).0, 8);
}

#[test]
fn sentence_transformers_opens_what_was_trained() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write_rows(folder);
    let texts = "the red house\nwater, by the garden (of stone)\n".to_owned() + &"a long letter ".repeat(90);
    std::fs::write(folder.join("more.txt"), texts).unwrap();
    let train = "finetune --objective similarity --train pairs.tsv --steps 3 --batch-size 8 --quiet";
    // The default needs no code of ours; what reads the layers does.
    run(folder, &format!("{train} --out words"));
    run(folder, &format!("{train} --pooling weighted+mean --out layers"));
    assert!(!folder.join("words/sentence_vectors.py").exists());
    assert!(folder.join("layers/sentence_vectors.py").exists());
    for name in ["words", "layers"] {
        run(
            folder,
            &format!("embed --model {name} --normalize --input more.txt --output {name}.npy --quiet"),
        );
    }
    let said = json(&run(folder, "inspect --json words"));
    assert!(said["unused_tensors"].as_array().is_some_and(Vec::is_empty), "{said}");
    let python = std::env::var("FNET_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".into());
    let check = Command::new(&python).args(["-c", "import sentence_transformers"]).output();
    if !check.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {python} has no sentence_transformers; name one that has by FNET_CLIENTS_PYTHON");
        return;
    }
    let script = root().join("tests/sentence_transformers_check.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_readout_is_made_from_any_text() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let corpus = sample("corpus/train.txt");
    run(folder, &format!("convert --vectors-from {} --out made", corpus.display()));
    write_rows(folder);
    run(folder, "embed --model made --input texts.txt --output made.npy --quiet");
    run(folder, "embed --input texts.txt --output shipped.npy --quiet");
    let ((width, made), (_, shipped)) = (array(&folder.join("made.npy")), array(&folder.join("shipped.npy")));
    assert!(width == 256 && made != shipped);
    // It fills masks as before.
    run(folder, "fill-mask --model made --json the.[MASK]");
}
