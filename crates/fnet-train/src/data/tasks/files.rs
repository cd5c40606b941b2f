//! Where a task's labelled rows come from and what they mean.

use std::path::{Path, PathBuf};

use super::dataset::Labels;
use super::metrics::Metric;
use super::rows::{self, Columns, Row};
use crate::error::Result;

/// A task's files, columns, labels and metrics.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    /// Training rows.
    pub train: PathBuf,
    /// Their columns.
    pub train_columns: Columns,
    /// Held-out rows: name for the metrics, file, columns.
    pub dev: Vec<(String, PathBuf, Columns)>,
    /// What is predicted.
    pub labels: Labels,
    /// The metrics it is judged by.
    pub metrics: Vec<Metric>,
}

impl TaskFiles {
    /// Number of training rows.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn train_rows(&self) -> Result<usize> {
        let mut count = 0;
        rows::read(&self.train, &self.train_columns, true, |_| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// The rows of a labelled file as texts, with their targets.
    ///
    /// # Errors
    /// If the file cannot be read or a row's label does not fit; names the line.
    pub fn rows(&self, path: &Path, columns: &Columns) -> Result<Vec<(Row, Vec<f32>)>> {
        let mut found = Vec::new();
        rows::read(path, columns, true, |row| {
            let label = self.labels.parse(path, row.line, row.label.as_deref().unwrap_or(""))?;
            found.push((row, label));
            Ok(())
        })?;
        Ok(found)
    }
}
