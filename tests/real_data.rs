//! Readers on real GLUE files, if they are next to the checkout; otherwise the tests say that they are skipped.

mod common;

use std::path::PathBuf;

use fnet_train::data::corpus::documents::{Documents, Piece};
use fnet_train::data::tasks::glue::GlueTask;
use fnet_train::data::tasks::rows;

fn shared(path: &str) -> Option<PathBuf> {
    let path = common::root().join("../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not here", path.display());
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
    let mut documents = Documents::open(&[path]).unwrap();
    let (mut paragraphs, mut books, mut inside) = (0, 0, false);
    while let Some(piece) = documents.next_piece().unwrap() {
        match piece {
            Piece::Paragraph(_) => {
                paragraphs += 1;
                inside = true;
            }
            Piece::EndOfDocument => books += usize::from(std::mem::take(&mut inside)),
        }
    }
    assert_eq!((paragraphs, books), (20_272, 4));
}
