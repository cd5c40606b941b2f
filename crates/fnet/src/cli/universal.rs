use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use fnet_train::data::sample;
use fnet_train::folder::claim::Claim;
use fnet_train::runs::universal::{self, SETTINGS_FILE, UniversalSettings};
use fnet_train::settings::{absolute, given, over, over_file};
use fnet_train::train::recipe::Recipe;
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result};
use serde::Serialize;
use toml::{Table, Value};

use super::common::{aligned, finish_runs, say, set_threads};
use super::compare::sample_in;
use super::processes::Processes;
use super::product_flags::ProductFlags;

/// Try tasks of any modality on random and pretrained trunks of several mixers, frozen and not, and report what each reaches
/// and costs
///
/// Each cell of the table takes the learning rate that is best on a part of its training examples. Stopped half-way, the same
/// command continues where it was; a cell that fails is reported and tried again by the next call.
#[derive(clap::Args)]
pub struct Args {
    /// A task of a name, with the folder of its files unless it is generated; may be given several times
    #[arg(long, value_name = "TASK[=DIR]")]
    task: Vec<String>,
    /// Settings files of fine-tuning, each of a task of the file's name: where its examples are and how they are read
    #[arg(long, value_name = "FILE.toml", num_args = 1..)]
    tasks: Vec<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Settings file; flags win over it. A table's universal.toml is one
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder of the table
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A table of a few minutes: generated tasks and the shipped sample of text
    #[arg(long, conflicts_with_all = ["task", "tasks", "corpus", "valid"])]
    quick: bool,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Flags over the fields of `UniversalSettings`.
#[derive(clap::Args, Serialize)]
struct Flags {
    /// Mixers of the trunks, with commas: names, or names joined by + (one per layer)
    #[arg(long, value_delimiter = ',', value_name = "MIXER")]
    mixers: Vec<String>,
    /// What is trained, with commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RECIPE")]
    recipes: Vec<Recipe>,
    /// Learning rates to choose from, with commas
    #[arg(long, value_delimiter = ',', value_name = "RATE")]
    learning_rates: Vec<f64>,
    /// The part of the training examples by which they are chosen; 0.2 by default
    #[arg(long, value_name = "PART")]
    held_out: Option<f64>,
    /// Run with this many seeds, from 1 up, each on another random trunk
    #[arg(long)]
    seeds: Option<u64>,
    /// Size of the trunks; tiny by default
    #[arg(long)]
    preset: Option<String>,
    /// Text to pretrain a trunk of each mixer on, beside the random one; tasks of text need it
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Text to validate the pretraining on; by default the end of the corpus
    #[arg(long, num_args = 1.., value_name = "FILE")]
    valid: Vec<PathBuf>,
    /// Steps of pretraining
    #[arg(long, conflicts_with = "pretrain_minutes")]
    pretrain_steps: Option<u64>,
    /// Minutes of pretraining
    #[arg(long)]
    pretrain_minutes: Option<f64>,
    /// Tokens in the vocabulary of pretraining
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Longest sequence of pretraining, and so of all tasks on its trunks
    #[arg(long)]
    seq_len: Option<usize>,
    /// Steps on each task whose settings do not say
    #[arg(long, conflicts_with_all = ["epochs", "minutes"])]
    steps: Option<u64>,
    /// Passes over the examples of each such task
    #[arg(long, conflicts_with = "minutes")]
    epochs: Option<f64>,
    /// Minutes on each such task
    #[arg(long)]
    minutes: Option<f64>,
    /// Random features of the baseline without a trunk, at least; 0 for none
    #[arg(long, value_name = "FEATURES")]
    random_features: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    products: ProductFlags,
}

/// Runs `fnet universal`.
pub fn run(args: Args) -> Result<()> {
    set_threads(args.threads)?;
    let stop = Stop::on_signal();
    let (out, begun) = (absolute(&args.out)?, Instant::now());
    let claim = Claim::of(&out)?;
    let settings = settings(&args, &claim)?;
    let mut runner = Processes { out: &out, threads: args.threads, stop: &stop, done: 0 };
    let universal = universal::run(&claim, &settings, &mut runner, &stop)?;
    if args.json {
        say(serde_json::to_string(&universal).unwrap_or_default())?;
    } else {
        say(aligned(&universal.scores()).trim_end())?;
        universal.answers().iter().try_for_each(say)?;
    }
    finish_runs(&args.out, begun, universal.cells.iter().flat_map(|cell| &cell.failures).count())
}

/// The settings that flags and files give, and a folder that is free for them.
fn settings(args: &Args, claim: &Claim) -> Result<UniversalSettings> {
    let mut given = given(&args.flags)?;
    if let Some(path) = &args.config {
        given = over_file::<UniversalSettings>(path, given)?;
    }
    let mut usual = if args.quick { UniversalSettings::quick() } else { UniversalSettings::default() };
    for (own, rivals) in [("steps", ["epochs", "minutes"]), ("pretrain_steps", ["pretrain_minutes"; 2])] {
        if rivals.iter().any(|rival| given.contains_key(*rival)) {
            if own == "steps" { usual.steps = None } else { usual.pretrain_steps = None }
        }
    }
    let mut settings = over(usual, given)?;
    settings.task.extend(tasks(args)?);
    if settings.task.is_empty() {
        return Err(Error::usage("--task, --tasks: name one or more tasks, or give --quick"));
    }
    let out = claim.path();
    let goes_on = out.join(SETTINGS_FILE).exists();
    if args.quick {
        let data = sample_in(out, goes_on)?;
        settings.corpus = vec![data.join("corpus/train.txt")];
        settings.valid = vec![data.join("corpus/valid.txt")];
        let sentiment = sample::TASKS.iter().find(|(name, _)| *name == "sentiment");
        if let Some((name, glue)) = sentiment {
            let folder = data.join(name).display().to_string();
            let pairs = [("task", glue.to_string()), ("data", folder)];
            let table = pairs.map(|(key, value)| (key.to_string(), Value::from(value)));
            settings.task.insert(name.to_string(), Table::from_iter(table));
        }
    }
    settings.resolve()?;
    if !args.quick && !goes_on && !claim.is_empty()? {
        return Err(Error::file(&args.out, "holds other files; choose another --out"));
    }
    Ok(settings)
}

/// Tasks by name and by file.
fn tasks(args: &Args) -> Result<BTreeMap<String, Table>> {
    let mut tasks = BTreeMap::new();
    let mut add = |name: String, table: Table| match tasks.insert(name.clone(), table) {
        Some(_) => Err(Error::usage(format!("task {name}: is given twice"))),
        None => Ok(()),
    };
    for task in &args.task {
        let (name, data) =
            task.split_once('=').map_or((task.as_str(), None), |(name, data)| (name, Some(data)));
        let pairs = std::iter::once(("task", name)).chain(data.map(|data| ("data", data)));
        add(name.into(), pairs.map(|(key, value)| (key.to_string(), Value::from(value))).collect())?;
    }
    for file in &args.tasks {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let table: Table = toml::from_str(&text).map_err(|e| Error::file(file, e.message()))?;
        add(file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), table)?;
    }
    Ok(tasks)
}
