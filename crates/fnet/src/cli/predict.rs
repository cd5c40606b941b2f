use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use clap::ValueEnum;
use fnet_encoder::{Batch, Model, Workspace};
use fnet_train::base_model::BaseModel;
use fnet_train::data::signals::{Asked, Place};
use fnet_train::data::tasks::dataset::Labels;
use fnet_train::data::tasks::encoding::LongOnes;
use fnet_train::data::tasks::label_sets;
use fnet_train::data::tasks::rows::{self, Columns};
use fnet_train::data::text::{is_standard_stream, quoted};
use fnet_train::progress::Progress;
use fnet_train::signal_predictor::{Prediction, SignalPredictor};
use fnet_train::together::{self, Task, Trunks};
use fnet_train::{Error, Result};
use serde_json::{Value, json};

use super::common::say;
use super::opened::Opened;
use super::opened_columns::ColumnFlags;
use super::output::{Output, OutputFlags, say_done};

/// Predict the label of every row of a file, or of several files with several models at the same time
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR", required_unless_present = "jobs")]
    model: Option<PathBuf>,
    /// Rows: .csv, .tsv, .jsonl, or .txt with a text per line, also .gz or .zst; - is standard input. Or signals, as the
    /// model was trained on
    #[arg(long, value_name = "FILE", required_unless_present = "jobs")]
    input: Option<PathBuf>,
    /// Predictions, in the input's order: .tsv as the GLUE server takes it, .csv, or .jsonl with
    /// probabilities; - is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "jobs")]
    output: Option<PathBuf>,
    /// Instead of one model: several of them, each with its file, at the same time. Adapters of one trunk share it, in
    /// memory and in every pass
    #[arg(long = "job", value_name = "MODEL=INPUT=OUTPUT", conflicts_with_all = ["model", "input", "output"])]
    jobs: Vec<String>,
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

/// A model with what it is to predict.
struct Job {
    model: PathBuf,
    input: PathBuf,
    output: PathBuf,
    format: OutputFormat,
}

/// A model that is open.
enum Reader {
    Text(Box<Opened>, Labels, Columns),
    Signals(Box<SignalPredictor>),
}

/// Runs `fnet predict`.
pub fn run(args: &Args) -> Result<()> {
    let jobs = args.jobs()?;
    // One trunk for all adapters, if there are several.
    let mut trunks = (jobs.len() > 1).then(Trunks::default);
    let readers = jobs.iter().map(|job| args.open(job, trunks.as_mut())).collect::<Result<Vec<_>>>()?;
    drop(trunks);
    let mut progress = Progress::new("predicting", args.out.quiet);
    let rows = match readers.as_slice() {
        [reader] => {
            let mut w = Workspace::new();
            let alone = |model: &Model, batch: &Batch| together::alone(model, batch, &mut w);
            vec![predict(args.out.inference.batch_tokens, &jobs[0], reader, alone, |rows| {
                progress.update(None, &format!("{rows} rows"))
            })?]
        }
        _ => {
            let (sender, counts) = channel();
            // The last sequences of all batches together are as long as a batch.
            let share = (args.out.inference.batch_tokens / (2 * jobs.len())).max(1);
            let task = |(i, (job, reader))| -> Task {
                let sender = sender.clone();
                Box::new(move |mut seat| {
                    let rows = predict(share, job, reader, |model, batch| seat.logits(model, batch), |_| {})?;
                    let _ = sender.send((i, rows));
                    Ok(())
                })
            };
            together::run(jobs.iter().zip(&readers).enumerate().map(task).collect())?;
            let mut rows: Vec<(usize, Predicted)> = counts.try_iter().collect();
            rows.sort_by_key(|(i, _)| *i);
            rows.into_iter().map(|(_, rows)| rows).collect()
        }
    };
    drop(progress);
    for ((job, reader), predicted) in jobs.iter().zip(&readers).zip(&rows) {
        if let Reader::Text(opened, ..) = reader {
            opened.say_long(predicted.long, &job.input, predicted.rows);
        }
    }
    let all: Vec<Value> = jobs.iter().zip(&rows).map(|(job, predicted)| predicted.to_json(job)).collect();
    match (args.out.json, all.as_slice()) {
        (true, [one]) => say(one),
        (true, _) => say(json!(all)),
        (false, _) => jobs.iter().zip(&rows).try_for_each(|(job, predicted)| {
            say_done(&job.output, &format!("{} predictions", predicted.rows))
        }),
    }
}

/// What was predicted.
struct Predicted {
    rows: usize,
    long: LongOnes,
}

impl Predicted {
    fn to_json(&self, job: &Job) -> Value {
        let LongOnes { cut, windowed, .. } = self.long;
        json!({"rows": self.rows, "truncated": cut, "windowed": windowed, "output": job.output})
    }
}

impl Args {
    fn jobs(&self) -> Result<Vec<Job>> {
        let job = |model: &Path, input: &Path, output: &Path| -> Result<Job> {
            let format = self.output_format.map_or_else(|| OutputFormat::of(output), Ok)?;
            Ok(Job { model: model.into(), input: input.into(), output: output.into(), format })
        };
        if let (Some(model), Some(input), Some(output)) = (&self.model, &self.input, &self.output) {
            self.out.start(output, &[input])?;
            return Ok(vec![job(model, input, output)?]);
        }
        if !self.columns.text.is_empty() || self.columns.task.is_some() {
            return Err(Error::usage(
                "--text, --task: with --job, each model reads the columns of its training",
            ));
        }
        let parse = |text: &String| {
            let parts: Vec<&Path> = text.split('=').map(Path::new).collect();
            let [model, input, output] = parts[..] else {
                return Err(Error::usage(format!("--job {text}: expected MODEL=INPUT=OUTPUT")));
            };
            job(model, input, output)
        };
        let jobs = self.jobs.iter().map(parse).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<&Path> = jobs.iter().map(|job| job.input.as_path()).collect();
        if let Some(one) =
            jobs.iter().find(|job| is_standard_stream(&job.input) || is_standard_stream(&job.output))
        {
            let (input, output) = (one.input.display(), one.output.display());
            return Err(Error::usage(format!("--job ={input}={output}: name files; - is for one model")));
        }
        let outputs: Vec<&Path> = jobs.iter().map(|job| job.output.as_path()).collect();
        self.out.start_several(&outputs, &inputs)?;
        for (i, job) in jobs.iter().enumerate() {
            if jobs[..i].iter().any(|other| other.output == job.output) {
                return Err(Error::usage(format!("--job: two write {}", job.output.display())));
            }
        }
        Ok(jobs)
    }

    fn open(&self, job: &Job, trunks: Option<&mut Trunks>) -> Result<Reader> {
        let base = BaseModel::at(&job.model);
        if !SignalPredictor::reads(&base) {
            let opened = Opened::open_on(&base, trunks, &self.out.inference)?;
            let labels = opened.predictor.labels()?;
            let columns = opened.text_columns(&self.columns, &job.input)?;
            return Ok(Reader::Text(Box::new(opened), labels, columns));
        }
        if !self.columns.text.is_empty() || self.columns.task.is_some() {
            let message = "--text, --task: the model reads its inputs by the columns of its training";
            return Err(Error::usage(message));
        }
        self.out.inference.check_for_signals()?;
        let mut model = match trunks {
            Some(trunks) => SignalPredictor::open_on(&base, trunks)?,
            None => SignalPredictor::open(&base)?,
        };
        model.model_mut().set_products(self.out.inference.products()?);
        Ok(Reader::Signals(Box::new(model)))
    }
}

/// Predicts what each row or signal of a job is, in batches of about so many tokens, with outputs from `answer`.
fn predict<'a>(
    batch_tokens: usize,
    job: &Job,
    reader: &'a Reader,
    mut answer: impl FnMut(&'a Model, &Batch) -> Result<Vec<f32>>,
    mut done: impl FnMut(usize),
) -> Result<Predicted> {
    let mut long = LongOnes::default();
    let mut writer;
    match reader {
        Reader::Text(opened, labels, columns) => {
            writer = Writer::create(&job.output, job.format, labels)?;
            let width = opened.predictor.model().head().outputs();
            rows::read_blocks(&job.input, columns, BLOCK, |block| {
                let (outputs, longer) = opened.predictor.outputs_by(block, batch_tokens, &mut answer)?;
                long.add(longer);
                outputs.chunks(width).try_for_each(|output| writer.write(labels, output))?;
                done(writer.rows);
                Ok(())
            })?;
        }
        Reader::Signals(model) => {
            let labels = match model.asked() {
                Asked::Class => Labels::Classes(model.classes().to_vec()),
                Asked::Labels => Labels::Several(model.classes().to_vec()),
                _ => Labels::Number, // no column for each class
            };
            writer = Writer::create(&job.output, job.format, &labels)?;
            model.predict_by(&Place::from(job.input.as_path()), batch_tokens, answer, |prediction| {
                match prediction {
                    Prediction::Class(output) | Prediction::Labels(output) => writer.write(&labels, output),
                    Prediction::Number(number) => writer.write(&labels, &[number]),
                    Prediction::Symbols(classes) => writer.write_text(&classes.concat()),
                    Prediction::Steps(classes) => writer.write_list(None, json!(classes)),
                    Prediction::Numbers(numbers) => writer.write_list(None, json!(numbers)),
                    Prediction::Words(words, classes) => writer.write_list(Some(words), json!(classes)),
                }
            })?;
        }
    }
    Ok(Predicted { rows: writer.finish()?, long })
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
                labels.names().iter().for_each(|n| header += &format!(",{}", quoted(&format!("p_{n}"))));
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
        let shares = labels.probabilities(output);
        let line = match (self.format, labels) {
            (OutputFormat::Tsv, _) => format!("{}\t{spelled}", self.rows),
            (OutputFormat::Csv, _) => {
                let shares: String = shares.iter().map(|p| format!(",{p:.6}")).collect();
                format!("{},{}{shares}", self.rows, quoted(&spelled))
            }
            (OutputFormat::Jsonl, Labels::Number) => json!({"prediction": output.first()}).to_string(),
            (OutputFormat::Jsonl, _) => {
                let shares: serde_json::Map<_, _> =
                    labels.names().iter().zip(&shares).map(|(n, p)| (n.clone(), json!(p))).collect();
                let spelled = match labels {
                    Labels::Several(names) => json!(label_sets::spell(names, output)),
                    _ => json!(spelled),
                };
                json!({"prediction": spelled, "probabilities": shares}).to_string()
            }
        };
        self.rows += 1;
        self.line(&line)
    }

    /// Classes of symbols, one after another.
    fn write_text(&mut self, classes: &str) -> Result<()> {
        let line = match self.format {
            OutputFormat::Tsv => format!("{}\t{classes}", self.rows),
            OutputFormat::Csv => format!("{},{}", self.rows, quoted(classes)),
            OutputFormat::Jsonl => json!({"prediction": classes}).to_string(),
        };
        self.rows += 1;
        self.line(&line)
    }

    /// What each position has, as a list or with blanks between, beside the words where they are words.
    fn write_list(&mut self, words: Option<&[String]>, each: Value) -> Result<()> {
        if self.format == OutputFormat::Jsonl {
            self.rows += 1;
            return self.line(&match words {
                Some(words) => json!({"words": words, "prediction": each}).to_string(),
                None => json!({"prediction": each}).to_string(),
            });
        }
        let spelled = each.as_array().into_iter().flatten().map(|one| match one {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        });
        self.write_text(&spelled.collect::<Vec<_>>().join(" "))
    }

    fn finish(self) -> Result<usize> {
        self.out.finish()?;
        Ok(self.rows)
    }
}
