//! What a task's name stands for.

use fnet_train::data::tasks::dataset::Labels;
use fnet_train::data::tasks::glue::{GlueTask, TASKS};
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
