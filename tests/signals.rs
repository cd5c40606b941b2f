//! Fine-tuning on what is no text: images, series, generated bits.

mod common;

use std::path::Path;

use common::{fails, json, run, tiny_pretraining};

/// Series that rise or fall, with noise, each at its own length.
fn series(name: &str, count: usize, folder: &Path) {
    let mut text = String::from("@problemName slopes\n@univariate true\n@classLabel true up down\n@data\n");
    for i in 0..count {
        let (steps, sign) = (6 + i * 5 % 7, if i % 2 == 0 { 1.0 } else { -1.0 });
        let value = |step: usize| sign * step as f64 + ((i * 31 + step * 17) % 13) as f64 / 13.0;
        let values: Vec<String> = (0..steps).map(|step| format!("{:.3}", value(step))).collect();
        text += &format!("{}:{}\n", values.join(","), if i % 2 == 0 { "up" } else { "down" });
    }
    std::fs::write(folder.join(name), text).unwrap();
}

/// Images of 8 x 8 pixels with a bright half, left (0) or right (1).
fn images(name: &str, count: usize, folder: &Path) {
    let sizes =
        |sizes: &[usize]| -> Vec<u8> { sizes.iter().flat_map(|n| (*n as u32).to_be_bytes()).collect() };
    let (mut pixels, mut labels) = (vec![0, 0, 8, 3], vec![0, 0, 8, 1]);
    pixels.extend(sizes(&[count, 8, 8]));
    labels.extend(sizes(&[count]));
    for i in 0..count {
        let is_bright = |column: usize| (column >= 4) == (i % 3 == 0);
        let noise = |k: usize| ((i * 37 + k * 11) % 60) as u8;
        pixels.extend((0..64).map(|k| if is_bright(k % 8) { 190 + noise(k) } else { noise(k) }));
        labels.push(u8::from(i % 3 == 0));
    }
    std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), pixels).unwrap();
    std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
}

const RANDOM: &str = "finetune --preset tiny --mixer fourier --trunk-seed 3 --quiet --json";

#[test]
fn images_and_series_on_a_random_trunk() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    series("train.ts", 60, folder);
    series("test.ts", 21, folder);
    images("train", 60, folder);
    images("test", 21, folder);
    for (name, train, dev, flags) in [
        ("series", "train.ts", "test.ts", "--recipe fpt"),
        ("images", "train-images-idx3-ubyte", "test-images-idx3-ubyte", "--patch 2"),
    ] {
        let tune = format!("{RANDOM} --train {train} --dev {dev} {flags} --epochs 10 --learning-rate 3e-3");
        let results = json(&run(folder, &format!("{tune} --out {name}")));
        assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.9, "{name}: {results}");
        let evaluated = json(&run(folder, &format!("evaluate --model {name} --json")));
        assert_eq!(evaluated["accuracy"], results["values"]["accuracy"], "{name}");
        run(folder, &format!("predict --model {name} --input {dev} --output {name}.csv --quiet"));
        let lines = std::fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap();
        assert_eq!(lines.lines().count(), 22, "{lines}");
        let kept = std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
        run(folder, &format!("{tune} --threads 1 --out again --overwrite"));
        assert!(
            std::fs::read(folder.join("again/model.safetensors")).unwrap() == kept,
            "{name}: other threads"
        );
    }
    fails(folder, "evaluate --model series --file test-images-idx3-ubyte", "which the model does not read");
    fails(folder, "evaluate --model images --file test.ts", "is not among 0, 1");
    fails(folder, "predict --model series --input nothing.csv --output x.csv", "is no file of signals");
    fails(folder, "embed --model series --input test.ts --output x.npy", "tokenizer.json");
    // What no training can have written.
    let config = folder.join("series/config.json");
    let whole = std::fs::read_to_string(&config).unwrap();
    let broken = whole.replacen("\"deviation\"", "\"other\"", 1);
    for text in [
        broken,
        whole.replacen("\"series\"", "\"image\"", 1),
        whole.replacen("\"mean\": [", "\"mean\": [0.5,", 1),
    ] {
        assert_ne!(text, whole);
        std::fs::write(&config, text).unwrap();
        fails(folder, "evaluate --model series", "`reading`");
    }
    // Longer ones than training has are read if there are positions for them.
    let short = format!("{RANDOM} --train short.ts --recipe fpt --steps 2");
    std::fs::write(folder.join("short.ts"), "@classLabel true up down\n@data\n1,2:up\n2,1:down\n").unwrap();
    run(folder, &format!("{short} --out short"));
    fails(
        folder,
        "evaluate --model short --file test.ts",
        "more than the model's 2: a random trunk is as long as --max-length says",
    );
    run(folder, &format!("{short} --max-length 12 --out long"));
    run(folder, "evaluate --model long --file test.ts");
    // A trunk follows from its seed: what is frozen is the same in both.
    let trunk = |out: &str, flags: &str| {
        run(folder, &format!("{RANDOM} --train train.ts {flags} --recipe fpt --steps 2 --out {out}"));
        let bytes = std::fs::read(folder.join(out).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        ["fnet.encoder.layer.0.output.dense.weight", "classifier.weight"]
            .map(|name| file.tensor(name).unwrap().data().to_vec())
    };
    let (first, second) = (trunk("a", "--seed 1"), trunk("b", "--seed 2"));
    assert!(first[0] == second[0] && first[1] != second[1]);
}

#[test]
fn bits_on_a_pretrained_trunk_after_a_stop() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --mixer fourier --steps 2 --out text", tiny_pretraining()));
    let tune = "finetune --model text --task bit-xor --bits 3 --recipe fpt --quiet --json --dropout 0 \
                --learning-rate 1e-2 --steps 400 --evaluations 1";
    let results = json(&run(folder, &format!("{tune} --out xor")));
    assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.7, "{results}");
    assert!(results["trained_parameters"].as_u64().unwrap() < 20_000);
    let floor = results["floor"]["accuracy"].as_f64().unwrap();
    assert!((0.4..0.6).contains(&floor), "nothing of it is visible: {floor}");
    let evaluated = json(&run(folder, "evaluate --model xor --json"));
    assert_eq!(evaluated["accuracy"], results["values"]["accuracy"]);
    // As if killed after the first checkpoint.
    run(folder, &format!("{tune} --checkpoint-minutes 0 --out killed").replace("--steps 400", "--steps 20"));
    let whole = std::fs::read(folder.join("killed/model.safetensors")).unwrap();
    std::fs::remove_file(folder.join("killed/results.json")).unwrap();
    run(folder, "finetune --resume killed --quiet");
    assert!(std::fs::read(folder.join("killed/model.safetensors")).unwrap() == whole);
    fails(
        folder,
        "finetune --model text --task bit-memory --out x",
        "positions are more than the model's 32",
    );
    fails(folder, "predict --model xor --input a.ts --output x.csv", "labels positions");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    series("train.ts", 8, folder);
    images("train", 8, folder);
    std::fs::write(folder.join("rows.csv"), "text,label\na,1\nb,0\n").unwrap();
    for (flags, says) in [
        ("--train train.ts --text a", "--text: is for text"),
        ("--train train.ts --hide-rate 0.1", "--hide-rate: is for text"),
        ("--train rows.csv --text text --label label", "--preset: is for signals"),
        ("--train train.ts --dev rows.csv", "rows.csv: is of another kind"),
        ("--train train.ts --max-length 3", "12 positions are more than the model's 3"),
        ("--train train.ts --strings 3", "--strings: is a size of bit-memory"),
        ("--train train.ts --evaluations 3", "--evaluations: there is nothing to evaluate on"),
        ("--train train-images-idx3-ubyte --patch 3", "--patch 3: does not divide images of 8 x 8"),
        ("--train missing.ts", "missing.ts: No such file"),
        ("--task mnist", "--task mnist: give --data"),
        ("--task mnist --data nowhere", "train-images-idx3-ubyte: No such file"),
        ("--task bit-xor --data .", "--data: bit-xor is generated"),
        ("--train train.ts --patch 2", "--patch: is for images"),
        ("--task bit-memory --bits 70", "--bits 70: must be a multiple of 50"),
        ("--task sst2", "--preset: is for signals"),
    ] {
        fails(folder, &format!("{RANDOM} {flags} --out x"), says);
    }
    fails(folder, "finetune --task sst2 --out x", "--task sst2: give --data");
    fails(folder, "finetune --train rows.csv --out x", "--text: name one or two text columns");
    fails(folder, "finetune --preset tiny --mixer x --task bit-xor --out x", "mixer `x` is unknown");
    assert!(!folder.join("x").exists());
}
