use std::path::{Path, PathBuf};
use std::time::Instant;

use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Head, Model, Pairs, Pool, Pooling};
use fnet_train::progress::{Progress, duration};
use fnet_train::runs::claim::{Claim, LOCK_FILE};
use fnet_train::runs::comparison::Comparison;
use fnet_train::speed::{LENGTHS, Speed};
use fnet_train::train::recipe::Recipe;
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, data::sample};
use serde::{Deserialize, Serialize};

use super::common::{absolute, existing_files, in_range, say, set_threads};
use super::config_file::over_config;
use super::loop_flags::LoopFlags;
use super::product_flags::ProductFlags;
use super::task::find_task;
use super::{finetune, pretrain};
use runs::Runs;

mod runs;

/// Pretrain and fine-tune with each of several mixers, and report what each costs and reaches
///
/// Every pretraining gets the same budget, seed and order of data. Stopped half-way, the same command goes on
/// where it was; an entry that fails is reported and tried again by the next call.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
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

/// Everything that decides the result: flags, and `compare.toml`.
#[derive(clap::Args, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Text to pretrain on
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// Text to validate on; by default the end of the corpus
    #[arg(long, num_args = 1.., value_name = "FILE")]
    valid: Vec<PathBuf>,
    /// GLUE task to fine-tune on, and the folder with its files; may be given several times
    #[arg(long, value_name = "TASK=DIR")]
    task: Vec<String>,
    /// Mixers, with commas: names, names joined by + (one a layer), or attention-top-2 and its like
    #[arg(long, value_delimiter = ',', value_name = "MIXER")]
    mixers: Vec<String>,
    /// What is trained, with commas; each recipe is combined with each mixer
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RECIPE")]
    recipes: Vec<Recipe>,
    /// Minutes of pretraining each: as many steps as these hold at a speed that is measured first, in turn
    #[arg(long, conflicts_with_all = ["steps", "flops"])]
    minutes: Option<f64>,
    /// Steps of pretraining each
    #[arg(long, conflicts_with = "flops")]
    steps: Option<u64>,
    /// Floating-point operations of pretraining each, such as 1e15
    #[arg(long)]
    flops: Option<f64>,
    /// Runs with so many seeds, from 1 up
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

const SETTINGS_FILE: &str = "compare.toml";
/// A budget that a flag gives replaces that of a file.
const BUDGETS: &[&[&[&str]]] = &[&[&["steps"], &["minutes"], &["flops"]]];

impl Settings {
    fn resolve(&mut self, quick: bool) -> Result<()> {
        if quick {
            self.preset.get_or_insert("tiny".into());
            self.vocab_size.get_or_insert(700);
            self.seq_len.get_or_insert(64);
            self.longest.get_or_insert(512);
            self.epochs.get_or_insert(8.0);
            self.task_learning_rate.get_or_insert(1e-3);
            if self.minutes.is_none() && self.flops.is_none() {
                self.steps.get_or_insert(2_000);
            }
        }
        if self.corpus.is_empty() {
            return Err(Error::usage("--corpus: name one or more text files, or give --quick"));
        }
        self.corpus = existing_files(&self.corpus)?;
        self.valid = existing_files(&self.valid)?;
        if self.mixers.is_empty() {
            let all = ["shift", "fourier", "attention", "linear", "random", "mlp", "reservoir", "none"];
            self.mixers = all.map(String::from).to_vec();
        }
        if self.recipes.is_empty() {
            self.recipes = vec![Recipe::Full];
        }
        if self.minutes.is_none() && self.steps.is_none() && self.flops.is_none() {
            return Err(Error::usage("give each entry a budget: --minutes, --steps or --flops"));
        }
        in_range("--minutes", self.minutes, 1e-3, 1e6)?;
        in_range("--steps", self.steps.map(|n| n as f64), 1.0, 1e12)?;
        in_range("--flops", self.flops, 1.0, 1e30)?;
        self.seeds.get_or_insert(1);
        in_range("--seeds", self.seeds.map(|n| n as f64), 1.0, 1e3)?;
        self.preset.get_or_insert("mini".into());
        self.longest.get_or_insert(8_192);
        if self.task.is_empty() && (self.epochs.is_some() || self.task_learning_rate.is_some()) {
            return Err(Error::usage("--epochs, --task-learning-rate: are of fine-tuning; give a --task"));
        }
        let mut names = Vec::new();
        for task in &mut self.task {
            let (name, data) = split_task(task)?;
            find_task(name)?;
            if names.contains(&name.to_string()) {
                return Err(Error::usage(format!("--task {name}: is given twice")));
            }
            names.push(name.to_string());
            let folder = absolute(data)?;
            std::fs::metadata(&folder).map_err(Error::io(&folder))?;
            *task = format!("{name}={}", folder.display());
        }
        // A mistake in any entry is found before the first one runs.
        for (mixer, recipe) in self.entries() {
            self.pretraining(&mixer, recipe, 1, self.steps, Path::new("shards"))?;
            for task in &self.task {
                self.fine_tuning(Path::new("model"), task, recipe, 1)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Vec<(String, Recipe)> {
        let of = |mixer: &String| self.recipes.iter().map(|r| (mixer.clone(), *r)).collect::<Vec<_>>();
        self.mixers.iter().flat_map(of).collect()
    }

    fn pretraining(
        &self,
        mixer: &str,
        recipe: Recipe,
        seed: u64,
        steps: Option<u64>,
        shards: &Path,
    ) -> Result<pretrain::Settings> {
        let mut settings = pretrain::Settings {
            corpus: self.corpus.clone(),
            valid: self.valid.clone(),
            preset: self.preset.clone(),
            vocab_size: self.vocab_size,
            seq_len: self.seq_len,
            mixer: Some(mixer.into()),
            shards: Some(shards.into()),
            training: LoopFlags {
                steps,
                batch_size: self.batch_size,
                learning_rate: self.learning_rate,
                recipe: Some(recipe),
                products: self.products,
                seed: Some(seed),
                ..LoopFlags::default()
            },
            ..pretrain::Settings::default()
        };
        settings.resolve()?;
        let config = settings.shape()?;
        if let Some(flops) = self.flops {
            let model = Model::new(fnet_encoder::ModelConfig { vocab_size: 8, ..config }, Head::MaskedLm, 1)?;
            let longest = model.config().max_position_embeddings;
            let step = 3.0 * model.flops_per_token(longest) * settings.batch_tokens(longest) as f64;
            settings.training.epochs = None;
            settings.training.steps = Some((flops / step).round().max(1.0) as u64);
        }
        Ok(settings)
    }

    fn fine_tuning(&self, model: &Path, task: &str, recipe: Recipe, seed: u64) -> Result<finetune::Settings> {
        let (name, data) = split_task(task)?;
        let mut settings = finetune::Settings {
            model: Some(model.into()),
            task: Some(name.into()),
            data: Some(data.into()),
            // Mixers are judged by what the layers say, not by words alone.
            pooling: Some(Pooling::new(vec![Pool::Mean, Pool::Max])?),
            pairs: Some(Pairs::Together),
            bag: Some(false),
            training: LoopFlags {
                epochs: self.epochs,
                learning_rate: self.task_learning_rate,
                recipe: Some(recipe),
                products: self.products,
                seed: Some(seed),
                ..LoopFlags::default()
            },
            ..finetune::Settings::default()
        };
        settings.resolve()?;
        Ok(settings)
    }
}

fn split_task(task: &str) -> Result<(&str, &Path)> {
    let parts = task.split_once('=').filter(|(name, data)| !name.is_empty() && !data.is_empty());
    let (name, data) = parts
        .ok_or_else(|| Error::usage(format!("--task {task}: give TASK=DIR, such as sst2=glue/SST-2")))?;
    Ok((name, Path::new(data)))
}

/// Runs `fnet compare`.
pub fn run(args: Args) -> Result<()> {
    set_threads(args.threads)?;
    let stop = Stop::on_signal();
    let (out, begun) = (absolute(&args.out)?, Instant::now());
    let mut settings = over_config(args.settings, args.config.as_deref(), BUDGETS)?;
    let claim = Claim::of(&out)?;
    let known = out.join(SETTINGS_FILE);
    let is_empty = claim.is_empty()?;
    if args.quick {
        quick_data(&out, &mut settings, known.exists())?;
    }
    settings.resolve(args.quick)?;
    let text = toml::to_string(&settings).map_err(|e| Error::file(&known, e.to_string()))?;
    match std::fs::read_to_string(&known) {
        Ok(earlier) if earlier != text => {
            let message = "was begun with other settings; give those, or choose another --out";
            return Err(Error::file(&known, message));
        }
        Ok(_) => {}
        Err(_) if !args.quick && !is_empty => {
            return Err(Error::file(&args.out, "holds other files; choose another --out"));
        }
        Err(_) => write_whole(&known, text.as_bytes())?,
    }
    stop.arm();
    let mut runs = Runs::new(&out, &settings, args.threads, &stop);
    let mut comparison = Comparison::default();
    let steps = runs.steps()?;
    for (mixer, recipe) in settings.entries() {
        let entry = runs.entry(&mixer, recipe, &steps)?;
        comparison.entries.push(entry);
        comparison.write(&out, &text)?;
    }
    comparison.speed = speeds(&out, &settings, &stop)?;
    comparison.write(&out, &text)?;
    if args.json {
        say(serde_json::to_string(&comparison).unwrap_or_default())?;
    } else {
        say(aligned(&comparison.table()).trim_end())?;
    }
    let took = duration(begun.elapsed().as_secs_f64());
    eprintln!("done in {took}; report: {}", args.out.join("report.html").display());
    match comparison.entries.iter().flat_map(|e| &e.failures).count() {
        0 => Ok(()),
        failed => {
            let message =
                format!("{failed} of its runs failed, see its report; the same command tries them again");
            Err(Error::file(&args.out, message))
        }
    }
}

/// The sample as corpus and tasks.
fn quick_data(out: &Path, settings: &mut Settings, goes_on: bool) -> Result<()> {
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
    settings.corpus = vec![data.join("corpus/train.txt")];
    settings.valid = vec![data.join("corpus/valid.txt")];
    let tasks = sample::TASKS.iter().filter(|(name, _)| ["sentiment", "similarity"].contains(name));
    settings.task = tasks.map(|(name, glue)| format!("{glue}={}", data.join(name).display())).collect();
    Ok(())
}

/// The table with aligned columns.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        cells.join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Speed and memory of each mixer at each length, kept in a file as they are found.
fn speeds(out: &Path, settings: &Settings, stop: &Stop) -> Result<Vec<Speed>> {
    let path = out.join("speed.json");
    let mut found: Vec<Speed> = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let lengths = LENGTHS.iter().filter(|n| **n <= settings.longest.unwrap_or(0));
    let places: Vec<(&String, usize)> =
        lengths.flat_map(|n| settings.mixers.iter().map(move |mixer| (mixer, *n))).collect();
    let preset = settings.preset.as_deref().unwrap_or("mini");
    let config = fnet_encoder::ModelConfig::preset(preset).unwrap_or_default();
    let config = fnet_encoder::ModelConfig { vocab_size: settings.vocab_size.unwrap_or(8_192), ..config };
    let mut progress = Progress::new("speed", false);
    for (i, (mixer, seq_len)) in places.iter().enumerate() {
        if found.iter().any(|s| s.name == **mixer && s.seq_len == *seq_len) {
            continue;
        }
        if stop.is_set() {
            return Err(interrupted(out, i));
        }
        progress.update(Some(i as f64 / places.len() as f64), &format!("{mixer}, {seq_len} tokens"));
        found.extend(Speed::measure(&config, mixer, *seq_len, 1.0)?);
        let text = serde_json::to_string_pretty(&found).unwrap_or_default();
        write_whole(&path, text.as_bytes())?;
    }
    Ok(found)
}

fn interrupted(out: &Path, step: usize) -> Error {
    let resume = format!("the same command (fnet compare --out {} ..)", out.display());
    Error::Interrupted { step: step as u64, resume }
}
