//! Readers of untrusted files against damaged ones: whatever is in a file, it is opened or refused with one line,
//! without a panic and without much memory. `FNET_FUZZ=1000000` runs longer than the few thousand files of a test.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::root;
use fnet_encoder::{Batch, Workspace, pretrained};
use fnet_train::tokenizer::Tokenizer;
use peak_alloc::PeakAlloc;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// More than any file here may take: the largest has 40 kB.
const MOST_MEGABYTES: f32 = 64.0;

/// A seed with some bytes changed, cut out, repeated or taken from another.
fn damaged(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(0..64)).min(bytes.len());
        match random.random_range(0..9) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = seeds.choose(random).unwrap();
                let from = random.random_range(0..other.len());
                let part = other[from..(from + end - at).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let extreme =
                    *[0_u64, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 62, u64::MAX].choose(random).unwrap();
                let width = (bytes.len() - at).min(*[4, 8].choose(random).unwrap());
                bytes[at..at + width].copy_from_slice(&extreme.to_le_bytes()[..width]);
            }
            // Text: another number, or another kind of value.
            7 => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                if let Some(place) = digits.choose(random) {
                    let number =
                        *["0", "-1", "99999999999999999999", "4000000000", "1e400"].choose(random).unwrap();
                    bytes.splice(place..=place, number.bytes());
                }
            }
            _ => {
                let value = *["null", "[]", "{}", "\"\"", "true", "\\u0000", "[[[[["].choose(random).unwrap();
                bytes.splice(at..end, value.bytes());
            }
        }
    }
    bytes
}

/// Damages the file of this name in a folder that opens, over and over.
fn fuzz(name: &str, seeds: &[Vec<u8>], folder: &Path, open: impl Fn(&Path) -> Result<(), String>) {
    let runs: u64 = std::env::var("FNET_FUZZ").map_or(1_500, |n| n.parse().unwrap());
    let path = folder.join(name);
    std::fs::write(&path, &seeds[0]).unwrap();
    open(folder).unwrap_or_else(|e| panic!("{name}: the first seed opens: {e}"));
    let mut refused = 0;
    for run in 0..runs {
        let bytes = damaged(&mut ChaCha8Rng::seed_from_u64(run), seeds);
        std::fs::write(&path, &bytes).unwrap();
        MEMORY.reset_peak_usage();
        let opened = catch_unwind(AssertUnwindSafe(|| open(folder)));
        let megabytes = MEMORY.peak_usage_as_mb();
        assert!(opened.is_ok(), "{name}: run {run} panicked");
        assert!(megabytes < MOST_MEGABYTES, "{name}: run {run} took {megabytes} MB");
        if let Ok(Err(message)) = opened {
            refused += 1;
            assert!(!message.contains('\n') && message.len() < 4_000, "{name}: run {run}: {message}");
        }
    }
    assert!(refused > runs / 20, "{name}: {refused} of {runs} were refused: is it read at all?");
}

/// Opens a model and runs it on a sequence.
fn model(path: &Path) -> Result<(), String> {
    let model = pretrained::open(path).map_err(|e| e.to_string())?;
    let (mut batch, mut w) = (Batch::new(), Workspace::new());
    batch.push(&[2, 1, 3], &[0, 0, 0]);
    model.forward(&batch, None, &mut w).map_err(|e| e.to_string())?;
    model.first_tokens(&batch, &mut w);
    pretrained::inspect(path).map(drop).map_err(|e| e.to_string())
}

/// One test, as it measures the memory of the whole process.
#[test]
fn damaged_files_are_opened_or_refused() {
    let examples = root().join("tests/parity/examples");
    let read = |name: &str| std::fs::read(examples.join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    std::fs::write(folder.join("model.safetensors"), read("mlm_odd/model.safetensors")).unwrap();
    let configs = ["mlm_odd", "bert", "regression", "reservoir", "classification"];
    let configs = configs.map(|name| read(&format!("{name}/config.json")));
    fuzz("config.json", &configs, folder, model);
    std::fs::write(folder.join("config.json"), &configs[0]).unwrap();
    let weights = ["mlm_odd", "regression"].map(|name| read(&format!("{name}/model.safetensors")));
    // Mostly the header, where everything but values stands.
    fuzz("model.safetensors", &weights, folder, model);
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    let archives = ["pytorch_model", "half", "object", "old"].map(|name| read(&format!("files/{name}.bin")));
    fuzz("pytorch_model.bin", &archives, folder, model);
    std::fs::remove_file(folder.join("pytorch_model.bin")).unwrap();
    for shard in 1..=4 {
        let name = format!("model-0000{shard}-of-00004.safetensors");
        std::fs::write(folder.join(&name), read(&format!("files/shards/{name}"))).unwrap();
    }
    let index = [read("files/shards/model.safetensors.index.json")];
    fuzz("model.safetensors.index.json", &index, folder, model);

    let texts = ["The fox.", "\u{ff21}\u{fb01} cafe\u{301} \u{2122}", "", "[MASK] \u{1f600}\u{200d}"];
    fuzz("spiece.model", &[read("files/spiece.model")], folder, |folder| {
        let tokenizer = Tokenizer::of_folder(folder).map_err(|e| e.to_string())?;
        texts.iter().try_for_each(|text| tokenizer.encode(text).map(drop).map_err(|e| e.to_string()))
    });
    fuzz("tokenizer_config.json", &[read("files/tokenizer_config.json")], folder, |folder| {
        Tokenizer::read(&examples.join("files/spiece.model")).map_err(|e| e.to_string())?;
        std::fs::write(folder.join("spiece.model"), read("files/spiece.model")).unwrap();
        Tokenizer::of_folder(folder).map(drop).map_err(|e| e.to_string())
    });
}
