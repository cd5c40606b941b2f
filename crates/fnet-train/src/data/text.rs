//! Text files line by line: plain or compressed, UTF-8 checked, errors with file and line.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Longest line or record of rows that is read: a guard against files that are not text.
pub(crate) const LONGEST_LINE: u64 = 64 << 20;
/// Bytes by which a file is recognised.
const FIRST_BYTES: usize = 1 << 16;

/// The path that stands for standard input and standard output.
pub const STANDARD_STREAM: &str = "-";

/// Whether a path stands for standard input or output.
pub fn is_standard_stream(path: &Path) -> bool {
    path == Path::new(STANDARD_STREAM)
}

/// Opens a file, or standard input, for reading; decompresses it if its first bytes say so.
///
/// # Errors
/// If the file cannot be opened, or is recognised as something other than text.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    open_counted(path, Arc::default())
}

/// Opens a file that is no text; decompresses it if its first bytes say so.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn open_bytes(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.is_dir() {
        return Err(Error::file(path, "is a folder, not a file"));
    }
    let packed = Peeked::new(file);
    Ok(match packed.first.get_ref() {
        first if first.starts_with(b"\x1F\x8B") => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        first if first.starts_with(b"\x28\xB5\x2F\xFD") => {
            Box::new(zstd::Decoder::new(packed).map_err(Error::io(path))?)
        }
        _ => Box::new(packed),
    })
}

/// A file whose bytes are counted as they are read.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Like [`open`], and counts in `bytes` what is read from the file itself.
///
/// # Errors
/// As [`open`].
pub fn open_counted(path: &Path, bytes: Arc<AtomicU64>) -> Result<Box<dyn BufRead + Send>> {
    let inner: Box<dyn Read + Send> = if is_standard_stream(path) {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(path).map_err(Error::io(path))?;
        if file.metadata().map_err(Error::io(path))?.is_dir() {
            return Err(Error::file(path, "is a folder, not a file"));
        }
        Box::new(file)
    };
    let packed = Peeked::new(Counted { inner, bytes });
    let packing = packed.packing(path)?;
    let unpacked: Box<dyn Read + Send> = match packing {
        Packing::None => return Ok(Box::new(BufReader::with_capacity(FIRST_BYTES, packed))),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Packing::Zstandard => Box::new(zstd::Decoder::new(packed).map_err(Error::io(path))?),
    };
    let text = Peeked::new(unpacked);
    text.packing(path)?;
    Ok(Box::new(BufReader::with_capacity(FIRST_BYTES, text)))
}

/// A reader whose first bytes have been peeked at.
struct Peeked<R> {
    first: Cursor<Vec<u8>>,
    /// The error that came after them.
    error: Option<std::io::Error>,
    rest: R,
}

impl<R: Read> Peeked<R> {
    fn new(mut rest: R) -> Self {
        let mut first = Vec::new();
        let error = rest.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut first).err();
        Self { first: Cursor::new(first), error, rest }
    }

    fn packing(&self, path: &Path) -> Result<Packing> {
        Packing::of(self.first.get_ref()).map_err(|message| Error::file(path, message))
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match (self.first.read(buffer)?, &self.error) {
            (0, None) => self.rest.read(buffer),
            // Returned every time: peeking must not use it up.
            (0, Some(error)) => Err(std::io::Error::new(error.kind(), error.to_string())),
            (read, _) => Ok(read),
        }
    }
}

/// How a file is compressed, by its first bytes: names lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Packing {
    None,
    Gzip,
    Zstandard,
}

impl Packing {
    /// The compression of a file with these first bytes, or else what it is instead of text.
    fn of(first: &[u8]) -> std::result::Result<Self, String> {
        const OTHERS: [(&[u8], &str); 10] = [
            (b"version https://git-lfs", "a pointer of Git LFS, not the file: run `git lfs pull`"),
            (b"PK\x03\x04", "a ZIP archive, as Excel's .xlsx is: export or unpack it first"),
            (b"BZh", "compressed by bzip2: unpack it first, or compress it by gzip or zstd"),
            (b"\xFD7zXZ\0", "compressed by xz: unpack it first, or compress it by gzip or zstd"),
            (b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive: unpack it first"),
            (b"PAR1", "Parquet: write it as .csv or .jsonl first"),
            (b"ARROW1", "Arrow: write it as .csv or .jsonl first"),
            (b"\xD0\xCF\x11\xE0", "an old Office document: export it as .csv first"),
            (b"%PDF", "a PDF: extract its text first"),
            (b"\xFF\xFE", "UTF-16: convert it to UTF-8 first (iconv -f UTF-16 -t UTF-8)"),
        ];
        if first.starts_with(b"\x1F\x8B") {
            return Ok(Self::Gzip);
        }
        if first.starts_with(b"\x28\xB5\x2F\xFD") {
            return Ok(Self::Zstandard);
        }
        match OTHERS.iter().find(|(magic, _)| first.starts_with(magic)) {
            Some((_, what)) => Err(format!("is {what}")),
            None if first.starts_with(b"\xFE\xFF") => Self::of(b"\xFF\xFE"),
            None => Ok(Self::None),
        }
    }
}

fn ending(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// The extension that gives the contents, without `.gz` and `.zst`: `txt`, `jsonl`, `tsv`, `csv`.
pub fn format_ending(path: &Path) -> String {
    let plain = match ending(path) {
        Some("gz" | "zst") => path.file_stem().map_or(path, Path::new),
        _ => path,
    };
    ending(plain).unwrap_or("").to_ascii_lowercase()
}

/// Longest piece of a line of running text.
pub const LONGEST_PIECE: usize = 1 << 16;

/// The lines of a file, without their ends, each with its number from 1.
///
/// A line ends with LF, CR LF, or, in a file whose beginning has no LF, with CR alone, as on old Macs.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    end: u8,
    number: usize,
    bytes: Vec<u8>,
    /// How many of the bytes have been returned as a piece.
    taken: usize,
    /// Whether the last piece was not the end of its line.
    within_line: bool,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_counted(path, Arc::default())
    }

    /// Opens a file, and counts in `bytes` what is read from it.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open_counted(path: &Path, bytes: Arc<AtomicU64>) -> Result<Self> {
        Ok(Self::of(path, open_counted(path, bytes)?))
    }

    /// The lines of a file that is open; `path` is for messages.
    pub fn of(path: &Path, mut reader: Box<dyn BufRead + Send>) -> Self {
        // A read error is reported for the first line.
        let first = reader.fill_buf().unwrap_or_default();
        let ends_with_cr = |first: &[u8]| {
            let before_last = first.len().saturating_sub(1); // the last may be half of a CR LF
            !first.contains(&b'\n') && first[..before_last].contains(&b'\r')
        };
        let end = if ends_with_cr(first) { b'\r' } else { b'\n' };
        let (bytes, taken, within_line) = (Vec::new(), 0, false);
        Self { path: path.into(), reader, end, number: 0, bytes, taken, within_line }
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// Names the line that is not UTF-8, holds a NUL, is longer than 64 MiB, or cannot be read.
    pub fn next_line(&mut self) -> Result<Option<(usize, &str)>> {
        (self.taken, self.within_line) = (0, false);
        self.bytes.clear();
        self.number += 1;
        let limited = &mut self.reader.by_ref().take(LONGEST_LINE + 1);
        let read = limited
            .read_until(self.end, &mut self.bytes)
            .map_err(|e| Error::line(&self.path, self.number, format!("cannot be read: {e}")))?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 > LONGEST_LINE {
            return Err(
                self.error("the line is longer than 64 MiB: is this a text file, with an end to each line?")
            );
        }
        self.text(self.bytes.len()).map(|text| Some((self.number, text)))
    }

    /// The next line, or, if it is longer than [`LONGEST_PIECE`], a part of it that ends between words; with it,
    /// whether a line begins here. `None` at the end of the file.
    ///
    /// # Errors
    /// Names the line that is not UTF-8, holds a NUL, or cannot be read.
    pub fn next_piece(&mut self) -> Result<Option<(&str, bool)>> {
        self.bytes.drain(..self.taken);
        let begins = !self.within_line;
        self.number += usize::from(begins);
        if !self.bytes.ends_with(&[self.end]) {
            let room = LONGEST_PIECE.saturating_sub(self.bytes.len()) as u64;
            let read = self.reader.by_ref().take(room).read_until(self.end, &mut self.bytes);
            read.map_err(|e| Error::line(&self.path, self.number, format!("cannot be read: {e}")))?;
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let has_end = self.bytes.ends_with(&[self.end]);
        let is_whole = has_end || self.bytes.len() < LONGEST_PIECE;
        self.taken = if is_whole { self.bytes.len() } else { end_of_piece(&self.bytes) };
        self.within_line = !(has_end && is_whole);
        self.text(self.taken).map(|text| Some((text, begins)))
    }

    /// The first `len` bytes of the line as text, without its end.
    fn text(&self, len: usize) -> Result<&str> {
        let line = &self.bytes[..len];
        let line = line.strip_suffix(&[self.end]).unwrap_or(line);
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        let text = std::str::from_utf8(line).map_err(|e| {
            self.error(format!("not UTF-8 at byte {}; convert the file first", e.valid_up_to() + 1))
        })?;
        if text.contains('\0') {
            return Err(self.error("holds a NUL: this is not a text file"));
        }
        Ok(text)
    }

    /// The error for a line just read that is not a JSON object, or not one `with` what is wanted.
    pub fn no_object(&self, with: &str, error: &serde_json::Error) -> Error {
        let line = self.bytes.trim_ascii_start();
        if self.number == 1 && line.starts_with(b"[") {
            return self
                .error("begins a JSON array; what is read is one object a line (jq -c '.[]' writes them)");
        }
        if self.number == 1 && matches!(line.trim_ascii_end(), b"{") {
            return self.error(
                "is an object over several lines; what is read is one object a line (jq -c . writes them)",
            );
        }
        self.error(format!("no JSON object{with}: {error}"))
    }

    /// An error that names the line just read.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::line(&self.path, self.number, message)
    }
}

/// Where a piece of a long text ends: after its last blank or, if there is none in its second half, before its last
/// character.
fn end_of_piece(bytes: &[u8]) -> usize {
    let middle = bytes.len() / 2;
    if let Some(blank) = bytes[middle..].iter().rposition(u8::is_ascii_whitespace) {
        return middle + blank + 1;
    }
    // A character of UTF-8 has at most three bytes after its first.
    let last = bytes.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
    (bytes.len() - 1 - last).max(1)
}

/// A text in pieces of at most [`LONGEST_PIECE`] bytes, cut between words if possible.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end = match text.as_bytes().get(..LONGEST_PIECE) {
            Some(first) if text.len() > LONGEST_PIECE => end_of_piece(first),
            _ => text.len(),
        };
        let (piece, rest) = text.split_at_checked(end)?;
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A field of a CSV file, in quotes where it needs them (RFC 4180).
pub fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Lines {
        Lines::of(
            Path::new("a.txt"),
            Box::new(BufReader::with_capacity(FIRST_BYTES, Cursor::new(bytes.to_vec()))),
        )
    }

    fn all(bytes: &[u8]) -> Vec<(usize, String)> {
        let mut lines = lines(bytes);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            found.push((number, line.to_string()));
        }
        found
    }

    #[test]
    fn lines_end_as_on_every_system() {
        let expected = [(1, "a b".to_string()), (2, String::new()), (3, "c".into())];
        for text in ["a b\n\nc\n", "a b\r\n\r\nc", "a b\r\rc\r", "a b\r\rc", "\u{FEFF}a b\n\nc"] {
            assert_eq!(all(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(all(b"a\rb\nc"), [(1, "a\rb".to_string()), (2, "c".into())]);
        assert_eq!(all(b"a\r"), [(1, "a".to_string())]);
        assert!(all(b"").is_empty());
    }

    #[test]
    fn long_lines_come_in_pieces_that_lose_nothing() {
        let words = "wort für wort ".repeat(20_000);
        for long in [words.as_str(), &"é".repeat(100_000), &format!("a{}", "é".repeat(LONGEST_PIECE))] {
            let text = format!("short\n{long}\r\n\nend");
            let (mut lines, mut found) = (lines(text.as_bytes()), Vec::<String>::new());
            while let Some((piece, begins)) = lines.next_piece().unwrap() {
                assert!(piece.len() <= LONGEST_PIECE);
                match found.last_mut() {
                    Some(last) if !begins => last.push_str(piece),
                    _ => found.push(piece.to_string()),
                }
            }
            assert_eq!(found, ["short", long, "", "end"]);
            assert_eq!(lines.number, 4);
            assert_eq!(pieces(long).collect::<String>(), long);
            assert!(pieces(long).count() > 1);
        }
        let mut broken = b"x".repeat(LONGEST_PIECE + 10);
        broken.push(0xFF);
        let mut lines = lines(&broken);
        assert!(lines.next_piece().is_ok());
        assert!(lines.next_piece().unwrap_err().to_string().contains("a.txt:1: not UTF-8"));
    }

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut text = String::new();
            open(&path).map_err(|e| e.to_string())?.read_to_string(&mut text).map_err(|e| e.to_string())?;
            Ok::<_, String>(text)
        };
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, b"a,b").unwrap();
        let gz = gz.finish().unwrap();
        assert_eq!(read(&gz).unwrap(), "a,b");
        assert_eq!(read(&zstd::encode_all(&b"a,b"[..], 1).unwrap()).unwrap(), "a,b");
        assert!(read(&gz[..gz.len() - 9]).is_err(), "cut short");
        for (bytes, says) in [
            (&b"PK\x03\x04.."[..], "ZIP archive"),
            (b"PAR1....", "Parquet"),
            (b"\xFF\xFEa\0,\0", "UTF-16"),
            (b"\xFE\xFF\0a\0,", "UTF-16"),
        ] {
            let message = read(bytes).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
