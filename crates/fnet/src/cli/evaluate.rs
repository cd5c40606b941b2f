use std::path::{Path, PathBuf};

use fnet_encoder::Workspace;
use fnet_train::base_model::BaseModel;
use fnet_train::data::signals::Place;
use fnet_train::data::tasks::dataset::{Dataset, predict, score};
use fnet_train::data::tasks::glue::GlueTask;
use fnet_train::data::tasks::metrics::Metric;
use fnet_train::data::tasks::rows::Columns;
use fnet_train::progress::Progress;
use fnet_train::runs::report::table;
use fnet_train::signal_predictor::{Judged, SignalPredictor};
use fnet_train::{Error, Result};
use serde_json::{Map, json};

use super::common::{say, set_threads};
use super::opened::trained;
use super::opened::{InferenceFlags, Opened};
use super::opened_columns::ColumnFlags;

/// Measure a fine-tuned model on labelled rows
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the fine-tuned model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder with the task's dev files; by default the one it was fine-tuned on
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    data: Option<PathBuf>,
    /// A labelled file: .csv, .tsv or .jsonl; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Label column
    #[arg(long, value_name = "COLUMN", conflicts_with = "task")]
    label: Option<String>,
    #[command(flatten)]
    columns: ColumnFlags,
    #[command(flatten)]
    inference: InferenceFlags,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `fnet evaluate`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let base = BaseModel::at(&args.model);
    if SignalPredictor::reads(&base) {
        return evaluate_signals(args, &base);
    }
    let opened = Opened::open_for(&args.model, &args.inference)?;
    let task = opened.task(&args.columns).map(GlueTask::named).transpose()?;
    if args.data.is_some() && task.is_none() {
        return Err(Error::usage(
            "--data: is for GLUE tasks; this model's rows are its own, name them by --file",
        ));
    }
    let metrics = metrics_of(&opened, &args.columns, args.label.as_deref())?;
    args.inference.check()?;
    let files: Vec<PathBuf> = match (&args.file, task) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(task)) => {
            let trained = opened.trained.as_ref().and_then(|t| t.data.clone());
            let data = args.data.clone().or(trained).ok_or_else(|| {
                Error::usage("--data: name the folder with the task's files, or give --file")
            })?;
            task.dev.iter().map(|f| data.join(f)).collect()
        }
        (None, None) => {
            let dev = opened.trained.as_ref().and_then(|t| t.dev.clone());
            vec![dev.ok_or_else(|| Error::usage("--file: name a labelled file"))?]
        }
    };
    let mut rows = Vec::new();
    let mut all = Map::new();
    for file in &files {
        let columns = opened.labelled_columns(&args.columns, args.label.as_deref(), file)?;
        let (data, scores) = judge(&opened, file, &columns, &metrics, args.inference.batch_tokens)?;
        let mut values = Map::new();
        rows.push(("file".to_string(), file.display().to_string()));
        rows.push(("examples".to_string(), data.examples.len().to_string()));
        values.insert("examples".into(), json!(data.examples.len()));
        values.insert("truncated".into(), json!(data.long.cut));
        values.insert("windowed".into(), json!(data.long.windowed));
        for (name, value) in scores {
            rows.push((name.clone(), format!("{value:.4}")));
            values.insert(name, json!(value));
        }
        let name = file.file_stem().map_or("".into(), |n| n.to_string_lossy());
        all.insert(name.to_string(), values.into());
        opened.say_long(data.long, file, data.examples.len());
    }
    match (args.json, all.len()) {
        (true, 1) => say(all.values().next().unwrap_or(&json!({}))),
        (true, _) => say(serde_json::Value::Object(all)),
        (false, _) => say(table(&rows).trim_end()),
    }
}

/// How a model is judged: as its GLUE task is, or else as its labels allow.
pub fn metrics_of(opened: &Opened, columns: &ColumnFlags, label: Option<&str>) -> Result<Vec<Metric>> {
    let labels = opened.predictor.labels()?;
    let Some(task) = opened.task(columns) else { return Ok(labels.usual_metrics()) };
    if label.is_some() {
        return Err(Error::usage("--label: a GLUE task has its own; give --text, too, for rows of your own"));
    }
    Ok(GlueTask::named(task)?.metrics.to_vec())
}

/// Reads a labelled file, and scores a model on it.
pub fn judge(
    opened: &Opened,
    file: &Path,
    columns: &Columns,
    metrics: &[Metric],
    batch_tokens: usize,
) -> Result<(Dataset, Vec<(String, f64)>)> {
    let labels = opened.predictor.labels()?;
    let data = Dataset::read(file, columns, &labels, &opened.predictor.encoding(), false)?;
    let mut progress = Progress::new("evaluating", false);
    let message = format!("{} rows of {}", data.examples.len(), file.display());
    let mut w = Workspace::new();
    let outputs = predict(opened.predictor.model(), &data.examples, batch_tokens, &mut w, |done| {
        progress.update(Some(done), &message);
    })?;
    let scores = score(&labels, metrics, &outputs, &data.targets());
    Ok((data, scores))
}

/// On signals: those of a file, those that it was fine-tuned on, or generated ones.
fn evaluate_signals(args: &Args, base: &BaseModel) -> Result<()> {
    let of_texts = !args.columns.text.is_empty() || args.columns.task.is_some();
    if of_texts || args.label.is_some() || args.data.is_some() {
        let message = "--text, --label, --task, --data: the model reads signals; name them by --file";
        return Err(Error::usage(message));
    }
    args.inference.check_for_signals()?;
    let mut model = SignalPredictor::open(base)?;
    model.model_mut().set_products(args.inference.products()?);
    model.set_batch_positions(args.inference.batch_tokens);
    let dev = || trained(&args.model).and_then(|settings| settings.dev_signals());
    let (name, Judged { loss, values }) = match args.file.as_deref().map(Place::from).or_else(dev) {
        Some(place) => (place.path.display().to_string(), model.judge(&place)?),
        None => match model.judge_generated()? {
            Some(judged) => ("generated".into(), judged),
            None => return Err(Error::usage("--file: name labelled signals")),
        },
    };
    if args.json {
        let mut all = Map::new();
        all.insert("predictions".into(), json!(loss.count));
        all.insert("loss".into(), json!(loss.mean()));
        all.extend(values.into_iter().map(|(name, value)| (name, json!(value))));
        return say(serde_json::Value::Object(all));
    }
    let number = |value: f64| format!("{value:.4}");
    let mut rows = vec![("signals".to_string(), name), ("predictions".into(), loss.count.to_string())];
    rows.push(("loss".into(), number(loss.mean())));
    rows.extend(values.into_iter().map(|(name, value)| (name.replace('_', " "), number(value))));
    say(table(&rows).trim_end())
}
