//! Fine-tuning on a task or on labelled rows, into a folder.

use std::path::Path;

use fnet_encoder::pretrained::ADAPTER_FILE;
use fnet_encoder::{Model, Workspace};
use serde_json::{Value, json};

use crate::base_model::BaseModel;
use crate::data::tasks::dataset::Labels;
use crate::data::tasks::files::TaskFiles;
use crate::data::tokenizer::Tokenizer;
use crate::error::Result;
use crate::folder::{RunFolder, check_is_not_model};
use crate::runs::running::Running;
use crate::runs::{card, report};
use crate::train::bag_of_words;
use crate::train::finetune::TaskObjective;
use crate::train::recipe::Recipe;
use crate::train::signals::{SignalObjective, floor};
use crate::train::trainer::{Budget, Objective, Trainer};
use prepare::{Prepared, prepare};
use rounds::Done;
pub(crate) use settings::Examples;
pub use settings::{ClassWeights, FinetuneSettings};
pub use several::{NamedTask, SeveralSettings, run_several};
pub use signal_settings::{SignalSettings, Tokens};
pub use signals::SIGNAL_TASKS;
use signals::Signals;

mod adapter;
mod added;
mod closed_form;
mod prepare;
mod rounds;
mod seeds;
mod settings;
mod several;
mod signal_settings;
mod signals;
mod sums;

/// Fine-tunes into a folder; returns the results, as in its `results.json`.
///
/// ```no_run
/// use fnet_train::runs::finetune::{self, FinetuneSettings};
/// use fnet_train::folder::RunFolder;
/// use fnet_train::runs::running::Running;
///
/// let settings = FinetuneSettings {
///     train: Some("reviews.csv".into()),
///     dev: Some("held-out.csv".into()),
///     text: vec!["review".into()],
///     label: Some("stars".into()),
///     ..FinetuneSettings::default()
/// };
/// let folder = RunFolder::new("stars".as_ref(), false)?;
/// let results = finetune::run(&folder, &settings, &Running::default())?;
/// println!("accuracy {}", results["values"]["accuracy"]);
/// # Ok::<(), fnet_train::Error>(())
/// ```
///
/// # Errors
/// If a setting or a row does not fit, the loss diverges, a file cannot be written, or the run is asked to stop.
pub fn run(folder: &RunFolder, settings: &FinetuneSettings, running: &Running) -> Result<Value> {
    let mut settings = settings.clone();
    settings.resolve()?;
    let read = [settings.model.as_deref(), settings.add.as_deref()];
    for model in read.into_iter().flatten().filter(|_| !running.resume) {
        check_is_not_model(folder.path(), model)?;
        for seed in settings.training.seed..settings.training.seed + settings.seeds {
            check_is_not_model(&folder.file(&format!("seed-{seed}")), model)?;
        }
    }
    match settings.seeds {
        1 => run_seed(folder, settings, running),
        _ => seeds::run(folder, &settings, running),
    }
}

/// The folder whose model goes on as it is: that of a run that is resumed, or that rows are added to.
fn goes_on_from<'a>(folder: &'a RunFolder, settings: &'a FinetuneSettings, resume: bool) -> Option<&'a Path> {
    if resume { Some(folder.path()) } else { settings.add.as_deref() }
}

/// Into how many parts the steps of a run are cut at most; ridge has no steps, and any number of processes takes part.
fn leaves_of(settings: &FinetuneSettings) -> usize {
    if settings.training.recipe == Recipe::Ridge { usize::MAX } else { settings.training.leaves }
}

/// What a run starts from: one that goes on has its own copy of everything but the data.
fn base(folder: &RunFolder, settings: &FinetuneSettings, resume: bool) -> Result<BaseModel> {
    if let Some(folder) = goes_on_from(folder, settings, resume) {
        return Ok(BaseModel::at(folder));
    }
    BaseModel::named(settings.model.as_deref())?.standing_alone()
}

/// Fine-tunes one seed.
fn run_seed(folder: &RunFolder, mut settings: FinetuneSettings, running: &Running) -> Result<Value> {
    if let Some(results) = folder.results().filter(|_| running.resume && !folder.has_checkpoint()) {
        return Ok(results); // an adapter's run that came to its end
    }
    let resume = running.goes_on(folder, leaves_of(&settings))?;
    let Ready { start, mut learning } = ready(folder, &settings, resume, running.quiet)?;
    settings.bag = Some(start.model.config().classifier_bag);
    let (folder, mut results) = match settings.training.recipe {
        Recipe::Ridge => closed_form::fit(folder, &settings, start, &mut learning, running)?,
        _ => train(folder, &mut settings, start, learning.objective(), running)?,
    };
    if !running.leads() {
        return Ok(results);
    }
    learning.compare(&settings, &mut results)?;
    finish(&folder, &settings, results)
}

/// A fine-tuning before its first step.
struct Ready {
    start: Start,
    learning: Learning,
}

/// What is learnt.
enum Learning {
    Text { objective: Box<TaskObjective>, files: TaskFiles },
    Signals(Box<SignalObjective>),
}

impl Learning {
    fn objective(&mut self) -> &mut dyn Objective {
        match self {
            Self::Text { objective, .. } => &mut **objective,
            Self::Signals(objective) => &mut **objective,
        }
    }

    /// Whether numbers are predicted, not classes or labels.
    fn is_of_numbers(&self) -> bool {
        match self {
            Self::Text { files, .. } => files.labels == Labels::Number,
            Self::Signals(objective) => objective.train.reading().asked().numbers().is_some(),
        }
    }

    /// Hands what the output layer reads of each training example, `[rows, inputs]`, and what it should say, `[rows,
    /// outputs]`, to `take`; without rows, batches whose numbers are not to be run.
    fn each_row(
        &self,
        model: &Model,
        w: &mut Workspace,
        runs: impl Fn(usize) -> bool,
        take: impl FnMut(Done, &[f32], &[f32]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Text { objective, .. } => objective.each_row(model, w, runs, take),
            Self::Signals(objective) => objective.each_row(model, w, runs, take),
        }
    }

    /// Adds to the results what something simpler gets.
    fn compare(&self, settings: &FinetuneSettings, results: &mut Value) -> Result<()> {
        match self {
            // A bag of words is learnt from whole files.
            Self::Text { .. } if settings.held_out.is_some() || settings.add.is_some() => {}
            Self::Text { files, .. } => {
                let bag = bag_of_words::scores(files)?;
                if !bag.is_empty() {
                    results["bag_of_words"] =
                        bag.into_iter().map(|(name, value)| (name, json!(value))).collect();
                }
            }
            Self::Signals(objective) => {
                if let Some(dev) = &objective.dev {
                    let (name, value) = floor(&*objective.train, &**dev)?;
                    results["floor"] = json!({name: value});
                }
            }
        }
        Ok(())
    }
}

/// Loads and checks everything, before anything is written.
fn ready(folder: &RunFolder, settings: &FinetuneSettings, resume: bool, quiet: bool) -> Result<Ready> {
    Ok(match Signals::named(settings)? {
        Some(signals) => {
            let signals::Prepared { start, objective } =
                signals::prepare(folder, settings, &signals, resume, quiet)?;
            Ready { start, learning: Learning::Signals(Box::new(objective)) }
        }
        None => {
            let Prepared { start, objective, files } = prepare(folder, settings, resume, quiet)?;
            Ready { start, learning: Learning::Text { objective: Box::new(objective), files } }
        }
    })
}

/// What training starts from, text or signals.
struct Start {
    model: Model,
    /// Of text.
    tokenizer: Option<Tokenizer>,
    longest: usize,
    /// Tensors that the base model does not have.
    fresh: Vec<String>,
    /// Training examples.
    examples: usize,
    resume: bool,
}

/// Trains to the end; returns the folder as it stores models, and the results so far.
fn train(
    folder: &RunFolder,
    settings: &mut FinetuneSettings,
    start: Start,
    objective: &mut dyn Objective,
    running: &Running,
) -> Result<(RunFolder, Value)> {
    let Start { mut model, tokenizer, longest, fresh, examples, resume } = start;
    let folder = adapter::folder(folder, settings, &model, fresh, resume)?;
    if settings.training.budget().is_none() {
        settings.training.epochs = Some(usual_epochs(examples));
    }
    if !resume {
        folder.begin(settings, tokenizer.as_ref(), longest, &model, objective.data())?;
    }
    running.start(settings, &model, objective.data())?;
    let state = Trainer {
        model: &mut model,
        objective,
        settings: &settings.training.loop_settings(Budget::Epochs(1.0)),
        folder: &folder,
        name: settings.task.as_deref().unwrap_or("fine-tuning"),
        quiet: running.quiet,
        resume_command: running.how_to_resume(folder.path()),
        team: running.team.clone(),
    }
    .run(&running.stop)?;
    let results = report::results(&state, &model);
    Ok((folder, results))
}

/// Writes a run's report and card; an adapter's checkpoint is then no longer needed.
fn finish(folder: &RunFolder, settings: &FinetuneSettings, mut results: Value) -> Result<Value> {
    if settings.adapter {
        let bytes = std::fs::metadata(folder.file(ADAPTER_FILE)).map(|file| file.len());
        results["adapter_bytes"] = json!(bytes.ok());
    }
    report::write(folder, "Fine-tuning", &results)?;
    card::write(folder, &results)?;
    if settings.adapter {
        folder.drop_checkpoint()?;
    }
    Ok(results)
}

/// Passes over so many rows where nobody says: about 40,000 examples, within bounds.
pub(crate) fn usual_epochs(rows: usize) -> f64 {
    (40_000.0 / rows.max(1) as f64).round().clamp(3.0, 20.0)
}
