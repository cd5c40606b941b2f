//! Paragraphs from corpus files: `.txt` (one paragraph per line, an empty line between documents) and `.jsonl` (one
//! object with `text` per line), each plain, `.gz` or `.zst`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::data::text::{self, Lines};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::settings::setting;

/// One piece of a corpus.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A paragraph of the current document.
    Paragraph(String),
    /// The document ends.
    EndOfDocument,
}

#[derive(Deserialize)]
struct Record {
    text: String,
}

/// An open file by its kind.
enum Open {
    Text(Lines),
    Records(Lines),
}

/// The paragraphs of several files, one after another.
pub struct Documents {
    /// Files still to be read, the next one last.
    files: Vec<PathBuf>,
    open: Option<Open>,
    pending: Vec<Piece>,
    paragraphs_in_file: usize,
    current: PathBuf,
    read: Arc<AtomicU64>,
    size: u64,
}

impl Documents {
    /// Checks that all files are there, and starts with the first.
    ///
    /// # Errors
    /// Names a file that is missing or of an unknown kind.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        if files.is_empty() {
            return Err(Error::usage(format!("{}: no file given", setting("corpus"))));
        }
        for file in files {
            if !["txt", "jsonl"].contains(&text::format_ending(file).as_str()) {
                return Err(Error::file(file, "a corpus is .txt or .jsonl, also with .gz or .zst"));
            }
            text::open(file)?;
        }
        Ok(Self {
            files: files.iter().rev().cloned().collect(),
            open: None,
            pending: Vec::new(),
            paragraphs_in_file: 0,
            current: PathBuf::new(),
            read: Arc::default(),
            size: total_bytes(files),
        })
    }

    /// Fraction of the files that has been read.
    pub fn progress(&self) -> f64 {
        self.read.load(Ordering::Relaxed) as f64 / self.size.max(1) as f64
    }

    /// The next piece, or `None` at the end of the last file.
    ///
    /// # Errors
    /// Names the file and line that cannot be read, or a file without text.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.pending.pop() {
                return Ok(Some(piece));
            }
            let goes_on = match &mut self.open {
                Some(Open::Text(lines)) => read_text(lines, &mut self.pending)?,
                Some(Open::Records(lines)) => read_record(lines, &mut self.pending)?,
                None => {
                    let Some(path) = self.files.pop() else { return Ok(None) };
                    let lines = Lines::open_counted(&path, self.read.clone())?;
                    let is_json = text::format_ending(&path) == "jsonl";
                    self.open = Some(if is_json { Open::Records(lines) } else { Open::Text(lines) });
                    self.paragraphs_in_file = 0;
                    self.current = path;
                    continue;
                }
            };
            let is_paragraph = |piece: &&Piece| matches!(piece, Piece::Paragraph(_));
            self.paragraphs_in_file += self.pending.iter().filter(is_paragraph).count();
            if !goes_on {
                if self.paragraphs_in_file == 0 {
                    return Err(Error::file(&self.current, "holds no text"));
                }
                self.open = None;
            }
        }
    }
}

/// Puts the next piece of running text into `pending`; false at the end of the file.
fn read_text(lines: &mut Lines, pending: &mut Vec<Piece>) -> Result<bool> {
    let Some((piece, begins)) = lines.next_piece()? else {
        pending.push(Piece::EndOfDocument);
        return Ok(false);
    };
    match piece.trim() {
        "" if begins => pending.push(Piece::EndOfDocument),
        "" => {} // blanks at the end of a long line
        piece => pending.push(Piece::Paragraph(piece.to_string())),
    }
    Ok(true)
}

/// Puts the paragraphs of the next record into `pending`, the last one first; false at the end of the file.
fn read_record(lines: &mut Lines, pending: &mut Vec<Piece>) -> Result<bool> {
    let Some((_, line)) = lines.next_line()? else { return Ok(false) };
    if line.trim().is_empty() {
        return Ok(true);
    }
    let record: Record = match serde_json::from_str(line) {
        Ok(record) => record,
        Err(e) => return Err(lines.no_object(" with a `text`", &e)),
    };
    let paragraphs = record.text.lines().flat_map(text::pieces).map(str::trim).filter(|p| !p.is_empty());
    pending.extend(paragraphs.map(|p| Piece::Paragraph(p.to_string())));
    pending.push(Piece::EndOfDocument);
    pending.reverse();
    Ok(true)
}

/// All paragraphs of some files as an iterator, which ends at the first error and keeps it in `error`.
pub fn paragraphs<'a>(
    files: &[PathBuf],
    mut progress: Progress,
    error: &'a mut Option<Error>,
) -> Result<impl Iterator<Item = String> + 'a> {
    let mut documents = Documents::open(files)?;
    let mut count = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            match documents.next_piece() {
                Ok(Some(Piece::Paragraph(text))) => {
                    count += 1;
                    if count % 1_024 == 0 && progress.wants_update() {
                        progress.update(Some(documents.progress()), &format!("{count} paragraphs"));
                    }
                    return Some(text);
                }
                Ok(Some(Piece::EndOfDocument)) => {}
                Ok(None) => return None,
                Err(e) => {
                    *error = Some(e);
                    return None;
                }
            }
        }
    }))
}

/// Splits a paragraph into sentences: after `.`, `!` or `?` and closing quotes, before a space and a
/// capital, digit or opening quote; not after a single letter or a common title.
pub fn sentences(paragraph: &str) -> Vec<&str> {
    const TITLES: [&str; 10] = ["Mr", "Mrs", "Ms", "Dr", "St", "Prof", "Rev", "Capt", "Col", "Gen"];
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = paragraph.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '.' | '!' | '?') {
            continue;
        }
        let word = paragraph[start..at].rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        let abbreviation = c == '.' && (word.chars().count() == 1 || TITLES.contains(&word));
        let mut end = at + c.len_utf8();
        while let Some((i, c)) =
            chars.next_if(|(_, c)| matches!(c, '.' | '!' | '?' | '"' | '\'' | ')' | '”' | '’'))
        {
            end = i + c.len_utf8();
        }
        let rest = paragraph[end..].trim_start();
        let begins = rest.chars().next().is_some_and(|c| {
            c.is_uppercase() || c.is_ascii_digit() || matches!(c, '"' | '\'' | '(' | '“' | '‘')
        });
        if !abbreviation && begins && rest.len() < paragraph.len() - end {
            found.push(paragraph[start..end].trim());
            start = end;
        }
    }
    let last = paragraph[start..].trim();
    if !last.is_empty() {
        found.push(last);
    }
    found
}

/// Total size of files on disk, for progress.
fn total_bytes(files: &[PathBuf]) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(Path::new(path)).map_or(0, |m| m.len());
    files.iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<Piece>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut documents = Documents::open(&[path])?;
        let mut pieces = Vec::new();
        while let Some(piece) = documents.next_piece()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn paragraph(text: &str) -> Piece {
        Piece::Paragraph(text.into())
    }

    #[test]
    fn formats() {
        use Piece::EndOfDocument as End;
        let expected = [paragraph("one"), paragraph("two"), End, paragraph("three"), End];
        let text = b"one\r\ntwo\n\nthree";
        assert_eq!(read("a.txt", text).unwrap(), expected);
        let json = br#"{"text": "one\ntwo"}
{"other": 1, "text": "three"}"#;
        assert_eq!(read("a.jsonl", json).unwrap(), expected);
        assert_eq!(read("a.txt.zst", &zstd::encode_all(&text[..], 1).unwrap()).unwrap(), expected);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, text).unwrap();
        assert_eq!(read("a.txt.gz", &gz.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        for (name, bytes, says) in [
            ("a.txt", &b"good\nb\xFFd"[..], "a.txt:2: not UTF-8"),
            ("a.txt", b"a\nb\0", "a.txt:2: holds a NUL"),
            ("a.txt", b"", "holds no text"),
            ("a.txt", b"\n \n", "holds no text"),
            ("a.jsonl", b"{\"text\": \"x\"}\n{\"txt\": 1}", "a.jsonl:2: no JSON object"),
            ("a.pdf", b"x", "a corpus is .txt or .jsonl"),
            ("a.txt.gz", b"\x1F\x8B\x08 cut short", "a.txt.gz:1: cannot be read"),
        ] {
            let message = read(name, bytes).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn sentence_ends() {
        assert_eq!(
            sentences("Mr. Fox ran. \"Stop!\" cried J. Doe. It cost 3.5 pounds... then 4?"),
            ["Mr. Fox ran.", "\"Stop!\" cried J. Doe.", "It cost 3.5 pounds... then 4?"]
        );
        assert_eq!(sentences("one"), ["one"]);
        assert!(sentences("  ").is_empty());
    }
}
