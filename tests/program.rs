//! The program from text to predictions, as a user runs it.

mod common;

use common::{fails, fnet, json, root, run, sample, tiny_pretraining};
use serde_json::Value;

fn lines(path: &std::path::Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(String::from).collect()
}

#[test]
fn from_text_to_predictions() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let data = sample("sentiment");
    let results =
        json(&run(folder, &format!("{} --steps 30 --evaluations 3 --out model --json", tiny_pretraining())));
    assert_eq!(results["steps"], 30);
    assert!(results["values"]["validation_loss"].as_f64().unwrap() < 5.0);
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.toml",
        "metrics.jsonl",
        "results.json",
        "report.html",
    ] {
        assert!(folder.join("model").join(file).exists(), "{file}");
    }
    let metrics: Vec<Value> =
        lines(&folder.join("model/metrics.jsonl")).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: Vec<_> = metrics.iter().filter(|m| m["loss"].is_f64()).collect();
    assert_eq!(steps.len(), 30);
    for key in ["step", "loss", "learning_rate", "tokens_per_second", "seconds"] {
        assert!(steps[7][key].is_number(), "{key}");
    }
    assert_eq!(metrics.iter().filter(|m| m["validation_loss"].is_f64()).count(), 3);

    // The second run finds the shards and the vocabulary of the first.
    assert_eq!(std::fs::read_dir(folder.join("fnet-shards")).unwrap().count(), 2);
    run(folder, &format!("{} --steps 1 --out second", tiny_pretraining()));
    assert_eq!(std::fs::read_dir(folder.join("fnet-shards")).unwrap().count(), 2);

    let task = format!("--task sst2 --data {}", data.display());
    let tuned = json(&run(
        folder,
        &format!("finetune --model model {task} --epochs 1 --seeds 2 --out tuned --quiet --json"),
    ));
    assert_eq!(tuned["seeds"].as_array().unwrap().len(), 2);
    let best = tuned["best_seed"].as_u64().unwrap() as usize - 1;
    let evaluated = json(&run(folder, "evaluate --model tuned --json"));
    assert_eq!(evaluated["accuracy"], tuned["seeds"][best]["values"]["accuracy"]);
    assert_eq!(evaluated["examples"], 500);

    let test = data.join("test.tsv");
    run(folder, &format!("predict --model tuned --input {} --output p.tsv --quiet", test.display()));
    let predictions = lines(&folder.join("p.tsv"));
    assert_eq!(predictions[0], "index\tprediction");
    assert_eq!(predictions.len(), 201);
    assert!(
        predictions[1..]
            .iter()
            .enumerate()
            .all(|(i, l)| { l == &format!("{i}\t0") || l == &format!("{i}\t1") })
    );

    // The same sentences, alone and together: the same bits, in the input's order.
    let all = lines(&test);
    std::fs::write(folder.join("one.tsv"), format!("{}\n{}\n", all[0], all[42])).unwrap();
    for (input, output) in [(test.display().to_string(), "all"), ("one.tsv".into(), "one")] {
        run(folder, &format!("predict --model tuned --input {input} --output {output}.jsonl --quiet"));
    }
    assert_eq!(lines(&folder.join("all.jsonl"))[41], lines(&folder.join("one.jsonl"))[0]);

    // Batches of other sizes change no bit and no order; bfloat16 does change bits.
    let whole = std::fs::read(folder.join("all.jsonl")).unwrap();
    let predict = format!("predict --model tuned --input {} --quiet", test.display());
    run(folder, &format!("{predict} --batch-tokens 1 --output single.jsonl"));
    assert!(std::fs::read(folder.join("single.jsonl")).unwrap() == whole);
    for precision in ["bf16", "int8"] {
        let rounded = |flags: &str| {
            run(
                folder,
                &format!("{predict} --precision {precision} --output rounded.jsonl --overwrite {flags}"),
            );
            std::fs::read(folder.join("rounded.jsonl")).unwrap()
        };
        let one = rounded("");
        assert!(one != whole && one == rounded("--batch-tokens 1 --threads 1"), "{precision}");
    }
    fails(folder, &format!("finetune --model model {task} --precision int8 --out x"), "is for inference");
    fails(folder, &format!("{predict} --products amx --output x.jsonl"), "for f32 this machine has");
    let finetune = format!("finetune --model model {task} --epochs 1 --quiet --batch-tokens 300");
    run(folder, &format!("{finetune} --threads 1 --out by-tokens"));
    run(folder, &format!("{finetune} --threads 2 --out by-tokens-again"));
    let weights = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(weights("by-tokens") == weights("by-tokens-again"));

    let filled = json(&run(folder, "fill-mask --model model --top 3 --json the_[MASK]_was_[MASK]"));
    assert_eq!(filled["masks"].as_array().unwrap().len(), 2);
    assert_eq!(filled["masks"][1].as_array().unwrap().len(), 3);
    fails(folder, "fill-mask --model model nothing", "holds no [MASK]");
    fails(folder, "fill-mask --model tuned a_[MASK]", "has no MLM head");
    fails(folder, "evaluate --model model", "run `fnet finetune` first");

    std::fs::write(folder.join("texts.txt"), "one text\n\nanother text\n").unwrap();
    run(folder, "embed --model model --input texts.txt --output e.npy --quiet");
    let npy = std::fs::read(folder.join("e.npy")).unwrap();
    assert_eq!(npy.len(), 128 + 3 * 128 * 4);
    assert!(String::from_utf8_lossy(&npy[..128]).contains("'shape': (3, 128)"));

    let needed = run(folder, &format!("{} --out not-made --dry-run --recompute", tiny_pretraining()));
    assert!(String::from_utf8_lossy(&needed.stdout).contains("activations"));
    assert!(!folder.join("not-made").exists());

    let seen = json(&run(folder, "inspect model --json"));
    // 2 (h² + 2 layers of 2 h 4h) for matrices; a shift does no arithmetic.
    assert_eq!(seen["flops_per_token"], 557_056.0);
    assert_eq!(seen["hidden_size"], 128);
    assert_eq!(seen["results"]["steps"], 30);
}

#[test]
fn pretraining_on_pairs() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let weights = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    for (objective, metric) in [("mlm-nsp", "next_sentence_accuracy"), ("mlm-sop", "sentence_order_accuracy")]
    {
        let settings =
            format!("{} --objective {objective} --steps 12 --sequences sentences", tiny_pretraining());
        let results = json(&run(folder, &format!("{settings} --threads 1 --out {objective} --json")));
        let accuracy = results["values"][metric].as_f64().unwrap();
        assert!((0.3..=1.0).contains(&accuracy), "{accuracy}");
        run(folder, &format!("{settings} --threads 2 --out {objective}-again"));
        assert!(weights(objective) == weights(&format!("{objective}-again")));
    }
    assert!(weights("mlm-nsp") != weights("mlm-sop"));
    run(folder, "fill-mask --model mlm-nsp a_[MASK]");
    let data = sample("entailment").display().to_string();
    run(
        folder,
        &format!("finetune --model mlm-nsp --task rte --data {data} --epochs 0.1 --out tuned --quiet"),
    );
    // A model of single sequences can continue with pairs, and vice versa.
    let corpus = sample("corpus/valid.txt").display().to_string();
    let go_on = format!("pretrain --corpus {corpus} --steps 2 --batch-size 4 --quiet");
    run(folder, &format!("{go_on} --model mlm-nsp --out single"));
    run(folder, &format!("{go_on} --model single --objective mlm-sop --out pairs"));
}

#[test]
fn own_data_in_every_format() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 3 --out model", tiny_pretraining()));
    let rows = |n: usize| (0..n).map(|i| (format!("word {}", i % 7), ["no", "yes", "maybe"][i % 3], i % 5));
    let mut csv = "text,kind,size\n".to_string();
    let mut tsv = csv.replace(',', "\t");
    let mut jsonl = String::new();
    for (text, kind, size) in rows(30) {
        csv += &format!("\"{text}, quoted\",{kind},{size}\n");
        tsv += &format!("{text}\t{kind}\t{size}\n");
        jsonl += &format!("{{\"text\": \"{text}\", \"kind\": \"{kind}\", \"size\": {size}}}\n");
    }
    for (name, text) in [("d.csv", &csv), ("d.tsv", &tsv), ("d.jsonl", &jsonl)] {
        std::fs::write(folder.join(name), text).unwrap();
        let out = name.replace('.', "-");
        let common = format!(
            "finetune --model model --train {name} --dev {name} --text text --epochs 1 --quiet --json"
        );
        let results = json(&run(folder, &format!("{common} --label kind --out {out}")));
        assert!(results["values"]["accuracy"].is_f64());
        // Seven texts stand for three kinds, each for all of them: little more than chance can be reached.
        assert!(results["bag_of_words"]["accuracy"].as_f64() > Some(0.3));
        let settings = std::fs::read_to_string(folder.join(&out).join("training.toml")).unwrap();
        assert!(settings.contains("pooling = \"max+embeddings\"") && settings.contains("bag = true"));
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join(&out).join("config.json")).unwrap())
                .unwrap();
        assert_eq!(config["id2label"], serde_json::json!({"0": "maybe", "1": "no", "2": "yes"}));
        run(folder, &format!("predict --model {out} --input {name} --output {out}.csv --quiet"));
        let predictions = lines(&folder.join(format!("{out}.csv")));
        assert_eq!(predictions[0], "index,prediction,p_maybe,p_no,p_yes");
        assert_eq!(predictions.len(), 31);

        let results = json(&run(folder, &format!("{common} --label size --regression --out {out}-r")));
        assert!(results["values"]["spearman"].is_f64());
        let evaluated = json(&run(folder, &format!("evaluate --model {out}-r --file {name} --json")));
        assert_eq!(evaluated["spearman"], results["values"]["spearman"]);
    }
}

#[test]
fn pairs_in_every_way_that_they_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 3 --out model", tiny_pretraining()));
    let long = "one two three four five six seven ".repeat(30);
    let rows: String = (0..24).map(|i| format!("word {},{long} word {},{}\n", i % 5, i % 3, i % 2)).collect();
    std::fs::write(folder.join("pairs.csv"), format!("a,b,same\n{rows}")).unwrap();
    let tune =
        "finetune --model model --train pairs.csv --dev pairs.csv --text a,b --label same --quiet --json";
    for (i, flags) in [
        "",
        "--regression",
        "--pairs symmetric-towers --pooling mean+embeddings --regression",
        "--pairs towers --pooling query",
        "--pairs together --pooling max --bag true",
    ]
    .iter()
    .enumerate()
    {
        let results = json(&run(folder, &format!("{tune} {flags} --out {i}")));
        let evaluated = json(&run(folder, &format!("evaluate --model {i} --file pairs.csv --json")));
        for (name, value) in results["values"].as_object().unwrap() {
            assert_eq!(evaluated[name], *value, "{flags}: {name}");
        }
        // By default, so few rows are seen twenty times.
        assert!(
            std::fs::read_to_string(folder.join(format!("{i}/training.toml")))
                .unwrap()
                .contains("epochs = 20")
        );
        run(folder, &format!("predict --model {i} --input pairs.csv --output {i}.jsonl --quiet"));
        assert_eq!(lines(&folder.join(format!("{i}.jsonl"))).len(), 24, "{flags}");
    }
    fails(
        folder,
        &format!("{} --out x --pairs towers", tune.replace("a,b", "a")),
        "--pairs: the rows have one text",
    );
    fails(folder, &format!("{tune} --out x --bag true"), "--bag true: towers have no second opinion");
    let unknown = fnet(folder, &format!("{tune} --out x --pooling men")).output().unwrap();
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && said.contains("known are first, last, mean"), "{said}");
}

#[test]
fn what_is_turned_off_stays_off() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    std::fs::write(folder.join("rows.csv"), "a,b,label\nx y,x,1\nz,z y,0\nx,y,1\n").unwrap();
    std::fs::write(folder.join("on.toml"), "bag = true\nmatching = true\n").unwrap();
    let tune = "finetune --model model --train rows.csv --label label --steps 1 --quiet";
    for (flags, off) in [("--text a --bag false", "bag"), ("--text a,b --matching false", "matching")] {
        run(folder, &format!("{tune} {flags} --out {off}"));
        let settings = std::fs::read_to_string(folder.join(off).join("training.toml")).unwrap();
        assert!(settings.contains(&format!("{off} = false")), "{settings}");
    }
    run(folder, &format!("{tune} --text a --bag false --matching false --config on.toml --out both"));
    fails(folder, "finetune --resume bag --bag false", "no other setting can be given");
}

#[test]
fn settings_come_from_a_file_and_flags_win() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("s.toml"), "steps = 50\nlearning_rate = 0.002\nseed = 7\n").unwrap();
    run(folder, &format!("{} --config s.toml --steps 2 --out a", tiny_pretraining()));
    let settings: toml::Table =
        std::fs::read_to_string(folder.join("a/training.toml")).unwrap().parse().unwrap();
    assert_eq!(settings["steps"].as_integer(), Some(2));
    assert_eq!(settings["learning_rate"].as_float(), Some(0.002));
    assert_eq!(settings["seed"].as_integer(), Some(7));
    assert_eq!(settings["preset"].as_str(), Some("tiny"));
    // A run's own settings reproduce it.
    run(folder, "pretrain --config a/training.toml --out b --quiet");
    let model = |name: &str| std::fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert!(model("a") == model("b"));
    // The kernels are chosen anew for another precision.
    run(folder, "pretrain --config a/training.toml --precision bf16 --out c --quiet");
    run(folder, &format!("{} --steps 1 --precision bf16 --out d", tiny_pretraining()));
    let products = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name).join("training.toml")).unwrap();
        text.parse::<toml::Table>().unwrap()["products"].as_str().unwrap().to_string()
    };
    assert_eq!(products("c"), products("d"));
    std::fs::write(folder.join("s.toml"), "stepz = 50\n").unwrap();
    fails(folder, &format!("{} --config s.toml --out c", tiny_pretraining()), "unknown setting `stepz`");
}

#[test]
fn tokenizers_of_both_kinds() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let corpus = sample("corpus/valid.txt");
    for kind in ["wordpiece", "unigram"] {
        let make = |out: &str| {
            run(
                folder,
                &format!(
                    "tokenizer --corpus {} --vocab-size 160 --kind {kind} --out {out}",
                    corpus.display()
                ),
            )
        };
        make("a.json");
        make("b.json");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        assert!(read("a.json") == read("b.json"), "the same text gives another {kind} vocabulary");
        run(
            folder,
            &format!(
                "pretrain --corpus {} --tokenizer a.json --preset tiny --seq-len 32 --steps 2 --whole-word --quiet --out m-{kind}",
                corpus.display()
            ),
        );
        fails(
            folder,
            &format!("tokenizer --corpus {} --vocab-size 160 --out a.json", corpus.display()),
            "is there already",
        );
        std::fs::remove_file(folder.join("a.json")).unwrap();
        std::fs::remove_file(folder.join("b.json")).unwrap();
    }
}

#[test]
fn the_simd_level_can_be_chosen() {
    let place = tempfile::tempdir().unwrap();
    let loss = |mixer: &str, level: &str| -> Result<f64, String> {
        let out = format!("{mixer}-{level}");
        let arguments = format!("{} --mixer {mixer} --steps 2 --out {out} --json", tiny_pretraining());
        let output = fnet(place.path(), &arguments).env("FNET_SIMD", level).output().unwrap();
        if output.status.success() {
            return Ok(json(&output)["values"]["validation_loss"].as_f64().unwrap());
        }
        Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_string())
    };
    // Mixing, operations and products follow it.
    let written =
        |level: &str| std::fs::read_to_string(place.path().join(format!("shift-{level}/training.toml")));
    for mixer in ["fourier", "shift"] {
        let portable = loss(mixer, "portable").unwrap();
        for level in ["avx2", "avx512"] {
            match loss(mixer, level) {
                Ok(loss) => assert!((loss - portable).abs() <= 1e-4, "{level}: {loss}, portable {portable}"),
                Err(line) => assert!(line.contains("does not have the SIMD level"), "{line}"),
            }
        }
        let line = loss(mixer, "sse9").unwrap_err();
        assert!(line.starts_with("error: ") && line.contains("FNET_SIMD=sse9"), "{line}");
    }
    assert!(written("portable").unwrap().contains("products = \"library\""));
}

#[test]
fn the_shipped_sample_is_what_its_generator_makes() {
    for file in fnet_train::data::sample::FILES {
        let made = fnet_train::data::sample::text(file, fnet_train::data::sample::SEED).unwrap();
        let shipped = std::fs::read_to_string(root().join("data").join(file)).unwrap();
        assert!(made == shipped, "{file} differs: see data/README.md for how to make it again");
    }
}
