//! Cells of the table, and what they have in common.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Substrate;
use crate::data::tasks::dataset::{Score, is_score, score_of};
use crate::runs::mean::mean;
use crate::train::recipe::Recipe;

/// A task on a substrate by a recipe, over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Name of the task.
    pub task: String,
    /// What is read from.
    pub substrate: Substrate,
    /// What is trained.
    pub recipe: Recipe,
    /// The learning rate that was chosen; none where the readout is solved for.
    pub learning_rate: Option<f64>,
    /// Learning rates that were tried, with their scores on the part that was held out; none where a run failed.
    pub tried: Vec<(f64, Option<f64>)>,
    /// Score of each seed: the mean of the task's metrics.
    pub scores: Vec<f64>,
    /// Seconds of training of each seed.
    pub seconds: Vec<f64>,
    /// Peak memory of each seed's run in bytes.
    pub memory: Vec<f64>,
    /// Trained values, and all.
    pub values: [f64; 2],
    /// What is reached without learning, of texts by a bag of words.
    pub floor: Option<f64>,
    /// What failed, each in one line.
    pub failures: Vec<String>,
}

impl Cell {
    pub(super) fn new(task: &str, substrate: Substrate, recipe: Recipe) -> Self {
        Self {
            task: task.into(),
            substrate,
            recipe,
            learning_rate: None,
            tried: Vec::new(),
            scores: Vec::new(),
            seconds: Vec::new(),
            memory: Vec::new(),
            values: [0.0; 2],
            floor: None,
            failures: Vec::new(),
        }
    }

    /// Adds a seed's results.
    pub(super) fn add(&mut self, results: &Value, score: f64) {
        let number = |key: &str| results[key].as_f64();
        self.scores.push(score);
        self.seconds.extend(number("seconds"));
        self.memory.extend(number("peak_memory_bytes"));
        self.values = ["trained_parameters", "parameters"].map(|key| number(key).unwrap_or(0.0));
        self.floor = self.floor.or_else(|| {
            let scored = scored(&results["values"]);
            let simple =
                |name: &str| results["floor"][name].as_f64().or(results["bag_of_words"][name].as_f64());
            // A floor of another metric is none.
            let values: Option<Vec<Score>> =
                scored.into_iter().map(|(name, _)| simple(&name).map(|value| (name, value))).collect();
            values.map(|values| score_of(&values))
        });
    }

    /// Mean over seeds, and deviation of several.
    pub fn score(&self) -> Option<(f64, Option<f64>)> {
        mean(&self.scores).filter(|score| score.0.is_finite())
    }

    /// Mean seconds of training.
    pub fn mean_seconds(&self) -> Option<f64> {
        Some(mean(&self.seconds)?.0)
    }

    /// Mean peak memory in bytes.
    pub fn mean_memory(&self) -> Option<f64> {
        Some(mean(&self.memory)?.0)
    }

    /// The name of its row in the table.
    pub(super) fn row(&self) -> String {
        format!("{} · {}", self.substrate, self.recipe.name())
    }
}

/// All cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Universal {
    /// By task, substrate and recipe.
    pub cells: Vec<Cell>,
}

impl Universal {
    /// Names of the tasks, in their order.
    pub fn tasks(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.task.as_str()))
    }

    /// Names of the rows, in their order.
    pub(super) fn rows(&self) -> Vec<String> {
        distinct(self.cells.iter().map(Cell::row))
    }

    pub(super) fn find(&self, task: &str, row: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.task == task && cell.row() == row)
    }

    pub(super) fn of_task<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(move |cell| cell.task == task)
    }

    /// The floor of a task.
    pub(super) fn floor(&self, task: &str) -> Option<f64> {
        self.of_task(task).find_map(|cell| cell.floor)
    }

    /// How far a score is on the way from the task's floor, 0, to its best score, 1; negative below the floor. Where
    /// nothing is above the floor, from the lowest score.
    pub(super) fn relative(&self, cell: &Cell) -> Option<f64> {
        let scores = || self.of_task(&cell.task).filter_map(|cell| Some(cell.score()?.0));
        let best = scores().fold(f64::NEG_INFINITY, f64::max);
        let lowest = || scores().fold(f64::INFINITY, f64::min);
        let floor = self.floor(&cell.task).filter(|floor| *floor < best).unwrap_or_else(lowest);
        let way = (cell.score()?.0 - floor) / (best - floor);
        Some(if way.is_finite() { way } else { 1.0 })
    }

    /// The mean over all tasks of a value of a row's cells; `None` where one of them has none.
    pub(super) fn over_tasks(&self, row: &str, of: impl Fn(&Cell) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> =
            self.tasks().iter().map(|task| self.find(task, row).and_then(&of)).collect();
        Some(mean(&values?)?.0)
    }
}

/// The metrics of a run that make its score.
pub(super) fn scored(values: &Value) -> Vec<Score> {
    let values = values.as_object().into_iter().flatten();
    let values = values.filter_map(|(name, v)| Some((name.clone(), v.as_f64()?)));
    values.filter(|(name, _)| is_score(name)).collect()
}

/// Each once, where it comes first.
pub(super) fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}
