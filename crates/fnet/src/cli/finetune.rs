use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, CONFIG_FILE, MODELING_FILE, Report, WEIGHTS_FILE};
use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Model, Padding, Pairs, Pool, Pooling, Workspace};
use fnet_train::base_model::BaseModel;
use fnet_train::data::tasks::classes::Classes;
use fnet_train::data::tasks::dataset::{Dataset, Labels, score_of};
use fnet_train::data::tasks::encoding::{Encoding, Long};
use fnet_train::data::tasks::files::TaskFiles;
use fnet_train::data::tasks::glue::GlueTask;
use fnet_train::data::tasks::rows::Columns;
use fnet_train::data::text::STANDARD_STREAM;
use fnet_train::data::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer};
use fnet_train::predictor::check_vocabulary;
use fnet_train::runs::comparison::mean;
use fnet_train::runs::folder::{METRICS_FILE, RunFolder};
use fnet_train::train::finetune::{BatchSize, TaskObjective, Variation};
use fnet_train::train::trainer::{Objective, Trainer};
use fnet_train::{
    Error, Result, runs::card, runs::report, train::bag_of_words, train::bag_start, train::whitening,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::columns::{check_segments, column_names, own_columns};
use super::common::{absolute, in_range, parse_name, say_unused};
use super::loop_flags::{LoopDefaults, LoopFlags};
use super::run_flags::{RunFlags, Running};
use super::task::{find_task, task_labels};

/// Fine-tune a pretrained encoder on a GLUE task, or on your own labelled rows
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunFlags,
}

/// Everything that decides the result: flags, and `training.toml`.
#[derive(clap::Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Folder of the pretrained model; by default the one that ships with the program
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Take only the model's shape and vocabulary, and start from random weights
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_scratch: bool,
    /// GLUE task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli
    #[arg(long, requires = "data", conflicts_with_all = ["train", "dev", "text", "label", "regression", "no_header"])]
    pub task: Option<String>,
    /// Folder with the task's own files (train.tsv, dev.tsv)
    #[arg(long, value_name = "DIR", requires = "task")]
    pub data: Option<PathBuf>,
    /// Your training rows: .csv, .tsv or .jsonl, also .gz or .zst
    #[arg(long, value_name = "FILE", requires = "text")]
    pub train: Option<PathBuf>,
    /// Your held-out rows, by which the best epoch is chosen
    #[arg(long, value_name = "FILE")]
    pub dev: Option<PathBuf>,
    /// One or two text columns, with a comma; a name with a comma stands in quotes
    #[arg(long, value_name = "COLUMN")]
    pub text: Vec<String>,
    /// Label column
    #[arg(long, value_name = "COLUMN")]
    pub label: Option<String>,
    /// The rows have no header: columns are numbers, from 1
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_header: bool,
    /// The label is a number to be predicted, not a class
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub regression: bool,
    /// How much each class counts in training: equal (by its rows), or balanced (the same, however few rows it has)
    #[arg(long, value_enum)]
    pub class_weights: Option<ClassWeights>,
    /// What is read of a text: first, last, mean, max, query (one learnt query's attention) or embeddings (mean of
    /// the word embeddings), or several joined by +; by default max+embeddings, for pairs embeddings
    #[arg(long, value_name = "VECTORS")]
    pub pooling: Option<Pooling>,
    /// How the texts of a pair meet: together in one sequence, in towers (each goes through the encoder alone), or in
    /// symmetric-towers, where their order means nothing; by default towers, symmetric ones for numbers
    #[arg(long, value_parser = parse_name::<Pairs>)]
    pub pairs: Option<Pairs>,
    /// Whether a classifier hears a second opinion on each text, from its words alone; by default where there are fewer
    /// than 20,000 rows of single texts
    #[arg(long, value_name = "true|false")]
    pub bag: Option<bool>,
    /// Whether the words of pairs in towers are matched across both texts, beside their vectors; by default they are,
    /// but not in symmetric-towers
    #[arg(long, value_name = "true|false")]
    pub matching: Option<bool>,
    /// What becomes of texts longer than the model; by default windows wherever more than a text's ends is read
    #[arg(long, value_enum)]
    pub long: Option<Long>,
    /// Longest sequence in tokens; by default the model's length
    #[arg(long)]
    pub max_length: Option<usize>,
    /// Fill every example up to so many tokens and mix the padding in, as Google's FNet checkpoints were trained (512)
    #[arg(long, value_name = "TOKENS", conflicts_with = "max_length")]
    pub pad_to: Option<usize>,
    /// Part of a training example's tokens that [MASK] hides, drawn anew each time: helps where single words mean
    /// much, harms on pairs; by default 0.15 for classes of single texts (but not cola), else 0
    #[arg(long)]
    pub hide_rate: Option<f64>,
    /// How often the texts of a training pair change places, drawn anew each time; by default 0.5 where a
    /// task's order means nothing (mrpc, stsb, qqp), else 0
    #[arg(long)]
    pub swap_rate: Option<f64>,
    /// Instead of --batch-size: examples of similar length together, up to this many tokens
    #[arg(long, conflicts_with = "batch_size")]
    pub batch_tokens: Option<usize>,
    /// Runs with this many seeds, from --seed up; the best is kept in --out
    #[arg(long)]
    pub seeds: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub training: LoopFlags,
}

/// How much each class counts in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// By its rows
    Equal,
    /// The same for every class
    Balanced,
}

impl Settings {
    pub fn resolve(&mut self) -> Result<()> {
        let paths = [&mut self.model, &mut self.data, &mut self.train, &mut self.dev];
        for path in paths.into_iter().flatten() {
            *path = absolute(path)?;
        }
        BaseModel::named(self.model.as_deref())?;
        if self.task.is_none() && self.train.is_none() {
            return Err(Error::usage("give --task and --data, or --train, --text and --label"));
        }
        if [&self.train, &self.dev].into_iter().flatten().any(|path| path.ends_with(STANDARD_STREAM)) {
            return Err(Error::usage(
                "--train, --dev: rows are read more than once, so standard input cannot hold them",
            ));
        }
        if self.class_weights == Some(ClassWeights::Balanced)
            && (self.regression
                || self
                    .task
                    .as_deref()
                    .is_some_and(|task| find_task(task).is_ok_and(GlueTask::is_regression)))
        {
            return Err(Error::usage("--class-weights balanced: numbers have no classes"));
        }
        self.seeds.get_or_insert(1);
        in_range("--seeds", self.seeds.map(|n| n as f64), 1.0, 1e4)?;
        let task = self.task.as_deref().map(find_task).transpose()?;
        let own = if self.regression || self.text.len() == 2 { 0.0 } else { 0.15 };
        self.hide_rate.get_or_insert(task.map_or(own, |task| task.hide_rate));
        in_range("--hide-rate", self.hide_rate, 0.0, 1.0)?;
        self.swap_rate.get_or_insert(if task.is_some_and(|task| task.symmetric) { 0.5 } else { 0.0 });
        in_range("--swap-rate", self.swap_rate, 0.0, 1.0)?;
        let is_pair = task.map_or(self.text.len(), |task| task.text.len()) == 2;
        let is_number = task.map_or(self.regression, GlueTask::is_regression);
        if !is_pair && self.swap_rate > Some(0.0) {
            return Err(Error::usage("--swap-rate: the rows have one text, only pairs change places"));
        }
        let (pooling, pairs) = usual_readout(is_pair, is_number);
        self.pooling.get_or_insert(pooling);
        self.pairs.get_or_insert(pairs);
        if !is_pair && self.pairs != Some(Pairs::Together) {
            return Err(Error::usage("--pairs: the rows have one text, towers need two"));
        }
        if self.bag == Some(true) && self.pairs != Some(Pairs::Together) {
            return Err(Error::usage(
                "--bag true: towers have no second opinion; give --pairs together, too",
            ));
        }
        if self.matching == Some(true) && self.pairs == Some(Pairs::Together) {
            return Err(Error::usage("--matching true: only the words of pairs in towers are matched"));
        }
        self.matching.get_or_insert(self.pairs == Some(Pairs::Towers));
        if is_pair && self.pairs == Some(Pairs::Together) && self.long == Some(Long::Windows) {
            return Err(Error::usage(
                "--long windows: pairs in one sequence are cut; --pairs towers reads them in windows",
            ));
        }
        let has_dev = self.dev.is_some() || task.is_some();
        if self.training.evaluations > Some(0) && !has_dev {
            return Err(Error::usage("--evaluations: there is nothing to evaluate on; give --dev"));
        }
        in_range("--batch-tokens", self.batch_tokens.map(|n| n as f64), 1.0, 1e9)?;
        in_range("--pad-to", self.pad_to.map(|n| n as f64), 4.0, 1e6)?;
        // Later uses of the model are told by the length and the configuration's padding.
        self.max_length = self.max_length.or(self.pad_to);
        in_range("--max-length", self.max_length.map(|n| n as f64), 4.0, 1e6)?;
        self.training.resolve(&LoopDefaults {
            epochs: None,
            batch_size: 32,
            learning_rate: 3e-4,
            warm_up: 0.1,
            evaluations: 0,
            dropout: 0.1,
        })
    }

    /// The task's files, columns and labels; says which classes there are unless `quiet`.
    pub fn task_files(&self, quiet: bool) -> Result<TaskFiles> {
        if let Some(name) = &self.task {
            let task = find_task(name)?;
            let data = self.data.as_deref().unwrap_or(Path::new("."));
            let dev = task.dev.iter().map(|file| {
                let name = if task.dev.len() > 1 {
                    file.trim_start_matches("dev_").trim_end_matches(".tsv").to_string()
                } else {
                    String::new()
                };
                (name, data.join(file), task.columns(file))
            });
            return Ok(TaskFiles {
                train: data.join(task.train),
                train_columns: task.columns(task.train),
                dev: dev.collect(),
                labels: task_labels(task),
                metrics: task.metrics.to_vec(),
            });
        }
        let train = self.train.clone().unwrap_or_default();
        let columns = own_columns(&self.text, self.label.as_deref(), self.no_header)?;
        if columns.label.is_none() {
            return Err(Error::usage("--label: name the column with the label"));
        }
        let labels = if self.regression {
            Labels::Number
        } else {
            let classes = Classes::find(&train, &columns)?;
            if !quiet {
                eprintln!("{}: {}", train.display(), classes.sentence());
                classes
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("warning: {}: {warning}", train.display()));
            }
            Labels::Classes(classes.names)
        };
        let dev = self.dev.iter().map(|f| (String::new(), f.clone(), columns.clone()));
        Ok(TaskFiles {
            train,
            dev: dev.collect(),
            metrics: labels.usual_metrics(),
            labels,
            train_columns: columns,
        })
    }
}

/// What is read of a text where nobody says: the best of what was measured, see docs/results.md.
fn usual_pooling() -> Pooling {
    Pooling::new(vec![Pool::Max, Pool::Embeddings]).unwrap_or_default()
}

/// How rows are read where nobody says: pairs by their words alone, in towers, for it takes many rows to learn more.
fn usual_readout(is_pair: bool, is_number: bool) -> (Pooling, Pairs) {
    let words = || Pooling::new(vec![Pool::Embeddings]).unwrap_or_default();
    match (is_pair, is_number) {
        (false, _) => (usual_pooling(), Pairs::Together),
        (true, true) => (words(), Pairs::SymmetricTowers), // a cosine is symmetric
        (true, false) => (words(), Pairs::Towers),
    }
}

/// Runs `fnet finetune`.
pub fn run(args: Args) -> Result<()> {
    let mut settings = args.settings;
    settings.text = column_names(&settings.text)?;
    let (folder, settings, running) =
        args.run.start("finetune", settings, Settings::resolve, |settings| settings.model.as_deref())?;
    let results = if settings.seeds == Some(1) {
        run_to_end(&folder, &settings, &running)?
    } else {
        run_seeds(&folder, &settings, &running)?
    };
    args.run.finish(&folder, &results)
}

/// Fine-tunes with several seeds, each in a folder of its own; the best model is copied to the top.
fn run_seeds(folder: &RunFolder, settings: &Settings, running: &Running) -> Result<Value> {
    let first = settings.training.seed.unwrap_or(1);
    let seeds = first..first + settings.seeds.unwrap_or(1);
    let open = |seed: u64, overwrite| RunFolder::new(&folder.file(&format!("seed-{seed}")), overwrite);
    let place = |seed: u64| open(seed, true);
    if !running.resume {
        // Whatever is wrong with the data is found before an earlier run is removed.
        for seed in seeds.clone() {
            open(seed, running.overwrite)?;
        }
        prepare(folder, settings, false, true)?;
        // Results say which seeds are done: those of an earlier run must not count.
        folder.clear()?;
        for seed in seeds.clone() {
            place(seed)?.clear()?;
        }
        folder.save_settings(settings)?;
    }
    let mut all: Vec<Value> = Vec::new();
    for seed in seeds.clone() {
        let folder = place(seed)?;
        let mut one = settings.clone();
        (one.training.seed, one.seeds) = (Some(seed), Some(1));
        all.push(match folder.results().filter(|_| running.resume) {
            Some(results) => results,
            None => run_to_end(&folder, &one, running)?,
        });
    }
    let score = |results: &Value| -> f64 {
        let values = results["values"].as_object();
        let value = |(name, v): (&String, &Value)| Some((name.clone(), v.as_f64()?));
        score_of(&values.into_iter().flatten().filter_map(value).collect::<Vec<_>>())
    };
    let best = (0..all.len()).max_by(|a, b| score(&all[*a]).total_cmp(&score(&all[*b])));
    let best = best.unwrap_or(0);
    let best_folder = place(first + best as u64)?;
    for file in
        [MODELING_FILE, CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, METRICS_FILE]
    {
        let from = best_folder.file(file);
        if file == MODELING_FILE && !from.exists() {
            continue; // Transformers opens this model by itself
        }
        let bytes = std::fs::read(&from).map_err(Error::io(&from))?;
        write_whole(&folder.file(file), &bytes)?;
    }
    let results = summary(&all, first, best);
    report::write(folder, "Fine-tuning, several seeds", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

/// Mean and standard deviation over seeds beside each seed's values.
fn summary(all: &[Value], first: u64, best: usize) -> Value {
    let mut summary = all[best].clone();
    let names: Vec<String> =
        all[best]["values"].as_object().into_iter().flat_map(|v| v.keys().cloned()).collect();
    let mut values = Map::new();
    for name in &names {
        let found: Vec<f64> = all.iter().filter_map(|r| r["values"][name].as_f64()).collect();
        let (mean, deviation) = mean(&found).unwrap_or((f64::NAN, None));
        values.insert(name.clone(), json!(mean));
        values.insert(format!("{name}_deviation"), json!(deviation.unwrap_or(0.0)));
    }
    summary["values"] = Value::Object(values);
    summary["best_seed"] = json!(first + best as u64);
    summary["seeds"] = json!(all);
    summary
}

/// Rows from which on a second opinion from words alone no longer helps.
const MANY_ROWS: usize = 20_000;

/// Whether there is a second opinion where nobody says.
fn usual_bag(files: &TaskFiles) -> Result<bool> {
    Ok(files.train_columns.text.len() == 1 && files.train_rows()? < MANY_ROWS)
}

/// Passes over so many rows where nobody says: about 40,000 examples, within bounds.
fn usual_epochs(rows: usize) -> f64 {
    (40_000.0 / rows.max(1) as f64).round().clamp(3.0, 20.0)
}

/// Fine-tunes one seed into a folder; returns its results.
pub fn run_to_end(folder: &RunFolder, settings: &Settings, running: &Running) -> Result<Value> {
    let resume = running.resume && folder.has_checkpoint();
    let Prepared { mut model, tokenizer, mut objective, longest, files } =
        prepare(folder, settings, resume, running.quiet)?;
    let mut settings = settings.clone();
    settings.bag = Some(model.config().classifier_bag);
    if !settings.training.has_budget() {
        settings.training.epochs = Some(usual_epochs(objective.examples()));
    }
    let settings = &settings;
    if !resume {
        folder.begin(settings, &tokenizer, longest, &model, objective.data())?;
    }
    let state = Trainer {
        model: &mut model,
        objective: &mut objective,
        settings: &settings.training.settings(),
        folder,
        name: settings.task.as_deref().unwrap_or("fine-tuning"),
        quiet: running.quiet,
        resume_command: running.resume_command.clone(),
    }
    .run(&running.stop)?;
    let mut results = report::results(&state, &model);
    let bag = bag_of_words::scores(&files)?;
    if !bag.is_empty() {
        results["bag_of_words"] = bag.into_iter().map(|(name, value)| (name, json!(value))).collect();
    }
    report::write(folder, "Fine-tuning", &results)?;
    card::write(folder, &results)?;
    Ok(results)
}

/// What a run needs, loaded and checked.
struct Prepared {
    model: Model,
    tokenizer: Tokenizer,
    objective: TaskObjective,
    longest: usize,
    files: TaskFiles,
}

fn prepare(folder: &RunFolder, settings: &Settings, resume: bool, quiet: bool) -> Result<Prepared> {
    // A run that goes on has its own copy of everything but the rows.
    let base =
        if resume { BaseModel::at(folder.path()) } else { BaseModel::named(settings.model.as_deref())? };
    let files = settings.task_files(quiet)?;
    let rows = std::iter::once(&files.train).chain(files.dev.iter().map(|dev| &dev.1));
    folder.check_holds_none_of(rows.map(PathBuf::as_path))?;
    if base.folder().is_none() && !quiet {
        eprintln!("starting from {base}, the model that ships with fnet");
    }
    let tokenizer = base.tokenizer()?;
    let seed = settings.training.seed.unwrap_or(1);
    let bag = settings.bag.map_or_else(|| usual_bag(&files), Ok)?;
    let (mut model, report) = pretrained::open_with(base.source(), files.labels.head(), seed, |config| {
        if resume {
            return; // its own readout
        }
        if let Some(pooling) = &settings.pooling {
            config.classifier_pooling = pooling.clone();
        }
        config.classifier_pairs = settings.pairs.unwrap_or_default();
        config.classifier_bag = bag;
        config.classifier_matching = settings.matching.unwrap_or_default();
    })?;
    // The heads of pretraining are left behind as a matter of course.
    let unused = report.unused.into_iter().filter(|name| !name.starts_with("cls.")).collect();
    if !quiet {
        say_unused(&base.name(), &Report { unused, ..Report::default() });
    }
    if settings.from_scratch {
        model = Model::new(model.config().clone(), files.labels.head(), seed)?;
    }
    check_vocabulary(&base.name(), &tokenizer, &model)?;
    model.change_config(|config| {
        config.hidden_dropout_prob = settings.training.dropout.unwrap_or(0.1);
        config.other.remove("problem_type"); // another head's
        if let Labels::Classes(names) = &files.labels {
            pretrained::set_labels(config, names);
        }
        if settings.pad_to.is_some() {
            config.padding = Padding::Fixed;
        }
    })?;
    check_segments(model.config(), &files.train_columns)?;
    settings.training.prepare(&mut model, quiet)?;
    let longest = model.config().max_position_embeddings;
    if let Some(tokens) = settings.max_length.filter(|tokens| *tokens > longest) {
        let flag = if settings.pad_to.is_some() { "--pad-to" } else { "--max-length" };
        return Err(Error::usage(format!("{flag} {tokens}: the model's longest sequence is {longest}")));
    }
    let longest = settings.max_length.unwrap_or(longest);
    if model.config().fixed_length().is_some() {
        tokenizer.check_padding()?;
        model.change_config(|config| config.padding_length = Some(longest))?;
    }
    let config = model.config();
    let (fixed_length, pairs) = (config.fixed_length(), config.classifier_pairs);
    let long = settings.long.unwrap_or(Long::usual(config));
    let encoding = Encoding { tokenizer: &tokenizer, longest, fixed_length, pairs, long };
    let read = |path: &Path, columns: &Columns| -> Result<Dataset> {
        let data = Dataset::read(path, columns, &files.labels, &encoding, quiet)?;
        if let Some(sentence) = data.long.sentence(path, data.examples.len(), longest).filter(|_| !quiet) {
            eprintln!("{sentence}");
        }
        if data.empty > 0 && !quiet {
            let (file, all) = (path.display(), data.examples.len());
            eprintln!("warning: {file}: {} of {all} rows have an empty text", data.empty);
        }
        Ok(data)
    };
    let train = read(&files.train, &files.train_columns)?;
    if let Labels::Classes(names) = &files.labels {
        let first = train.examples.first().map(|e| e.label);
        if train.examples.iter().all(|e| Some(e.label) == first) {
            let name = first.and_then(|l| names.get(l as usize)).map_or("", String::as_str);
            let message = format!("has one class only, `{name}`: there is nothing to learn");
            return Err(Error::file(&files.train, message));
        }
    }
    let dev = files
        .dev
        .iter()
        .map(|(name, path, columns)| Ok((name.clone(), read(path, columns)?)))
        .collect::<Result<_>>()?;
    if !resume {
        whitening::start(&mut model, &train.examples, &mut Workspace::new())?;
        bag_start::centre(&mut model, &train.examples);
    }
    let examples = BatchSize::Examples(settings.training.batch_size.unwrap_or(1));
    let batch = settings.batch_tokens.map_or(examples, BatchSize::Tokens);
    let accumulate = settings.training.accumulate.unwrap_or(1);
    let (labels, metrics) = (files.labels.clone(), files.metrics.clone());
    let variation = Variation {
        hide_rate: settings.hide_rate.unwrap_or(0.0),
        swap_rate: settings.swap_rate.unwrap_or(0.0),
        mask: tokenizer.special().mask,
        special: tokenizer.specials(),
    };
    let objective = TaskObjective::new(train, dev, labels, metrics, (batch, accumulate), variation, seed);
    let is_balanced = settings.class_weights == Some(ClassWeights::Balanced);
    let objective = if is_balanced { objective.balanced() } else { objective };
    Ok(Prepared { model, tokenizer, objective, longest, files })
}
