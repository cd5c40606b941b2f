//! Bad input: one clear line, a non-zero status, nothing overwritten.

mod common;

use std::path::Path;

use common::{fails, fnet, json, run, sample, tiny_pretraining};

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).unwrap();
}

/// A pretrained model that every test may use.
fn with_model() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &format!("{} --steps 2 --out model", tiny_pretraining()));
    place
}

#[test]
fn corpora() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    write(folder, "empty.txt", "");
    write(folder, "bad.txt", b"fine\nb\xFFd\n");
    write(folder, "nul.txt", b"fine\n\0\n");
    write(folder, "bad.jsonl", "{\"text\": \"fine\"}\n{\"words\": 1}\n");
    write(folder, "cut.txt.zst", &zstd::encode_all(&[b'a'; 5000][..], 1).unwrap()[..12]);
    write(folder, "little.txt", "a\n");
    let pretrain = |corpus: &str, says: &str| {
        fails(folder, &format!("pretrain --corpus {corpus} --vocab-size 50 --out run"), says);
        assert!(!folder.join("run").exists(), "{corpus}");
    };
    pretrain("missing.txt", "missing.txt: No such file");
    pretrain("empty.txt", "empty.txt: holds no text");
    pretrain("bad.txt", "bad.txt:2: not UTF-8");
    pretrain("nul.txt", "nul.txt:2: holds a NUL");
    pretrain("bad.jsonl", "bad.jsonl:2: no JSON object with a `text`");
    pretrain("cut.txt.zst", "cut.txt.zst:1: cannot be read");
    pretrain(".", "a corpus is .txt or .jsonl");
    pretrain("little.txt", "no sequence to learn from: 1 have fewer than 3 tokens; --sequences chunks");
}

#[test]
fn flags() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let usual = tiny_pretraining();
    for (flags, says) in [
        ("--preset huge", "known presets are tiny, mini"),
        ("--mixer magic", "--mixer magic: config: mixer `magic` is unknown; known are fourier"),
        ("--mixers fourier", "mixers lists 1 layers"),
        ("--mask-rate 2", "--mask-rate 2: must be from 0 to 1"),
        ("--learning-rate NaN", "--learning-rate NaN"),
        ("--steps 0", "--steps 0"),
        ("--threads 0", "--threads 0"),
        ("--freeze nothing.*", "--freeze nothing.*: no parameter has such a name"),
    ] {
        let usual =
            if flags.contains("--preset") { usual.replace("--preset tiny", "") } else { usual.clone() };
        fails(folder, &format!("{usual} {flags} --out run"), says);
        assert!(!folder.join("run").exists(), "{flags}");
    }
    let small = usual.replace("--vocab-size 150", "--vocab-size 3");
    fails(folder, &format!("{small} --out run"), "--vocab-size 3");
    fails(folder, "pretrain --resume nowhere", "holds no run to resume");
    fails(folder, "pretrain --resume nowhere --steps 5", "no other setting can be given");
    fails(folder, "finetune --model nowhere --task sst2 --data . --out run", "nowhere");
    fails(folder, "inspect nowhere", "nowhere/config.json");
}

#[test]
fn rows_and_labels() {
    let place = with_model();
    let folder = place.path();
    write(folder, "good.tsv", "text\tlabel\none\t0\ntwo\t1\nthree\t0\n");
    write(folder, "few.tsv", "text\tlabel\none\t0\ntwo\nthree\t1\n");
    write(folder, "unknown.tsv", "text\tlabel\none\t0\ntwo\t7\n");
    write(folder, "single.tsv", "text\tlabel\none\t1\ntwo\t1\n");
    write(folder, "words.tsv", "text\tlabel\none\t1.5\ntwo\tmany\n");
    write(folder, "bad.tsv", b"text\tlabel\none\t0\nb\xFFd\t1\n");
    write(folder, "nul.tsv", b"text\tlabel\none\t0\nb\0d\t1\n");
    write(folder, "empty.tsv", "");
    let tune = |flags: &str, says: &str| {
        fails(folder, &format!("finetune --model model --text text --label label --out run {flags}"), says);
        assert!(!folder.join("run").exists(), "{flags}");
    };
    tune("--train missing.tsv", "missing.tsv: No such file");
    tune("--train empty.tsv", "empty.tsv: holds no rows");
    tune("--train few.tsv", "few.tsv:3: has 1 columns, column 2 is needed");
    tune("--train good.tsv --dev unknown.tsv", "unknown.tsv:3: unknown label `7`; known are `0`, `1`");
    tune("--train single.tsv", "single.tsv: has one class only, `1`");
    tune("--train words.tsv --regression", "words.tsv:3: label `many` is not a number");
    tune("--train bad.tsv", "bad.tsv:3: not UTF-8");
    tune("--train nul.tsv", "nul.tsv:3: holds a NUL");
    fails(
        folder,
        "finetune --model model --train good.tsv --text sentence --label label --out run",
        "good.tsv:1: has no column `sentence`; its columns are `text`, `label`",
    );
    // GLUE's own single-class file names its task's labels, and is refused as well.
    std::fs::create_dir(folder.join("task")).unwrap();
    write(folder, "task/train.tsv", "sentence\tlabel\none\t1\ntwo\t1\n");
    write(folder, "task/dev.tsv", "sentence\tlabel\none\t1\n");
    fails(folder, "finetune --model model --task sst2 --data task --out run", "has one class only, `1`");
}

#[test]
fn a_long_text_is_counted_and_said_once() {
    let place = with_model();
    let folder = place.path();
    let long = "word ".repeat(100);
    let rows: String = (0..20).map(|i| format!("{long}\t{}\n", i % 2)).collect();
    write(folder, "long.tsv", format!("text\tlabel\n{rows}"));
    for (flags, said, key) in [
        ("", "20 of 20 examples are read in windows of the model's 32 tokens", "windowed"),
        ("--long cut", "20 of 20 examples were cut to the model's 32 tokens", "truncated"),
        ("--pooling first", "20 of 20 examples were cut to the model's 32 tokens", "truncated"),
        (
            "--long extend --max-length 64",
            "20 of 20 examples are read in windows of the model's 64",
            "windowed",
        ),
        ("--long extend --max-length 1000", "", "neither"),
    ] {
        let tune = "finetune --model model --train long.tsv --text text --label label --epochs 1 --overwrite --out run";
        let output = fnet(folder, &format!("{tune} {flags}")).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        if said.is_empty() {
            assert!(!stderr.contains("of 20 examples"), "{stderr}");
        } else {
            assert_eq!(stderr.matches(said).count(), 1, "{stderr}");
        }
        let predict = "predict --model run --input long.tsv --output p.tsv --quiet --json --overwrite";
        let predicted = json(&run(folder, predict));
        for count in ["truncated", "windowed"] {
            assert_eq!(predicted[count], if count == key { 20 } else { 0 }, "{flags}: {count}");
        }
    }
    let tune =
        "finetune --model model --train long.tsv --text text --label label --out refused --long extend";
    fails(folder, tune, "--max-length");
    fails(folder, &format!("{tune} --max-length 64 --recipe norms --adapter"), "its own positions");
    fails(folder, "predict --model run --input long.tsv --output p.tsv --long extend", "fine-tuning");
}

#[test]
fn broken_model_folders() {
    let place = with_model();
    let folder = place.path();
    let weights = folder.join("model/model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let tune = "finetune --model model --task sst2 --data DATA --out run";
    let tune = tune.replace("DATA", &sample("sentiment").display().to_string());
    std::fs::write(&weights, &good[..good.len() - 10]).unwrap();
    fails(folder, &tune, "model.safetensors: not a whole safetensors file");
    let mut nan = good.clone();
    let middle = nan.len() - nan.len() / 8 * 4; // of the layers: the pooler at the end is not read
    nan[middle..middle + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, &nan).unwrap();
    fails(folder, &tune, "the weights are broken");
    let mut header = good.clone();
    header[..8].copy_from_slice(&(8_u64 << 30).to_le_bytes());
    std::fs::write(&weights, &header).unwrap();
    fails(folder, &tune, "names a header of");
    std::fs::write(&weights, &good).unwrap();

    // A vocabulary that does not fit the model.
    run(
        folder,
        &format!(
            "tokenizer --corpus {} --vocab-size 300 --out large.json",
            sample("corpus/valid.txt").display()
        ),
    );
    let tokenizer = folder.join("model/tokenizer.json");
    let own = std::fs::read(&tokenizer).unwrap();
    std::fs::copy(folder.join("large.json"), &tokenizer).unwrap();
    fails(folder, &tune, "they do not belong together");
    write(folder, "model/tokenizer.json", "{}");
    fails(folder, &tune, "tokenizer.json: not a tokenizer");
    write(folder, "model/tokenizer.json", r#"{"normalizer": {"type": "Precompiled"}}"#);
    fails(folder, &tune, "tokenizer.json: holds a broken table of characters");
    // The library would read both.
    write(folder, "model/tokenizer.json", r#"{"normalizer": {"type": "Precompiled"}, "normalizer": null}"#);
    fails(folder, &tune, "tokenizer.json: not a tokenizer: duplicate field");
    std::fs::write(&tokenizer, own).unwrap();
    assert!(!folder.join("run").exists());

    let checkpoint = folder.join("model/state/checkpoint.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    fails(folder, "pretrain --resume model", "not a whole checkpoint");
}

#[test]
fn another_run_is_not_overwritten() {
    let place = with_model();
    let folder = place.path();
    let before = std::fs::read(folder.join("model/model.safetensors")).unwrap();
    fails(folder, &format!("{} --steps 1 --out model", tiny_pretraining()), "--overwrite");
    // Not even with --overwrite, where the new run cannot start.
    fails(folder, "pretrain --corpus missing.txt --out model --overwrite", "missing.txt");
    assert!(std::fs::read(folder.join("model/model.safetensors")).unwrap() == before);
    run(folder, &format!("{} --steps 1 --out model --overwrite", tiny_pretraining()));
    assert!(std::fs::read(folder.join("model/model.safetensors")).unwrap() != before);
    let task = format!(
        "finetune --model model --task sst2 --data {} --overwrite --out",
        sample("sentiment").display()
    );
    fails(folder, &format!("{task} model"), "own folder");
    fails(folder, &format!("{task} model --seeds 2"), "own folder");
    write(folder, "text", "a few words\n");
    fails(folder, "pretrain --model model --corpus text --steps 1 --out model --overwrite", "own folder");
    run(folder, "inspect model");
    write(folder, "file", "x");
    fails(folder, &format!("{} --steps 1 --out file", tiny_pretraining()), "is a file");
    std::fs::create_dir(folder.join("mine")).unwrap();
    write(folder, "mine/thesis.txt", "x");
    fails(folder, "quickstart --out mine", "holds other files");
}

#[test]
fn divergence_stops_and_keeps_the_last_good_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let usual = tiny_pretraining();
    fails(
        folder,
        &format!("{usual} --steps 400 --learning-rate 1000 --clip 0 --warm-up 0 --out run"),
        "diverged at step",
    );
    run(folder, "inspect run");
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    assert!(!metrics.contains("null"), "a loss that is no number was logged");
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_was_there() {
    let place = with_model();
    let folder = place.path();
    let before = std::fs::read(folder.join("model/model.safetensors")).unwrap();
    // A limit on file sizes, with its signal ignored, makes every larger write fail.
    let script = format!(
        "trap '' XFSZ; ulimit -f 40; exec {} {} --steps 2 --out model --overwrite",
        env!("CARGO_BIN_EXE_fnet"),
        tiny_pretraining()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("File too large"), "{stderr}");
    assert!(std::fs::read(folder.join("model/model.safetensors")).unwrap() == before);
    run(folder, "inspect model");

    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} embed --model again --input {} --output e.npy",
        env!("CARGO_BIN_EXE_fnet"),
        sample("corpus/valid.txt").display()
    );
    run(folder, &format!("{} --steps 2 --out again", tiny_pretraining()));
    assert!(std::fs::read(folder.join("again/model.safetensors")).unwrap() == before);
    let output = std::process::Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.join("e.npy").exists() && !folder.join("e.npy.fnet-part").exists());
}
