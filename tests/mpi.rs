//! Several processes under `mpirun` have the bytes of one, also after stops and kills.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{run, sample};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `fnet` on so many processes of one thread.
fn on(processes: usize, folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new("mpirun");
    // OpenMPI asks before it runs more processes than there are cores, and as root; MPICH does not know these.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.current_dir(folder).arg("-n").arg(processes.to_string()).arg(env!("CARGO_BIN_EXE_fnet"));
    command.args(arguments.split_whitespace()).args(["--threads", "1", "--quiet"]);
    command
}

fn done(processes: usize, folder: &Path, arguments: &str) -> Output {
    let output = on(processes, folder, arguments).output().expect("mpirun");
    assert!(output.status.success(), "{processes}: {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

const WEIGHTS: &str = "model.safetensors";

fn weights(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name).join(WEIGHTS)).unwrap()
}

fn pretraining(steps: u64) -> String {
    let [train, valid] = ["train.txt", "valid.txt"].map(|file| sample("corpus").join(file));
    format!(
        "pretrain --corpus {} --valid {} --preset tiny --vocab-size 500 --seq-len 48 --steps {steps} --evaluations 2",
        train.display(),
        valid.display()
    )
}

#[test]
fn any_number_of_processes_has_the_bytes_of_one() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let rows: String =
        (0..120).map(|i| format!("{},{}\n", ["so good", "so bad day"][i % 2], i % 2)).collect();
    std::fs::write(folder.join("rows.csv"), format!("text,label\n{rows}")).unwrap();
    let finetuning =
        "finetune --train rows.csv --dev rows.csv --text text --label label --steps 4 --evaluations 2";
    for (name, arguments) in [
        ("pretrain-f32", pretraining(6)),
        ("pretrain-bf16", format!("{} --precision bf16 --accumulate 2", pretraining(3))),
        ("finetune", finetuning.into()),
        ("finetune-bf16", format!("{finetuning} --precision bf16 --dropout 0.2")),
    ] {
        is_the_same_on(&[2, 3, 4, 8], folder, name, &arguments, &[WEIGHTS]);
    }
    done(2, folder, &format!("{} --exchange bf16 --out rounded", pretraining(6)));
    // All stop by one clock.
    let timed = pretraining(1).replace("--steps 1", "--minutes 0.03");
    done(3, folder, &format!("{timed} --out timed"));
    assert!(weights(folder, "rounded") != weights(folder, "pretrain-f32-1"));
}

#[test]
fn every_way_of_fine_tuning_has_the_bytes_of_one() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let rows: String = (0..60).map(|i| format!("{},{}\n", ["so good", "so bad day"][i % 2], i % 2)).collect();
    std::fs::write(folder.join("rows.csv"), format!("text,label\n{rows}")).unwrap();
    let pairs: String = (0..40).map(|i| format!("good day {i},nice day {i}\n")).collect();
    std::fs::write(folder.join("pairs.csv"), format!("one,other\n{pairs}")).unwrap();
    let scored: String = (0..40).map(|i| format!("day {i},day {},{}\n", i % 7, i % 6)).collect();
    std::fs::write(folder.join("scored.csv"), format!("one,other,score\n{scored}")).unwrap();
    for name in ["first", "second"] {
        let settings = "train = 'rows.csv'\ndev = 'rows.csv'\ntext = ['text']\nlabel = 'label'\n";
        let training = "recipe = 'norms'\nsteps = 3\nbatch_size = 12\nleaves = 8\n";
        std::fs::write(folder.join(format!("{name}.toml")), format!("{settings}{training}")).unwrap();
    }
    let signals = "finetune --preset tiny --steps 4 --batch-size 24 --dropout 0.1";
    let similarity = "finetune --objective similarity --held-out 0.2 --steps 3 --batch-size 12";
    let adapters = ["first", "second"].map(|name| format!("{name}/adapter.safetensors"));
    for (name, arguments, files) in [
        ("bits", format!("{signals} --task bit-xor"), vec![WEIGHTS.into()]),
        ("standardised", format!("{signals} --task mnist-1d --accumulate 2"), vec![WEIGHTS.into()]),
        ("head", format!("{signals} --task mnist-1d --recipe head-only"), vec![WEIGHTS.into()]),
        (
            "ridge",
            format!("{signals} --task mnist-1d --recipe ridge")
                .replace("--steps 4 --batch-size 24 --dropout 0.1", ""),
            vec![WEIGHTS.into()],
        ),
        ("vectors", format!("{similarity} --train pairs.csv scored.csv"), vec![WEIGHTS.into()]),
        ("passes", format!("{similarity} --train pairs.csv --pass-tokens 16"), vec![WEIGHTS.into()]),
        (
            "seeds",
            "finetune --train rows.csv --dev rows.csv --text text --label label --steps 2 --seeds 2".into(),
            vec![WEIGHTS.into(), format!("seed-1/{WEIGHTS}"), format!("seed-2/{WEIGHTS}")],
        ),
        ("tasks", "finetune --tasks first.toml second.toml --share-norms".into(), adapters.into()),
    ] {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        is_the_same_on(&[2, 3], folder, name, &arguments, &files);
    }
}

/// Whether so many processes write the bytes of one, and only the leader speaks.
fn is_the_same_on(counts: &[usize], folder: &Path, name: &str, arguments: &str, files: &[&str]) {
    run(folder, &format!("{arguments} --leaves 8 --out {name}-1 --quiet"));
    for processes in counts {
        let output = done(*processes, folder, &format!("{arguments} --out {name}-{processes} --json"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.lines().filter(|line| line.starts_with('{')).count(), 1, "{name}: {said}");
        for file in files {
            let bytes = |out: String| std::fs::read(folder.join(out).join(file)).expect(file);
            let same = bytes(format!("{name}-1")) == bytes(format!("{name}-{processes}"));
            assert!(same, "{file} of {name} on {processes}");
        }
    }
}

/// The processes of a run, without `mpirun` itself.
fn ranks(out: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let number = |entry: std::fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let is_ours = words.next()?.ends_with(b"fnet") && words.any(|word| word == out.as_bytes());
        is_ours.then_some(id)
    };
    all.filter_map(number).collect()
}

#[test]
fn a_run_survives_kills_of_any_process() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let arguments = format!("{} --checkpoint-minutes 0.002", pretraining(120));
    run(folder, &format!("{arguments} --leaves 8 --out whole --quiet"));
    let out = folder.join("killed").display().to_string();
    let (mut random, mut kills) = (ChaCha8Rng::seed_from_u64(1), 0);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(600), "no end after {kills} kills");
        let stands = folder.join("killed/training.toml").exists();
        let arguments =
            if stands { format!("pretrain --resume {out}") } else { format!("{arguments} --out {out}") };
        let processes = random.random_range(2..5);
        let mut starter = on(processes, folder, &arguments);
        let mut starter = starter.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mpirun");
        let wait = Duration::from_millis(random.random_range(200..1_800));
        if kills < 20 {
            std::thread::sleep(wait);
            if let Some(victim) = ranks(&out).get(random.random_range(0..processes)) {
                let signal = if random.random_bool(0.2) { "-TERM" } else { "-KILL" };
                let _ = Command::new("kill").args([signal, &victim.to_string()]).status();
                kills += 1;
            }
        }
        let ended = starter.wait().unwrap();
        assert!(ranks(&out).is_empty(), "a process was left behind");
        if ended.success() {
            break;
        }
    }
    assert!(kills > 3, "the run came to its end before it could be killed: {kills}");
    assert!(weights(folder, "whole") == weights(folder, "killed"), "after {kills} kills");
}

#[test]
fn what_is_wrong_is_said_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let fails = |processes, arguments: &str, says: &str| {
        let output = on(processes, folder, arguments).output().expect("mpirun");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments} succeeded");
        assert_eq!(error.matches(says).count(), 1, "{arguments}: {error}");
    };
    fails(2, "pretrain --corpus nowhere.txt --out a", "nowhere.txt");
    fails(2, &format!("{} --leaves 3 --out a", pretraining(3)), "power of two");
    fails(4, &format!("{} --leaves 2 --out a", pretraining(3)), "4 processes");
    let mut other = Command::new("mpirun");
    let output = other.args(["-n", "2", env!("CARGO_BIN_EXE_fnet"), "inspect"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("only pretrain and finetune"));
    let mut mixed = on(1, folder, &format!("{} --out b", pretraining(3)));
    mixed.arg(":").arg("-n").arg("1").arg(env!("CARGO_BIN_EXE_fnet"));
    mixed.args(pretraining(4).split_whitespace()).args(["--out", "b", "--quiet"]);
    let output = mixed.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("other settings"));
}
