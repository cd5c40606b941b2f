//! Several tasks in one run, on one trunk.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{fails, fnet, has_logged, json, run, tiny_pretraining, wait_for};
use safetensors::SafeTensors;

const TRUNK: &str = "--preset tiny --mixer fourier --recipe fpt --learning-rate 1e-2 --dropout 0 --quiet";

fn task(folder: &Path, name: &str, settings: &str) {
    std::fs::write(folder.join(format!("{name}.toml")), settings).unwrap();
}

/// Exclusive or, and rising and falling series.
fn tasks(folder: &Path) {
    task(folder, "xor", "task = \"bit-xor\"\nbits = 3\nsteps = 60\nevaluations = 2\n");
    let series = |count: usize| -> String {
        let rows = (0..count).map(|i| {
            let value = |step: usize| if i % 2 == 0 { step + i % 3 } else { 9 - step };
            let values: Vec<String> = (0..5 + i % 4).map(|step| value(step).to_string()).collect();
            format!("{}:{}\n", values.join(","), i % 2)
        });
        "@univariate true\n@classLabel true 0 1\n@data\n".to_string() + &rows.collect::<String>()
    };
    std::fs::write(folder.join("train.ts"), series(40)).unwrap();
    std::fs::write(folder.join("dev.ts"), series(12)).unwrap();
    task(
        folder,
        "slopes",
        "train = \"train.ts\"\ndev = \"dev.ts\"\nepochs = 20\nbatch_size = 8\nevaluations = 3\n",
    );
}

fn adapter(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name).join("adapter.safetensors")).unwrap()
}

#[test]
fn each_adapter_is_what_it_would_be_alone() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    tasks(folder);
    let results =
        json(&run(folder, &format!("finetune --tasks xor.toml slopes.toml {TRUNK} --json --out both")));
    assert!(results["values"]["slopes accuracy"].as_f64().unwrap() > 0.9, "{results}");
    assert_eq!(results["steps"].as_f64().unwrap(), 160.0);
    for name in ["xor", "slopes"] {
        run(folder, &format!("finetune --config {name}.toml {TRUNK} --adapter --out alone-{name}"));
        let own = format!("both/{name}");
        assert!(adapter(folder, &own) == adapter(folder, &format!("alone-{name}")), "{name}");
        let info = |name: &str| std::fs::read_to_string(folder.join(name).join("adapter.json")).unwrap();
        assert_eq!(info(&own), info(&format!("alone-{name}")));
    }
    let judged = json(&run(folder, "evaluate --model both/slopes --file dev.ts --json"));
    assert_eq!(judged["accuracy"], results["values"]["slopes accuracy"]);
    let again = json(&run(folder, "finetune --resume both --quiet --json"));
    assert_eq!(again["values"], results["values"]);
}

#[test]
fn shared_norms_are_the_same_in_all_even_after_kills() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    tasks(folder);
    let start = format!("finetune --tasks xor.toml slopes.toml {TRUNK} --share-norms --checkpoint-minutes 0");
    run(folder, &format!("{start} --threads 1 --out whole"));
    let [xor, slopes] = ["whole/xor", "whole/slopes"].map(|name| adapter(folder, name));
    let (a, b) = (SafeTensors::deserialize(&xor).unwrap(), SafeTensors::deserialize(&slopes).unwrap());
    let norms: Vec<String> =
        a.names().iter().filter(|n| n.contains("LayerNorm")).map(|n| n.to_string()).collect();
    assert_eq!(norms.len(), 10, "two in each layer, and that of the input");
    assert!(norms.iter().all(|name| a.tensor(name).unwrap().data() == b.tensor(name).unwrap().data()));

    let mut command = format!("{start} --out killed");
    for _ in 0..3 {
        let mut child = fnet(folder, &command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !has_logged(&folder.join("killed/slopes")) {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(15));
        let _ = child.kill();
        child.wait().unwrap();
        if folder.join("killed/training.toml").exists() {
            command = "finetune --resume killed --quiet".into();
        } else {
            command = format!("{start} --overwrite --out killed");
        }
    }
    run(folder, &format!("{command} --threads 2"));
    for (name, expected) in [("killed/xor", xor), ("killed/slopes", slopes)] {
        assert!(adapter(folder, name) == expected, "{name}");
    }
}

#[test]
fn an_adapter_that_goes_on_keeps_all_that_is_not_the_trunks() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    tasks(folder);
    run(folder, &format!("{} --mixer fourier --steps 2 --out text", tiny_pretraining()));
    // The projection of vectors is neither trained nor the text model's.
    let start =
        "finetune --tasks slopes.toml --model text --recipe norms --quiet --checkpoint-minutes 0 --out both";
    let mut child = fnet(folder, start).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| has_logged(&folder.join("both/slopes")));
    let _ = child.kill();
    child.wait().unwrap();
    if folder.join("both/slopes/state").exists() {
        // As a kill may leave it: a later run must not take this for its own.
        std::fs::copy(folder.join("both/slopes/state/checkpoint.safetensors"), folder.join("old")).unwrap();
    }
    let results = json(&run(folder, "finetune --resume both --quiet --json"));
    let judged = json(&run(folder, "evaluate --model both/slopes --file dev.ts --json"));
    assert_eq!(judged["accuracy"], results["values"]["slopes accuracy"]);
    let expected = adapter(folder, "both/slopes");
    std::fs::write(folder.join("both/checkpoints-staged"), b"").unwrap();
    std::fs::create_dir_all(folder.join("both/slopes/state")).unwrap();
    if folder.join("old").exists() {
        std::fs::copy(folder.join("old"), folder.join("both/slopes/state/next.safetensors")).unwrap();
    }
    run(folder, &format!("{start} --overwrite"));
    assert!(adapter(folder, "both/slopes") == expected, "an earlier run's checkpoint was taken");
    fails(
        folder,
        &start.replace("--out both", "--out text --overwrite"),
        "the pretrained model's own folder",
    );
    assert!(folder.join("text/model.safetensors").exists());
}

#[test]
fn what_cannot_be_on_one_trunk_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    tasks(folder);
    let start = "finetune --out out --tasks xor.toml";
    fails(folder, &format!("{start} slopes.toml --preset tiny --quiet"), "everything is trained");
    fails(folder, &format!("{start} xor.toml {TRUNK}"), "two tasks have this name");
    fails(folder, &format!("{start} missing.toml {TRUNK}"), "missing.toml");
    let head = TRUNK.replace("fpt", "head-only");
    fails(folder, &format!("{start} slopes.toml {head} --share-norms"), "no norm that all tasks train");
    task(folder, "other", "task = \"bit-xor\"\nmixer = \"shift\"\n");
    let mixed = TRUNK.replace(" --mixer fourier", "");
    fails(folder, &format!("{start} other.toml {mixed}"), "the adapter's layers are not the trunk's");
    task(folder, "wrong", "tusk = 3\n");
    fails(folder, &format!("{start} wrong.toml {TRUNK}"), "unknown setting `tusk`");
    assert!(!folder.join("out/xor/training.toml").exists());
}
