//! Readers on real GLUE files, if they are next to the checkout, and always on files in the shape of each.

mod common;

use std::io::Write;
use std::path::PathBuf;

use fnet_train::data::corpus::documents::{Documents, Piece};
use fnet_train::data::tasks::glue::{GlueTask, TASKS};
use fnet_train::data::tasks::rows;

fn shared(path: &str) -> Option<PathBuf> {
    let path = common::root().join("../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    // Not by a macro: what these print of a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {} is not here", path.display());
    None
}

#[test]
fn glue_files_have_the_rows_they_should() {
    for (task, folder, [train, dev, test]) in [
        ("cola", "CoLA", [8_551, 1_043, 1_063]),
        ("sst2", "SST-2", [67_349, 872, 0]),
        ("mrpc", "MRPC", [3_668, 408, 0]),
        ("stsb", "STS-B", [5_749, 1_500, 0]),
        ("rte", "RTE", [2_490, 277, 3_000]),
    ] {
        let Some(folder) = shared(&format!("glue/{folder}")) else { return };
        let task = GlueTask::named(task).unwrap();
        for (file, expected, labelled) in
            [("train.tsv", train, true), ("dev.tsv", dev, true), ("test.tsv", test, false)]
        {
            if expected == 0 {
                continue;
            }
            let found = rows::read(&folder.join(file), &task.columns(file), labelled, |row| {
                assert!(!row.first.is_empty());
                assert_eq!(row.second.is_some(), task.text.len() == 2);
                if labelled && !task.is_regression() {
                    assert!(task.labels.contains(&row.label.as_deref().unwrap()), "{row:?}");
                }
                Ok(())
            });
            assert_eq!(found.unwrap(), expected, "{} {file}", task.name);
        }
    }
}

#[test]
fn a_real_corpus_is_read_whole() {
    let Some(path) = shared("corpus/novels-valid.txt.zst") else { return };
    assert_eq!(count(path), (20_272, 4));
}

/// Paragraphs and documents of a corpus.
fn count(path: PathBuf) -> (usize, usize) {
    let mut documents = Documents::open(&[path]).unwrap();
    let (mut paragraphs, mut documents_read, mut inside) = (0, 0, false);
    while let Some(piece) = documents.next_piece().unwrap() {
        match piece {
            Piece::Paragraph(_) => {
                paragraphs += 1;
                inside = true;
            }
            Piece::EndOfDocument => documents_read += usize::from(std::mem::take(&mut inside)),
        }
    }
    (paragraphs, documents_read)
}

/// The header of each task's files and a row of them, as the GLUE server gives them out.
const SHAPES: [(&str, &str, &str); 9] = [
    ("cola", "", "gj04\t1\t\tThe \"first\" text."),
    ("sst2", "sentence\tlabel", "the first text \t1"),
    ("mrpc", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tThe \"first.\tThe second."),
    (
        "stsb",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tnews\tfile\t2012\t1\tnone\tnone\tThe first.\tThe second.\t2.500",
    ),
    ("qqp", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t2\t3\tThe first?\tThe second?\t0"),
    (
        "mnli",
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t\
         sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
        "0\t1\t2\tg\t(p)\t(p)\t(p)\t(p)\tThe first.\tThe second.\tneutral\tneutral",
    ),
    ("qnli", "index\tquestion\tsentence\tlabel", "0\tThe first?\tThe second.\tnot_entailment"),
    ("rte", "index\tsentence1\tsentence2\tlabel", "0\tThe first.\tThe second.\tentailment"),
    ("wnli", "index\tsentence1\tsentence2\tlabel", "0\tThe first.\tThe second.\t1"),
];

#[test]
fn files_in_the_shape_of_every_task_are_read() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(SHAPES.len(), TASKS.len());
    for (name, header, row) in SHAPES {
        let task = GlueTask::named(name).unwrap();
        let header = if header.is_empty() { String::new() } else { format!("{header}\n") };
        // Windows line ends, and none at the end of the file.
        let text = format!("{header}{row}\n{row}\n{row}").replace('\n', "\r\n");
        for file in std::iter::once(&task.train).chain(task.dev) {
            let path = place.path().join(file);
            std::fs::write(&path, &text).unwrap();
            let mut read = Vec::new();
            let count = rows::read(&path, &task.columns(file), true, |row| {
                read.push(row);
                Ok(())
            });
            assert_eq!(count.unwrap(), 3, "{name} {file}");
            for row in read {
                assert!(
                    row.first.to_lowercase().starts_with("the") && row.first.contains("first"),
                    "{row:?}"
                );
                let second = row.second.as_deref();
                assert_eq!(
                    second.is_some_and(|s| s.starts_with("The second")),
                    task.text.len() == 2,
                    "{row:?}"
                );
                task.class_labels().parse(&path, row.line, row.label.as_deref().unwrap()).unwrap();
            }
        }
    }
}

#[test]
fn a_compressed_corpus_is_read_whole() {
    let plain = std::fs::read(common::sample("corpus/train.txt")).unwrap();
    let lines: Vec<&[u8]> = plain.split(|byte| *byte == b'\n').collect();
    let is_empty = |line: &&[u8]| line.trim_ascii().is_empty();
    let paragraphs = lines.iter().filter(|line| !is_empty(line)).count();
    let documents = lines.chunk_by(|a, b| is_empty(a) == is_empty(b)).filter(|c| !is_empty(&c[0])).count();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("corpus.txt.zst");
    std::fs::write(&path, zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
    assert_eq!(count(path), (paragraphs, documents));
}
