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
    fails(folder, "evaluate --model images --file test.ts", "holds series, which the model does not read");
    fails(folder, "predict --model series --input nothing.csv --output x.csv", "is no file of signals");
    fails(folder, "embed --model series --input test.ts --output x.npy", "tokenizer.json");
    // What no training can have written.
    let config = folder.join("series/config.json");
    let whole = std::fs::read_to_string(&config).unwrap();
    let broken = whole.replacen("\"deviation\"", "\"other\"", 1);
    for text in [
        broken,
        whole.replacen("\"series\"", "\"image\"", 1),
        whole.replacen("\"asked\": \"class\"", "\"asked\": \"positions\"", 1),
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
    fails(folder, "predict --model xor --input a.ts --output x.csv", "labels bits of generated examples");
}

/// Pictures of 6 x 6 pixels in colour, red (0) or blue (1), in a folder for each class.
fn pictures(name: &str, count: usize, folder: &Path) {
    for i in 0..count {
        let class = if i % 2 == 0 { "red" } else { "blue" };
        let place = folder.join(name).join(class);
        std::fs::create_dir_all(&place).unwrap();
        let noise = |x: u32, y: u32| ((i as u32 * 31 + x * 17 + y * 7) % 60) as u8;
        let pixel = |x, y| if i % 2 == 0 { [180, noise(x, y), 40] } else { [40, noise(x, y), 180] };
        image::RgbImage::from_fn(6, 6, |x, y| image::Rgb(pixel(x, y)))
            .save(place.join(format!("{i}.png")))
            .unwrap();
    }
}

/// Tones, low (0) or high (1), of several lengths, with their class in the name.
fn sounds(name: &str, count: usize, folder: &Path) {
    std::fs::create_dir_all(folder.join(name)).unwrap();
    for i in 0..count {
        let (class, frequency) = if i % 2 == 0 { ("low", 250.0) } else { ("high", 1_500.0) };
        let path = folder.join(name).join(format!("{class}_{i}.wav"));
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for t in 0..800 + 80 * (i % 5) {
            let wave =
                (std::f64::consts::TAU * frequency * (1.0 + i as f64 / 200.0) * t as f64 / 8_000.0).sin();
            writer.write_sample((wave * 9_000.0) as i16).unwrap();
        }
        writer.finalize().unwrap();
    }
}

/// Rows that rise or fall, by as much as their number says.
fn table(name: &str, count: usize, folder: &Path) {
    let mut text = String::from("slope,t0,t1,t2,t3,t4,t5\n");
    for i in 0..count {
        let slope = (i * 7 % 11) as f64 - 5.0;
        let steps: Vec<String> = (0..4 + i % 3).map(|t| format!("{}", slope * t as f64)).collect();
        text += &format!("{slope},{}{}\n", steps.join(","), ",".repeat(6 - steps.len()));
    }
    std::fs::write(folder.join(name), text).unwrap();
}

/// Strings whose symbols are labelled by what stands before them.
fn strings(name: &str, count: usize, folder: &Path) {
    let mut text = String::new();
    for i in 0..count {
        let letters: Vec<char> =
            (0..5 + i % 6).map(|k| ['a', 'b', 'c'][(i * 5 + k * k * 3 + k) % 3]).collect();
        let before = |k: usize| if k == 0 { '-' } else { letters[k - 1].to_ascii_uppercase() };
        let labels: String = (0..letters.len()).map(before).collect();
        text += &format!("{{\"x\": \"{}\", \"y\": \"{labels}\"}}\n", letters.iter().collect::<String>());
    }
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn every_modality_through_one_trunk_at_the_same_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    pictures("pictures", 40, folder);
    pictures("other-pictures", 10, folder);
    sounds("sounds", 30, folder);
    sounds("other-sounds", 10, folder);
    table("train.csv", 80, folder);
    table("dev.csv", 22, folder);
    strings("train.jsonl", 80, folder);
    strings("dev.jsonl", 20, folder);
    // A shift sees the neighbours, which some of the tasks need.
    let tune = "finetune --preset tiny --mixer shift+fourier --trunk-seed 3 --quiet --json --recipe fpt --adapter \
                --learning-rate 1e-2 --dropout 0";
    let mut jobs = String::new();
    for (name, train, dev, flags, score, least) in [
        ("pictures", "pictures", "other-pictures", "--patch 3 --flip --crop 1 --epochs 20", "accuracy", 0.9),
        ("sounds", "sounds", "other-sounds", "--epochs 20", "accuracy", 0.9),
        (
            "numbers",
            "train.csv",
            "dev.csv",
            "--series wide --label slope --regression --epochs 40",
            "pearson",
            0.8,
        ),
        (
            "symbols",
            "train.jsonl",
            "dev.jsonl",
            "--tokens characters --text x --label y --per-position --ignored-label - --epochs 60",
            "accuracy",
            0.9,
        ),
    ] {
        let out = format!("of-{name}");
        let results = json(&run(folder, &format!("{tune} --train {train} --dev {dev} {flags} --out {out}")));
        assert!(results["values"][score].as_f64().unwrap() > least, "{name}: {results}");
        let evaluated = json(&run(folder, &format!("evaluate --model {out} --json")));
        assert_eq!(evaluated[score], results["values"][score], "{name}");
        run(folder, &format!("predict --model {out} --input {dev} --output {name}.csv --quiet"));
        jobs += &format!(" --job {out}={dev}={name}-together.csv");
    }
    run(folder, &format!("predict{jobs} --quiet"));
    run(folder, &format!("predict{jobs} --quiet --overwrite --threads 1"));
    for name in ["pictures", "sounds", "numbers", "symbols"] {
        let [alone, together] = [format!("{name}.csv"), format!("{name}-together.csv")]
            .map(|f| std::fs::read(folder.join(f)).unwrap());
        assert!(alone == together && !alone.is_empty(), "{name}");
    }
    let numbers = std::fs::read_to_string(folder.join("numbers.csv")).unwrap();
    let first: f64 = numbers.lines().nth(1).unwrap().split(',').nth(1).unwrap().parse().unwrap();
    assert!((first + 5.0).abs() < 3.0, "in the units of the labels: {first}");
    // A task that fails leaves no file of its own, and its error is the one that is told.
    std::fs::write(folder.join("bad.csv"), "slope,t0\n1,x\n").unwrap();
    fails(
        folder,
        "predict --job of-numbers=bad.csv=bad-out.csv --job of-sounds=sounds=good-out.csv",
        "bad.csv:2: `x` is no number",
    );
    assert!(!folder.join("bad-out.csv").exists());
    fails(folder, "predict --job of-numbers=dev.csv", "expected MODEL=INPUT=OUTPUT");
    fails(folder, "predict --job of-numbers=dev.csv=a.csv --job of-sounds=sounds=a.csv", "two write a.csv");
    fails(folder, "predict --job of-numbers=-=a.csv", "name files");
    fails(
        folder,
        "evaluate --model of-pictures --file other-sounds",
        "holds sounds, which the model does not read",
    );
    fails(folder, "evaluate --model of-symbols --file train.csv", "has no column `y`");
}

#[test]
fn ridge_readouts_of_signals() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    series("train.ts", 60, folder);
    series("test.ts", 21, folder);
    let tune = format!("{RANDOM} --recipe ridge");
    let files = "--train train.ts --dev test.ts";
    let results = json(&run(folder, &format!("{tune} {files} --threads 1 --out one")));
    assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.9, "{results}");
    assert!(results["penalty"].as_f64().unwrap() > 0.0 && results["rows"] == 60.0, "{results}");
    run(folder, &format!("{tune} {files} --threads 3 --out three"));
    let weights = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(weights("one") == weights("three"), "threads change the bytes");
    let judged = json(&run(folder, "evaluate --model one --file test.ts --json"));
    assert_eq!(judged["accuracy"], results["values"]["accuracy"]);
    assert_eq!(json(&run(folder, "finetune --resume one --quiet --json"))["values"], results["values"]);
    // Probabilities are worth their name: right ones are near 1.
    run(folder, "predict --model one --input test.ts --output p.csv");
    let loss = judged["dev_loss"].as_f64().or(judged["loss"].as_f64());
    assert!(loss.is_none_or(|loss| loss < 0.4), "{judged}");
    // As an adapter, of positions, and of bits.
    run(folder, &format!("{tune} {files} --adapter --out small"));
    let small = json(&run(folder, "evaluate --model small --file test.ts --json"));
    assert_eq!(small["accuracy"], results["values"]["accuracy"]);
    let rows: String = (0..30)
        .map(|i| format!("{},{}\n", ["ABAB", "BBA", "AAB"][i % 3], ["xyxy", "yyx", "xxy"][i % 3]))
        .collect();
    std::fs::write(folder.join("rows.csv"), format!("text,labels\n{rows}")).unwrap();
    let symbols =
        "--train rows.csv --dev rows.csv --text text --label labels --tokens characters --per-position";
    let results = json(&run(folder, &format!("{tune} {symbols} --out symbols")));
    assert_eq!(results["values"]["accuracy"], 1.0, "{results}");
    let results = json(&run(folder, &format!("{tune} --task bit-xor --bits 2 --penalty 0.01 --out bits")));
    assert_eq!(results["penalty"], 0.01);
    for (flags, says) in [
        ("--epochs 3", "--epochs: does not apply to recipe ridge"),
        ("--learning-rate 1e-2", "--learning-rate: does not apply to recipe ridge"),
        ("--penalty=-1", "--penalty -1: must be from 0"),
        ("--penalty 0", "singular at penalty 0"),
    ] {
        fails(folder, &format!("{tune} {files} {flags} --out x").replace("--json", ""), says);
    }
    fails(folder, &format!("finetune --preset tiny {files} --penalty 1 --out x"), "is for recipe ridge");
    fails(folder, "pretrain --corpus rows.csv --recipe ridge --out x", "is for fine-tuning");
}

#[test]
fn random_features_in_front_of_a_readout() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    images("train", 60, folder);
    images("test", 21, folder);
    let tune = format!("{RANDOM} --recipe ridge --random-features 100");
    let files = "--train train-images-idx3-ubyte --dev test-images-idx3-ubyte";
    let results = json(&run(folder, &format!("{tune} {files} --threads 1 --out one")));
    assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.9, "{results}");
    run(folder, &format!("{tune} {files} --threads 3 --out three"));
    let weights = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(weights("one") == weights("three"), "threads change the bytes");
    let judged = json(&run(folder, "evaluate --model one --file test-images-idx3-ubyte --json"));
    assert_eq!(judged["accuracy"], results["values"]["accuracy"]);
    run(folder, "predict --model one --input test-images-idx3-ubyte --output p.csv --quiet");
    assert_eq!(std::fs::read_to_string(folder.join("p.csv")).unwrap().lines().count(), 22);
    // By gradients, too; of pictures, series and generated examples.
    pictures("pictures", 40, folder);
    table("train.csv", 80, folder);
    let gradients = "--recipe output-only --learning-rate 1e-2 --epochs 20 --random-features 50";
    for (flags, name) in [
        (format!("{gradients} --train pictures --dev pictures --flip --crop 1"), "accuracy"),
        ("--recipe ridge --random-features 60 --train train.csv --dev train.csv --series wide --label slope --regression".into(), "pearson"),
        ("--recipe ridge --random-features 60 --task mnist-1d".into(), "accuracy"),
    ] {
        let results = json(&run(folder, &format!("{RANDOM} {flags} --overwrite --out other")));
        assert!(results["values"][name].as_f64().unwrap() > 0.3, "{flags}: {results}");
    }
    // How a series moves, by a model of its own.
    let space = "--recipe ridge --model-space 6 --train train.csv --dev train.csv --series wide --label slope --regression";
    let results = json(&run(folder, &format!("{RANDOM} {space} --threads 1 --out space")));
    assert!(results["values"]["pearson"].as_f64().unwrap() > 0.8, "{results}");
    run(folder, &format!("{RANDOM} {space} --threads 3 --out space-3"));
    assert!(weights("space") == weights("space-3"), "threads change the bytes");
    let judged = json(&run(folder, "evaluate --model space --file train.csv --json"));
    assert_eq!(judged["pearson"], results["values"]["pearson"]);
    // The mean of the vectors that are read is a floor without any trunk.
    let results = json(&run(folder, &format!("{RANDOM} --recipe ridge --pooling input {files} --out floor")));
    assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.5, "{results}");
    for (flags, says) in [
        (format!("{files} --patch 2"), "--random-features, --patch 2: filters read pixels"),
        ("--task bit-xor".into(), "cannot be made of positions with answers of their own"),
    ] {
        fails(folder, &format!("{RANDOM} --recipe ridge --random-features 50 {flags} --out x"), says);
    }
    for (flags, says) in [
        ("--model-space 5 --task bit-xor", "cannot be made of positions with answers of their own"),
        ("--model-space 151 --task mnist-1d", "--model-space 151: must be from 1 to 150"),
    ] {
        fails(folder, &format!("{RANDOM} --recipe ridge {flags} --out x"), says);
    }
    let none = format!("{RANDOM} --recipe ridge --random-features 0 {files} --out x");
    fails(folder, &none, "--random-features 0: must be from 1 to 30000");
    std::fs::write(folder.join("rows.csv"), "text,label\na,1\nb,0\n").unwrap();
    fails(
        folder,
        "finetune --train rows.csv --text text --label label --pooling input --out x",
        "reads input vectors",
    );
    fails(
        folder,
        "finetune --train rows.csv --text text --label label --random-features 9 --out x",
        "is for signals",
    );
}

#[test]
fn labelled_words_are_found() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --mixer shift --steps 2 --out text", tiny_pretraining()));
    let mut text = String::new();
    for i in 0..60 {
        let (name, rest) = (["Anna", "Bert", "Carl"][i % 3], ["sees", "hears", "knows"][i / 3 % 3]);
        let labels = ["B-PER", "O", "B-LOC", "I-LOC"];
        for (word, label) in [name, rest, "Old", "Town"].iter().zip(labels) {
            text += &format!("{word} {label}\n");
        }
        text += "\n";
    }
    std::fs::write(folder.join("train.conll"), &text).unwrap();
    let tune = "finetune --model text --train train.conll --dev train.conll --learning-rate 3e-3 --epochs 10 \
                --quiet --json";
    let results = json(&run(folder, &format!("{tune} --out names")));
    assert!(results["values"]["span_f1"].as_f64().unwrap() > 0.9, "{results}");
    let evaluated = json(&run(folder, "evaluate --model names --json"));
    assert_eq!(evaluated["span_f1"], results["values"]["span_f1"]);
    std::fs::write(folder.join("new.conll"), "Anna\nsees\nOld\nTown\n\nBert\n").unwrap();
    run(folder, "predict --model names --input new.conll --output new.jsonl --quiet");
    let lines = std::fs::read_to_string(folder.join("new.jsonl")).unwrap();
    let first = r#"{"words":["Anna","sees","Old","Town"],"prediction":["B-PER","O","B-LOC","I-LOC"]}"#;
    assert_eq!(lines.lines().next(), Some(first), "{lines}");
    assert_eq!(lines.lines().count(), 2);
    run(folder, &format!("{tune} --recipe fpt --adapter --out small --overwrite"));
    run(folder, "predict --job small=new.conll=a.jsonl --job names=new.conll=b.jsonl --quiet");
    assert!(std::fs::read_to_string(folder.join("b.jsonl")).unwrap() == lines);
}

#[test]
fn generated_tasks_are_learnt_and_judged() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let tune = "finetune --preset tiny --mixer fourier --recipe fpt --quiet --json --learning-rate 3e-3 --steps 4 \
                --evaluations 1";
    for (name, flags) in [
        ("listops", "--task listops --min-length 4 --max-length 12 --depth 2 --arguments 3"),
        ("digits", "--task mnist-1d --max-length 30"),
        ("paths", "--task pathfinder --dashes 3 --patch 8"),
    ] {
        let results = json(&run(folder, &format!("{tune} {flags} --out {name}")));
        let evaluated = json(&run(folder, &format!("evaluate --model {name} --json")));
        assert_eq!(evaluated["accuracy"], results["values"]["accuracy"], "{name}");
        assert!(results["floor"]["accuracy"].as_f64().unwrap() > 0.05);
        fails(folder, &format!("predict --model {name} --input x --output y.csv"), "examples are generated");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    series("train.ts", 8, folder);
    images("train", 8, folder);
    std::fs::write(folder.join("rows.csv"), "text,label\na,1\nb,0\n").unwrap();
    for (flags, says) in [
        ("--train train.ts --text a", "--text: does not apply to series"),
        ("--train train.ts --hide-rate 0.1", "--hide-rate: does not apply to series"),
        ("--train rows.csv --text text --label label", "--preset: is for signals"),
        ("--train train.ts --dev rows.csv", "rows.csv: is of another kind"),
        ("--train train.ts --max-length 3", "12 positions are more than the model's 3"),
        ("--train train.ts --strings 3", "--strings: is for bit-memory and bit-xor"),
        ("--train train.ts --evaluations 3", "--evaluations: there is nothing to evaluate on"),
        ("--train train-images-idx3-ubyte --patch 3", "--patch 3: does not divide images of 8 x 8"),
        ("--train missing.ts", "missing.ts: No such file"),
        ("--task mnist", "--task mnist: give --data"),
        ("--task mnist --data nowhere", "train-images-idx3-ubyte: No such file"),
        ("--task bit-xor --data .", "--data: bit-xor is generated"),
        ("--train train.ts --patch 2", "--patch: is for images"),
        ("--task bit-memory --bits 70", "--bits 70: must be a multiple of 50"),
        ("--task sst2", "--preset: is for signals"),
        ("--train train.ts --grey", "--grey: is for images"),
        ("--train train.ts --tokens bytes", "--tokens: is for rows read by characters or bytes"),
        ("--task mnist --data . --tokens bytes", "--tokens: is for rows"),
        (
            "--train rows.csv --tokens bytes --text text --label label --ignored-label -",
            "of symbols one character",
        ),
        ("--train rows.csv --tokens bytes --text text", "--label: name the column with the label"),
        (
            "--train rows.csv --tokens bytes --text text --label label --series wide",
            "--series: is for tables",
        ),
        ("--train rows.csv --series long --label label", "--series-id: name the column"),
        ("--train rows.csv --per-position --text text --label label", "--preset: is for signals; words need"),
        ("--train train.ts --per-position --regression", "symbols have classes, not numbers"),
        ("--train train.ts --per-position", "--per-position: is for labels of words, symbols or steps"),
        ("--train train-images-idx3-ubyte --multi-label", "--multi-label: does not apply to images"),
        ("--train rows.csv --series wide --label label --per-position", "each is a row: --series long"),
        (
            "--task listops --min-length 50 --max-length 40",
            "--task: listops cannot have expressions of 50 to 40",
        ),
        ("--task listops --strings 3", "--strings: is for bit-memory and bit-xor"),
        ("--task pathfinder --dashes 30", "--task: pathfinder cannot have paths of 30 dashes"),
        ("--task cifar10 --data .", "train.zip: No such file"),
        ("--task spoken-digits", "--task spoken-digits: give --data"),
    ] {
        fails(folder, &format!("{RANDOM} {flags} --out x"), says);
    }
    fails(folder, "finetune --task sst2 --out x", "--task sst2: give --data");
    fails(folder, "finetune --train rows.csv --out x", "--text: name one or two text columns");
    fails(folder, "finetune --preset tiny --mixer x --task bit-xor --out x", "mixer `x` is unknown");
    assert!(!folder.join("x").exists());
}
