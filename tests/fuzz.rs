//! Readers of untrusted files against damaged ones: whatever is in a file, it is opened or refused with one line,
//! without a panic and without much memory. `FNET_FUZZ=1000000` runs longer than the few thousand files of a test.

mod common;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::root;
use fnet_encoder::{Batch, Head, Mode, Model, ModelConfig, Workspace, pretrained};
use fnet_train::base_model::{BaseModel, TrunkPlace};
use fnet_train::data::signals::symbols::Alphabet;
use fnet_train::data::signals::words::WordFile;
use fnet_train::data::signals::{self, Asked, Layout, Options, Place, Purpose, Signal};
use fnet_train::data::tasks::classes::Classes;
use fnet_train::data::tasks::rows::{self, Column, Columns};
use fnet_train::data::tokenizer::Tokenizer;
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
    model.forward(&batch, Mode::Infer, &mut w).map_err(|e| e.to_string())?.first_tokens();
    pretrained::inspect(path).map(drop).map_err(|e| e.to_string())
}

/// An archive as PyTorch writes it.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[0; 64][..])] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Pickles of a few megabytes that recall one large thing hundreds of thousands of times.
fn swelling_pickles() -> [Vec<u8>; 2] {
    let tensor = |shape: &[u8]| {
        let storage =
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ";
        [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], b"K\x00", shape, shape, b"\x89NtR"].concat()
    };
    // A name of a megabyte for every entry of the dictionary.
    let mut names = b"\x80\x02X\x00\x00\x10\x00".to_vec();
    names.resize(names.len() + (1 << 20), b'a');
    names.extend(b"q\x00");
    names.extend(tensor(b"K\x01\x85"));
    names.extend(b"q\x01}(");
    names.extend(b"h\x00h\x01".repeat(500_000));
    names.extend(b"u.");
    // A tensor of half a million axes for every entry.
    let mut axes = b"\x80\x02(".to_vec();
    axes.extend(b"K\x01".repeat(500_000));
    axes.extend(b"tq\x00");
    axes.extend(tensor(b"h\x00"));
    axes.extend(b"q\x01}(");
    for i in 0..50_000_u32 {
        axes.extend(b"X\x04\x00\x00\x00");
        axes.extend(i.to_be_bytes().map(|b| b % 100 + b'!'));
        axes.extend(b"h\x01");
    }
    axes.extend(b"u.");
    [names, axes]
}

/// Opens signals and reads all of them.
fn read_signals(path: &Path, options: &Options) -> Result<(), String> {
    let source = signals::open(&Place::from(path), Purpose::Learn(options)).map_err(|e| e.to_string())?;
    let mut signal = Signal::default();
    (0..source.len()).for_each(|index| source.read(0, index, &mut signal).unwrap());
    Ok(())
}

/// Files of signals.
fn signals(folder: &Path) {
    let options = Options { patch: 2, ..Options::default() };
    let open = |name: &str| read_signals(&folder.join(name), &options);
    let images = [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 4][..], &[7; 48]].concat();
    let labels = vec![0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1];
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&images).unwrap();
    let packed = packed.finish().unwrap();
    std::fs::write(folder.join("labels.idx"), &labels).unwrap();
    fuzz("images.idx", &[images.clone(), packed], folder, |_| open("images.idx"));
    std::fs::write(folder.join("images.idx"), &images).unwrap();
    fuzz("labels.idx", &[labels], folder, |_| open("images.idx"));
    let series =
        b"@problemName a\n@timestamps false\n@classLabel true x y\n@data\n1,2.5:-3,4e2:x\n0,1,2:3,4,5:y\n";
    fuzz("series.ts", &[series.to_vec(), b"@classLabel true 1\r\n@data\r\n1:1\r\n".to_vec()], folder, |_| {
        open("series.ts")
    });
    std::fs::write(folder.join("y.npy"), npy("|u1", "(2,)", &[1, 0])).unwrap();
    let array = npy("<f4", "(2, 3, 2)", &[0, 0, 128, 63].repeat(12));
    fuzz("x.npy", &[array.clone(), npy("<i8", "(2, 3)", &[3; 48])], folder, |_| open("x.npy"));
    std::fs::write(folder.join("x.npy"), array).unwrap();
    fuzz("y.npy", &[npy("|u1", "(2,)", &[1, 0])], folder, |_| open("x.npy"));
}

/// An array as NumPy writes it.
fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let len = (header.len() as u16).to_le_bytes();
    [&b"\x93NUMPY\x01\x00"[..], &len, header.as_bytes(), bytes].concat()
}

/// Pictures and sounds, and archives of them.
fn pictures_and_sounds(folder: &Path) {
    let options = Options { patch: 1, ..Options::default() };
    let picture = |format, side: u32| {
        let image = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 90]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (png, jpeg) = (picture(image::ImageFormat::Png, 12), picture(image::ImageFormat::Jpeg, 12));
    let (pictures, sounds) = (folder.join("pictures"), folder.join("sounds"));
    for path in [pictures.join("a"), pictures.join("b"), sounds.clone()] {
        std::fs::create_dir_all(path).unwrap();
    }
    std::fs::write(pictures.join("a/1.png"), &png).unwrap();
    fuzz("pictures/b/1.jpg", std::slice::from_ref(&jpeg), folder, |_| read_signals(&pictures, &options));
    fuzz("pictures/b/1.jpg", std::slice::from_ref(&png), folder, |_| read_signals(&pictures, &options));
    let zipped = |method| {
        let way = zip::write::SimpleFileOptions::default().compression_method(method);
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in [("a/1.png", &png), ("b/1.jpg", &jpeg)] {
            archive.start_file(name, way).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let archives = [zip::CompressionMethod::Deflated, zip::CompressionMethod::Stored].map(zipped);
    fuzz("pictures.zip", &archives, folder, |_| read_signals(&folder.join("pictures.zip"), &options));
    let sound = |bits, format| {
        let spec =
            hound::WavSpec { channels: 2, sample_rate: 8_000, bits_per_sample: bits, sample_format: format };
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for i in 0..600 {
            match format {
                hound::SampleFormat::Int => writer.write_sample(i % 90).unwrap(),
                hound::SampleFormat::Float => writer.write_sample(i as f32 / 600.0).unwrap(),
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    };
    let seeds = [
        sound(16, hound::SampleFormat::Int),
        sound(8, hound::SampleFormat::Int),
        sound(32, hound::SampleFormat::Float),
    ];
    std::fs::write(sounds.join("a_1.wav"), &seeds[0]).unwrap();
    fuzz("sounds/b_1.wav", &seeds, folder, |_| read_signals(&sounds, &options));
}

/// Tables of series, and rows of symbols.
fn tables(folder: &Path) {
    let columns = |text: &[&str]| Columns {
        text: text.iter().map(|name| Column::name(name)).collect(),
        label: Some(Column::name("y")),
        header: true,
        skip_ragged: false,
        several_labels: false,
    };
    let wide = Options { layout: Some(Layout::Wide), columns: Some(columns(&[])), ..Options::default() };
    let long = Options { layout: Some(Layout::Long), series_id: Some("id".into()), ..wide.clone() };
    for (name, seed, options) in [
        ("wide.csv", &b"y,a,b,c\nup,1,2,3\ndown,3,2.5,\n"[..], &wide),
        ("long.csv", b"id,y,a,b\n1,up,1,2\n1,up,2,3\n7,down,3,4\n", &long),
    ] {
        fuzz(name, &[seed.to_vec()], folder, |_| read_signals(&folder.join(name), options));
    }
    let symbols = Options {
        columns: Some(columns(&["x"])),
        alphabet: Some(Alphabet::Characters(Vec::new())),
        asked: Asked::Positions,
        ..Options::default()
    };
    let seed = b"{\"x\": \"MA\xC3\xA9\", \"y\": \"H-E\"}\n{\"x\": \"A\", \"y\": \"E\"}\n".to_vec();
    fuzz("symbols.jsonl", &[seed], folder, |_| read_signals(&folder.join("symbols.jsonl"), &symbols));
    let tokenizer =
        Tokenizer::from_json(&std::fs::read(root().join("models/mini/tokenizer.json")).unwrap()).unwrap();
    let lists =
        b"{\"x\": [\"Alice\", \"went\"], \"y\": [\"B-P\", \"O\"]}\n{\"x\": [\"in\"], \"y\": [\"O\"]}\n";
    for (name, seed) in
        [("words.conll", &b"Alice NNP B-P\nwent VBD O\n\nin IN O\n"[..]), ("words.jsonl", lists)]
    {
        fuzz(name, &[seed.to_vec()], folder, |_| {
            let options = Options::default();
            let (path, purpose) = (folder.join(name), Purpose::Learn(&options));
            let file = WordFile::open(&path, &columns(&["x"]), &tokenizer, 16, purpose);
            file.map(drop).map_err(|e| e.to_string())
        });
    }
}

/// An adapter on a random trunk.
fn adapters(folder: &Path) {
    let place = folder.join("adapter");
    std::fs::create_dir(&place).unwrap();
    let config = ModelConfig {
        vocab_size: 1,
        input_width: Some(2),
        hidden_size: 8,
        num_hidden_layers: 1,
        intermediate_size: 8,
        max_position_embeddings: 4,
        type_vocab_size: 1,
        ..ModelConfig::default()
    };
    let model = Model::new(config, Head::Tokens { labels: 2 }, 1).unwrap();
    let is_own = |name: &str| name.contains("classifier") || name.contains("input_projection");
    pretrained::save_adapter(&model, is_own, &TrunkPlace::Seed(1), &place).unwrap();
    let open = |folder: &Path| BaseModel::at(folder).open().map(drop).map_err(|e| e.to_string());
    for name in ["adapter.json", "adapter.safetensors", "config.json"] {
        let whole = std::fs::read(place.join(name)).unwrap();
        fuzz(name, std::slice::from_ref(&whole), &place, open);
        std::fs::write(place.join(name), whole).unwrap();
    }
}

/// The memory of the whole process is measured: the other test here runs other processes.
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
    // Mostly the header, which holds everything but the values.
    fuzz("model.safetensors", &weights, folder, model);
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    let archives = ["pytorch_model", "half", "object", "old"].map(|name| read(&format!("files/{name}.bin")));
    fuzz("pytorch_model.bin", &archives, folder, model);
    for (pickle, says) in swelling_pickles().iter().zip(["a name of 1048576 bytes", "is no tensor"]) {
        std::fs::write(folder.join("pytorch_model.bin"), archive(pickle)).unwrap();
        MEMORY.reset_peak_usage();
        let message = model(folder).unwrap_err();
        assert!(message.contains(says), "{message}");
        let megabytes = MEMORY.peak_usage_as_mb();
        assert!(megabytes < 8.0 * MOST_MEGABYTES, "{megabytes} MB for {} kB", pickle.len() / 1000);
    }
    std::fs::remove_file(folder.join("pytorch_model.bin")).unwrap();
    for shard in 1..=4 {
        let name = format!("model-0000{shard}-of-00004.safetensors");
        std::fs::write(folder.join(&name), read(&format!("files/shards/{name}"))).unwrap();
    }
    let index = [read("files/shards/model.safetensors.index.json")];
    fuzz("model.safetensors.index.json", &index, folder, model);

    let texts = ["The fox.", "\u{ff21}\u{fb01} cafe\u{301} \u{2122}", "", "[MASK] \u{1f600}\u{200d}"];
    let encode = |folder: &Path| {
        let tokenizer = Tokenizer::of_folder(folder).map_err(|e| e.to_string())?;
        texts.iter().try_for_each(|text| tokenizer.encode(text).map(drop).map_err(|e| e.to_string()))
    };
    fuzz("spiece.model", &[read("files/spiece.model")], folder, encode);
    std::fs::remove_file(folder.join("spiece.model")).unwrap();
    let json = Tokenizer::read(&examples.join("files/spiece.model")).unwrap().to_json().unwrap();
    fuzz("tokenizer.json", &[json.into_bytes()], folder, encode);
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    fuzz("tokenizer_config.json", &[read("files/tokenizer_config.json")], folder, |folder| {
        Tokenizer::read(&examples.join("files/spiece.model")).map_err(|e| e.to_string())?;
        std::fs::write(folder.join("spiece.model"), read("files/spiece.model")).unwrap();
        Tokenizer::of_folder(folder).map(drop).map_err(|e| e.to_string())
    });
    std::fs::remove_file(folder.join("spiece.model")).unwrap();
    std::fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfox\n.\n").unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
    let added = br#"{"corona": 8, "[EVENT]": 9}"#.to_vec();
    fuzz("added_tokens.json", &[added], folder, encode);
    std::fs::remove_file(folder.join("added_tokens.json")).unwrap();
    let decoder =
        br#"{"added_tokens_decoder": {"8": {"content": "corona", "special": false, "lstrip": true}},
        "truncation_side": "left", "tokenizer_class": "BertTokenizer", "do_lower_case": false}"#;
    fuzz("tokenizer_config.json", &[decoder.to_vec()], folder, encode);

    let columns = |header| Columns {
        text: vec![Column::name("text")],
        label: Some(Column::name("label")),
        header,
        skip_ragged: false,
        several_labels: false,
    };
    let rows = |folder: &Path, name: &str| {
        let read = |needs_label| rows::read(&folder.join(name), &columns(true), needs_label, |_| Ok(()));
        let _ = Classes::find(&folder.join(name), &columns(true));
        let _ = rows::only_text_column(&folder.join(name));
        read(true).and_then(|_| read(false)).map(drop).map_err(|e| e.to_string())
    };
    let csv = b"text,label\n\"a, \"\"b\"\"\nc\",1\r\nd,0\n".to_vec();
    let tsv = b"label\ttext\n1\t\"a\n0\tb c\r\n".to_vec();
    let jsonl = b"{\"text\": \"a \\u00e9\", \"label\": 1}\n\n{\"label\": true, \"text\": 2.5}\n".to_vec();
    for (name, seeds) in [
        ("rows.csv", [csv.clone(), tsv.clone(), b"text,label\ra,1\r".to_vec()]),
        ("rows.tsv", [tsv, csv, b"label\ttext\r1\tb\r".to_vec()]),
        ("rows.jsonl", [jsonl, b"[{\"text\": 1}]".to_vec(), b"{}".to_vec()]),
    ] {
        fuzz(name, &seeds, folder, |folder| rows(folder, name));
    }
    signals(folder);
    pictures_and_sounds(folder);
    tables(folder);
    adapters(folder);
}

/// A command line that works, with words left out, doubled, swapped, or replaced by nonsense.
fn careless(random: &mut ChaCha8Rng, words: &str) -> Vec<String> {
    const ODD: [&str; 20] = [
        "",
        "0",
        "-1",
        "1",
        "2",
        "NaN",
        "1e308",
        "18446744073709551616",
        "nowhere",
        "model",
        "rows.csv",
        "text",
        "a,b",
        "-",
        "--",
        "--help",
        "é",
        "--json",
        "--quiet",
        "\"",
    ];
    let mut words: Vec<String> = words.split_whitespace().map(String::from).collect();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(1..=words.len().max(2) - 1).min(words.len() - 1);
        match random.random_range(0..4) {
            0 if words.len() > 1 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            2 => {
                let other = random.random_range(0..words.len());
                words.swap(at, other);
            }
            _ => words[at] = (*ODD.choose(random).unwrap()).to_string(),
        }
    }
    words
}

#[test]
fn careless_command_lines_end_with_a_line_and_no_panic() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    common::run(folder, &format!("{} --steps 2 --out model", common::tiny_pretraining()));
    std::fs::write(folder.join("corpus.txt"), "the fox saw the owl and ran\n".repeat(20)).unwrap();
    std::fs::write(folder.join("rows.csv"), "text,label\nthe fox,1\nthe owl,0\n").unwrap();
    let commands = [
        "tokenizer --corpus corpus.txt --vocab-size 40 --out words.json --overwrite",
        "pretrain --corpus corpus.txt --vocab-size 40 --preset tiny --seq-len 16 --steps 1 --overwrite --out run",
        "finetune --model model --train rows.csv --dev rows.csv --text text --label label --steps 1 --overwrite --out tuned",
        "evaluate --model tuned --file rows.csv --text text --label label --batch-tokens 64",
        "predict --model tuned --input rows.csv --output p.csv --text text --overwrite --threads 1",
        "embed --model model --input rows.csv --text text --pooling mean --output e.npy --overwrite",
        "fill-mask --model model --top 2 the[MASK]",
        "convert --model model --head encoder --seed 1 --dtype bfloat16 --out converted --overwrite",
        "inspect model --tensors --json",
    ];
    let runs: u64 = std::env::var("FNET_FUZZ").map_or(108, |n| n.parse().unwrap());
    for run in 0..runs {
        let mut random = ChaCha8Rng::seed_from_u64(run);
        let words = careless(&mut random, commands[run as usize % commands.len()]);
        let mut command = common::fnet(folder, "");
        let output = command.args(&words).stdin(std::process::Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0..=2)), "run {run}: {words:?}: {said}");
        assert!(!said.contains("panicked"), "run {run}: {words:?}: {said}");
        assert!(output.status.success() || said.contains("error: "), "run {run}: {words:?}: {said}");
        assert!(
            folder.join("rows.csv").exists() && folder.join("corpus.txt").exists(),
            "run {run}: {words:?}"
        );
    }
    assert_eq!(
        std::fs::read_to_string(folder.join("rows.csv")).unwrap(),
        "text,label\nthe fox,1\nthe owl,0\n"
    );
}
