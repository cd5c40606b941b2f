//! Comma-separated rows, RFC 4180 to the letter: a quote that is escaped by a backslash is refused, not guessed at.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::path::Path;
use std::rc::Rc;

use super::places::Places;
use super::{Columns, Each};
use crate::data::text;
use crate::error::{Error, Result};

pub(super) fn read(
    path: &Path,
    open: Box<dyn BufRead + Send>,
    columns: &Columns,
    needs_label: bool,
    each: Each,
) -> Result<()> {
    let limits = Rc::new(Limits { left: Cell::new(text::LONGEST_LINE), stray_quote: Cell::new(None) });
    let checked = Checked { inner: open, limits: Rc::clone(&limits), quotes: Quotes::default() };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(columns.header).flexible(true).from_reader(checked);
    let started = Cell::new(1);
    let broken = |e: csv::Error| {
        if let Some(line) = limits.stray_quote.get() {
            let message =
                "has text after the end of a quoted field; within quotes, a quote is written twice (\"\")";
            return Error::line(path, line, message);
        }
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
    let mut places = Places::find(path, columns, header.as_deref(), needs_label)?;
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line() as usize;
        started.set(line);
        limits.left.set(text::LONGEST_LINE);
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

/// State shared by a reader and the code that reads from it.
struct Limits {
    /// Bytes that the record may still take.
    left: Cell<u64>,
    /// Line of a misplaced quote.
    stray_quote: Cell<Option<usize>>,
}

/// A reader that stops if a record grows beyond all bounds, as after an unclosed quote, and at text after a quoted
/// field, which the parser would take for part of it.
struct Checked<R> {
    inner: R,
    limits: Rc<Limits>,
    quotes: Quotes,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.limits.left.get() == 0 {
            let message = "a record is longer than 64 MiB: is a quote not closed?";
            return Err(std::io::Error::other(message));
        }
        let count = self.inner.read(buffer)?;
        self.limits.left.set(self.limits.left.get().saturating_sub(count as u64));
        if !buffer[..count].iter().all(|byte| self.quotes.goes_on(*byte)) {
            self.limits.stray_quote.set(Some(self.quotes.line));
            return Err(std::io::Error::other("text after a quoted field"));
        }
        Ok(count)
    }
}

/// Where a byte is within CSV.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    StartOfField,
    Plain,
    Quoted,
    /// After a quote within quotes: the field's end, or the first of two quotes.
    QuoteInQuoted,
}

struct Quotes {
    within: Within,
    line: usize,
}

impl Default for Quotes {
    fn default() -> Self {
        Self { within: Within::StartOfField, line: 1 }
    }
}

impl Quotes {
    /// Takes the next byte; false where it is neither a delimiter nor a quote after a quoted field.
    fn goes_on(&mut self, byte: u8) -> bool {
        self.line += usize::from(byte == b'\n');
        self.within = match (self.within, byte) {
            (Within::Quoted, b'"') => Within::QuoteInQuoted,
            (Within::Quoted, _) | (Within::QuoteInQuoted | Within::StartOfField, b'"') => Within::Quoted,
            (_, b',' | b'\n' | b'\r') => Within::StartOfField,
            (Within::QuoteInQuoted, _) => return false,
            // A byte order mark before the first field.
            (Within::StartOfField, 0xEF | 0xBB | 0xBF) if self.line == 1 => Within::StartOfField,
            (Within::StartOfField | Within::Plain, _) => Within::Plain,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_not_closed_does_not_fill_memory() {
        let endless = std::io::Read::chain(&b"\""[..], std::io::repeat(b'a'));
        let limits = Rc::new(Limits { left: Cell::new(1 << 16), stray_quote: Cell::new(None) });
        let mut reader =
            csv::Reader::from_reader(Checked { inner: endless, limits, quotes: Quotes::default() });
        let error = reader.headers().unwrap_err().to_string();
        assert!(error.contains("quote not closed"), "{error}");
    }

    #[test]
    fn stray_quotes_are_found() {
        let ends_at = |text: &str| {
            let mut quotes = Quotes::default();
            text.bytes().position(|byte| !quotes.goes_on(byte)).map(|at| (at, quotes.line))
        };
        for fine in
            ["a,\"b\"\n", "\"a\"\"b\",c\r\n", "\"\"", "a \"b\" c,d\n", "\"a\nb\",c", "\u{FEFF}\"a\",b"]
        {
            assert_eq!(ends_at(fine), None, "{fine}");
        }
        assert_eq!(ends_at("a\n\"say \\\"no\\\" now\",1\n"), Some((9, 2)));
        assert_eq!(ends_at("\"a\" ,b"), Some((3, 1)));
    }
}
