//! The examples of the library inside other programs, run as a user would.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{run, tiny_pretraining};
use serde_json::Value;

/// An example of a crate: `cargo test` has built it next to this test; a test on its own builds it itself.
fn example(package: &str, name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
        let built = Command::new(cargo).args(["build", "-p", package, "--example", name]).status().unwrap();
        assert!(built.success());
    }
    path
}

const ANSWER_LINES: (&str, &str) = ("fnet-train", "answer_lines");

fn answers(
    (package, example_name): (&str, &str),
    arguments: &[&str],
    folder: &Path,
    lines: &str,
) -> Vec<Value> {
    let mut child = Command::new(example(package, example_name))
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_are_answered_and_models_trained_from_code() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 20 --out model", tiny_pretraining()));

    let masks = answers(ANSWER_LINES, &["model"], folder, "the [MASK] saw the [MASK]\nno mask\n\n");
    let counts: Vec<usize> = masks.iter().map(|a| a["tokens"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 0, 0]);
    let vectors = answers(ANSWER_LINES, &["--embed", "model"], folder, "the fox\nthe fox\n");
    assert_eq!(vectors[0]["vector"].as_array().unwrap().len(), 128);
    assert_eq!(vectors[0], vectors[1]);

    let trained = Command::new(example("fnet-train", "fine_tune"))
        .current_dir(folder)
        .args(["model", "tuned"])
        .output()
        .unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let classes = answers(ANSWER_LINES, &["tuned"], folder, "a cold day\nso warm\n");
    assert_eq!((&classes[0]["label"], &classes[1]["label"]), (&"cold".into(), &"warm".into()));
}

#[test]
fn a_mixer_of_ones_own_learns() {
    let output = Command::new(example("fnet-encoder", "own_mixer")).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let losses = text.lines().filter_map(|line| line.rsplit("loss ").next()?.trim().parse::<f64>().ok());
    let losses: Vec<f64> = losses.collect();
    assert!(losses.len() > 1 && losses[losses.len() - 1] < 0.5 * losses[0], "{text}");
}

#[test]
fn logits_and_tokens_of_the_shipped_model() {
    let mini = common::root().join("models/mini").display().to_string();
    let logits = ("fnet-encoder", "logits");
    let lines = "{\"tokens\": [2, 17, 3], \"segments\": [0, 0, 0]}\n";
    let found = answers(logits, &[&mini], Path::new("."), lines);
    let length = |key: &str| found[0][key].as_array().unwrap().len();
    assert_eq!((length("hidden"), length("tokens"), length("classes")), (3 * 256, 3 * 8_192, 0));
    let encoded = answers(("fnet-train", "encode"), &[&mini], Path::new("."), "\"a fine day\"\n");
    assert!(encoded[0]["tokens"].as_array().unwrap().len() >= 5);
}
