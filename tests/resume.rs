//! The same bytes: with any number of threads, after Ctrl-C, and after really killing the process.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{fnet, has_logged, run, sample, tiny_pretraining, wait_for};

fn weights(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name).join("model.safetensors")).unwrap()
}

fn metrics(folder: &Path, name: &str) -> Vec<(u64, f64)> {
    let text = std::fs::read_to_string(folder.join(name).join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    rows.filter_map(|m| Some((m["step"].as_u64()?, m["loss"].as_f64()?))).collect()
}

fn lines(folder: &Path, name: &str) -> usize {
    std::fs::read_to_string(folder.join(name).join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Starts `fnet`, and ends it by a signal when the run's log has grown by some steps. Returns whether it was still
/// running.
fn interrupt(folder: &Path, arguments: &str, name: &str, steps: usize, signal: &str) -> bool {
    let before = lines(folder, name);
    let mut child = fnet(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let has_ended = loop {
        if child.try_wait().unwrap().is_some() {
            break true;
        }
        if lines(folder, name) >= before + steps {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !has_ended {
        // It may have ended meanwhile.
        let _ = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
    }
    child.wait().unwrap();
    !has_ended
}

#[test]
fn pretraining_is_the_same_at_any_threads_and_after_kills() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let settings = format!(
        "{} --steps 50 --accumulate 2 --batch-size 16",
        tiny_pretraining().replace("--batch-size 4", "")
    );
    run(folder, &format!("{settings} --threads 1 --out one"));
    run(folder, &format!("{settings} --threads 2 --out two"));
    let expected = weights(folder, "one");
    assert!(weights(folder, "two") == expected, "threads change the weights");
    run(folder, &format!("{settings} --seed 9 --out other"));
    assert!(weights(folder, "other") != expected, "the seed changes nothing");

    // Killed again and again, at whatever step that is; checkpoints after every step.
    let start = format!("{settings} --checkpoint-minutes 0 --out killed");
    assert!(interrupt(folder, &start, "killed", 3, "-KILL"));
    for steps in [1, 9, 4] {
        assert!(interrupt(folder, "pretrain --resume killed --quiet", "killed", steps, "-KILL"));
    }
    run(folder, "pretrain --resume killed --threads 2 --quiet");
    assert!(weights(folder, "killed") == expected, "kills change the weights");
    assert_eq!(metrics(folder, "killed"), metrics(folder, "one"), "kills change the log");
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let output = {
        let child = fnet(folder, &format!("{} --steps 100000 --out run", tiny_pretraining()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(|| has_logged(&folder.join("run")));
        let id = child.id().to_string();
        std::process::Command::new("kill").args(["-INT", &id]).status().unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("go on with: fnet pretrain --resume run"), "{stderr}");
    let steps = metrics(folder, "run").len();
    assert!(steps > 0);
    // It resumes from that very step.
    interrupt(folder, "pretrain --resume run --quiet", "run", 1, "-INT");
    let found: Vec<u64> = metrics(folder, "run").iter().map(|m| m.0).collect();
    assert!(found.len() > steps);
    assert!(found.iter().enumerate().all(|(i, step)| *step == i as u64 + 1));
}

#[test]
fn fine_tuning_is_the_same_after_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    let settings = format!(
        "finetune --model model --task cola --data {} --epochs 2 --quiet --checkpoint-minutes 0",
        sample("acceptability").display()
    );
    run(folder, &format!("{settings} --threads 1 --out whole"));
    assert!(interrupt(folder, &format!("{settings} --out killed"), "killed", 5, "-KILL"));
    run(folder, "finetune --resume killed --threads 2 --quiet");
    assert!(weights(folder, "killed") == weights(folder, "whole"));
}

#[test]
fn bfloat16_is_the_same_at_any_threads_after_a_kill_and_recomputed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let settings = format!("{} --steps 30", tiny_pretraining());
    run(folder, &format!("{settings} --out float"));
    let settings = format!("{settings} --precision bf16");
    run(folder, &format!("{settings} --threads 1 --out one"));
    let expected = weights(folder, "one");
    assert!(weights(folder, "float") != expected, "--precision changes nothing");
    let written = std::fs::read_to_string(folder.join("one/training.toml")).unwrap();
    assert!(written.contains("precision = \"bf16\"") && written.contains("products = "), "{written}");
    run(folder, &format!("{settings} --threads 2 --recompute --out again"));
    assert!(weights(folder, "again") == expected, "recomputing or threads change the weights");
    let start = format!("{settings} --checkpoint-minutes 0 --out killed");
    assert!(interrupt(folder, &start, "killed", 4, "-KILL"));
    run(folder, "pretrain --resume killed --quiet");
    assert!(weights(folder, "killed") == expected, "a kill changes the weights");
}
