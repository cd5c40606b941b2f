//! Series of one or more channels, each at its own length.

use std::path::Path;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::classes::{self, Labelled};
use super::{Asked, Format, Layout, Purpose, Reading, Scale, Shape, Signal, Source, Target};
use crate::data::tasks::rows::Column;
use crate::data::text::format_ending;
use crate::error::{Error, Result};

mod array;
mod table;
mod ts;

/// The series of a file, with what is asked of each.
pub struct SeriesFile {
    /// Of each series, `[steps, channels]`.
    series: Vec<Vec<f32>>,
    targets: Vec<Target>,
    classes: Vec<String>,
    channels: usize,
    scale: Scale,
    table: Option<Table>,
    asked: Asked,
    ignored_label: Option<String>,
}

/// How a table holds series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What a row is.
    pub layout: Layout,
    /// The column that names a step's series.
    pub id: Option<String>,
    /// The label's column.
    pub label: Option<Column>,
    /// Columns of the channels; a series a row has one channel.
    pub channels: Vec<String>,
}

/// What files of series hold.
#[derive(Default)]
struct Read {
    /// Of each series, `[steps, channels]`.
    series: Vec<Vec<f32>>,
    /// Of each series, or of each of its steps.
    labels: Vec<String>,
    channels: usize,
    /// Classes in their own order, where a file says it.
    order: Option<Vec<String>>,
    /// Where each label stands, in messages.
    places: Vec<String>,
    table: Option<Table>,
}

impl SeriesFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line of a value that is no number, of a series whose channels differ in number or length, and of a
    /// class that is not known.
    pub fn open(path: &Path, format: Format, purpose: Purpose) -> Result<Self> {
        let read = match format {
            Format::Array => array::read(path, purpose)?,
            Format::Table => table::read(path, purpose)?,
            _ => ts::read(path, purpose)?,
        };
        if read.series.is_empty() {
            return Err(Error::file(path, "holds no series"));
        }
        let channels = read.channels;
        let scale = match purpose.reading() {
            None => Scale::of(read.series.iter().flatten().copied(), channels),
            Some(Reading::Series { scale, .. }) if scale.mean.len() == channels => scale.clone(),
            Some(Reading::Series { scale, .. }) => {
                let wanted = scale.mean.len();
                let message = format!("has series of {channels} channels; the model reads {wanted}");
                return Err(Error::file(path, message));
            }
            Some(_) => return purpose.refuse(path, "series"),
        };
        let (ignored_label, place) = (purpose.ignored_label(), |i: usize| read.places[i].clone());
        let Labelled { targets, classes, asked } = if purpose.asked().is_of_positions() {
            let lens: Vec<usize> = read.series.iter().map(|series| series.len() / channels).collect();
            let ignored = ignored_label.as_deref();
            classes::of_positions(path, &read.labels, &lens, ignored, purpose, place)?
        } else {
            classes::targets(path, &read.labels, read.order, purpose, place)?
        };
        let (series, table) = (read.series, read.table);
        Ok(Self { series, targets, classes, channels, scale, table, asked, ignored_label })
    }
}

/// The series of a `.npy` file, `[steps]`, `[steps, channels]` or `[series, steps, channels]`, or of a `.ts` file, each
/// `[steps, channels]`, and the number of channels.
///
/// # Errors
/// If the file is of another kind, is broken, or holds no series.
pub(crate) fn read_numbers(path: &Path) -> Result<(usize, Vec<Array2<f64>>)> {
    match format_ending(path).as_str() {
        "npy" => array::read_numbers(path),
        "ts" => {
            let nothing = Scale { mean: Vec::new(), deviation: Vec::new() };
            let reading =
                Reading::Series { scale: nothing, table: None, asked: Asked::Class, ignored_label: None };
            let Read { series, channels, .. } = ts::read(path, Purpose::Predict(&reading))?;
            if series.is_empty() || channels == 0 {
                return Err(Error::file(path, "holds no series"));
            }
            let as_array = |values: Vec<f32>| {
                let steps = values.len() / channels;
                Array2::from_shape_fn((steps, channels), |(t, c)| f64::from(values[t * channels + c]))
            };
            Ok((channels, series.into_iter().map(as_array).collect()))
        }
        _ => Err(Error::file(path, "is no file of series: .csv, .tsv, .npy and .ts are read")),
    }
}

/// A finite number.
fn number(text: &str) -> std::result::Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ if ["?", ""].contains(&text.trim()) => Err("a missing value is not read here".to_string()),
        _ => Err(format!("`{}` is no number", text.trim().chars().take(40).collect::<String>())),
    }
}

impl Source for SeriesFile {
    fn shape(&self) -> Shape {
        Shape {
            width: self.channels,
            longest: self.series.iter().map(|s| s.len() / self.channels).max().unwrap_or(0),
            head: self.asked.head(self.classes.len().max(1)),
            classes: self.classes.clone(),
        }
    }

    fn len(&self) -> usize {
        self.series.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) -> Result<()> {
        let values = self.series[index].iter().enumerate();
        into.vectors.clear();
        into.tokens.clear();
        into.vectors.extend(values.map(|(i, value)| self.scale.apply(i % self.channels, *value)));
        into.target = self.targets[index].clone();
        Ok(())
    }

    fn reading(&self) -> Reading {
        Reading::Series {
            scale: self.scale.clone(),
            table: self.table.clone(),
            asked: self.asked.clone(),
            ignored_label: self.ignored_label.clone(),
        }
    }
}
