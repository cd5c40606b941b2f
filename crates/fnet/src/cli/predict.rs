use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fnet_train::base_model::BaseModel;
use fnet_train::data::signals::{Asked, Place};
use fnet_train::data::tasks::dataset::Labels;
use fnet_train::data::tasks::encoding::LongOnes;
use fnet_train::data::tasks::rows;
use fnet_train::data::text::is_standard_stream;
use fnet_train::predictor::softmax;
use fnet_train::progress::Progress;
use fnet_train::signal_predictor::{Prediction, SignalPredictor};
use fnet_train::{Error, Result};
use serde_json::json;

use super::common::say;
use super::opened::Opened;
use super::opened_columns::ColumnFlags;
use super::output::{Output, OutputFlags, say_done};

/// Predict the label of every row of a file
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows: .csv, .tsv, .jsonl, or .txt with a text per line, also .gz or .zst; - is standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Predictions, in the input's order: .tsv as the GLUE server takes it, .csv, or .jsonl with
    /// probabilities; - is standard output
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Format of the predictions; by default what --output ends with, and jsonl on standard output
    #[arg(long, value_enum)]
    output_format: Option<OutputFormat>,
    #[command(flatten)]
    columns: ColumnFlags,
    #[command(flatten)]
    out: OutputFlags,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum OutputFormat {
    Csv,
    Tsv,
    Jsonl,
}

impl OutputFormat {
    fn of(path: &Path) -> Result<Self> {
        if is_standard_stream(path) {
            return Ok(Self::Jsonl);
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        Self::from_str(ending, true).map_err(|_| {
            Error::file(path, "--output: expected .tsv, .csv or .jsonl, or give --output-format")
        })
    }
}

/// Rows read, run and written at a time.
const BLOCK: usize = 4_096;

/// Runs `fnet predict`.
pub fn run(args: &Args) -> Result<()> {
    args.out.start(&args.output, &[&args.input])?;
    let format = args.output_format.map_or_else(|| OutputFormat::of(&args.output), Ok)?;
    let base = BaseModel::at(&args.model);
    if SignalPredictor::reads(&base) {
        return predict_signals(args, &base, format);
    }
    let mut opened = Opened::open_for(&args.model, &args.out.inference)?;
    let labels = opened.predictor.labels()?;
    let columns = opened.text_columns(&args.columns, &args.input)?;
    let mut writer = Writer::create(&args.output, format, &labels)?;
    let mut progress = Progress::new("predicting", args.out.quiet);
    let mut long = LongOnes::default();
    let width = opened.predictor.model().head().outputs();
    rows::read_blocks(&args.input, &columns, BLOCK, |block| {
        let (outputs, longer) = opened.predictor.outputs(block)?;
        long.add(longer);
        outputs.chunks(width).try_for_each(|output| writer.write(&labels, output))?;
        progress.update(None, &format!("{} rows", writer.rows));
        Ok(())
    })?;
    let rows = writer.finish()?;
    opened.say_long(long, &args.input, rows);
    if args.out.json {
        let (truncated, windowed) = (long.cut, long.windowed);
        say(json!({"rows": rows, "truncated": truncated, "windowed": windowed, "output": args.output}))
    } else {
        say_done(&args.output, &format!("{rows} predictions"))
    }
}

/// Predicts what each signal of a file is.
fn predict_signals(args: &Args, base: &BaseModel, format: OutputFormat) -> Result<()> {
    if !args.columns.text.is_empty() {
        return Err(Error::usage("--text: the model reads its inputs by the columns of its training"));
    }
    let mut model = SignalPredictor::open(base)?;
    model.model_mut().set_products(args.out.inference.products()?);
    let labels = match model.asked() {
        Asked::Class => Labels::Classes(model.classes().to_vec()),
        _ => Labels::Number, // no column for each class
    };
    let mut writer = Writer::create(&args.output, format, &labels)?;
    model.predict(&Place::from(args.input.as_path()), |prediction| match prediction {
        Prediction::Class(output) => writer.write(&labels, output),
        Prediction::Number(number) => writer.write(&labels, &[number]),
        Prediction::Symbols(classes) => writer.write_sequence(None, &classes),
        Prediction::Words(words, classes) => writer.write_sequence(Some(words), &classes),
    })?;
    let rows = writer.finish()?;
    if args.out.json {
        say(json!({"rows": rows, "output": args.output}))
    } else {
        say_done(&args.output, &format!("{rows} predictions"))
    }
}

/// Writes predictions.
struct Writer {
    out: Output,
    format: OutputFormat,
    rows: usize,
}

impl Writer {
    fn create(path: &Path, format: OutputFormat, labels: &Labels) -> Result<Self> {
        let mut writer = Self { out: Output::create(path)?, format, rows: 0 };
        match format {
            OutputFormat::Tsv => writer.line("index\tprediction")?,
            OutputFormat::Csv => {
                let mut header = "index,prediction".to_string();
                if let Labels::Classes(names) = labels {
                    names.iter().for_each(|n| header += &format!(",{}", quoted(&format!("p_{n}"))));
                }
                writer.line(&header)?;
            }
            OutputFormat::Jsonl => {}
        }
        Ok(writer)
    }

    fn line(&mut self, text: &str) -> Result<()> {
        self.out.write(format!("{text}\n").as_bytes())
    }

    fn write(&mut self, labels: &Labels, output: &[f32]) -> Result<()> {
        let spelled = labels.spell(output);
        let shares = softmax(output);
        let line = match (self.format, labels) {
            (OutputFormat::Tsv, _) => format!("{}\t{spelled}", self.rows),
            (OutputFormat::Csv, Labels::Number) => format!("{},{spelled}", self.rows),
            (OutputFormat::Csv, Labels::Classes(_)) => {
                let shares: String = shares.iter().map(|p| format!(",{p:.6}")).collect();
                format!("{},{}{shares}", self.rows, quoted(&spelled))
            }
            (OutputFormat::Jsonl, Labels::Number) => json!({"prediction": output.first()}).to_string(),
            (OutputFormat::Jsonl, Labels::Classes(names)) => {
                let shares: serde_json::Map<_, _> =
                    names.iter().zip(&shares).map(|(n, p)| (n.clone(), json!(p))).collect();
                json!({"prediction": spelled, "probabilities": shares}).to_string()
            }
        };
        self.rows += 1;
        self.line(&line)
    }

    /// Classes of positions: of symbols in one string, of words in a list.
    fn write_sequence(&mut self, words: Option<&[String]>, classes: &[&str]) -> Result<()> {
        let spelled = if words.is_some() { classes.join(" ") } else { classes.concat() };
        let line = match (self.format, words) {
            (OutputFormat::Tsv, _) => format!("{}\t{spelled}", self.rows),
            (OutputFormat::Csv, _) => format!("{},{}", self.rows, quoted(&spelled)),
            (OutputFormat::Jsonl, Some(words)) => json!({"words": words, "prediction": classes}).to_string(),
            (OutputFormat::Jsonl, None) => json!({"prediction": spelled}).to_string(),
        };
        self.rows += 1;
        self.line(&line)
    }

    fn finish(self) -> Result<usize> {
        self.out.finish()?;
        Ok(self.rows)
    }
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}
