//! Forecasts of series.

mod common;

use std::path::Path;

use common::{fails, json, run};
use serde_json::Value;

/// Two sines with a date beside them, as CSV.
fn sines(folder: &Path, steps: usize) {
    let rows = (0..steps).map(|t| {
        let x = t as f64;
        format!("day {t},{},{}\n", (0.2 * x).sin(), 5.0 + 3.0 * (0.31 * x).cos())
    });
    std::fs::write(folder.join("sines.csv"), format!("date,a,b\n{}", rows.collect::<String>())).unwrap();
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

#[test]
fn columns_are_forecast_and_carried_on() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    sines(folder, 600);
    let command = "forecast --series sines.csv --units 60 --quiet --json";
    let found =
        json(&run(folder, &format!("{command} --free 50 --ahead 20 --seeds 2 --threads 1 --out one")));
    assert_eq!(found["channels"], serde_json::json!(["a", "b"]), "the date is left out");
    assert!(number(&found, "/nrmse/mean") < 0.01 && number(&found, "/free/nrmse/mean") < 0.1, "{found}");
    assert!(number(&found, "/nrmse_of_last_value") > 0.1);
    assert_eq!(number(&found, "/free/valid_steps/mean"), 50.0);
    // What comes after the end, in the units of the file.
    let future = std::fs::read_to_string(folder.join("one/future.csv")).unwrap();
    assert_eq!(future.lines().count(), 21);
    for (i, row) in future.lines().skip(1).enumerate() {
        let values: Vec<f64> = row.split(',').map(|v| v.parse().unwrap()).collect();
        let t = (600 + i) as f64;
        assert_eq!(values[..2], [0.0, t]);
        assert!(
            (values[2] - (0.2 * t).sin()).abs() < 0.1
                && (values[3] - 5.0 - 3.0 * (0.31 * t).cos()).abs() < 0.3
        );
    }
    let rows = std::fs::read_to_string(folder.join("one/forecast.csv")).unwrap();
    assert!(rows.starts_with("series,step,truth_a,truth_b,forecast_a,forecast_b\n0,480,"), "{}", &rows[..99]);
    assert!(std::fs::read_to_string(folder.join("one/report.html")).unwrap().contains("<svg"));
    // The same bytes at any number of threads, and from the settings alone.
    run(folder, &format!("{command} --free 50 --ahead 20 --seeds 2 --threads 3 --out three"));
    run(folder, "forecast --config one/forecast.toml --quiet --out again");
    for file in ["forecast.csv", "free-runs.csv", "future.csv", "forecast.toml"] {
        let [one, three, again] =
            ["one", "three", "again"].map(|out| std::fs::read(folder.join(out).join(file)).unwrap());
        assert!(one == three && one == again, "{file}");
    }
    // Nothing of an earlier forecast stays beside another.
    run(folder, "forecast --series sines.csv --units 20 --quiet --overwrite --out again");
    assert!(!folder.join("again/future.csv").exists() && !folder.join("again/free-runs.csv").exists());
    // Several steps ahead, and a column that another drives.
    let far = json(&run(folder, &format!("{command} --columns a --horizon 5 --out far")));
    assert!(number(&far, "/nrmse/mean") < 0.05, "{far}");
    let driven = json(&run(folder, &format!("{command} --inputs a --columns b --washout 50 --out driven")));
    assert_eq!((number(&driven, "/horizon"), &driven["nrmse_of_last_value"]), (0.0, &Value::Null));
}

#[test]
fn every_method_and_system() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, flags, most) in [
        ("mackey-glass", "--steps 2500 --units 100 --test 500", 0.01),
        ("lorenz", "--steps 2000 --method nvar --penalty 1e-8", 0.001),
        ("rossler", "--steps 2000 --units 100 --precision f32 --penalty 1e-2", 0.05),
        ("henon", "--steps 1000 --method nvar --delays 1 --penalty 1e-9", 1e-4),
        ("narma-10", "--steps 2000 --units 150 --leak 1 --input-scale 0.1", 0.6),
        ("mackey-glass", "--steps 1500 --units 50 --online 0.9999", 0.05),
        ("mackey-glass", "--steps 1500 --units 50 --layers 2 --arrangement parallel --squares", 0.02),
        ("mackey-glass", "--steps 1500 --units 100 --feedback 0.3 --free 20", 0.02),
    ] {
        let command = format!("forecast --system {name} {flags} --quiet --json --overwrite --out out");
        let found = json(&run(folder, &command));
        assert!(number(&found, "/nrmse/mean") < most, "{name} {flags}: {found}");
    }
    // Mackey-Glass one step ahead with 100 units: reservoirpy's README has R² 0.9999.
    let found = json(&run(
        folder,
        "forecast --system mackey-glass --steps 2500 --units 100 --test 500 --quiet --json --out r",
    ));
    assert!(number(&found, "/r2/mean") > 0.9999, "{found}");
    // A search finds nothing worse than it tried, and says what it was.
    let command = "forecast --system henon --steps 600 --units 40 --search 8 --quiet --json --out search";
    let found = json(&run(folder, command));
    let trials = found["trials"].as_array().unwrap();
    let least = trials.iter().filter_map(|trial| trial["nrmse"].as_f64()).fold(f64::MAX, f64::min);
    let best = trials.iter().find(|trial| trial["nrmse"].as_f64() == Some(least)).unwrap();
    assert_eq!(trials.len(), 8);
    assert_eq!(best["settings"][0][1], found["settings"]["penalty"]);
    assert!(number(&found, "/nrmse/mean") < 1.5 * least, "{least} {found}");
}

#[test]
fn arrays_and_archives_of_series() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let series: Vec<f64> = (0..900).map(|t| ((t % 300) as f64 * 0.2 + (t / 300) as f64).sin()).collect();
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 300, 1), }\n";
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(series.iter().flat_map(|v| v.to_le_bytes()));
    std::fs::write(folder.join("three.npy"), file).unwrap();
    let command = "forecast --units 40 --washout 20 --quiet --json --ahead 3";
    let found = json(&run(folder, &format!("{command} --series three.npy --out npy")));
    assert_eq!(found["steps"], serde_json::json!([720, 180]));
    assert!(number(&found, "/nrmse/mean") < 0.02, "{found}");
    let rows =
        series.chunks(300).map(|one| one.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    let text: String = rows.map(|row| row + ":a\n").collect();
    std::fs::write(folder.join("three.ts"), format!("@problemName x\n@classLabel true a\n@data\n{text}"))
        .unwrap();
    let found = json(&run(folder, &format!("{command} --series three.ts --out ts")));
    assert!(number(&found, "/nrmse/mean") < 0.02, "{found}");
    let future = std::fs::read_to_string(folder.join("ts/future.csv")).unwrap();
    assert_eq!(future.lines().filter(|row| row.starts_with("2,30")).count(), 3);
}

#[test]
fn what_cannot_be_forecast_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    sines(folder, 125);
    std::fs::write(folder.join("still.csv"), "a\n".to_string() + &"3\n".repeat(300)).unwrap();
    std::fs::write(folder.join("gap.csv"), "a\n1\n2\nnan\n4\n").unwrap();
    std::fs::write(folder.join("words.csv"), "a\nx\n").unwrap();
    std::fs::write(folder.join("a.txt"), "1\n2\n").unwrap();
    std::fs::write(folder.join("twice.csv"), "a,a\n1,2\n").unwrap();
    for (flags, says) in [
        ("--series sines.csv", "125 steps are too few: 25 are held out (--test), 100 are left out"),
        ("--series still.csv", "`a` is constant: there is nothing to forecast"),
        ("--series gap.csv", "gap.csv:4: `nan` is no number"),
        ("--series words.csv", "words.csv:2: has no number"),
        ("--series a.txt", "is no file of series: .csv, .tsv, .npy and .ts are read"),
        ("--series missing.csv", "missing.csv: No such file"),
        ("--series sines.csv --columns c", "has no column `c`; its columns are `date`, `a`, `b`"),
        ("--series sines.csv --inputs a", "--columns: name what is forecast from --inputs"),
        ("--series sines.csv --washout 10 --free 30", "--free 30: is more than the 25 steps held out"),
        ("--system narma-10 --free 10", "--free: the inputs that drive the series are not known ahead"),
        ("--system henon --horizon 0", "--horizon 0: must be from 1"),
        ("--system henon --units 0", "--units 0: must be from 1"),
        ("--system henon --leak 2", "--leak 2: must be above 0 and at most 1"),
        ("--system henon --radius=-1", "--radius -1: must be from 0"),
        ("--system henon --online 0", "--online: must be above 0"),
        (
            "--system henon --method nvar --order 9 --delays 9",
            "--order 9: 18 values have more than 50000 products",
        ),
        ("--system henon --steps 200 --units 300 --penalty 0", "singular at penalty 0"),
        ("--system henon --units 1000000", "GB are free"),
        ("--system henon --columns x", "--columns, --inputs: are of files"),
        ("--system henon --tau 30", "--tau: is of mackey-glass"),
        ("--system henon --feedback 0.5 --horizon 3", "--feedback: is of forecasts one step ahead"),
        ("--system henon --method nvar --radius 0.5", "--radius: is of echo state networks"),
        ("--system henon --method nvar --delays 10000 --stride 10000", "--washout 99990000: must be from 0"),
        ("--series sines.csv --inputs a,b --columns a --washout 10", "--columns, --inputs a: drives itself"),
        ("--series twice.csv --columns a", "has several columns `a`"),
        ("", "give --series, a file of series, or --system"),
    ] {
        fails(folder, &format!("forecast {flags} --quiet --out x"), says);
    }
    assert!(!folder.join("x").exists(), "nothing is left of what failed");
    run(folder, "forecast --system henon --steps 500 --units 20 --quiet --out x");
    fails(folder, "forecast --system henon --quiet --out x", "holds another forecast");
    fails(folder, "forecast --system henon --quiet --overwrite --out .", "holds other files");
}
