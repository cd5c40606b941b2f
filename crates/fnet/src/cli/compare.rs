use std::path::{Path, PathBuf};
use std::time::Instant;

use fnet_train::folder::claim::{Claim, LOCK_FILE};
use fnet_train::runs::compare::{self, CompareSettings, SETTINGS_FILE};
use fnet_train::settings::{absolute, given, over, over_file};
use fnet_train::train::recipe::Recipe;
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, data::sample};
use serde::Serialize;

use super::common::{aligned, finish_runs, say, set_threads};
use super::processes::Processes;
use super::product_flags::ProductFlags;

/// Pretrain and fine-tune with each of several mixers, and report what each costs and reaches
///
/// Every pretraining gets the same budget, seed and order of data. Stopped half-way, the same command
/// continues where it was; an entry that fails is reported and tried again by the next call.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Settings file; flags win over it. A comparison's compare.toml is one
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Folder of the comparison
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Compare on the shipped sample in a few minutes
    #[arg(long, conflicts_with_all = ["corpus", "valid", "task"])]
    quick: bool,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Flags over the fields of `CompareSettings`.
#[derive(clap::Args, Serialize)]
struct Flags {
    /// Text to pretrain on
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus
    #[arg(long, num_args = 1.., value_name = "FILE")]
    valid: Vec<PathBuf>,
    /// GLUE task to fine-tune on, and the folder with its files; may be given several times
    #[arg(long, value_name = "TASK=DIR")]
    task: Vec<String>,
    /// Mixers, with commas: names, names joined by + (one per layer), or attention-top-2 and its like
    #[arg(long, value_delimiter = ',', value_name = "MIXER")]
    mixers: Vec<String>,
    /// What is trained, with commas; each recipe is combined with each mixer
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RECIPE")]
    recipes: Vec<Recipe>,
    /// Minutes of pretraining each, turned into steps at a speed that is measured first, in turn
    #[arg(long, conflicts_with_all = ["steps", "flops"])]
    minutes: Option<f64>,
    /// Steps of pretraining each
    #[arg(long, conflicts_with = "flops")]
    steps: Option<u64>,
    /// Floating-point operations of pretraining each, such as 1e15
    #[arg(long)]
    flops: Option<f64>,
    /// Run with this many seeds, from 1 up
    #[arg(long)]
    seeds: Option<u64>,
    /// Size of the models
    #[arg(long)]
    preset: Option<String>,
    /// Tokens in the vocabulary, which all share
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Longest sequence in tokens
    #[arg(long)]
    seq_len: Option<usize>,
    /// Sequences in a pretraining batch
    #[arg(long)]
    batch_size: Option<usize>,
    /// Highest learning rate of pretraining
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Passes over each task's rows in fine-tuning
    #[arg(long)]
    epochs: Option<f64>,
    /// Highest learning rate of fine-tuning
    #[arg(long)]
    task_learning_rate: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    products: ProductFlags,
    /// Longest sequence whose speed and memory are measured; 0 for none
    #[arg(long)]
    longest: Option<usize>,
}

/// Runs `fnet compare`.
pub fn run(args: Args) -> Result<()> {
    set_threads(args.threads)?;
    let stop = Stop::on_signal();
    let (out, begun) = (absolute(&args.out)?, Instant::now());
    let claim = Claim::of(&out)?;
    let settings = settings(&args, &claim)?;
    let mut runner = Processes { out: &out, threads: args.threads, stop: &stop, done: 0 };
    let comparison = compare::run(&claim, &settings, &mut runner, &stop)?;
    if args.json {
        say(serde_json::to_string(&comparison).unwrap_or_default())?;
    } else {
        say(aligned(&comparison.table()).trim_end())?;
        comparison.verdict().iter().try_for_each(say)?;
    }
    finish_runs(&args.out, begun, comparison.entries.iter().flat_map(|e| &e.failures).count())
}

/// The settings that flags and a file give, with the sample for a quick comparison, and a folder that is free for them.
fn settings(args: &Args, claim: &Claim) -> Result<CompareSettings> {
    let mut given = given(&args.flags)?;
    if let Some(path) = &args.config {
        given = over_file::<CompareSettings>(path, given)?;
    }
    let mut usual = if args.quick { CompareSettings::quick() } else { CompareSettings::default() };
    if given.contains_key("minutes") || given.contains_key("flops") {
        usual.steps = None;
    }
    let mut settings = over(usual, given)?;
    if settings.corpus.is_empty() && !args.quick {
        return Err(Error::usage("--corpus: name one or more text files, or give --quick"));
    }
    let out = claim.path();
    let goes_on = out.join(SETTINGS_FILE).exists();
    if args.quick {
        quick_data(out, &mut settings, goes_on)?;
    }
    settings.resolve()?;
    if !args.quick && !goes_on && !claim.is_empty()? {
        return Err(Error::file(&args.out, "holds other files; choose another --out"));
    }
    Ok(settings)
}

/// The sample as corpus and tasks.
fn quick_data(out: &Path, settings: &mut CompareSettings, goes_on: bool) -> Result<()> {
    let data = sample_in(out, goes_on)?;
    settings.corpus = vec![data.join("corpus/train.txt")];
    settings.valid = vec![data.join("corpus/valid.txt")];
    let tasks = sample::TASKS.iter().filter(|(name, _)| ["sentiment", "similarity"].contains(name));
    settings.task = tasks.map(|(name, glue)| format!("{glue}={}", data.join(name).display())).collect();
    Ok(())
}

/// The folder of the sample, written if what is run there is new.
pub fn sample_in(out: &Path, goes_on: bool) -> Result<PathBuf> {
    let data = out.join("data");
    if !goes_on {
        let other = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|e| e.file_name() != "data" && e.file_name() != LOCK_FILE)
        };
        if out.read_dir().is_ok_and(|mut entries| entries.any(other)) {
            return Err(Error::file(out, "holds other files; choose another --out"));
        }
        sample::write(&data, sample::SEED)?;
    }
    Ok(data)
}
