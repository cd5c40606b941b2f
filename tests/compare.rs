//! `fnet compare`, and the flags of mixers and recipes.

mod common;

use std::path::Path;

use common::{fails, fnet, has_logged, json, run, sample, tiny_pretraining, wait_for};
use serde_json::Value;

fn command(tasks: &str) -> String {
    format!(
        "compare --corpus {} {tasks} --mixers fourier,none --steps 6 --preset tiny --vocab-size 150 --seq-len 32 \
         --batch-size 4 --longest 128 --out compared",
        sample("corpus/valid.txt").display()
    )
}

fn modified(path: &Path) -> std::time::SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn a_comparison_goes_on_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let (folder, out) = (place.path(), place.path().join("compared"));
    let command = command(&format!("--seeds 2 --epochs 0.1 --task sst2={}", sample("sentiment").display()));
    let first = json(&run(folder, &format!("{command} --json")));
    let entries = first["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    for (entry, name) in entries.iter().zip(["fourier", "none"]) {
        assert_eq!(entry["name"], name);
        assert_eq!(entry["pretraining"].as_array().unwrap().len(), 2);
        assert_eq!(entry["tasks"]["sst2"].as_array().unwrap().len(), 2);
        assert!(!entry["curve"].as_array().unwrap().is_empty());
        for key in ["flops_per_token", "peak_memory_bytes", "tokens_per_second", "trained_parameters"] {
            assert!(entry["pretraining"][0][key].as_f64().unwrap() > 0.0, "{key}");
        }
    }
    assert_eq!(first["speed"].as_array().unwrap().len(), 2);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Pareto front") && page.contains("fourier") && !page.contains("<script"));
    assert_eq!(std::fs::read_to_string(out.join("results.csv")).unwrap().lines().count(), 3);

    // As if stopped before the last task's run: only that one is repeated, with the same result.
    let gone = out.join("runs/none/seed-2/sst2");
    std::fs::remove_dir_all(&gone).unwrap();
    std::fs::remove_file(out.join("results.json")).unwrap();
    let kept = out.join("runs/none/seed-2/pretrained/model.safetensors");
    let before = modified(&kept);
    let again = json(&run(folder, &format!("{command} --json")));
    assert!(gone.join("results.json").exists() && modified(&kept) == before);
    assert_eq!(again["entries"][1]["tasks"], first["entries"][1]["tasks"]);

    fails(folder, &command.replace("--steps 6", "--steps 7"), "was begun with other settings");
    run(folder, &format!("{command} --threads 1"));
}

#[test]
fn minutes_become_steps_that_stay() {
    let place = tempfile::tempdir().unwrap();
    let (folder, out) = (place.path(), place.path().join("compared"));
    let command = command("").replace("--steps 6", "--minutes 0.002 --precision bf16 --products library");
    let first = json(&run(folder, &format!("{command} --json")));
    let steps: Value = serde_json::from_slice(&std::fs::read(out.join("steps.json")).unwrap()).unwrap();
    for entry in first["entries"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        assert_eq!(entry["pretraining"][0]["steps"], steps[name], "{name}");
    }
    assert!(!out.join("trials").exists());
    let settings = std::fs::read_to_string(out.join("runs/none/seed-1/pretrained/training.toml")).unwrap();
    assert!(
        settings.contains("precision = \"bf16\"") && settings.contains("products = \"library\""),
        "{settings}"
    );
    // Run again after a loss, it has the same steps, and so the same bytes.
    let weights = out.join("runs/none/seed-1/pretrained/model.safetensors");
    let before = std::fs::read(&weights).unwrap();
    std::fs::remove_dir_all(out.join("runs/none")).unwrap();
    run(folder, &command);
    assert!(std::fs::read(&weights).unwrap() == before);
}

#[test]
fn stopped_it_writes_a_checkpoint_and_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let command = command("").replace("--steps 6", "--steps 3000").replace("fourier,none", "fourier");
    let child = fnet(folder, &command).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let run_folder = folder.join("compared/runs/fourier/seed-1/pretrained");
    wait_for(|| has_logged(&run_folder));
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("go on with: the same command"), "{stderr}");
    let rows = std::fs::read_to_string(run_folder.join("metrics.jsonl")).unwrap().lines().count();
    assert!(rows > 0, "the child wrote what it had");
    assert!(!run_folder.join("results.json").exists());
}

#[test]
fn a_failed_run_does_not_lose_the_others() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let broken = folder.join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("train.tsv"), "sentence\tlabel\na fine day\t1\na bad day\tseven\n").unwrap();
    std::fs::copy(sample("sentiment/dev.tsv"), broken.join("dev.tsv")).unwrap();
    let tasks = format!(
        "--epochs 0.1 --task cola={} --task sst2={}",
        sample("acceptability").display(),
        broken.display()
    );
    fails(folder, &command(&tasks), "2 of its runs failed");
    let results = std::fs::read_to_string(folder.join("compared/results.json")).unwrap();
    let results: Value = serde_json::from_str(&results).unwrap();
    for entry in results["entries"].as_array().unwrap() {
        assert_eq!(entry["tasks"]["cola"].as_array().unwrap().len(), 1);
        let failure = entry["failures"][0].as_str().unwrap();
        assert!(failure.contains("train.tsv:3: unknown label `seven`"), "{failure}");
    }
    // Once fixed, the same command runs what failed.
    std::fs::copy(sample("sentiment/train.tsv"), broken.join("train.tsv")).unwrap();
    run(folder, &command(&tasks));
}

#[test]
fn bad_flags_get_one_clear_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let pretrain = format!("{} --steps 1 --out x", tiny_pretraining());
    for (flags, says) in [
        ("--mixer fuorier", "mixer `fuorier` is unknown; known are fourier"),
        ("--mixers fourier", "mixers lists 1 layers, num_hidden_layers is 2"),
        ("--mixer attention-top-3", "the count must be from 0 to 2"),
        ("--mixer attention --attention-heads 3", "3 attention heads do not divide the hidden size 128"),
        ("--mixer reservoir --leak 0", "leak is 0"),
        ("--attention-heads 2", "no layer has the mixer attention"),
        ("--mixer fourier --leak 0.3", "no layer has the mixer reservoir"),
        ("--freeze nothing", "no parameter has such a name"),
        ("--freeze *", "nothing is left to be trained"),
    ] {
        fails(folder, &format!("{pretrain} {flags}"), says);
    }
    let compare = |flags: &str| format!("compare --out y {flags}");
    let corpus = format!("--corpus {}", sample("corpus/valid.txt").display());
    fails(folder, &compare(""), "--corpus: name one or more text files, or give --quick");
    fails(folder, &compare(&corpus), "give each entry a budget");
    fails(folder, &compare(&format!("{corpus} --minutes 0")), "--minutes 0");
    fails(folder, &compare(&format!("{corpus} --steps 1 --mixers fourier,x")), "mixer `x` is unknown");
    fails(folder, &compare(&format!("{corpus} --steps 1 --task sst2")), "give TASK=DIR");
    fails(folder, &compare(&format!("{corpus} --steps 1 --task x=y")), "known tasks are");
    let task = format!("--task sst2={}", sample("sentiment").display());
    fails(folder, &compare(&format!("{corpus} --steps 1 {task} {task}")), "--task sst2: is given twice");
    fails(folder, &compare(&format!("{corpus} --steps 1 {task} --epochs 0")), "--epochs 0");
    fails(folder, "compare --out y --quick --mixers x", "mixer `x` is unknown");
    assert!(!folder.join("y/compare.toml").exists());
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/notes.txt"), "mine").unwrap();
    fails(folder, &format!("compare --out full {corpus} --steps 1"), "holds other files");
    assert!(!fnet(folder, "compare").output().unwrap().status.success());
}

#[test]
fn recipes_leave_what_is_frozen_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 3 --mixer mlp --out model", tiny_pretraining()));
    let data = sample("sentiment").display().to_string();
    let tune = |flags: &str, out: &str| {
        let flags = format!("--epochs 0.1 --quiet --json {flags} --out {out}");
        json(&run(folder, &format!("finetune --model model --task sst2 --data {data} {flags}")))
    };
    let tensors = |name: &str| -> Vec<(String, Vec<u8>)> {
        let bytes = std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
    };
    let before = tensors("model");
    for (flags, trained) in [
        ("--recipe head-only", &["classifier", "pooler"][..]),
        ("--recipe norms-and-embeddings", &["classifier", "pooler", "LayerNorm", "embeddings"]),
        ("--train-parts mixing,head", &["classifier", "pooler", "mixing"]),
    ] {
        let out = flags.replace([' ', ',', '-'], "");
        let results = tune(flags, &out);
        assert!(results["trained_parameters"].as_u64() < results["parameters"].as_u64());
        for (name, bytes) in tensors(&out) {
            let Some((_, old)) = before.iter().find(|t| t.0 == name) else { continue };
            assert_eq!(bytes != *old, trained.iter().any(|part| name.contains(part)), "{flags}: {name}");
        }
    }
    tune("--recipe random-frozen", "random");
    for (name, bytes) in tensors("random") {
        let Some((_, old)) = before.iter().find(|t| t.0 == name) else { continue };
        // Frozen at other random values than the pretrained ones.
        assert_ne!(bytes, *old, "{name}");
    }
}
