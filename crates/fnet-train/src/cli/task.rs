//! What task and column flags stand for.

use fnet_train::tasks::dataset::Labels;
use fnet_train::tasks::glue::{GlueTask, TASKS};
use fnet_train::tasks::rows::{Column, Columns};
use fnet_train::{Error, Result};

/// A GLUE task by name.
pub fn find_task(name: &str) -> Result<&'static GlueTask> {
    GlueTask::find(name).ok_or_else(|| {
        let names: Vec<_> = TASKS.iter().map(|t| t.name).collect();
        Error::usage(format!("--task {name}: known tasks are {}", names.join(", ")))
    })
}

/// The labels of a GLUE task.
pub fn task_labels(task: &GlueTask) -> Labels {
    if task.is_regression() {
        return Labels::Number;
    }
    Labels::Classes(task.labels.iter().map(|l| (*l).to_string()).collect())
}

/// The columns of a user's own file.
pub fn own_columns(text: &[String], label: Option<&str>) -> Result<Columns> {
    if !(1..=2).contains(&text.len()) {
        return Err(Error::usage("--text: name one or two text columns, with a comma between"));
    }
    Ok(Columns {
        text: text.iter().map(|t| Column::name(t)).collect(),
        label: label.map(Column::name),
        header: true,
        skip_ragged: false,
    })
}
