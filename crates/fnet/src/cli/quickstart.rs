use std::path::{Path, PathBuf};
use std::time::Instant;

use fnet_encoder::whole_file::write_whole;
use fnet_train::base_model::BaseModel;
use fnet_train::data::corpus::Layout;
use fnet_train::data::sample;
use fnet_train::data::tasks::dataset::Score;
use fnet_train::fill_mask::Guess;
use fnet_train::folder::RunFolder;
use fnet_train::folder::claim::Claim;
use fnet_train::predictor::Predictor;
use fnet_train::progress::duration;
use fnet_train::runs::finetune::{self, FinetuneSettings};
use fnet_train::runs::pretrain::{self, PretrainSettings};
use fnet_train::runs::running::Running;
use fnet_train::settings::absolute;
use fnet_train::train::stop::Stop;
use fnet_train::{Error, Result, runs::report};
use serde_json::{Value, json};

use super::common::{say, set_threads};

/// Do the main job on the shipped sample in a few minutes: train a tokenizer, pretrain, fine-tune on
/// four tasks with and without pretraining, fill a mask
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything that is made
    #[arg(long, default_value = "quickstart", value_name = "DIR")]
    out: PathBuf,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Passes over the sample corpus in pretraining.
const PRETRAINING_EPOCHS: f64 = 14.0;
/// Passes over each task's rows in fine-tuning.
const TASK_EPOCHS: f64 = 16.0;
/// A file by which an earlier quickstart's folder is known, with all of its settings.
const MARK: &str = ".fnet-quickstart";

/// Runs `fnet quickstart`.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let started = Instant::now();
    let out = absolute(&args.out)?;
    let (data, pretrained) = (out.join("data"), out.join("pretrained"));
    let claim = Claim::of(&out)?;
    let known = out.join(MARK);
    if !known.exists() {
        if !claim.is_empty()? {
            return Err(Error::file(&args.out, "holds other files; choose another --out"));
        }
        write_whole(&known, b"")?;
    }
    sample::write(&data, sample::SEED)?;
    eprintln!("sample corpus and tasks: {}", data.display());
    let pretraining = pretraining_settings(&data)?;
    let mut tasks = Vec::new();
    for (name, glue) in sample::TASKS {
        for (column, from_scratch) in [("from scratch", true), ("pretrained", false)] {
            let place = out.join(format!("{name}-{}", column.replace(' ', "-")));
            let settings = task_settings(&pretrained, &data.join(name), glue, from_scratch)?;
            tasks.push(Task { name, column, place, settings });
        }
    }
    let goes_on = is_to_go_on(&out, &mark(&pretraining, &tasks)?)?;
    let running = Running {
        resume: goes_on,
        quiet: false,
        overwrite: true,
        stop: Stop::on_signal(),
        resume_command: Some(format!("fnet quickstart --out {}", args.out.display())),
        team: None,
    };
    let folder = RunFolder::new(&pretrained, true)?;
    let results = match folder.results().filter(|_| goes_on) {
        Some(results) => results,
        None => pretrain::run(&folder, &pretraining, &running)?,
    };
    let mut sections = vec![("Pretraining".to_string(), report::section(&folder, &results)?)];
    let mut table: Vec<Line> = Vec::new();
    for Task { name, column, place, settings } in &tasks {
        let folder = RunFolder::new(place, true)?;
        let results = match folder.results().filter(|_| goes_on) {
            Some(results) => results,
            None => finetune::run(&folder, settings, &running)?,
        };
        if table.last().is_none_or(|line| line.0 != *name) {
            table.push((name, vec![("bag of words", last_value(&results["bag_of_words"]))]));
        }
        if let Some(line) = table.last_mut() {
            line.1.push((column, last_value(&results["values"])));
        }
        sections.push((format!("{name}, {column}"), report::section(&folder, &results)?));
    }
    let mut predictor = Predictor::open(&BaseModel::at(&pretrained))?;
    let text = "A wren is a [MASK].";
    let guesses = predictor.fill_masks(text, 3)?.masks;
    let page = out.join(report::REPORT_FILE);
    write_whole(&page, page_of(&table, text, &guesses, &sections).as_bytes())?;
    if args.json {
        let tasks: serde_json::Map<String, Value> = table
            .iter()
            .map(|(name, cells)| {
                let cells: serde_json::Map<String, Value> =
                    cells.iter().map(|(column, (_, v))| (column.replace(' ', "_"), json!(v))).collect();
                ((*name).to_string(), Value::Object(cells))
            })
            .collect();
        let seconds = started.elapsed().as_secs_f64();
        return say(json!({"tasks": tasks, "fill_mask": guesses, "seconds": seconds}));
    }
    say(format!(
        "\n{:<14} {:<10} {:>12} {:>12} {:>12}",
        "task", "metric", "bag of words", "from scratch", "pretrained"
    ))?;
    for (name, cells) in &table {
        let metric = cells.last().map_or("", |(_, (metric, _))| metric.as_str());
        let values: String = cells.iter().map(|(_, (_, value))| format!(" {value:>12.3}")).collect();
        say(format!("{name:<14} {metric:<10}{values}"))?;
    }
    say(format!("\n{text}"))?;
    for guess in guesses.iter().flatten() {
        say(format!("  {:.3}  {}", guess.probability, guess.text))?;
    }
    let took = duration(started.elapsed().as_secs_f64());
    say(format!("\ndone in {took}; report: {}", args.out.join(report::REPORT_FILE).display()))?;
    say("next: fnet pretrain --corpus YOUR.txt --out DIR, then fnet finetune --model DIR (see --help)")
}

/// A fine-tuning of the table.
struct Task {
    name: &'static str,
    column: &'static str,
    place: PathBuf,
    settings: FinetuneSettings,
}

/// What a folder's quickstart is made of: a change of any part begins a new one.
fn mark(pretraining: &PretrainSettings, tasks: &[Task]) -> Result<String> {
    let broken = |e: toml::ser::Error| Error::usage(e.to_string());
    let mut text = format!("{} {}\n", env!("CARGO_PKG_VERSION"), sample::SEED);
    text += &toml::to_string(pretraining).map_err(broken)?;
    for task in tasks {
        text += &toml::to_string(&task.settings).map_err(broken)?;
    }
    Ok(text)
}

/// Whether the folder holds this quickstart, stopped half-way. Otherwise it is made ready for a new one.
fn is_to_go_on(out: &Path, mark: &str) -> Result<bool> {
    let (known, page) = (out.join(MARK), out.join(report::REPORT_FILE));
    if !page.exists() && std::fs::read_to_string(&known).is_ok_and(|earlier| earlier == mark) {
        return Ok(true);
    }
    // Results count as done: those of an earlier quickstart go before its page does.
    for run in out.read_dir().map_err(Error::io(out))?.flatten().filter(|entry| entry.path().is_dir()) {
        RunFolder::at(&run.path()).clear()?;
    }
    write_whole(&known, mark.as_bytes())?;
    if page.exists() {
        std::fs::remove_file(&page).map_err(Error::io(&page))?;
    }
    Ok(false)
}

/// A task's name, and its score in each column.
type Line = (&'static str, Vec<(&'static str, Score)>);

/// One page about everything: the table, the guesses, then each run.
fn page_of(table: &[Line], text: &str, guesses: &[Vec<Guess>], sections: &[(String, String)]) -> String {
    let row = |tag: &str, cells: Vec<String>| -> String {
        let cells: String =
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", report::escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let columns = table.first().into_iter().flat_map(|(_, cells)| cells.iter().map(|cell| cell.0));
    let mut body = row("th", ["task", "metric"].into_iter().chain(columns).map(String::from).collect());
    for (name, cells) in table {
        let metric = cells.last().map_or("", |(_, (metric, _))| metric.as_str());
        let values = cells.iter().map(|(_, (_, value))| format!("{value:.3}"));
        body += &row("td", [name.to_string(), metric.into()].into_iter().chain(values).collect());
    }
    body = format!("<table>\n{body}</table>\n<p>{}</p>\n<ul>", report::escape(text));
    for guess in guesses.iter().flatten() {
        body += &format!("<li>{:.3} {}</li>\n", guess.probability, report::escape(&guess.text));
    }
    body += "</ul>\n";
    for (title, section) in sections {
        body += &format!("<h2>{}</h2>\n{section}", report::escape(title));
    }
    report::html_page("Quickstart", &body)
}

fn pretraining_settings(data: &Path) -> Result<PretrainSettings> {
    let mut settings = PretrainSettings {
        corpus: vec![data.join("corpus/train.txt")],
        valid: vec![data.join("corpus/valid.txt")],
        vocab_size: Some(700),
        preset: Some("tiny".into()),
        seq_len: Some(64),
        sequences: Layout::Sentences,
        ..PretrainSettings::of_preset("tiny")
    };
    settings.training.epochs = Some(PRETRAINING_EPOCHS);
    settings.resolve()?;
    Ok(settings)
}

fn task_settings(model: &Path, data: &Path, task: &str, from_scratch: bool) -> Result<FinetuneSettings> {
    let mut settings = FinetuneSettings {
        model: Some(model.into()),
        from_scratch,
        task: Some(task.into()),
        data: Some(data.into()),
        ..FinetuneSettings::default()
    };
    (settings.training.epochs, settings.training.learning_rate) = (Some(TASK_EPOCHS), 1e-3);
    settings.resolve()?;
    Ok(settings)
}

/// The task's last metric: for regression the rank correlation.
fn last_value(values: &Value) -> Score {
    let values = values.as_object();
    let last = values.and_then(|v| v.iter().next_back());
    last.map_or_else(Default::default, |(name, v)| (name.clone(), v.as_f64().unwrap_or(f64::NAN)))
}
