//! Rows as people have them: streams, no header, labels spelt in several ways, few rows of a class.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use common::{fails, fnet, json, run, sample, tiny_pretraining};

/// A folder with a small pretrained `model`, and rows of two classes in `rows.csv`.
fn with_rows() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    run(place.path(), &format!("{} --steps 2 --out model", tiny_pretraining()));
    let rows: String = (0..12).map(|i| format!("the {} sat,{}\n", ["fox", "owl"][i % 2], i % 2)).collect();
    std::fs::write(place.path().join("rows.csv"), format!("text,label\n{rows}")).unwrap();
    place
}

const TUNE: &str = "finetune --model model --epochs 1 --quiet --overwrite --json --out run";

/// Runs `fnet` with a text on standard input.
fn with_input(folder: &Path, arguments: &str, input: &str) -> Output {
    let mut command = fnet(folder, arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What the program says on standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn predictions(output: &Output) -> Vec<String> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(String::from).collect()
}

#[test]
fn rows_come_from_and_go_to_streams() {
    let place = with_rows();
    let folder = place.path();
    run(folder, &format!("{TUNE} --train rows.csv --text text --label label"));
    run(folder, "predict --model run --input rows.csv --output file.jsonl --quiet");
    let expected = std::fs::read_to_string(folder.join("file.jsonl")).unwrap();
    let csv = std::fs::read_to_string(folder.join("rows.csv")).unwrap();
    let texts: String =
        csv.lines().skip(1).map(|l| l.split(',').next().unwrap().to_string() + "\n").collect();
    std::fs::write(folder.join("texts.txt"), &texts).unwrap();
    let jsonl: String = texts.lines().map(|t| format!("{{\"text\": \"{t}\"}}\n")).collect();
    for input in [&csv, &csv.replace(',', "\t"), &texts, &jsonl] {
        let output = with_input(folder, "predict --model run --input - --output - --quiet", input);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
    run(folder, "predict --model run --input texts.txt --output plain.jsonl --quiet");
    assert_eq!(std::fs::read_to_string(folder.join("plain.jsonl")).unwrap(), expected);
    let output =
        with_input(folder, "predict --model run --input - --output - --output-format tsv --quiet", &csv);
    assert_eq!(predictions(&output).len(), 13);

    let from_file = json(&run(folder, "evaluate --model run --file rows.csv --json"));
    let output = with_input(folder, "evaluate --model run --file - --json", &csv);
    assert_eq!(json(&output), from_file);

    run(folder, "embed --model run --input rows.csv --output file.npy --quiet");
    let output = with_input(folder, "embed --model run --input - --output - --quiet", &csv);
    assert!(output.stdout == std::fs::read(folder.join("file.npy")).unwrap(), "{}", said(&output));
    fails(folder, "predict --model run --input rows.csv --output - --json", "--json: standard output");
    fails(folder, &format!("{TUNE} --train - --text text --label label"), "standard input");
    fails(folder, "predict --model run --input rows.csv --output /dev/null", "is no file");
}

#[test]
fn columns_by_number_and_with_commas_in_their_names() {
    let place = with_rows();
    let folder = place.path();
    let rows: String = (0..8).map(|i| format!("{},x,the fox {i}\n", i % 2)).collect();
    std::fs::write(folder.join("bare.csv"), &rows).unwrap();
    run(folder, &format!("{TUNE} --train bare.csv --no-header --text 3 --label 1"));
    run(folder, "predict --model run --input bare.csv --output bare.jsonl --quiet");
    run(folder, "evaluate --model run --file bare.csv");
    fails(
        folder,
        &format!("{TUNE} --train bare.csv --no-header --text 4 --label 1"),
        "bare.csv:1: has 3 columns",
    );
    fails(
        folder,
        &format!("{TUNE} --train bare.csv --no-header --text text --label 1"),
        "columns are numbers, from 1",
    );

    std::fs::write(folder.join("named.csv"), format!("y,\"what, then\",text\n{rows}")).unwrap();
    let mut command = fnet(folder, &format!("{TUNE} --train named.csv --label y --text"));
    let output = command.arg("\"what, then\",text").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    fails(
        folder,
        "predict --model run --input named.csv --text text --output p.csv",
        "two texts a row, this names one",
    );
    run(folder, "predict --model run --input named.csv --output p.csv --quiet");

    // The only column with text in it needs no name.
    run(folder, "embed --model model --input rows.csv --output own.npy --quiet");
    fails(folder, "embed --model model --input named.csv --output x.npy", "Name it by --text");
}

#[test]
fn labels_are_merged_counted_or_refused() {
    let place = with_rows();
    let folder = place.path();
    std::fs::write(folder.join("mixed.csv"), "text,label\na,1\nb,0\nc, 1\nd,1.0\ne,0\nf,0.0\n").unwrap();
    let output = fnet(
        folder,
        &format!("{TUNE} --train mixed.csv --dev mixed.csv --text text --label label").replace("--quiet", ""),
    )
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("2 classes, with their rows: 0 (3), 1 (3)"), "{}", said(&output));
    std::fs::write(folder.join("ids.csv"), "text,label\na,u1\nb,u2\nc,u3\nd,u4\ne,u5\n").unwrap();
    fails(
        folder,
        &format!("{TUNE} --train ids.csv --text text --label label"),
        "a label of its own for each of its 5 rows",
    );
    fails(
        folder,
        &format!("{TUNE} --train rows.csv --text label --label label"),
        "--label label: is a text's column",
    );
    fails(
        folder,
        &format!("{TUNE} --train rows.csv --text text,text --label label"),
        "names the column `text` twice",
    );

    let skewed: String = (0..22).map(|i| format!("the {},{}\n", ["fox", "owl"][i / 20], i / 20)).collect();
    std::fs::write(folder.join("skewed.csv"), format!("text,label\n{skewed}")).unwrap();
    let tune = format!("{TUNE} --train skewed.csv --dev skewed.csv --text text --label label --epochs 2");
    let tune = tune.replace("--epochs 1", "");
    let equal = json(&run(folder, &tune));
    let values = equal["values"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(values, ["accuracy", "f1", "macro_f1", "matthews"]);
    let balanced = json(&run(folder, &format!("{tune} --class-weights balanced")));
    let metrics = |folder: &Path| std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let weighted = metrics(folder);
    run(folder, &tune);
    assert_ne!(metrics(folder), weighted, "{balanced}");
    fails(folder, &format!("{tune} --class-weights balanced --regression"), "is for rows of one class each");
}

#[test]
fn numbers_keep_their_digits_and_are_judged_by_their_errors() {
    let place = with_rows();
    let folder = place.path();
    let rows: String = (0..12).map(|i| format!("the fox {i},{}\n", f64::from(i) / 7.0)).collect();
    std::fs::write(folder.join("n.csv"), format!("text,label\n{rows}")).unwrap();
    let results = json(&run(
        folder,
        &format!("{TUNE} --train n.csv --dev n.csv --text text --label label --regression"),
    ));
    let values = results["values"].as_object().unwrap();
    assert_eq!(
        values.keys().cloned().collect::<Vec<_>>(),
        ["pearson", "spearman", "mean_absolute_error", "mean_squared_error"]
    );
    let read = |name: &str| {
        run(folder, &format!("predict --model run --input n.csv --output {name} --quiet"));
        std::fs::read_to_string(folder.join(name)).unwrap()
    };
    let (tsv, csv, jsonl) = (read("p.tsv"), read("p.csv"), read("p.jsonl"));
    let column = |text: &str, by: char| -> Vec<f32> {
        text.lines().skip(1).map(|line| line.split(by).nth(1).unwrap().parse().unwrap()).collect()
    };
    let exact: Vec<f32> = jsonl
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["prediction"].as_f64().unwrap() as f32
        })
        .collect();
    assert_eq!(column(&tsv, '\t'), exact);
    assert_eq!(column(&csv, ','), exact);
    let error: f64 =
        exact.iter().zip(0..).map(|(p, i)| (f64::from(*p) - f64::from(i) / 7.0).abs()).sum::<f64>() / 12.0;
    assert!((error - values["mean_absolute_error"].as_f64().unwrap()).abs() < 1e-4);
}

#[test]
fn flags_that_could_not_be_followed_are_refused() {
    let place = with_rows();
    let folder = place.path();
    run(folder, &format!("{TUNE} --train rows.csv --text text --label label"));
    let rows = "--train rows.csv --text text --label label";
    for (flags, says) in [
        (format!("{TUNE} {rows} --max-length 33"), "--max-length 33: the model's longest sequence is 32"),
        (format!("{TUNE} {rows} --swap-rate 0.5"), "--swap-rate"),
        (format!("{TUNE} {rows} --evaluations 2"), "--evaluations: there is nothing to evaluate on"),
        (format!("{TUNE} {rows} --threads 5000"), "--threads 5000: must be from 1 to 1024"),
        ("evaluate --model run --data /nowhere".into(), "--data: is for GLUE tasks"),
        ("evaluate --model run --batch-tokens 0".into(), "--batch-tokens 0"),
        ("fill-mask --model model --top 0 the[MASK]".into(), "--top 0"),
        (
            format!(
                "pretrain --model model --corpus {} --seq-len 64 --out p",
                sample("corpus/valid.txt").display()
            ),
            "--seq-len 64",
        ),
    ] {
        fails(folder, &flags, says);
    }
}
