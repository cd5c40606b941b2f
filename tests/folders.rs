//! Run folders: used by one program at a time, whole after a kill, never written over what is being read.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{fails, fnet, run, sample, tiny_pretraining, wait_for};

fn start(folder: &Path, arguments: &str) -> Child {
    fnet(folder, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Names in a folder and below that a finished or resumed run must not have.
fn left_overs(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with("part") || [".fnet-new", ".fnet-ready", ".fnet-lock"].contains(&name.as_str()) {
            found.push(name);
        } else if entry.path().is_dir() {
            found.extend(left_overs(&entry.path()));
        }
    }
    found
}

#[test]
fn a_folder_is_of_one_run_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let usual = tiny_pretraining();
    let mut first = start(folder, &format!("{usual} --steps 100000 --out run"));
    wait_for(|| folder.join("run/metrics.jsonl").exists());
    let says = format!("run: is in use by process {}", first.id());
    fails(folder, &format!("{usual} --steps 2 --out run"), &says);
    fails(folder, &format!("{usual} --steps 2 --out run --overwrite"), &says);
    fails(folder, "pretrain --resume run", &says);
    fails(folder, "convert --out run --overwrite", &says);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(folder.join("run/.fnet-lock").exists(), "of a run that was killed");
    run(folder, &format!("{usual} --steps 2 --out run --overwrite"));
    assert!(left_overs(folder).is_empty(), "{:?}", left_overs(folder));
}

#[test]
fn what_a_kill_left_is_removed_or_finished() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let usual = tiny_pretraining();
    run(folder, &format!("{usual} --steps 4 --out old"));
    run(folder, &format!("{usual} --steps 6 --out new"));
    // Killed while checkpoints and models were written.
    for name in
        ["model.safetensors.fnet-part", "config.json.fnet-part", "state/checkpoint.safetensors.fnet-part"]
    {
        std::fs::write(folder.join("old").join(name), "half").unwrap();
    }
    std::fs::create_dir(folder.join("old/.fnet-new")).unwrap();
    std::fs::write(folder.join("old/mine.part"), "of another program").unwrap();
    run(folder, "pretrain --resume old");
    std::fs::remove_file(folder.join("old/mine.part")).unwrap();
    assert!(left_overs(folder).is_empty(), "{:?}", left_overs(folder));

    // Killed while a new run was replacing an old one: everything is ready, some of it in its place.
    let read = |run: &str, file: &str| std::fs::read(folder.join(run).join(file)).unwrap();
    std::fs::create_dir_all(folder.join("old/.fnet-ready/state")).unwrap();
    let files = [
        "state/checkpoint.safetensors",
        "tokenizer.json",
        "config.json",
        "model.safetensors",
        "training.toml",
    ];
    std::fs::write(folder.join("old/.fnet-ready/files"), files.join("\n")).unwrap();
    for file in files {
        std::fs::copy(folder.join("new").join(file), folder.join("old/.fnet-ready").join(file)).unwrap();
    }
    std::fs::rename(folder.join("old/.fnet-ready/tokenizer.json"), folder.join("old/tokenizer.json"))
        .unwrap();
    std::fs::remove_file(folder.join("old/training.toml")).unwrap();
    run(folder, "pretrain --resume old");
    for file in ["model.safetensors", "training.toml"] {
        assert!(read("old", file) == read("new", file), "{file}");
    }
    assert!(left_overs(folder).is_empty(), "{:?}", left_overs(folder));
}

#[test]
fn what_a_new_model_lacks_is_removed_with_the_old_one() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --mixer shift --out run", tiny_pretraining()));
    run(folder, &format!("{} --steps 2 --mixer fourier --out plain", tiny_pretraining()));
    let code = folder.join("run/modeling_fnet_mixing.py");
    assert!(code.exists() && !folder.join("plain/modeling_fnet_mixing.py").exists());
    run(folder, "convert --model plain --out run --overwrite");
    for name in ["modeling_fnet_mixing.py", "training.toml", "metrics.jsonl", "state/checkpoint.safetensors"]
    {
        assert!(!folder.join("run").join(name).exists(), "{name}");
    }
    let read = |run: &str| std::fs::read(folder.join(run).join("model.safetensors")).unwrap();
    assert!(read("run") == read("plain") && left_overs(folder).is_empty());
    // A model that cannot be opened replaces nothing.
    std::fs::write(folder.join("plain/tokenizer.json"), "{}").unwrap();
    fails(folder, "convert --model plain --out run --overwrite", "tokenizer.json");
    run(folder, "fill-mask --model run the[MASK]");
}

#[test]
fn what_is_read_is_not_written_over() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    std::fs::write(folder.join("rows.csv"), "text,label\na,1\nb,0\n").unwrap();
    run(folder, "finetune --model model --train rows.csv --text text --label label --epochs 1 --out run");
    let before = std::fs::read(folder.join("rows.csv")).unwrap();
    let mut names = vec!["rows.csv".to_string(), "./model/../rows.csv".into()];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.join("rows.csv"), folder.join("link.csv")).unwrap();
        std::os::unix::fs::symlink(folder, folder.join("model/up")).unwrap();
        names.extend(["link.csv".into(), "model/up/rows.csv".into()]);
    }
    for name in &names {
        fails(
            folder,
            &format!("predict --model run --input rows.csv --output {name} --overwrite"),
            "is the input",
        );
        fails(
            folder,
            &format!("predict --model run --input {name} --output rows.csv --overwrite"),
            "is the input",
        );
    }
    let corpus = sample("corpus/valid.txt");
    std::fs::copy(&corpus, folder.join("words.txt")).unwrap();
    fails(
        folder,
        "tokenizer --corpus words.txt --vocab-size 100 --out words.txt --overwrite",
        "is the input",
    );
    // A run's own files as the rows of another run in its place.
    std::fs::rename(folder.join("run/results.json"), folder.join("run/kept")).unwrap();
    std::fs::write(
        folder.join("run/metrics.jsonl"),
        "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0}\n",
    )
    .unwrap();
    let tune =
        "finetune --model model --train run/metrics.jsonl --text text --label label --out run --overwrite";
    fails(folder, tune, "which would replace it");
    assert!(std::fs::read(folder.join("rows.csv")).unwrap() == before);
}

#[test]
fn a_run_whose_rows_changed_is_not_gone_on_with() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    let (rows, dev) = ("text,label\nthe fox,1\nthe owl,0\n", "text,label\na fox,1\nan owl,0\n");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("rows.csv", rows);
    write("dev.csv", dev);
    run(
        folder,
        "finetune --model model --train rows.csv --dev dev.csv --text text --label label --epochs 2 --out run",
    );
    for (name, kept, changed) in [
        ("rows.csv", rows, rows.replace("fox,1", "owl,1")),
        ("rows.csv", rows, rows.replace("fox,1\nthe owl,0", "fox,0\nthe owl,1")),
        ("dev.csv", dev, dev.replace("a fox,1", "a owl,1")),
    ] {
        write(name, &changed);
        fails(folder, "finetune --resume run", "training data is not what it was");
        write(name, kept);
    }
    run(folder, "finetune --resume run");
}

#[cfg(unix)]
#[test]
fn a_stopped_quickstart_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let metrics = folder.join("quickstart/pretrained/metrics.jsonl");
    let lines = || std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let stopped_after = |more: usize| {
        let mut child = start(folder, "quickstart --threads 1");
        let before = lines();
        wait_for(|| lines() > before + more);
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        lines()
    };
    let first = stopped_after(20);
    assert!(stopped_after(20) > first);
    fails(folder, "quickstart --out .", "holds other files");
}
