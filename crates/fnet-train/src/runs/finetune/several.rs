//! Several tasks in one run: an adapter each, on one trunk that is held once.

use std::path::{Component, Path};

use fnet_encoder::pretrained::{self, adapter_tensors};
use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Head, Model, Trunk};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use toml::Table;

use super::{FinetuneSettings, Ready, Start, adapter, finish, ready, usual_epochs};
use crate::base_model::{BaseModel, TrunkPlace};
use crate::error::{Error, Result};
use crate::folder::{REPORT_FILE, RESULTS_FILE, RunFolder, SETTINGS_FILE, check_is_not_model};
use crate::runs::report;
use crate::runs::running::Running;
use crate::settings::{Settings, refused, setting};
use crate::train::in_turn;
use crate::train::recipe::Recipe;
use crate::train::trainer::{Budget, Trainer};

/// What a run of several tasks is, as it stands in its `training.toml`; each task's own settings are in its folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeveralSettings {
    /// Names of the tasks, which are those of their folders.
    pub tasks: Vec<String>,
    /// The norms of the layers are the same for all tasks.
    pub share_norms: bool,
}

impl Settings for SeveralSettings {
    const RIVALS: &[&[&[&str]]] = &[];

    fn defaults(_: &Table) -> Self {
        Self::default()
    }
}

impl SeveralSettings {
    /// The tasks of a folder's run, each with the settings in its own folder.
    ///
    /// # Errors
    /// If a name is no folder's, or a folder cannot be read.
    pub fn tasks_in(&self, home: &RunFolder) -> Result<Vec<NamedTask>> {
        let read = |name: &String| {
            check_name(name)?;
            Ok((name.clone(), RunFolder::at(&home.file(name)).settings()?))
        };
        self.tasks.iter().map(read).collect()
    }

    /// Whether a folder holds such a run.
    pub fn are_in(folder: &RunFolder) -> bool {
        folder.settings_table().is_ok_and(|table| table.contains_key("tasks"))
    }
}

/// A task of several: its name, and its settings.
pub type NamedTask = (String, FinetuneSettings);

/// Fine-tunes on several tasks in turn, a step each, and stores an adapter for each in a folder of its name. Returns all
/// results, as in `results.json`.
///
/// Without shared norms each adapter has the bits that it would get alone.
///
/// # Errors
/// As [`run`](super::run); if the tasks are not on one trunk.
pub fn run_several(
    home: &RunFolder,
    tasks: &[NamedTask],
    share_norms: bool,
    running: &Running,
) -> Result<Value> {
    check_names(tasks)?;
    tasks.iter().try_for_each(|(_, settings)| running.check_leaves(settings.training.leaves))?;
    if !running.leads() {
        running.meet(); // the leader has begun all
    } else if !running.resume {
        for model in tasks.iter().filter_map(|(_, settings)| settings.model.as_deref()) {
            check_is_not_model(home.path(), model)?;
            tasks.iter().try_for_each(|(name, _)| check_is_not_model(&home.file(name), model))?;
        }
    }
    let mut jobs = Vec::new();
    let mut trunk = None;
    for (name, settings) in tasks {
        jobs.push(Job::open(home, name, settings, &mut trunk, running)?);
    }
    let models: Vec<&Model> = jobs.iter().filter_map(|job| Some(&job.ready.as_ref()?.start.model)).collect();
    // Tasks that are finished were killed after all had come to their ends.
    let shared = match share_norms && models.len() == tasks.len() {
        true => in_turn::shared_norms(&models)?,
        false => Vec::new(),
    };
    let names = tasks.iter().map(|task| task.0.clone()).collect();
    if running.leads() {
        if running.resume {
            in_turn::settle(home, jobs.iter().map(|job| &job.folder))?;
        } else {
            in_turn::forget(home, jobs.iter().map(|job| &job.folder))?;
            home.clear()?;
            jobs.iter_mut().try_for_each(Job::begin)?;
            home.save_settings(&SeveralSettings { tasks: names, share_norms })?;
        }
        running.meet();
    }
    for job in &mut jobs {
        if let Some(ready) = &mut job.ready {
            running.agree(&job.settings, &ready.start.model, ready.learning.objective().data())?;
        }
    }
    let resume_command = running.how_to_resume(home.path());
    let mut loops = Vec::new();
    for job in jobs.iter().filter(|job| job.done.is_none()) {
        loops.push(job.settings.training.loop_settings(Budget::Epochs(1.0)));
    }
    let open = jobs.iter_mut().filter_map(|job| Some((&job.name, &job.folder, job.ready.as_mut()?)));
    let trainers = open.zip(&loops).map(|((name, folder, ready), settings)| Trainer {
        model: &mut ready.start.model,
        objective: ready.learning.objective(),
        settings,
        folder,
        name,
        quiet: running.quiet,
        resume_command: resume_command.clone(),
        team: running.team.clone(),
    });
    let states = in_turn::run(trainers.collect(), home, &shared, &running.stop)?;
    running.meet(); // who follows has read the last checkpoints, which are removed next
    if !running.leads() {
        return Ok(Value::Null);
    }
    let mut states = states.into_iter();
    for job in &mut jobs {
        if let Some(ready) = job.ready.take()
            && let Some(state) = states.next()
        {
            let mut results = report::results(&state, &ready.start.model);
            results["parameters"] = json!(job.of_values);
            ready.learning.compare(&job.settings, &mut results)?;
            job.done = Some(finish(&job.folder, &job.settings, results)?);
        }
    }
    write_results(home, &jobs)
}

/// Names are folders.
fn check_names(tasks: &[NamedTask]) -> Result<()> {
    let fail = |name: &str, what: &str| Err(refused(&format!("tasks {name}"), what));
    for (i, (name, settings)) in tasks.iter().enumerate() {
        if tasks[..i].iter().any(|other| other.0 == *name) {
            return fail(name, "two tasks have this name, which is that of their folder");
        }
        check_name(name)?;
        if settings.training.recipe == Recipe::Ridge {
            return fail(name, "is solved for by recipe ridge, not trained in steps");
        }
        if settings.seeds > 1 {
            return fail(name, "has several seeds; run the tasks once for each");
        }
    }
    Ok(())
}

/// A name is that of a folder below the run's, and of nothing else there.
fn check_name(name: &str) -> Result<()> {
    let mut parts = Path::new(name).components();
    let is_plain = matches!(parts.next(), Some(Component::Normal(part)) if part == name);
    let is_folder = is_plain && parts.next().is_none() && !name.starts_with('.');
    if is_folder && ![RESULTS_FILE, REPORT_FILE, SETTINGS_FILE, in_turn::STAGED_FILE].contains(&name) {
        return Ok(());
    }
    Err(refused(&format!("tasks {name}"), "cannot be the name of a task's folder"))
}

/// A task on its way.
struct Job {
    name: String,
    folder: RunFolder,
    settings: FinetuneSettings,
    /// Until it is finished.
    ready: Option<Ready>,
    /// Values that the adapter and its trunk have together.
    of_values: usize,
    done: Option<Value>,
}

impl Job {
    fn open(
        home: &RunFolder,
        name: &str,
        settings: &FinetuneSettings,
        trunk: &mut Option<Trunk>,
        running: &Running,
    ) -> Result<Self> {
        let mut settings = FinetuneSettings { adapter: true, ..settings.clone() };
        settings.resolve()?;
        let (path, resume) = (home.file(name), running.resume || !running.leads());
        let folder = match (running.leads(), resume) {
            (false, _) => RunFolder::at(&path),
            (true, true) => RunFolder::existing(&path)?,
            (true, false) => RunFolder::new(&path, running.overwrite)?,
        };
        let name = name.to_string();
        if resume && !folder.has_checkpoint() {
            let done = folder.results();
            let broken = || Error::file(&path, "holds neither a checkpoint nor results");
            let done = Some(done.ok_or_else(broken)?);
            return Ok(Self { name, folder, settings, ready: None, of_values: 0, done });
        }
        let mut ready = ready(&folder, &settings, resume, running.quiet)?;
        let Start { model, fresh, examples, .. } = &mut ready.start;
        if settings.training.budget().is_none() {
            settings.training.epochs = Some(usual_epochs(*examples));
        }
        let own = match resume {
            true => adapter_tensors(folder.path())?,
            false => adapter::own_tensors(&settings, model, std::mem::take(fresh))?,
        };
        let place = adapter::trunk_place(&settings)?;
        let trunk = match trunk {
            Some(trunk) => trunk,
            None => trunk.insert(trunk_at(&place, &settings, model)?),
        };
        let of_values = model.parameters().len();
        *model = trunk
            .adapter_of(model, &own)
            .map_err(|e| Error::usage(format!("{name}: {e}: {} are on one trunk", setting("tasks"))))?;
        let folder = folder.of_adapter(place, own.into_iter().collect());
        Ok(Self { name, folder, settings, ready: Some(ready), of_values, done: None })
    }

    fn begin(&mut self) -> Result<()> {
        let Some(Ready { start, learning }) = &mut self.ready else { return Ok(()) };
        let data = learning.objective().data();
        self.folder.begin(&self.settings, start.tokenizer.as_ref(), start.longest, &start.model, data)
    }
}

/// The trunk of a place; a random one has the layers of the task's model.
fn trunk_at(place: &TrunkPlace, settings: &FinetuneSettings, model: &Model) -> Result<Trunk> {
    Ok(Trunk::new(match place {
        TrunkPlace::Seed(seed) => Model::new(model.config().clone(), Head::Encoder, *seed)?,
        TrunkPlace::Folder(_) | TrunkPlace::Shipped => {
            let base = BaseModel::named(settings.model.as_deref())?;
            pretrained::open_as(base.source(), Head::Encoder, 0)?.0
        }
    }))
}

/// All results in one, and a page of all.
fn write_results(home: &RunFolder, jobs: &[Job]) -> Result<Value> {
    let (mut values, mut all, mut body) = (Map::new(), Map::new(), String::new());
    for job in jobs {
        let Some(results) = &job.done else { continue };
        for (name, value) in results["values"].as_object().into_iter().flatten() {
            values.insert(format!("{} {name}", job.name), value.clone());
        }
        all.insert(job.name.clone(), results.clone());
        body +=
            &format!("<h2>{}</h2>\n{}", report::escape(&job.name), report::section(&job.folder, results)?);
    }
    let sum = |key: &str| all.values().filter_map(|results| results[key].as_f64()).sum::<f64>();
    let seconds = sum("seconds");
    let results = json!({
        "parameters": all.values().filter_map(|results| results["parameters"].as_u64()).max(),
        "trained_parameters": sum("trained_parameters"),
        "steps": sum("steps"),
        "tokens": sum("tokens"),
        "seconds": seconds,
        "tokens_per_second": (sum("tokens") / seconds.max(1e-9)).round(),
        "peak_memory_bytes": report::peak_memory(),
        "values": values,
        "tasks": all,
    });
    let text = serde_json::to_string_pretty(&results).unwrap_or_default() + "\n";
    write_whole(&home.file(RESULTS_FILE), text.as_bytes())?;
    write_whole(&home.file(REPORT_FILE), report::html_page("Several tasks", &body).as_bytes())?;
    Ok(results)
}
