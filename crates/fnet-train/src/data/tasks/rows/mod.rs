//! Rows of one or two texts and a label, from TSV, CSV and JSONL files.

use std::io::BufRead;
use std::path::Path;

use crate::data::text::{self, Lines};
use crate::error::{Error, Result};
pub use columns::{Column, Columns};
pub use format::Format;
pub(crate) use jsonl::next_object;
pub use only_text::only_text_column;
pub(crate) use only_text::{beginning, holds_text};
pub(crate) use places::{quoted_names, shortened};

mod columns;
mod csv;
mod format;
mod jsonl;
mod only_text;
mod places;
mod tsv;

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Line in the file, from 1.
    pub line: usize,
    /// The first text.
    pub first: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// The label as written in the file.
    pub label: Option<String>,
}

type Each<'a> = &'a mut dyn FnMut(Row) -> Result<()>;

/// Reads the rows of a file, or of standard input (`-`), one by one, in a stream.
///
/// The extension gives the format: `.tsv` (tabs, quotes are literal), `.csv` (RFC 4180), `.jsonl`, and for texts
/// without labels `.txt` (one text per line); each also with `.gz` or `.zst`. The format of standard input is
/// recognised by its first line. The label column is read if the file has it.
///
/// # Errors
/// Names the line with too few or too many fields, an empty label, invalid UTF-8, a NUL or broken JSON, and a file
/// without rows.
pub fn read(
    path: &Path,
    columns: &Columns,
    needs_label: bool,
    mut each: impl FnMut(Row) -> Result<()>,
) -> Result<usize> {
    let mut count = 0;
    let mut counted = |row: Row| {
        count += 1;
        if needs_label
            && !columns.several_labels
            && row.label.as_ref().is_none_or(|label| label.trim().is_empty())
        {
            return Err(Error::line(path, row.line, "has no label: give it one, or leave the row out"));
        }
        each(row)
    };
    let mut open = text::open(path)?;
    // A read error is reported for the first line.
    let format = Format::of(path, open.fill_buf().unwrap_or_default(), columns)?;
    let lines = |open| Lines::of(path, open);
    match format {
        Format::Tsv => tsv::read(path, lines(open), columns, needs_label, &mut counted)?,
        Format::Csv => csv::read(path, open, columns, needs_label, &mut counted)?,
        Format::Jsonl => jsonl::read(path, lines(open), columns, needs_label, &mut counted)?,
        Format::Txt => plain(path, &mut lines(open), columns, needs_label, &mut counted)?,
    }
    if count == 0 {
        return Err(Error::file(path, "holds no rows"));
    }
    Ok(count)
}

/// As [`read`] without labels, in blocks of at most `size` rows.
///
/// # Errors
/// As [`read`].
pub fn read_blocks(
    path: &Path,
    columns: &Columns,
    size: usize,
    mut each: impl FnMut(&[Row]) -> Result<()>,
) -> Result<usize> {
    let mut block = Vec::new();
    let count = read(path, columns, false, |row| {
        block.push(row);
        if block.len() >= size {
            each(&block)?;
            block.clear();
        }
        Ok(())
    })?;
    if !block.is_empty() {
        each(&block)?;
    }
    Ok(count)
}

/// The format of a file that holds these columns.
///
/// # Errors
/// If it cannot be read, or is of no known format.
pub fn format_of(path: &Path, columns: &Columns) -> Result<Format> {
    Format::of(path, text::open(path)?.fill_buf().unwrap_or_default(), columns)
}

/// One text per line.
fn plain(path: &Path, lines: &mut Lines, columns: &Columns, needs_label: bool, each: Each) -> Result<()> {
    if needs_label {
        return Err(Error::file(path, "has no label: labelled rows are .tsv, .csv or .jsonl"));
    }
    if columns.text.len() > 1 {
        return Err(Error::file(path, "has one text a line, two are read: give .tsv, .csv or .jsonl"));
    }
    while let Some((line, text)) = lines.next_line()? {
        each(Row { line, first: text.into(), second: None, label: None })?;
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
            several_labels: false,
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
            several_labels: false,
        };
        let found = rows("t.tsv", b"gj04\t1\t\tA word.\n", &c).unwrap();
        assert_eq!((found[0].first.as_str(), found[0].label.as_deref()), ("A word.", Some("1")));
    }

    #[test]
    fn errors_name_the_line() {
        let c = columns(&["a"], Some("y"), true);
        for (name, bytes, says) in [
            ("t.tsv", &b"a\ty\nx\t1\nonly\n"[..], "t.tsv:3: has 1 columns, column 2 is needed"),
            ("t.tsv", b"a\tz\nx\t1\n", "t.tsv:1: has no column `y`; its columns are `a`, `z`"),
            ("t.tsv", b"a\ty\ta\nx\t1\ty\n", "t.tsv:1: has 2 columns `a`"),
            ("t.tsv", b"a\ty\nx\t1\tmore\n", "t.tsv:2: has 3 fields, the header 2"),
            ("t.tsv", b"a\ty\nx\t \n", "t.tsv:2: has no label"),
            ("t.csv", b"a,y\nx,1\nso, so,0\n", "t.csv:3: has 3 fields, the header 2"),
            (
                "t.csv",
                b"a,y\nx,1\n\"a \\\"b\\\" c\",0\n",
                "t.csv:3: has text after the end of a quoted field",
            ),
            ("t.csv", b"a,y\nx,\n", "t.csv:2: has no label"),
            (
                "t.csv",
                b"a;y\nx;1\n",
                "its columns are `a;y`; they are separated by `;`: save the file with commas",
            ),
            ("t.csv", b"a\ty\nx\t1\n", "its columns are `a\\ty`; by its separators this is a .tsv file"),
            ("t.jsonl", b"{\"a\": null, \"y\": 1}\n", "t.jsonl:1: has no `a`: it is null"),
            ("t.txt", b"x\n", "t.txt: has no label"),
            ("t.jsonl", b"{\"a\": \"x\", \"y\": \"\"}\n", "t.jsonl:1: has no label"),
            ("t.json", b"[{\"a\": \"x\", \"y\": 1}]\n", "t.json:1: begins a JSON array"),
            ("t.json", b"{\n\"a\": 1}", "t.json:1: is an object over several lines"),
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
            ("t.jsonl", b"1\n", "t.jsonl:1: no JSON object"),
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

    #[test]
    fn columns_are_found_in_spite_of_blanks_and_named_visibly() {
        let c = columns(&["a"], Some("y"), true);
        assert_eq!(rows("t.csv", b"a, y\nx,1\n", &c).unwrap()[0].label.as_deref(), Some("1"));
        let message = rows("t.csv", b"a,\tz\nx,1\n", &c).unwrap_err();
        assert!(message.ends_with("its columns are `a`, `\\tz`"), "{message}");
        let wide = "name,".repeat(5_000);
        let message = rows("t.csv", wide.as_bytes(), &c).unwrap_err();
        assert!(message.len() < 400 && message.contains("and 4981 more"), "{message}");
    }

    #[test]
    fn a_table_with_the_line_ends_of_old_macs_is_read() {
        let c = columns(&["a"], Some("y"), true);
        for name in ["t.tsv", "t.csv"] {
            let text = if name == "t.csv" { "a,y\rx,1\rz,0\r" } else { "a\ty\rx\t1\rz\t0\r" };
            let found = rows(name, text.as_bytes(), &c).unwrap();
            assert_eq!(
                (found.len(), found[1].first.as_str(), found[1].label.as_deref()),
                (2, "z", Some("0"))
            );
        }
    }

    #[test]
    fn texts_alone_come_a_line_each() {
        let c = columns(&["a"], None, true);
        let texts = |bytes: &[u8]| -> Vec<String> {
            rows("t.txt", bytes, &c).unwrap().into_iter().map(|row| row.first).collect()
        };
        assert_eq!(texts(b"one, two\n\nthree\tfour\n"), ["one, two", "", "three\tfour"]);
        assert_eq!(texts(b"b\ta\n1\tx\n"), ["x"], "a table by its header");
    }
}
