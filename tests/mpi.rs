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

fn weights(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name).join("model.safetensors")).unwrap()
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
        run(folder, &format!("{arguments} --leaves 8 --out {name}-1 --quiet"));
        for processes in [2, 3, 4, 8] {
            let output = done(processes, folder, &format!("{arguments} --out {name}-{processes} --json"));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(
                said.lines().filter(|line| line.starts_with('{')).count(),
                1,
                "only the leader speaks: {said}"
            );
            let same =
                weights(folder, &format!("{name}-1")) == weights(folder, &format!("{name}-{processes}"));
            assert!(same, "{name} on {processes}");
        }
    }
    done(2, folder, &format!("{} --exchange bf16 --out rounded", pretraining(6)));
    // All stop by one clock.
    let timed = pretraining(1).replace("--steps 1", "--minutes 0.03");
    done(3, folder, &format!("{timed} --out timed"));
    assert!(weights(folder, "rounded") != weights(folder, "pretrain-f32-1"));
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
    fails(2, "finetune --task bit-xor --preset tiny --steps 2 --out c", "signals");
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
