//! The text column when none is named: the only one that holds more than numbers.

use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::jsonl::next_object;
use super::places::quoted_names;
use super::{Columns, Format};
use crate::data::text::{self, Lines};
use crate::error::{Error, Result};
use crate::settings::setting;

/// Rows that are examined.
const ROWS: usize = 20;

/// The name of the only column with text in it; `None` for plain texts, which have no columns.
///
/// # Errors
/// If there are several or none, or the file cannot be read.
pub fn only_text_column(path: &Path) -> Result<Option<String>> {
    let Some((header, rows)) = beginning(path)? else { return Ok(None) };
    let texts: Vec<&String> =
        (0..header.len()).filter(|i| holds_text(&rows, *i)).map(|i| &header[i]).collect();
    match texts.as_slice() {
        [only] => Ok(Some((*only).clone())),
        _ => {
            let names = quoted_names(header.iter().map(String::as_str));
            Err(Error::file(
                path,
                format!("which column is the text? Name it by {}; there are {names}", setting("text")),
            ))
        }
    }
}

/// Whether a column holds more than numbers.
pub(crate) fn holds_text(rows: &[Vec<String>], column: usize) -> bool {
    let fields = rows.iter().filter_map(|row| row.get(column)).map(|field| field.trim());
    fields.into_iter().any(|field| !field.is_empty() && field.parse::<f64>().is_err())
}

/// The header of a file of rows, and its first rows; `None` for plain texts.
pub(crate) fn beginning(path: &Path) -> Result<Option<Beginning>> {
    if text::is_standard_stream(path) {
        return Ok(None); // it can be read only once
    }
    let mut open = text::open(path)?;
    let nothing =
        Columns { text: Vec::new(), label: None, header: true, skip_ragged: false, several_labels: false };
    let format = Format::of(path, open.fill_buf().unwrap_or_default(), &nothing)?;
    Ok(match format {
        Format::Txt => None,
        Format::Csv => Some(of_csv(path, open)?),
        Format::Tsv => Some(of_tsv(Lines::of(path, open))?),
        Format::Jsonl => Some(of_jsonl(Lines::of(path, open))?),
    })
}

pub(crate) type Beginning = (Vec<String>, Vec<Vec<String>>);

fn of_csv(path: &Path, open: Box<dyn BufRead + Send>) -> Result<Beginning> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(open);
    let records = reader.records().take(ROWS + 1);
    let fields = |record: csv::StringRecord| record.iter().map(String::from).collect();
    let mut rows: Vec<Vec<String>> = records
        .map(|record| record.map(fields).map_err(|e| Error::file(path, e.to_string())))
        .collect::<Result<_>>()?;
    let header = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
    Ok((header.iter().map(|name| name.trim_start_matches('\u{FEFF}').to_string()).collect(), rows))
}

fn of_tsv(mut lines: Lines) -> Result<Beginning> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    while rows.len() <= ROWS
        && let Some((_, line)) = lines.next_line()?
    {
        rows.push(line.split('\t').map(String::from).collect());
    }
    let header = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
    Ok((header, rows))
}

fn of_jsonl(mut lines: Lines) -> Result<Beginning> {
    let mut header: Vec<String> = Vec::new();
    let mut objects: Vec<Map<String, Value>> = Vec::new();
    while objects.len() < ROWS
        && let Some((_, object)) = next_object(&mut lines)?
    {
        header.extend(object.keys().filter(|key| !header.contains(key)).cloned().collect::<Vec<_>>());
        objects.push(object);
    }
    let text = |object: &Map<String, Value>, key: &String| {
        object.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    let rows = objects.iter().map(|object| header.iter().map(|key| text(object, key)).collect()).collect();
    Ok((header, rows))
}
