//! Rows that are added to a run of recipe `ridge`, and a part of the rows that is held out.

mod common;

use std::path::Path;

use common::{fails, json, run, tiny_pretraining};

/// Series a row, of two classes by how fast they swing.
fn series(folder: &Path, name: &str, rows: std::ops::Range<usize>) {
    let row = |i: usize| {
        let (swing, phase) = (if i.is_multiple_of(2) { 0.4 } else { 0.9 }, i as f64 * 0.7);
        let steps = (0..12).map(|t| format!("{:.4},", (swing * f64::from(t) + phase).sin()));
        format!("{}{}\n", steps.collect::<String>(), if i.is_multiple_of(2) { "slow" } else { "fast" })
    };
    let header: String = (0..12).map(|t| format!("s{t},")).collect();
    std::fs::write(folder.join(name), format!("{header}speed\n{}", rows.map(row).collect::<String>()))
        .unwrap();
}

fn weights(folder: &Path, run: &str) -> Vec<f32> {
    let file = ["adapter.safetensors", "model.safetensors"].map(|name| folder.join(run).join(name));
    let bytes = std::fs::read(file.iter().find(|file| file.exists()).unwrap()).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor("classifier.weight").unwrap();
    tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn are_close(a: &[f32], b: &[f32]) -> bool {
    let largest = a.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3 * largest)
}

#[test]
fn added_rows_count_as_those_before() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, rows) in
        [("all.csv", 0..90), ("first.csv", 0..60), ("more.csv", 60..90), ("dev.csv", 200..240)]
    {
        series(folder, name, rows);
    }
    let random = "finetune --quiet --json --preset tiny --mixer shift --series wide --label speed --recipe ridge --penalty \
                  0.01 --dev dev.csv";
    for (i, how) in ["", "--adapter", "--random-features 50"].into_iter().enumerate() {
        let tune = format!("{random} {how} --keep-sums");
        run(folder, &format!("{tune} --train all.csv --out all{i}"));
        run(folder, &format!("{tune} --train first.csv --out first{i}"));
        let more = format!("finetune --quiet --json --add first{i} --train more.csv --out both{i}");
        let results = json(&run(folder, &more));
        assert_eq!(results["rows"], 90.0);
        assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.9, "{results}");
        let [all, first, both] = ["all", "first", "both"].map(|name| weights(folder, &format!("{name}{i}")));
        // The first rows' scale of values stays, so the sums are not quite the same.
        assert!(!are_close(&all, &first) && both.iter().all(|v| v.is_finite()) && both != first, "{how}");
        run(folder, &format!("predict --model both{i} --input dev.csv --output p{i}.csv --quiet"));
        // Nothing new changes nothing but the penalty's weight.
        let again = format!("finetune --quiet --json --add both{i} --train more.csv --out again{i}");
        assert_eq!(json(&run(folder, &again))["rows"], 120.0);
    }
    for (flags, says) in [
        ("--add first0 --train more.csv --pooling max --out x", "alone may differ"),
        ("--add first0 --train more.csv --out first0 --overwrite", "choose another"),
        ("--add first0 --out x", "name the new rows"),
        ("--add dev.csv --train more.csv --out x", "dev.csv"),
    ] {
        fails(folder, &format!("finetune --quiet {flags}"), says);
    }
    std::fs::write(folder.join("first0/sums.safetensors"), b"no sums").unwrap();
    fails(folder, "finetune --quiet --add first0 --train more.csv --out x", "holds no whole sums");
    run(folder, &format!("{random} --train first.csv --out none"));
    fails(folder, "finetune --quiet --add none --train more.csv --out x", "did not keep its sums");
    fails(folder, "finetune --quiet --preset tiny --task mnist-1d --keep-sums --out x", "for recipe ridge");
}

#[test]
fn added_texts_count_as_those_before() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    let texts = |name: &str, rows: std::ops::Range<usize>| {
        let row = |i: usize| {
            let (word, label) = if i.is_multiple_of(3) { ("good", "up") } else { ("bad", "down") };
            format!("the {word} thing {},{label}\n", i % 7)
        };
        std::fs::write(folder.join(name), format!("text,label\n{}", rows.map(row).collect::<String>()))
            .unwrap();
    };
    for (name, rows) in [("all.csv", 0..60), ("first.csv", 0..40), ("more.csv", 40..60), ("one.csv", 1..3)] {
        texts(name, rows);
    }
    let tune = "finetune --quiet --json --model model --text text --label label --recipe ridge --penalty 0.01 --keep-sums";
    run(folder, &format!("{tune} --train all.csv --out all"));
    run(folder, &format!("{tune} --train first.csv --out first"));
    let results =
        json(&run(folder, "finetune --quiet --json --add first --train more.csv --dev all.csv --out both"));
    assert!(results["rows"] == 60.0 && results["values"]["accuracy"].as_f64().unwrap() > 0.9, "{results}");
    let [all, both] = ["all", "both"].map(|name| weights(folder, name));
    assert!(are_close(&all, &both));
    // Rows of one class are few, not wrong.
    run(folder, "finetune --quiet --json --add both --train one.csv --out more");
}

#[test]
fn a_part_of_the_examples_judges() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    series(folder, "train.csv", 0..50);
    let tune =
        "finetune --quiet --json --preset tiny --series wide --label speed --train train.csv --held-out 0.2";
    let results = json(&run(folder, &format!("{tune} --recipe ridge --out ridge")));
    assert!(results["rows"] == 40.0 && results["values"]["accuracy"].is_number(), "{results}");
    let deep = format!("{tune} --epochs 1 --layers 3 --hidden-size 48 --out deep");
    let results = json(&run(folder, &deep));
    assert!(results["values"]["accuracy"].is_number(), "{results}");
    let config = std::fs::read_to_string(folder.join("deep/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let shape =
        ["num_hidden_layers", "hidden_size", "intermediate_size"].map(|key| config[key].as_u64().unwrap());
    assert_eq!(shape, [3, 48, 192]);
    let results = json(&run(
        folder,
        "finetune --quiet --json --preset tiny --task bit-xor --steps 2 --held-out 0.5 --out xor",
    ));
    assert!(results["values"]["accuracy"].is_number(), "{results}");
    series(folder, "one.csv", 0..1);
    fails(
        folder,
        &format!("{} --overwrite --out x", tune.replace("train.csv", "one.csv")),
        "too few examples",
    );
    std::fs::write(folder.join("texts.csv"), "text,label\na,1.5\n").unwrap();
    let one =
        "finetune --quiet --train texts.csv --text text --label label --regression --held-out 0.5 --out x";
    fails(folder, one, "--held-out: there are too few examples");
    fails(folder, &format!("{} --held-out 1 --out x", tune.replace(" --held-out 0.2", "")), "--held-out");
}
