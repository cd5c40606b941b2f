use std::path::{Path, PathBuf};

use fnet_train::data::tasks::encoding::LongOnes;
use fnet_train::data::tasks::rows;
use fnet_train::data::text::is_standard_stream;
use fnet_train::progress::Progress;
use fnet_train::{Error, Result};
use serde_json::json;

use super::common::say;
use super::opened_columns::ColumnFlags;
use super::output::{Output, OutputFlags, say_done};
use super::vector_flags::VectorFlags;

/// Write a vector for every text of a file
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    vectors: VectorFlags,
    /// Scale vectors to length one, as models with a readout for vectors of texts do by themselves
    #[arg(long)]
    normalize: bool,
    /// .txt (a text per line), .csv, .tsv or .jsonl, also .gz or .zst; - is standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// A NumPy array of float32, [texts, values]; - is standard output
    #[arg(long, value_name = "FILE.npy")]
    output: PathBuf,
    #[command(flatten)]
    columns: ColumnFlags,
    #[command(flatten)]
    out: OutputFlags,
}

/// Texts read, run and written at a time.
const BLOCK: usize = 4_096;

/// Runs `fnet embed`.
pub fn run(args: &Args) -> Result<()> {
    args.out.start(&args.output, &[&args.input])?;
    if !is_standard_stream(&args.output) && args.output.extension().is_none_or(|e| e != "npy") {
        return Err(Error::file(&args.output, "--output: expected .npy"));
    }
    let mut opened = args.vectors.open(args.normalize, &args.out.inference)?;
    let width = opened.predictor.vector_width();
    let mut writer = NpyWriter::create(&args.output, width)?;
    let mut progress = Progress::new("embedding", args.out.quiet);
    let columns = opened.text_columns(&args.columns, &args.input)?;
    let mut long = LongOnes::default();
    rows::read_blocks(&args.input, &columns, BLOCK, |block| {
        let (vectors, longer) = opened.predictor.vectors(block)?;
        long.add(longer);
        vectors.chunks_exact(width).try_for_each(|row| writer.row(row))?;
        progress.update(None, &format!("{} texts", writer.rows));
        Ok(())
    })?;
    let rows = writer.finish()?;
    opened.say_long(long, &args.input, rows);
    if args.out.json {
        let (truncated, windowed) = (long.cut, long.windowed);
        say(json!({
            "rows": rows, "hidden_size": width, "truncated": truncated, "windowed": windowed, "output": args.output,
        }))
    } else {
        say_done(&args.output, &format!("{rows} vectors of {width}"))
    }
}

/// Writes a NumPy array row by row. Its header has the count, which is known at the end: a file is gone back in, what
/// goes to standard output is kept until then.
struct NpyWriter {
    out: Output,
    kept: Option<Vec<u8>>,
    hidden: usize,
    rows: usize,
}

impl NpyWriter {
    fn create(path: &Path, hidden: usize) -> Result<Self> {
        let kept = is_standard_stream(path).then(Vec::new);
        let mut writer = Self { out: Output::create(path)?, kept, hidden, rows: 0 };
        if writer.kept.is_none() {
            writer.header()?;
        }
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
        let bytes = values.iter().flat_map(|v| v.to_le_bytes());
        match &mut self.kept {
            Some(kept) => {
                kept.extend(bytes);
                Ok(())
            }
            None => self.out.write(&bytes.collect::<Vec<u8>>()),
        }
    }

    fn finish(mut self) -> Result<usize> {
        match self.kept.take() {
            Some(kept) => {
                self.header()?;
                self.out.write(&kept)?;
            }
            None => {
                self.out.rewind()?;
                self.header()?;
            }
        }
        self.out.finish()?;
        Ok(self.rows)
    }
}
