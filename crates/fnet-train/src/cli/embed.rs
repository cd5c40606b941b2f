use std::path::{Path, PathBuf};

use fnet_encoder::{Pooling, Workspace};
use fnet_train::base_model::BaseModel;
use fnet_train::progress::Progress;
use fnet_train::tasks::dataset::run_batches;
use fnet_train::tasks::encoding::{Encoded, Example, LongOnes};
use fnet_train::tasks::rows::{self, Row};
use fnet_train::text::{Lines, format_ending};
use fnet_train::{Error, Result};
use rayon::prelude::*;
use serde_json::json;

use super::common::say;
use super::opened::{ColumnFlags, Opened};
use super::output::{AsideFile, OutputFlags};

/// Write a vector for every text of a file
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the model; by default the one that ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// .txt (a text a line), or .csv, .tsv or .jsonl with --text
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// A NumPy array of float32, [texts, hidden size]
    #[arg(long, value_name = "FILE.npy")]
    output: PathBuf,
    /// What is read of a text: first, last, mean, max or embeddings, or several side by side, joined by +; by default
    /// what a fine-tuned model reads, else the mean
    #[arg(long, alias = "pool", value_name = "VECTORS")]
    pooling: Option<Pooling>,
    #[command(flatten)]
    columns: ColumnFlags,
    #[command(flatten)]
    out: OutputFlags,
}

/// Texts read, run and written at a time.
const BLOCK: usize = 4_096;

/// Runs `fnet embed`.
pub fn run(args: &Args) -> Result<()> {
    args.out.start(&args.output)?;
    if args.output.extension().is_none_or(|e| e != "npy") {
        return Err(Error::file(&args.output, "--output: expected .npy"));
    }
    let is_text = format_ending(&args.input) == "txt";
    if is_text && (args.columns.task.is_some() || !args.columns.text.is_empty()) {
        return Err(Error::usage("--text, --task: a .txt file has no columns"));
    }
    let base = BaseModel::named(args.model.as_deref())?;
    let opened = Opened::open_to_read(&base, args.pooling.clone(), &args.out.inference)?;
    let width = opened.model.pooled_width();
    let mut writer = NpyWriter::create(&args.output, width)?;
    let mut progress = Progress::new("embedding", args.out.quiet);
    let (mut w, mut block, mut long) = (Workspace::new(), Vec::new(), LongOnes::default());
    let mut flush = |block: &mut Vec<Row>, writer: &mut NpyWriter| -> Result<()> {
        let encoding = opened.encoding();
        let encoded: Vec<Encoded> =
            block.par_iter().map(|row| encoding.encode(row, f32::NAN)).collect::<Result<_>>()?;
        let examples: Vec<Example> = encoded.into_iter().map(|e| long.take(e)).collect();
        let mut rows = vec![0.0; examples.len() * width];
        let batch_tokens = args.out.inference.batch_tokens;
        run_batches(&opened.model, &examples, batch_tokens, &mut w, |batch, numbers, w| {
            for (row, i) in opened.model.pooled(batch, w).chunks_exact(width).zip(numbers) {
                rows[*i as usize * width..][..width].copy_from_slice(row);
            }
            Ok(())
        })?;
        rows.chunks_exact(width).try_for_each(|row| writer.row(row))?;
        block.clear();
        progress.update(None, &format!("{} texts", writer.rows));
        Ok(())
    };
    let mut take = |row| {
        block.push(row);
        if block.len() == BLOCK { flush(&mut block, &mut writer) } else { Ok(()) }
    };
    if is_text {
        let mut lines = Lines::open(&args.input)?;
        while let Some((line, text)) = lines.next_line()? {
            take(Row { line, first: text.into(), second: None, label: None })?;
        }
    } else {
        let columns = opened.columns(&args.columns, None, &args.input)?;
        rows::read(&args.input, &columns, false, take)?;
    }
    flush(&mut block, &mut writer)?;
    if writer.rows == 0 {
        return Err(Error::file(&args.input, "holds no text"));
    }
    let rows = writer.finish()?;
    opened.say_long(long, &args.input, rows);
    if args.out.json {
        let (truncated, windowed) = (long.cut, long.windowed);
        say(json!({
            "rows": rows, "hidden_size": width, "truncated": truncated, "windowed": windowed, "output": args.output,
        }))
    } else {
        say(format!("{}: {rows} vectors of {width}", args.output.display()))
    }
}

/// Writes a NumPy array row by row; the header's count is filled in at the end.
struct NpyWriter {
    out: AsideFile,
    hidden: usize,
    rows: usize,
}

impl NpyWriter {
    fn create(path: &Path, hidden: usize) -> Result<Self> {
        let mut writer = Self { out: AsideFile::create(path)?, hidden, rows: 0 };
        writer.header()?;
        Ok(writer)
    }

    /// NumPy's format 1.0, padded to 128 bytes whatever the count.
    fn header(&mut self) -> Result<()> {
        let shape = format!("({}, {})", self.rows, self.hidden);
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let mut header = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        header.extend_from_slice(format!("{text:<117}\n").as_bytes());
        self.out.write(&header)
    }

    fn row(&mut self, values: &[f32]) -> Result<()> {
        self.rows += 1;
        values.iter().try_for_each(|v| self.out.write(&v.to_le_bytes()))
    }

    fn finish(mut self) -> Result<usize> {
        self.out.rewind()?;
        self.header()?;
        self.out.finish()?;
        Ok(self.rows)
    }
}
