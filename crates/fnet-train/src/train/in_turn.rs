//! Several runs in turn, a step each: adapters of one trunk, which may share some of their weights.

use std::time::Instant;

use fnet_encoder::whole_file::write_whole;
use fnet_encoder::{Model, Workspace};

use crate::error::Result;
use crate::folder::state::State;
use crate::folder::{RunFolder, remove};
use crate::settings::refused;
use crate::train::recipe::Part;
use crate::train::stop::Stop;
use crate::train::trainer::{Course, Trainer};

/// Says that the staged checkpoints of all runs are whole.
pub(crate) const STAGED_FILE: &str = "checkpoints-staged";

/// Trains all runs to the end of their budgets; `home` is the folder of them all. The weights `shared`, which all of them
/// train, are the same for all; where there are any, each run keeps its last model instead of its best.
///
/// # Errors
/// As [`Trainer::run`].
pub(crate) fn run(
    runs: Vec<Trainer>,
    home: &RunFolder,
    shared: &[String],
    stop: &Stop,
) -> Result<Vec<State>> {
    let shares = !shared.is_empty();
    stop.arm();
    let mut courses = runs.into_iter().map(Course::begin).collect::<Result<Vec<_>>>()?;
    let shared = Shared::of(&courses, shared);
    courses.iter_mut().for_each(|course| course.keeps_last = shares);
    let (mut w, mut checkpointed, mut newest) = (Workspace::new(), Instant::now(), 0);
    while courses.iter().any(|course| !course.is_done()) {
        for i in 0..courses.len() {
            if !courses[i].is_done() {
                shared.copy(&mut courses, newest, i);
                courses[i].advance(&mut w)?;
                newest = i;
            }
        }
        (0..courses.len()).for_each(|i| shared.copy(&mut courses, newest, i));
        // Each brings the clocks together by which all find its end.
        let stops: Vec<bool> = courses.iter_mut().map(|course| course.stops(stop)).collect();
        if stops.contains(&true) {
            checkpoint(home, &mut courses)?;
            return Err(courses[0].interrupted());
        }
        if courses.iter().any(|course| course.wants_checkpoint(checkpointed)) {
            checkpoint(home, &mut courses)?;
            checkpointed = Instant::now();
        }
    }
    if shares {
        // Others have changed the norms since a run's own end.
        for course in &mut courses {
            course.evaluate(&mut w)?;
            course.state.best = None;
        }
    }
    checkpoint(home, &mut courses)?;
    Ok(courses.into_iter().map(|course| course.state).collect())
}

/// Names of the norms that all models train.
///
/// # Errors
/// If there are none.
pub(crate) fn shared_norms(models: &[&Model]) -> Result<Vec<String>> {
    let trains = |model: &Model, name: &str, len: usize| {
        model.parameters().table().iter().any(|t| t.trainable && t.name == name && t.len() == len)
    };
    let table = models.iter().take(1).flat_map(|model| model.parameters().table());
    let of_all = table.filter(|t| Part::Norms.holds(&t.name));
    let of_all = of_all.filter(|t| models.iter().all(|model| trains(model, &t.name, t.len())));
    let names: Vec<String> = of_all.map(|tensor| tensor.name.clone()).collect();
    if names.is_empty() {
        return Err(refused("share_norms", "there is no norm that all tasks train"));
    }
    Ok(names)
}

/// Weights that are the same in all runs: for each of them, by run, its place among the weights and among the moments.
struct Shared {
    tensors: Vec<Vec<Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    weights: usize,
    moments: usize,
    len: usize,
}

impl Shared {
    fn of(courses: &[Course], names: &[String]) -> Self {
        let place = |course: &Course, name: &str| {
            let table = course.run.model.parameters().table();
            let (index, tensor) = table.iter().enumerate().find(|(_, tensor)| tensor.name == name)?;
            let moments = course.moments.start_of(index)?;
            Some(Place { weights: tensor.offset, moments, len: tensor.len() })
        };
        let everywhere = |name: &String| courses.iter().map(|course| place(course, name)).collect();
        Self { tensors: names.iter().filter_map(everywhere).collect() }
    }

    /// Copies the shared weights and their moments from one run to another.
    fn copy(&self, courses: &mut [Course], from: usize, to: usize) {
        let Ok([from_course, to_course]) = courses.get_disjoint_mut([from, to]) else { return };
        for places in &self.tensors {
            let (a, b) = (places[from], places[to]);
            let weights = &from_course.run.model.parameters().values()[a.weights..][..a.len];
            to_course.run.model.parameters_mut().values_mut()[b.weights..][..b.len].copy_from_slice(weights);
            let (own, others) = (&from_course.moments, &mut to_course.moments);
            others.first[b.moments..][..b.len].copy_from_slice(&own.first[a.moments..][..a.len]);
            others.second[b.moments..][..b.len].copy_from_slice(&own.second[a.moments..][..a.len]);
        }
    }
}

/// Checkpoints of all runs: killed at any moment, either all are the new ones or all the old ones.
fn checkpoint(home: &RunFolder, courses: &mut [Course]) -> Result<()> {
    if courses.is_empty() || !courses.iter().all(Course::leads) {
        return Ok(());
    }
    courses.iter_mut().try_for_each(Course::stage_checkpoint)?;
    write_whole(&home.file(STAGED_FILE), b"")?;
    settle(home, courses.iter().map(|course| course.run.folder))?;
    courses.iter().try_for_each(Course::save_last)
}

/// Removes the checkpoints that an earlier run has left half done.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn forget<'a>(home: &RunFolder, mut folders: impl Iterator<Item = &'a RunFolder>) -> Result<()> {
    remove(&home.file(STAGED_FILE))?;
    folders.try_for_each(RunFolder::drop_staged_checkpoint)
}

/// Finishes, or takes back, what a kill left half done.
///
/// # Errors
/// If a file cannot be read, written or removed.
pub(crate) fn settle<'a>(home: &RunFolder, mut folders: impl Iterator<Item = &'a RunFolder>) -> Result<()> {
    let staged = home.file(STAGED_FILE);
    if !staged.exists() {
        return folders.try_for_each(RunFolder::drop_staged_checkpoint);
    }
    folders.try_for_each(RunFolder::take_checkpoint)?;
    remove(&staged)
}
