//! Checks that many settings need.

use std::path::{Path, PathBuf};

use super::refused;
use crate::error::{Error, Result};

/// Refuses a number outside `low..=high`, and NaN.
///
/// # Errors
/// Names the setting, by its field.
pub fn in_range(field: &str, value: impl Into<Option<f64>>, low: f64, high: f64) -> Result<()> {
    match value.into() {
        Some(v) if !(low..=high).contains(&v) => {
            Err(refused(&format!("{field} {v}"), format!("must be from {low} to {high}")))
        }
        _ => Ok(()),
    }
}

/// A path that means the same from any folder.
///
/// # Errors
/// If the current folder is not known.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io(path))
}

/// Absolute paths of files that must exist. Links are kept: their names say what is in them.
///
/// # Errors
/// Names the first file that cannot be found.
pub fn existing_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let existing = |path: &PathBuf| {
        std::fs::metadata(path).map_err(Error::io(path))?;
        absolute(path)
    };
    paths.iter().map(existing).collect()
}
