//! The examples of the library inside other programs, run as a user would.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{run, tiny_pretraining};
use serde_json::Value;

/// An example: `cargo test` has built it next to this test; a test on its own builds it itself.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    if !path.exists() {
        let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
        let built =
            Command::new(cargo).args(["build", "-p", "fnet-train", "--example", name]).status().unwrap();
        assert!(built.success());
    }
    path
}

fn answers(example_name: &str, arguments: &[&str], folder: &Path, lines: &str) -> Vec<Value> {
    let mut child = Command::new(example(example_name))
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

    let masks = answers("answer_lines", &["model"], folder, "the [MASK] saw the [MASK]\nno mask\n\n");
    let counts: Vec<usize> = masks.iter().map(|a| a["tokens"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 0, 0]);
    let vectors = answers("answer_lines", &["--embed", "model"], folder, "the fox\nthe fox\n");
    assert_eq!(vectors[0]["vector"].as_array().unwrap().len(), 128);
    assert_eq!(vectors[0], vectors[1]);

    let trained =
        Command::new(example("fine_tune")).current_dir(folder).args(["model", "tuned"]).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let classes = answers("answer_lines", &["tuned"], folder, "a cold day\nso warm\n");
    assert_eq!((&classes[0]["label"], &classes[1]["label"]), (&"cold".into(), &"warm".into()));
}
