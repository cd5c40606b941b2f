//! Several labels of a text or series, and labels of a series' steps.

mod common;

use std::path::Path;

use common::{fails, json, run, tiny_pretraining};

/// Texts about some of four things, also about none.
fn texts(name: &str, count: usize, folder: &Path) {
    let things = ["red", "blue", "round", "heavy"];
    let rows = (0..count).map(|i| {
        let held: Vec<&str> = (0..4).filter(|k| (i * 7 + 3) >> k & 1 == 1).map(|k| things[k]).collect();
        format!("the thing {} is {},{}\n", i % 5, held.join(" and "), held.join("|"))
    });
    std::fs::write(folder.join(name), format!("text,labels\n{}", rows.collect::<String>())).unwrap();
}

/// Series a step a row, once with whether a step rises, once with the sum of both its channels.
fn steps(name: &str, count: usize, folder: &Path) {
    let [mut moves, mut sums] = ["move", "sum"].map(|label| format!("series,a,b,{label}\n"));
    for i in 0..count {
        let mut a = 0.0;
        for step in 0..6 + i % 4 {
            let up = (i * 5 + step * step * 3 + step) % 3 > 0;
            a += if up { 1.0 } else { -1.5 };
            let b = ((i * 3 + step * 7) % 5) as f64;
            let moved = if step == 0 {
                "?"
            } else if up {
                "up"
            } else {
                "down"
            };
            moves += &format!("{i},{a},{b},{moved}\n");
            sums += &format!("{i},{a},{b},{}\n", a + b);
        }
    }
    std::fs::write(folder.join(format!("{name}-moves.csv")), moves).unwrap();
    std::fs::write(folder.join(format!("{name}-sums.csv")), sums).unwrap();
}

/// A NumPy file of little-endian float32.
fn npy(path: &Path, shape: &str, values: &[f32]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(path, file).unwrap();
}

#[test]
fn texts_with_any_number_of_labels() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    run(folder, &format!("{} --steps 2 --out model", tiny_pretraining()));
    texts("train.csv", 160, folder);
    texts("dev.csv", 33, folder);
    let tune = "finetune --model model --quiet --json --train train.csv --dev dev.csv --text text --label labels \
                --multi-label";
    let trained = json(&run(folder, &format!("{tune} --epochs 6 --learning-rate 1e-2 --out out")));
    let score = |results: &serde_json::Value| results["values"]["micro_f1"].as_f64().unwrap();
    assert!(score(&trained) > 0.9, "{trained}");
    assert!(trained["bag_of_words"]["micro_f1"].as_f64().unwrap() > 0.9, "{trained}");
    let judged = json(&run(folder, "evaluate --model out --file dev.csv --json"));
    for metric in ["micro_f1", "macro_f1", "accuracy"] {
        assert_eq!(judged[metric], trained["values"][metric], "{metric}");
    }
    let ridge = json(&run(folder, &format!("{tune} --recipe ridge --out ridge")));
    assert!(score(&ridge) > 0.9, "{ridge}");
    // Predictions name the labels that hold, with a probability for each on its own.
    run(folder, "predict --model out --input dev.csv --output p.jsonl --quiet");
    let predicted = std::fs::read_to_string(folder.join("p.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(predicted.lines().next().unwrap()).unwrap();
    let held = first["probabilities"].as_object().unwrap().iter().filter(|(_, p)| p.as_f64().unwrap() > 0.5);
    assert_eq!(first["prediction"], serde_json::json!(held.map(|(name, _)| name).collect::<Vec<_>>()));
    run(folder, "predict --model out --input dev.csv --output p.csv --quiet");
    let predicted = std::fs::read_to_string(folder.join("p.csv")).unwrap();
    assert!(predicted.starts_with("index,prediction,p_blue,p_heavy,p_red,p_round\n0,"), "{predicted}");
    // The same labels as lists.
    let lists: String = std::fs::read_to_string(folder.join("train.csv")).unwrap().lines().skip(1).fold(
        String::new(),
        |all, row| {
            let (text, labels) = row.split_once(',').unwrap();
            let labels: Vec<&str> = labels.split('|').filter(|label| !label.is_empty()).collect();
            all + &serde_json::json!({"text": text, "labels": labels}).to_string() + "\n"
        },
    );
    std::fs::write(folder.join("train.jsonl"), lists).unwrap();
    let tune = tune.replace("train.csv", "train.jsonl");
    let of_lists = json(&run(folder, &format!("{tune} --epochs 6 --learning-rate 1e-2 --out lists")));
    assert_eq!(of_lists["values"], trained["values"]);
    for (rows, says) in [
        ("{\"text\": \"a\", \"labels\": [[1]]}", "`labels` is a list of something other than names"),
        ("{\"text\": \"a\", \"labels\": [\"a|b\"]}", "names a label with | in it"),
        ("{\"text\": \"a\", \"labels\": []}", "has no row with a label"),
    ] {
        std::fs::write(folder.join("train.jsonl"), rows).unwrap();
        fails(folder, &format!("{tune} --out x").replace("--json", ""), says);
    }
    std::fs::write(folder.join("dev.csv"), "text,labels\na,red|green\n").unwrap();
    fails(folder, "evaluate --model out --file dev.csv", "dev.csv:2: unknown label `green`");
}

#[test]
fn series_with_labels_of_their_steps() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    steps("train", 60, folder);
    steps("dev", 13, folder);
    let tune = "finetune --preset tiny --mixer shift --trunk-seed 3 --quiet --json \
                --series long --series-id series --per-position --learning-rate 1e-2 --dropout 0 --epochs 30";
    let classes = json(&run(
        folder,
        &format!(
            "{tune} --train train-moves.csv --dev dev-moves.csv --label move --ignored-label ? --recipe fpt --adapter --out moves"
        ),
    ));
    assert!(classes["values"]["accuracy"].as_f64().unwrap() > 0.9, "{classes}");
    let judged = json(&run(folder, "evaluate --model moves --file dev-moves.csv --json"));
    assert_eq!(judged["accuracy"], classes["values"]["accuracy"]);
    let moves = std::fs::read_to_string(folder.join("dev-moves.csv")).unwrap();
    let asked = moves.lines().skip(1).filter(|row| !row.contains('?')).count();
    assert_eq!(judged["predictions"], asked);
    let numbers = json(&run(
        folder,
        &format!("{tune} --train train-sums.csv --dev dev-sums.csv --label sum --regression --out sums"),
    ));
    assert!(numbers["values"]["pearson"].as_f64().unwrap() > 0.95, "{numbers}");
    let off = |results: &serde_json::Value, of: &str| results[of]["mean_absolute_error"].as_f64().unwrap();
    assert!(off(&numbers, "values") < 0.5 * off(&numbers, "floor"), "{numbers}");
    let tune = tune.replace(" --learning-rate 1e-2 --dropout 0 --epochs 30", " --recipe ridge");
    let ridge = json(&run(
        folder,
        &format!("{tune} --train train-sums.csv --dev dev-sums.csv --label sum --regression --out ridge"),
    ));
    assert!(ridge["values"]["pearson"].as_f64().unwrap() > 0.95, "{ridge}");
    // One answer a step, in the label's units.
    run(folder, "predict --model ridge --input dev-sums.csv --output p.jsonl --quiet");
    let predicted = std::fs::read_to_string(folder.join("p.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(predicted.lines().next().unwrap()).unwrap();
    let first: Vec<f64> =
        first["prediction"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
    let rows = std::fs::read_to_string(folder.join("dev-sums.csv")).unwrap();
    let expected = rows.lines().skip(1).take_while(|row| row.starts_with("0,"));
    let expected: Vec<f64> = expected.map(|row| row.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(first.len(), expected.len());
    assert!(first.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2.0), "{first:?} {expected:?}");
    run(folder, "predict --model moves --input dev-moves.csv --output p.csv --quiet");
    let predicted = std::fs::read_to_string(folder.join("p.csv")).unwrap();
    let said: Vec<&str> = predicted.lines().nth(1).unwrap().split_once(',').unwrap().1.split(' ').collect();
    assert!(said.len() == expected.len() && said.iter().all(|m| ["up", "down"].contains(m)), "{said:?}");
    std::fs::write(folder.join("bad.csv"), moves.replace(",up\n", ",left\n")).unwrap();
    fails(folder, "evaluate --model moves --file bad.csv", "class `left` is not among down, up");
    std::fs::write(folder.join("bad.csv"), "series,a,b,sum\n0,1,2,x\n").unwrap();
    fails(folder, "evaluate --model sums --file bad.csv", "line 2: `x` is no number");
}

#[test]
fn arrays_with_several_labels_or_labels_of_steps() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (count, steps) = (48, 5);
    let value = |i: usize, step: usize| ((i * 13 + step * 7 + i * step) % 11) as f32 - 5.0;
    let values: Vec<f32> = (0..count).flat_map(|i| (0..steps).map(move |step| value(i, step))).collect();
    npy(&folder.join("X.npy"), "(48, 5)", &values);
    let first = |i: usize, k: usize| if value(i, k) > 0.0 { 1.0 } else { 0.0 };
    let labels: Vec<f32> = (0..count).flat_map(|i| [first(i, 0), first(i, 1)]).collect();
    npy(&folder.join("y.npy"), "(48, 2)", &labels);
    let tune = "finetune --preset tiny --mixer mlp --quiet --json --train X.npy --dev X.npy --learning-rate 1e-2 \
                --dropout 0 --epochs 60";
    let results = json(&run(folder, &format!("{tune} --multi-label --out labels")));
    assert!(results["values"]["micro_f1"].as_f64().unwrap() > 0.9, "{results}");
    assert!(results["floor"]["micro_f1"].as_f64().unwrap() < 0.75, "{results}");
    // A label that nothing has in training is one all the same.
    let third: Vec<f32> = (0..count).flat_map(|i| [first(i, 0), 0.0, first(i, 1)]).collect();
    npy(&folder.join("y.npy"), "(48, 3)", &third);
    run(
        folder,
        &format!("{tune} --multi-label --overwrite --epochs 1 --out labels").replace("--epochs 60", ""),
    );
    run(folder, "predict --model labels --input X.npy --output p.csv --quiet");
    assert!(
        std::fs::read_to_string(folder.join("p.csv")).unwrap().starts_with("index,prediction,p_0,p_1,p_2\n")
    );
    npy(&folder.join("y.npy"), "(48, 5)", &values.iter().map(|v| f32::from(*v > 0.0)).collect::<Vec<_>>());
    let results = json(&run(folder, &format!("{tune} --per-position --out signs")));
    assert!(results["values"]["accuracy"].as_f64().unwrap() > 0.95, "{results}");
    fails(folder, "finetune --preset tiny --train X.npy --out x", "y.npy: has labels of shape [48, 5]");
    npy(&folder.join("y.npy"), "(48, 2)", &labels.iter().map(|v| v * 2.0).collect::<Vec<_>>());
    fails(folder, "finetune --preset tiny --train X.npy --multi-label --out x", "has 2 among labels");
}
