//! Adapters: what was trained, stored beside a frozen trunk.

mod common;

use std::path::Path;

use common::{fails, json, run, sample, tiny_pretraining};

fn size(folder: &Path, name: &str) -> u64 {
    let files = std::fs::read_dir(folder.join(name)).unwrap().flatten();
    let sizes = files.filter(|f| f.path().extension().is_some_and(|e| e == "safetensors" || e == "json"));
    sizes.map(|file| file.metadata().unwrap().len()).sum()
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn adapters_of_several_tasks_on_one_trunk() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 3 --mixer fourier --out trunk", tiny_pretraining()));
    let text = |name: &str, task: &str| {
        format!("--model trunk --task {task} --data {} --recipe head-only --epochs 1", sample(name).display())
    };
    for (name, flags, input) in [
        ("sentiment", text("sentiment", "sst2"), Some(sample("sentiment/dev.tsv"))),
        ("similarity", text("similarity", "stsb"), Some(sample("similarity/dev.tsv"))),
        ("xor", "--model trunk --task bit-xor --recipe fpt --steps 30".to_string(), None),
        ("random", "--preset tiny --trunk-seed 7 --task bit-xor --recipe fpt --steps 30".to_string(), None),
    ] {
        let tune = format!("finetune {flags} --learning-rate 1e-3 --quiet --json");
        let whole = json(&run(folder, &format!("{tune} --out {name}-whole")));
        let adapter = json(&run(folder, &format!("{tune} --adapter --out {name}")));
        assert_eq!(adapter["values"], whole["values"], "{name}");
        assert!(
            !folder.join(name).join("model.safetensors").exists()
                && !folder.join(name).join("state").exists()
        );
        let (small, large) = (size(folder, name), size(folder, &format!("{name}-whole")));
        assert!(4 * small < large, "{name}: {small} bytes beside {large}");
        if name == "random" {
            assert!(small < 20_000, "{small} bytes for 2,945 trained values");
        }
        // It answers as the folder that stands alone does, and converts into it.
        let evaluate = |model: &str| json(&run(folder, &format!("evaluate --model {model} --json")));
        assert_eq!(evaluate(name), evaluate(&format!("{name}-whole")), "{name}");
        run(folder, &format!("convert --model {name} --out {name}-merged"));
        let weights = |name: String| read(folder, &format!("{name}/model.safetensors"));
        assert!(weights(format!("{name}-merged")) == weights(format!("{name}-whole")), "{name}");
        run(folder, &format!("inspect {name}"));
        let Some(input) = input else { continue };
        for model in [name.to_string(), format!("{name}-whole")] {
            let arguments =
                format!("predict --model {model} --input {} --output {model}.tsv --quiet", input.display());
            run(folder, &arguments);
        }
        assert!(read(folder, &format!("{name}.tsv")) == read(folder, &format!("{name}-whole.tsv")));
        // A finished run has nothing to continue.
        run(folder, &format!("finetune --resume {name} --quiet"));
    }
    fails(
        folder,
        "finetune --model sentiment --task bit-xor --recipe fpt --adapter --out x",
        "is an adapter",
    );
    // Another trunk in the same place is refused.
    let seed = tiny_pretraining().replace("pretrain ", "pretrain --seed 9 ");
    run(folder, &format!("{seed} --steps 3 --mixer fourier --out trunk --overwrite"));
    fails(folder, "evaluate --model sentiment", "its trunk has changed");
    std::fs::remove_dir_all(folder.join("trunk")).unwrap();
    fails(folder, "evaluate --model sentiment", "trunk");
}

#[test]
fn adapters_survive_a_kill_and_refuse_what_is_broken() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let tune = "finetune --preset tiny --task bit-xor --recipe fpt --steps 40 --evaluations 1 --checkpoint-minutes 0 --quiet";
    run(folder, &format!("{tune} --adapter --out whole"));
    let mut child = common::fnet(folder, &format!("{tune} --adapter --out killed")).spawn().unwrap();
    common::wait_for(|| common::has_logged(&folder.join("killed")));
    let _ = child.kill();
    child.wait().unwrap();
    run(folder, "finetune --resume killed --quiet");
    for file in ["adapter.safetensors", "adapter.json", "config.json"] {
        assert!(read(folder, &format!("killed/{file}")) == read(folder, &format!("whole/{file}")), "{file}");
    }
    fails(
        folder,
        &format!("{} --adapter --out x", tune.replace("fpt", "full")),
        "--adapter: everything is trained",
    );
    fails(folder, &format!("{} --adapter --out x", tune.replace("fpt", "random-frozen")), "not the trunk's");
    fails(folder, &format!("{tune} --adapter --seeds 2 --out x"), "an adapter is of one run");
    let (adapter, info) = (read(folder, "whole/adapter.safetensors"), read(folder, "whole/adapter.json"));
    for cut in [0, 7, 100, adapter.len() - 1] {
        std::fs::write(folder.join("whole/adapter.safetensors"), &adapter[..cut]).unwrap();
        fails(folder, "evaluate --model whole", "adapter.safetensors");
    }
    std::fs::write(folder.join("whole/adapter.safetensors"), &adapter).unwrap();
    let text = String::from_utf8(info).unwrap();
    for (from, to, says) in [
        ("\"seed\": 1", "\"seed\": 2", "belongs to another trunk"),
        ("\"seed\": 1", "\"folder\": \"nowhere\"", "nowhere"),
        ("{", "", "does not describe an adapter"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(folder.join("whole/adapter.json"), text.replacen(from, to, 1)).unwrap();
        fails(folder, "evaluate --model whole", says);
    }
}
