//! Rows of one or two texts and a label, out of TSV, CSV and JSONL files.

use std::cell::Cell;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::{self, Lines};

/// A column by its name in the header, or by its number from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Number from 0, for files without a header.
    Number(usize),
    /// Name in the header.
    Name(String),
}

impl Column {
    /// A column by name.
    pub fn name(name: &str) -> Self {
        Self::Name(name.into())
    }
}

/// Which columns hold what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// One or two text columns.
    pub text: Vec<Column>,
    /// The label's column, where there is one.
    pub label: Option<Column>,
    /// Whether the file starts with a header line (TSV and CSV).
    pub header: bool,
    /// Whether rows with another number of columns than the header are left out, as GLUE's own
    /// readers do for QQP, instead of being an error.
    #[serde(default)]
    pub skip_ragged: bool,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Line in the file, from 1.
    pub line: usize,
    /// The first text.
    pub first: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// The label as it stands in the file.
    pub label: Option<String>,
}

/// Reads the rows of a file one by one, in a stream.
///
/// The ending says the format: `.tsv` (tabs, quotes are literal), `.csv` (RFC 4180), `.jsonl`; each
/// also with `.gz` or `.zst`. The label column is read where the file has it.
///
/// # Errors
/// Names the line with too few columns, invalid UTF-8, a NUL or broken JSON, and a file without rows.
pub fn read(
    path: &Path,
    columns: &Columns,
    needs_label: bool,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<usize> {
    let mut count = 0;
    let mut counted = |row| {
        count += 1;
        each(row)
    };
    match text::format_ending(path).as_str() {
        "tsv" | "txt" => read_tsv(path, columns, needs_label, &mut counted)?,
        "csv" => read_csv(path, columns, needs_label, &mut counted)?,
        "jsonl" => read_jsonl(path, columns, needs_label, &mut counted)?,
        _ => return Err(Error::file(path, "expected .tsv, .csv or .jsonl, also with .gz or .zst")),
    }
    if count == 0 {
        return Err(Error::file(path, "holds no rows"));
    }
    Ok(count)
}

/// Column numbers, found once from the header.
struct Places {
    text: Vec<usize>,
    label: Option<usize>,
    width: Option<usize>,
}

impl Places {
    fn find(path: &Path, columns: &Columns, header: Option<&[String]>, needs_label: bool) -> Result<Self> {
        let find = |column: &Column| match (column, header) {
            (Column::Number(number), _) => Ok(*number),
            (Column::Name(name), Some(header)) => header.iter().position(|h| h == name).ok_or_else(|| {
                let message = format!("has no column `{name}`; its columns are {}", header.join(", "));
                Error::line(path, 1, message)
            }),
            (Column::Name(name), None) => {
                Err(Error::file(path, format!("has no header to find the column `{name}` in")))
            }
        };
        let label = match &columns.label {
            Some(label) if needs_label => Some(find(label)?),
            Some(label) => find(label).ok(),
            None => None,
        };
        let text = columns.text.iter().map(find).collect::<Result<_>>()?;
        Ok(Self { text, label, width: header.map(<[String]>::len) })
    }

    /// A row, or `None` if it is to be left out.
    fn row(
        &self,
        path: &Path,
        line: usize,
        columns: &Columns,
        needs_label: bool,
        fields: &[&str],
    ) -> Result<Option<Row>> {
        // Predictions are told apart by their number, so there no row may be left out.
        if needs_label && columns.skip_ragged && self.width.is_some_and(|w| w != fields.len()) {
            return Ok(None);
        }
        let field = |number: usize| {
            fields.get(number).map(|f| (*f).to_string()).ok_or_else(|| {
                let message = format!("has {} columns, column {} is needed", fields.len(), number + 1);
                Error::line(path, line, message)
            })
        };
        let label = match self.label {
            Some(number) if needs_label => Some(field(number)?),
            Some(number) => field(number).ok(),
            None => None,
        };
        let first = self.text.first().map_or_else(|| Ok(String::new()), |n| field(*n))?;
        let second = self.text.get(1).map(|n| field(*n)).transpose()?;
        Ok(Some(Row { line, first, second, label }))
    }
}

type Each<'a> = &'a mut dyn FnMut(Row) -> Result<()>;

fn read_tsv(path: &Path, columns: &Columns, needs_label: bool, each: Each) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let (mut places, mut blank) = (None, None);
    while let Some((number, line)) = lines.next_line()? {
        let fields: Vec<&str> = line.split('\t').collect();
        let places = match &places {
            Some(places) => places,
            None if columns.header => {
                let header: Vec<String> = fields.iter().map(|f| (*f).to_string()).collect();
                places = Some(Places::find(path, columns, Some(&header), needs_label)?);
                continue;
            }
            None => places.insert(Places::find(path, columns, None, needs_label)?),
        };
        if line.is_empty() {
            blank.get_or_insert(number);
            continue;
        }
        if let (Some(line), false) = (blank, needs_label) {
            return Err(Error::line(path, line, "is empty; predictions need a row for every line"));
        }
        if let Some(row) = places.row(path, number, columns, needs_label, &fields)? {
            each(row)?;
        }
    }
    Ok(())
}

/// A reader that stops where a record grows beyond all bounds, as after a quote that is not closed.
struct BoundedRecords<R> {
    inner: R,
    /// Bytes that the record may still take.
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for BoundedRecords<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.get() == 0 {
            let message = "a record is longer than 64 MiB: is a quote not closed?";
            return Err(std::io::Error::other(message));
        }
        let count = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(count as u64));
        Ok(count)
    }
}

fn read_csv(path: &Path, columns: &Columns, needs_label: bool, each: Each) -> Result<()> {
    let left = Rc::new(Cell::new(text::LONGEST_LINE));
    let records = BoundedRecords { inner: text::open(path)?, left: Rc::clone(&left) };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(columns.header).flexible(true).from_reader(records);
    let started = Cell::new(1);
    let broken = |e: csv::Error| {
        let line = e.position().map_or(started.get(), |p| p.line() as usize);
        let message = match e.kind() {
            csv::ErrorKind::Utf8 { .. } => "not UTF-8; convert the file first".to_string(),
            _ => e.to_string(),
        };
        Error::line(path, line, message)
    };
    let header: Option<Vec<String>> = if columns.header {
        let names = reader.headers().map_err(broken)?;
        Some(names.iter().map(|h| h.trim_start_matches('\u{FEFF}').to_string()).collect())
    } else {
        None
    };
    let places = Places::find(path, columns, header.as_deref(), needs_label)?;
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line() as usize;
        started.set(line);
        left.set(text::LONGEST_LINE);
        if !reader.read_record(&mut record).map_err(broken)? {
            return Ok(());
        }
        let line = record.position().map_or(line, |p| p.line() as usize);
        let fields: Vec<&str> = record.iter().collect();
        if fields.iter().any(|f| f.contains('\0')) {
            return Err(Error::line(path, line, "holds a NUL: this is not a text file"));
        }
        if let Some(row) = places.row(path, line, columns, needs_label, &fields)? {
            each(row)?;
        }
    }
}

fn read_jsonl(path: &Path, columns: &Columns, needs_label: bool, each: Each) -> Result<()> {
    use serde_json::{Map, Value};
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next_line()? {
        if line.trim().is_empty() {
            continue;
        }
        let object: Map<String, Value> = match serde_json::from_str(line) {
            Ok(object) => object,
            Err(e) => return Err(lines.error(format!("no JSON object: {e}"))),
        };
        let field = |column: &Column| -> Result<Option<String>> {
            let Column::Name(name) = column else {
                return Err(Error::file(path, "a JSONL file's columns are named, not numbered"));
            };
            match object.get(name) {
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
                None | Some(Value::Null) => Ok(None),
                Some(_) => Err(Error::line(path, number, format!("`{name}` is neither text nor a number"))),
            }
        };
        let needed = |column: &Column| -> Result<String> {
            field(column)?.ok_or_else(|| {
                let Column::Name(name) = column else { unreachable!("checked by `field`") };
                Error::line(path, number, format!("has no `{name}`"))
            })
        };
        let label = match &columns.label {
            Some(label) if needs_label => Some(needed(label)?),
            Some(label) => field(label)?,
            None => None,
        };
        let first = columns.text.first().map_or_else(|| Ok(String::new()), needed)?;
        let second = columns.text.get(1).map(needed).transpose()?;
        each(Row { line: number, first, second, label })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &[&str], label: Option<&str>, header: bool) -> Columns {
        Columns {
            text: text.iter().map(|t| Column::name(t)).collect(),
            label: label.map(Column::name),
            header,
            skip_ragged: false,
        }
    }

    fn rows(name: &str, bytes: &[u8], columns: &Columns) -> std::result::Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        read(&path, columns, columns.label.is_some(), |row| {
            rows.push(row);
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        Ok(rows)
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_fill_memory() {
        let endless = std::io::Read::chain(&b"\""[..], std::io::repeat(b'a'));
        let left = Rc::new(Cell::new(1 << 16));
        let mut reader = csv::Reader::from_reader(BoundedRecords { inner: endless, left });
        let error = reader.headers().unwrap_err().to_string();
        assert!(error.contains("quote not closed"), "{error}");
    }

    #[test]
    fn formats() {
        let c = columns(&["b", "a"], Some("y"), true);
        let expected = |line, first: &str, second: &str, label: &str| Row {
            line,
            first: first.into(),
            second: Some(second.into()),
            label: Some(label.into()),
        };
        let tsv = rows("t.tsv", b"y\ta\tb\r\n1\t\"one\ttwo \"x\"\r\n", &c).unwrap();
        assert_eq!(tsv, [expected(2, "two \"x\"", "\"one", "1")]);
        let csv = rows("t.csv", b"y,a,b\n1,\"one, \"\"x\"\"\nmore\",two\n2,p,q\n", &c).unwrap();
        let both = [expected(2, "two", "one, \"x\"\nmore", "1"), expected(4, "q", "p", "2")];
        assert_eq!(csv, both);
        let json = br#"{"a": "one", "b": "two", "y": 1.5}

{"a": "p", "b": "q", "y": true}"#;
        let json = rows("t.jsonl", json, &c).unwrap();
        assert_eq!(json, [expected(1, "two", "one", "1.5"), expected(3, "q", "p", "true")]);
    }

    #[test]
    fn numbered_columns_without_header() {
        let c = Columns {
            text: vec![Column::Number(3)],
            label: Some(Column::Number(1)),
            header: false,
            skip_ragged: false,
        };
        let found = rows("t.tsv", b"gj04\t1\t\tA word.\n", &c).unwrap();
        assert_eq!((found[0].first.as_str(), found[0].label.as_deref()), ("A word.", Some("1")));
    }

    #[test]
    fn errors_name_the_line() {
        let c = columns(&["a"], Some("y"), true);
        for (name, bytes, says) in [
            ("t.tsv", &b"a\ty\nx\t1\nonly\n"[..], "t.tsv:3: has 1 columns, column 2 is needed"),
            ("t.tsv", b"a\tz\nx\t1\n", "t.tsv:1: has no column `y`; its columns are a, z"),
            ("t.tsv", b"a\ty\nx\xFF\t1\n", "t.tsv:2: not UTF-8"),
            ("t.tsv", b"a\ty\nx\0\t1\n", "t.tsv:2: holds a NUL"),
            ("t.tsv", b"a\ty\n", "holds no rows"),
            ("t.tsv", b"", "holds no rows"),
            ("t.csv", b"a,y\nx,1\nonly\n", "t.csv:3: has 1 columns"),
            ("t.csv", b"a,y\nx,1\nx\xFF,1\n", "t.csv:3: not UTF-8"),
            ("t.csv", b"a,y\nx\0,1\n", "t.csv:2: holds a NUL"),
            ("t.jsonl", b"{\"a\": \"x\"}\n", "t.jsonl:1: has no `y`"),
            ("t.jsonl", b"{\"a\": []}\n", "t.jsonl:1: has no `y`"),
            ("t.jsonl", b"{\"a\": [], \"y\": 1}\n", "`a` is neither text nor a number"),
            ("t.jsonl", b"[1]\n", "t.jsonl:1: no JSON object"),
            ("t.xls", b"x", "expected .tsv, .csv or .jsonl"),
        ] {
            let message = rows(name, bytes, &c).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn ragged_rows_can_be_left_out() {
        let c = Columns { skip_ragged: true, ..columns(&["a"], Some("y"), true) };
        assert_eq!(rows("t.tsv", b"a\ty\nx\t1\nonly\nz\t0\n", &c).unwrap().len(), 2);
    }
}
