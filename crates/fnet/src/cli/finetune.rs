use std::path::PathBuf;

use fnet_encoder::{Pairs, Pooling};
use fnet_train::data::tasks::encoding::Long;
use fnet_train::folder::SETTINGS_FILE;
use fnet_train::runs::finetune::{self, ClassWeights, FinetuneSettings, NamedTask, SeveralSettings};
use fnet_train::runs::similarity::{self, Loss, Objective, SimilaritySettings};
use fnet_train::settings::{given, refused, unknown};
use fnet_train::{Error, Result};
use serde::{Serialize, Serializer};

use super::columns::column_names;
use super::common::parse_name;
use super::loop_flags::LoopFlags;
use super::run_flags::RunFlags;
use super::signal_flags::SignalFlags;

/// Fine-tune an encoder on a GLUE task, on your own labelled rows, or on images, sounds, series and symbols
#[derive(clap::Args)]
pub struct Args {
    /// Settings files of several tasks, to be trained in turn on one frozen trunk: an adapter each, in a folder of the
    /// file's name. Flags win over all of them
    #[arg(long, value_name = "FILE.toml", num_args = 1.., conflicts_with_all = ["task", "train", "config", "seeds", "resume"])]
    tasks: Vec<PathBuf>,
    /// Train one set of layer norms for all --tasks
    #[arg(long, requires = "tasks")]
    share_norms: bool,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    run: RunFlags,
}

/// Flags over the fields of `FinetuneSettings`.
#[derive(clap::Args, Serialize)]
struct Flags {
    /// Folder of the pretrained model; by default the one that ships with the program
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Take only the model's shape and vocabulary, and start from random weights
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    from_scratch: bool,
    /// Store in --out what was trained alone, to be used beside the frozen model: a few kilobytes with --recipe fpt
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    adapter: bool,
    /// GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; or signals: mnist, cifar10, spoken-digits, and
    /// generated ones: bit-memory, bit-xor, listops, pathfinder, mnist-1d
    #[arg(long, conflicts_with_all = ["train", "dev", "text", "label", "regression", "multi_label", "no_header"])]
    task: Option<String>,
    /// Learn vectors of texts, by what is alike, instead of labels. Files of --train then hold scored pairs, pairs that
    /// belong together, triplets (with a third text that does not belong) or texts alone, as their headers say: a column
    /// named score or label is the score, the others are the texts in their order; .txt has a text a line
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// Folder with the task's own files (train.tsv, dev.tsv; train.zip, test.zip; recordings.zip)
    #[arg(long, value_name = "DIR", requires = "task")]
    data: Option<PathBuf>,
    /// Your training rows: .csv, .tsv or .jsonl, also .gz or .zst; or signals: .ts or .npy series, a folder or .zip of
    /// pictures (PNG, JPEG) or sounds (WAV) with a folder for each class, images in IDX (images-idx3-ubyte, with
    /// labels-idx1-ubyte beside it), labelled words (.conll). With --objective similarity one or more files
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[serde(serialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    train: Vec<PathBuf>,
    /// Your held-out rows, by which the best epoch is chosen
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[serde(serialize_with = "one_or_several", skip_serializing_if = "Vec::is_empty")]
    dev: Vec<PathBuf>,
    /// Judge by this part of the training examples, such as 0.2, which are then not learnt from. It is the same part in
    /// every run, so that runs can be compared
    #[arg(long, value_name = "PART", conflicts_with = "dev")]
    held_out: Option<f64>,
    /// One or two text columns, with a comma; a name with a comma stands in quotes
    #[arg(long, value_name = "COLUMN")]
    text: Vec<String>,
    /// Label column
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The rows have no header: columns are numbers, from 1
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_header: bool,
    /// The label is a number to be predicted, not a class
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    regression: bool,
    /// Each example has any number of labels, also none: names with | between, or in JSONL a list
    #[arg(long, conflicts_with = "regression")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    multi_label: bool,
    /// How much each class counts in training: equal (by its rows), or balanced (the same, however few rows it has);
    /// by default equal, but balanced for cola, whose metric counts classes alike
    #[arg(long, value_enum)]
    class_weights: Option<ClassWeights>,
    /// Vectors that the classifier reads from a text: first, last, mean, max, query (attention of one learnt query) or
    /// embeddings (mean of the word embeddings), or several joined by +; by default max+embeddings, for pairs embeddings
    #[arg(long, value_name = "VECTORS")]
    pooling: Option<Pooling>,
    /// How a pair is encoded: together (in one sequence), towers (each text on its own) or symmetric-towers (as towers,
    /// where the order of the texts means nothing); by default towers, for regression symmetric-towers
    #[arg(long, value_parser = parse_name::<Pairs>)]
    pairs: Option<Pairs>,
    /// Whether a bag of words takes part in the classification of single texts; by default with fewer than 20,000 rows
    #[arg(long, value_name = "true|false")]
    bag: Option<bool>,
    /// Whether the words of pairs in towers are matched across both texts, in addition to their vectors; by default they
    /// are, except in symmetric-towers
    #[arg(long, value_name = "true|false")]
    matching: Option<bool>,
    /// How texts longer than the model are read; by default in windows, unless --pooling reads the ends alone
    #[arg(long, value_enum)]
    long: Option<Long>,
    /// Longest sequence in tokens; by default the model's length, for a random trunk that of the longest signal
    #[arg(long)]
    max_length: Option<usize>,
    /// Pad every example to this many tokens and mix the padding in, as Google's FNet checkpoints were trained (512)
    #[arg(long, value_name = "TOKENS", conflicts_with = "max_length")]
    pad_to: Option<usize>,
    /// Fraction of a training example's tokens hidden by [MASK], drawn anew in each epoch: helps where single words
    /// matter, harms pairs; by default 0.15 for classes of single texts (except cola), else 0
    #[arg(long)]
    hide_rate: Option<f64>,
    /// How often the texts of a training pair are swapped, drawn anew in each epoch; by default 0.5 for tasks whose
    /// order means nothing (mrpc, stsb, qqp), else 0
    #[arg(long)]
    swap_rate: Option<f64>,
    /// Batches of examples of similar length, up to this many tokens, instead of --batch-size
    #[arg(long, conflicts_with = "batch_size")]
    batch_tokens: Option<usize>,
    /// How scored pairs are learnt with --objective similarity: by default cosine
    #[arg(long, value_enum)]
    loss: Option<Loss>,
    /// Factor of cosines in the exponentials of --objective similarity; by default 20
    #[arg(long)]
    scale: Option<f64>,
    /// Sizes that vectors of --objective similarity may be shortened to, with commas: their leading values are vectors, too
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    dimensions: Vec<usize>,
    /// Tokens that go through the model at once with --objective similarity: a batch with more takes two passes, and no more
    /// memory; by default 16,384
    #[arg(long)]
    pass_tokens: Option<usize>,
    /// Let the output layer read what is pooled, without a layer between, as --recipe ridge does; for single texts and
    /// signals
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    linear_head: bool,
    /// Penalty of --recipe ridge on its weights; by default that of the least cross-validation error
    #[arg(long)]
    penalty: Option<f64>,
    /// Keep what --recipe ridge learnt from beside the model, so that more rows can be added with --add
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keep_sums: bool,
    /// Learn from the rows of --train or --data and from all that this run of --recipe ridge --keep-sums learnt from,
    /// with its settings, without reading those again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "resume"])]
    add: Option<PathBuf>,
    /// Train with this many seeds, from --seed up, and keep the best in --out
    #[arg(long)]
    seeds: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    signals: SignalFlags,
    #[command(flatten)]
    #[serde(flatten)]
    training: LoopFlags,
}

/// Runs `fnet finetune`.
pub fn run(args: Args) -> Result<()> {
    let Args { tasks, share_norms, mut flags, run } = args;
    flags.text = column_names(&flags.text)?;
    if !tasks.is_empty() || run.resumes(SeveralSettings::are_in) {
        return run_several(&tasks, share_norms, &flags, &run);
    }
    if flags.objective.is_some() || run.settings_have("objective") {
        return run_similarity(&flags, &run);
    }
    if let Some(key) = unknown::<FinetuneSettings>(&given(&flags)?) {
        return Err(refused(key, "is for --objective similarity"));
    }
    if flags.train.len() > 1 || flags.dev.len() > 1 {
        return Err(Error::usage("--train, --dev: several files are for --objective similarity"));
    }
    if let Some(earlier) = &flags.add {
        let earlier = earlier.join(SETTINGS_FILE);
        if flags.train.is_empty() && flags.data.is_none() {
            return Err(Error::usage("--add: name the new rows by --train, or their folder by --data"));
        }
        let mut settings: FinetuneSettings = run.settings_over(Some(&earlier), &flags)?;
        settings.held_out = flags.held_out;
        settings.resolve()?;
        let (folder, settings, running) = run.start_with("finetune", settings)?;
        let results = finetune::run(&folder, &settings, &running)?;
        return run.finish(&folder, &results);
    }
    let (folder, settings, running) =
        run.start::<FinetuneSettings>("finetune", &flags, FinetuneSettings::resolve)?;
    let results = finetune::run(&folder, &settings, &running)?;
    run.finish(&folder, &results)
}

/// Vectors of texts.
fn run_similarity(flags: &Flags, run: &RunFlags) -> Result<()> {
    if let Some(key) = unknown::<SimilaritySettings>(&given(flags)?) {
        return Err(refused(key, "does not apply to --objective similarity"));
    }
    let (folder, settings, running) =
        run.start::<SimilaritySettings>("finetune", flags, SimilaritySettings::resolve)?;
    let results = similarity::run(&folder, &settings, &running)?;
    run.finish(&folder, &results)
}

fn one_or_several<S: Serializer>(paths: &[PathBuf], to: S) -> std::result::Result<S::Ok, S::Error> {
    match paths {
        [one] => one.serialize(to),
        several => several.serialize(to),
    }
}

/// Several tasks, each with a file of settings, or its own where they go on.
fn run_several(files: &[PathBuf], share_norms: bool, flags: &Flags, run: &RunFlags) -> Result<()> {
    let named = |file: &PathBuf| -> Result<NamedTask> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut settings: FinetuneSettings = run.settings_over(Some(file), flags)?;
        settings.resolve().map_err(|e| Error::usage(format!("{}: {e}", file.display())))?;
        Ok((name, settings))
    };
    let (folder, tasks, share_norms, running) = if files.is_empty() {
        let (folder, several, running) = run.start::<SeveralSettings>("finetune", flags, |_| Ok(()))?;
        let tasks = several.tasks_in(&folder)?;
        (folder, tasks, several.share_norms, running)
    } else {
        let tasks = files.iter().map(named).collect::<Result<Vec<_>>>()?;
        let (folder, tasks, running) = run.start_with("finetune", tasks)?;
        (folder, tasks, share_norms, running)
    };
    let results = finetune::run_several(&folder, &tasks, share_norms, &running)?;
    run.finish(&folder, &results)
}
