//! Tables of tasks, substrates and recipes.

mod common;

use common::{fails, json, run};

#[test]
fn a_table_has_every_cell_and_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let row =
        |i: u32| format!("{},{},{},{}\n", i % 5, i * i % 7, i % 3, if i % 5 > 2 { "high" } else { "low" });
    let rows: String = (0..40).map(row).collect();
    std::fs::write(folder.join("steps.csv"), format!("a,b,c,start\n{rows}")).unwrap();
    std::fs::write(
        folder.join("mnist-1d.toml"),
        "train = \"steps.csv\"\ndev = \"steps.csv\"\nseries = \"wide\"\nlabel = \"start\"\n",
    )
    .unwrap();
    std::fs::write(folder.join("text.txt"), "one two three four\n\nfive six seven eight nine\n".repeat(80))
        .unwrap();
    std::fs::write(folder.join("rows.csv"), "text,label\none two,a\nfive six,b\n".repeat(20)).unwrap();
    std::fs::write(
        folder.join("words.toml"),
        "train = \"rows.csv\"\ndev = \"rows.csv\"\ntext = [\"text\"]\nlabel = \"label\"\nsteps = 3\n",
    )
    .unwrap();
    let table = "universal --tasks mnist-1d.toml words.toml --corpus text.txt --valid text.txt --pretrain-steps 3 \
                 --vocab-size 60 --seq-len 48 --mixers fourier --recipes ridge,fpt,full --learning-rates 1e-3,1e-2 --steps 3 \
                 --seeds 2 --random-features 30 --out table --json";
    let found = json(&run(folder, table));
    let cells = found["cells"].as_array().unwrap();
    // Of both tasks two trunks by three recipes, and of series two baselines.
    assert_eq!(cells.len(), 2 * 6 + 2, "{found}");
    for cell in cells {
        assert_eq!(cell["scores"].as_array().unwrap().len(), 2, "{cell}");
        assert!(cell["failures"].as_array().unwrap().is_empty(), "{cell}");
        let rates = if cell["recipe"] == "ridge" { 0 } else { 2 };
        assert_eq!(cell["tried"].as_array().unwrap().len(), rates, "{cell}");
    }
    let page = std::fs::read_to_string(folder.join("table/report.html")).unwrap();
    assert!(page.contains("Published figures") && page.contains("Pareto front") && !page.contains("<script"));
    // What is done is found again.
    let place = folder.join("table/runs/mnist-1d/fourier-fpt/seed-1");
    let kept: Vec<_> = place.read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
    std::fs::remove_file(place.join("results.json")).unwrap();
    assert_eq!(json(&run(folder, table))["cells"].as_array().unwrap().len(), cells.len());
    fails(folder, &table.replace("--steps 3", "--steps 4"), "begun with other settings");
}

#[test]
fn what_cannot_be_is_said_before_anything_runs() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("a.toml"), "task = \"bit-xor\"\nlearning_rate = 0.1\n").unwrap();
    std::fs::write(folder.join("b.toml"), "tusk = \"bit-xor\"\n").unwrap();
    std::fs::write(folder.join("rows.csv"), "text,label\na,b\n").unwrap();
    std::fs::write(folder.join("c.toml"), "train = \"rows.csv\"\ntext = [\"text\"]\nlabel = \"label\"\n")
        .unwrap();
    std::fs::write(folder.join("d.toml"), "train = \"rows.csv\"\nseries = \"wide\"\nlabel = \"label\"\n")
        .unwrap();
    for (flags, says) in [
        ("", "name one or more tasks"),
        ("--task bit-xor --task bit-xor", "given twice"),
        ("--task nothing", "nothing"),
        ("--task mnist=missing", "missing"),
        ("--tasks a.toml", "decided by the table"),
        ("--tasks b.toml", "unknown setting `tusk`"),
        ("--tasks c.toml", "vocabulary of texts: comes from --corpus"),
        ("--tasks d.toml", "task d: --evaluations: there is nothing to evaluate on"),
        ("--task sst2", "vocabulary of texts"),
        ("--task bit-xor --mixers wrong", "wrong"),
        ("--task bit-xor --learning-rates 0", "learning-rates"),
        ("--task bit-xor --pretrain-steps 3", "--corpus"),
        ("--task bit-memory --task bit-xor --preset huge", "huge"),
    ] {
        fails(folder, &format!("universal {flags} --out x"), says);
        assert!(!folder.join("x/runs").exists());
    }
}
