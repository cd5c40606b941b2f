//! The format of a file of rows: by its extension, or for standard input by its first line.

use std::path::Path;

use super::{Column, Columns};
use crate::data::text::{format_ending, is_standard_stream};
use crate::error::{Error, Result};

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Commas, RFC 4180.
    Csv,
    /// Tabs; quotes are literal.
    Tsv,
    /// A JSON object a line.
    Jsonl,
    /// A text a line, and nothing else.
    Txt,
}

impl Format {
    /// The format that a file's extension names.
    ///
    /// # Errors
    /// If the extension is unknown.
    pub fn of_ending(path: &Path) -> Result<Self> {
        match format_ending(path).as_str() {
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "jsonl" | "json" | "ndjson" => Ok(Self::Jsonl),
            "txt" => Ok(Self::Txt),
            _ => Err(Error::file(path, "expected .tsv, .csv or .jsonl, also with .gz or .zst")),
        }
    }

    /// The extension of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Txt => "txt",
        }
    }

    /// The format of a file that begins with these bytes.
    pub(super) fn of(path: &Path, first: &[u8], columns: &Columns) -> Result<Self> {
        if is_standard_stream(path) {
            return Ok(Self::of_bytes(first, columns));
        }
        let format = Self::of_ending(path)?;
        // Tables come as .txt, too: their header shows it.
        let is_table = format == Self::Txt && Self::of_bytes(first, columns) == Self::Tsv;
        Ok(if is_table { Self::Tsv } else { format })
    }

    /// The format in whose first line the columns are found.
    fn of_bytes(first: &[u8], columns: &Columns) -> Self {
        let first = String::from_utf8_lossy(first);
        let first = first.trim_start_matches('\u{FEFF}');
        if first.trim_start().starts_with(['{', '[']) {
            return Self::Jsonl;
        }
        let line = first.split(['\n', '\r']).next().unwrap_or("");
        let mut fields = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
        let commas: Vec<String> = fields
            .records()
            .next()
            .and_then(std::result::Result::ok)
            .map(|record| record.iter().map(String::from).collect())
            .unwrap_or_default();
        let tabs: Vec<String> = line.split('\t').map(String::from).collect();
        let has_all = |names: &[String]| {
            !columns.text.is_empty()
                && columns.text.iter().all(|column| match column {
                    Column::Name(wanted) => names.iter().any(|name| name.trim() == wanted.trim()),
                    Column::Number(number) => *number < names.len() && names.len() > 1,
                })
        };
        match (has_all(&tabs), has_all(&commas)) {
            (true, true) if tabs.len() == 1 => Self::Csv, // one column has no separator
            (true, _) => Self::Tsv,
            (false, true) => Self::Csv,
            (false, false) => Self::Txt,
        }
    }
}
