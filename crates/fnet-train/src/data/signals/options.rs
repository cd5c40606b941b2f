//! How examples are read to learn from.

use serde::{Deserialize, Serialize};

use super::Asked;
use super::symbols::Alphabet;
use crate::data::tasks::rows::Columns;

/// How examples are read to learn from; what a model reads later follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Side of an image's patches in pixels.
    pub patch: usize,
    /// Whether colours become grey.
    pub grey: bool,
    /// Side of the square that images are resized to.
    pub resize: Option<usize>,
    /// How images are varied.
    pub variation: Variation,
    /// How a table holds series.
    pub layout: Option<Layout>,
    /// The column that names the series of a step, in [`Layout::Long`].
    pub series_id: Option<String>,
    /// Columns of tables and rows.
    pub columns: Option<Columns>,
    /// What rows' texts are read by.
    pub alphabet: Option<Alphabet>,
    /// What is asked.
    pub asked: Asked,
    /// A label that says nothing, where positions have classes.
    pub ignored_label: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patch: 4,
            grey: false,
            resize: None,
            variation: Variation::default(),
            layout: None,
            series_id: None,
            columns: None,
            alphabet: None,
            asked: Asked::Class,
            ignored_label: None,
        }
    }
}

/// How images are varied, anew in each pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variation {
    /// Half of them are mirrored left to right.
    pub flip: bool,
    /// They are moved by up to this many pixels each way; what comes in has the mean colour.
    pub crop: usize,
    /// Seed of both.
    pub seed: u64,
}

/// How a table holds series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A series a row, a step a column
    Wide,
    /// A step a row, a channel a column
    Long,
}
