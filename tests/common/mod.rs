//! Shared by the tests that run the program.
#![allow(dead_code)] // each test file uses a part of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A shipped sample file.
pub fn sample(file: &str) -> PathBuf {
    root().join("data").join(file)
}

/// `fnet` with these arguments, to be run in `folder`.
pub fn fnet(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnet"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

/// Runs `fnet`; it must succeed.
pub fn run(folder: &Path, arguments: &str) -> Output {
    let output = fnet(folder, arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "fnet {arguments}\n{stderr}");
    output
}

/// Runs `fnet`; it must fail with one line that says this.
pub fn fails(folder: &Path, arguments: &str, says: &str) {
    let output = fnet(folder, arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().last().unwrap_or_default();
    assert!(!output.status.success(), "fnet {arguments} succeeded");
    assert_eq!(output.status.code(), Some(1), "fnet {arguments}: {stderr}");
    assert!(line.starts_with("error: ") && line.contains(says), "fnet {arguments}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// Waits until something holds, for half a minute at most.
pub fn wait_for(is_so: impl Fn() -> bool) {
    for _ in 0..1_500 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain");
}

/// Whether a run's log has its first lines.
pub fn has_logged(run: &Path) -> bool {
    std::fs::metadata(run.join("metrics.jsonl")).is_ok_and(|log| log.len() > 0)
}

/// What `fnet` printed on standard output, as JSON.
pub fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Settings of a pretraining that takes a second or two.
pub fn tiny_pretraining() -> String {
    format!(
        "pretrain --corpus {} --vocab-size 150 --preset tiny --seq-len 32 --batch-size 4 --quiet",
        sample("corpus/valid.txt").display()
    )
}
