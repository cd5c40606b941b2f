use std::path::{Path, PathBuf};

use fnet_train::data::tasks::encoding::LongOnes;
use fnet_train::data::tasks::rows::{self, Row};
use fnet_train::data::text::is_standard_stream;
use fnet_train::progress::Progress;
use fnet_train::search::{Found, Index, IndexWriter, pairs_above, top};
use fnet_train::settings::{in_range, refused};
use fnet_train::{Error, Result};
use serde_json::{Value, json};

use super::common::set_threads;
use super::opened::{InferenceFlags, Opened};
use super::opened_columns::ColumnFlags;
use super::output::{Output, check_replaceable};
use super::vector_flags::VectorFlags;

/// Find the texts that are most alike to a query, or all pairs of texts that are nearly the same
#[derive(clap::Args)]
pub struct Args {
    /// What to look for
    #[arg(required_unless_present_any = ["queries", "pairs_above", "index"], conflicts_with_all = ["queries", "pairs_above"])]
    query: Option<String>,
    /// Texts to look for: .txt (a text per line), .csv, .tsv or .jsonl, also .gz or .zst; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "pairs_above")]
    queries: Option<PathBuf>,
    /// Texts to look in: as --queries
    #[arg(long, value_name = "FILE", required_unless_present = "index")]
    corpus: Option<PathBuf>,
    /// Keep the vectors of --corpus in this file; without --corpus, look in the texts that it holds. It is mapped into memory,
    /// and checked against the model
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Replace the file that --index names by the vectors of --corpus
    #[arg(long, requires_all = ["index", "corpus"])]
    overwrite: bool,
    /// Texts that are found for each query
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Find all pairs of texts of --corpus with at least this cosine
    #[arg(long, value_name = "COSINE")]
    pairs_above: Option<f32>,
    #[command(flatten)]
    vectors: VectorFlags,
    #[command(flatten)]
    columns: ColumnFlags,
    #[command(flatten)]
    inference: InferenceFlags,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// No progress
    #[arg(long)]
    quiet: bool,
    /// Print a JSON object for each query or pair
    #[arg(long)]
    json: bool,
}

/// Texts read and run at a time.
const BLOCK: usize = 4_096;

/// Runs `fnet search`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    args.inference.check()?;
    in_range("top", args.top as f64, 1.0, 1e6)?;
    in_range("pairs_above", args.pairs_above.map(f64::from), -1.0, 1.0)?;
    if [&args.queries, &args.corpus].into_iter().flatten().filter(|path| is_standard_stream(path)).count() > 1
    {
        return Err(Error::usage("--queries, --corpus: standard input can be one of them"));
    }
    let mut opened = args.vectors.open(true, &args.inference)?;
    let texts = Texts::open(args, &mut opened)?;
    let mut out = Output::create(Path::new(fnet_train::data::text::STANDARD_STREAM))?;
    if let Some(least) = args.pairs_above {
        pairs_above(texts.vectors(), texts.width(), least, |row, found| {
            let (first, second) = (texts.text(row), texts.text(found.row));
            let line = if args.json {
                let (rows, texts) = ([row + 1, found.row + 1], [first, second]);
                json!({"rows": rows, "score": round(found.score), "texts": texts}).to_string()
            } else {
                let [first, second] = [first, second].map(|text| one_line(&text));
                format!("{:.4}\t{}\t{}\t{first}\t{second}", found.score, row + 1, found.row + 1)
            };
            out.write((line + "\n").as_bytes())
        })?;
        return out.finish();
    }
    let mut answer = |queries: &[Row], opened: &mut Opened| -> Result<()> {
        let (vectors, _) = opened.predictor.vectors(queries)?;
        let all = top(texts.vectors(), texts.width(), &vectors, args.top);
        for (query, found) in queries.iter().zip(all) {
            let text = if args.json { texts.to_json(&query.first, &found) } else { texts.to_lines(&found) };
            out.write(text.as_bytes())?;
        }
        Ok(())
    };
    if let Some(query) = &args.query {
        answer(&[Row { line: 1, first: query.clone(), second: None, label: None }], &mut opened)?;
    }
    if let Some(file) = &args.queries {
        let columns = opened.text_columns(&args.columns, file)?;
        rows::read_blocks(file, &columns, BLOCK, |queries| answer(queries, &mut opened))?;
    }
    out.finish()
}

fn round(score: f32) -> f64 {
    (f64::from(score) * 1e6).round() / 1e6
}

/// A text in a table of lines.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}

/// What is looked in.
enum Texts {
    InMemory { texts: Vec<String>, vectors: Vec<f32>, width: usize },
    InFile(Box<Index>),
}

impl Texts {
    fn open(args: &Args, opened: &mut Opened) -> Result<Self> {
        let model = opened.predictor.fingerprint()?;
        let Some(file) = &args.index else {
            let (mut texts, mut vectors) = (Vec::new(), Vec::new());
            read(args, opened, |rows, made| {
                texts.extend(rows.iter().map(|row| row.first.clone()));
                vectors.extend_from_slice(made);
                Ok(())
            })?;
            return Ok(Self::InMemory { texts, vectors, width: opened.predictor.vector_width() });
        };
        if args.corpus.is_some() {
            check_replaceable(file, args.overwrite)?;
            let width = opened.predictor.vector_width();
            let mut writer = IndexWriter::create(file, model, width)?;
            read(args, opened, |rows, made| {
                rows.iter()
                    .zip(made.chunks_exact(width))
                    .try_for_each(|(row, made)| writer.add(&row.first, made))
            })?;
            let count = writer.finish()?;
            if !args.quiet {
                eprintln!("{}: {count} vectors of {width}", file.display());
            }
        }
        let index = Index::open(file)?;
        if index.model() != model {
            let message = "was made by another model, or with other --pooling, --dimensions or --prompt; make it anew from \
                           --corpus, with --overwrite";
            return Err(Error::file(file, message));
        }
        Ok(Self::InFile(Box::new(index)))
    }

    fn vectors(&self) -> &[f32] {
        match self {
            Self::InMemory { vectors, .. } => vectors,
            Self::InFile(index) => index.vectors(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::InMemory { width, .. } => *width,
            Self::InFile(index) => index.width(),
        }
    }

    fn text(&self, row: usize) -> String {
        match self {
            Self::InMemory { texts, .. } => texts[row].clone(),
            Self::InFile(index) => index.text(row),
        }
    }

    fn to_json(&self, query: &str, found: &[Found]) -> String {
        let one = |found: &Found| -> Value {
            json!({"row": found.row + 1, "score": round(found.score), "text": self.text(found.row)})
        };
        json!({"query": query, "found": found.iter().map(one).collect::<Vec<_>>()}).to_string() + "\n"
    }

    /// A line each: score, row from 1, text; an empty line after them.
    fn to_lines(&self, found: &[Found]) -> String {
        let line = |found: &Found| {
            format!("{:.4}\t{}\t{}\n", found.score, found.row + 1, one_line(&self.text(found.row)))
        };
        found.iter().map(line).collect::<String>() + "\n"
    }
}

/// Hands the rows of --corpus and their vectors to `take`, block by block.
fn read(args: &Args, opened: &mut Opened, mut take: impl FnMut(&[Row], &[f32]) -> Result<()>) -> Result<()> {
    let Some(file) = &args.corpus else {
        return Err(refused("corpus", "name the texts to look in"));
    };
    let columns = opened.text_columns(&args.columns, file)?;
    let mut progress = Progress::new("embedding", args.quiet);
    let (mut long, mut count) = (LongOnes::default(), 0);
    rows::read_blocks(file, &columns, BLOCK, |block| {
        let (vectors, longer) = opened.predictor.vectors(block)?;
        long.add(longer);
        count += block.len();
        progress.update(None, &format!("{count} texts"));
        take(block, &vectors)
    })?;
    if !args.quiet {
        opened.say_long(long, file, count);
    }
    Ok(())
}
