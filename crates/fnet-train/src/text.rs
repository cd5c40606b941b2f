//! Text files line by line: plain, `.gz` or `.zst`, UTF-8 checked, errors with file and line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Longest line or record that is read: a guard against files that are not text.
pub(crate) const LONGEST_LINE: u64 = 64 << 20;

/// Opens a file for reading, decompressing by its ending.
///
/// # Errors
/// If the file cannot be opened.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    open_counted(path, Arc::default())
}

/// A file whose bytes are counted as they are read.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Like [`open`], and adds to `bytes` what is read of the file itself.
///
/// # Errors
/// If the file cannot be opened.
pub fn open_counted(path: &Path, bytes: Arc<AtomicU64>) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.is_dir() {
        return Err(Error::file(path, "is a folder, not a file"));
    }
    let file = Counted { file, bytes };
    let reader: Box<dyn Read + Send> = match ending(path) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(Error::io(path))?),
        _ => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
}

fn ending(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

/// The ending that says what is in the file, below `.gz` and `.zst`: `txt`, `jsonl`, `tsv`, `csv`.
pub fn format_ending(path: &Path) -> String {
    let plain = match ending(path) {
        Some("gz" | "zst") => path.file_stem().map_or(path, Path::new),
        _ => path,
    };
    ending(plain).unwrap_or("").to_ascii_lowercase()
}

/// The lines of a file, without their ends, each with its number from 1.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: usize,
    bytes: Vec<u8>,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_counted(path, Arc::default())
    }

    /// Opens a file, and adds to `bytes` what is read of it.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open_counted(path: &Path, bytes: Arc<AtomicU64>) -> Result<Self> {
        Ok(Self { path: path.into(), reader: open_counted(path, bytes)?, number: 0, bytes: Vec::new() })
    }

    /// The next line, or `None` at the end.
    ///
    /// # Errors
    /// Names the line that is not UTF-8, holds a NUL, or cannot be read.
    pub fn next_line(&mut self) -> Result<Option<(usize, &str)>> {
        self.bytes.clear();
        self.number += 1;
        let limited = &mut self.reader.by_ref().take(LONGEST_LINE + 1);
        let read = limited
            .read_until(b'\n', &mut self.bytes)
            .map_err(|e| Error::line(&self.path, self.number, format!("cannot be read: {e}")))?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 > LONGEST_LINE {
            return Err(Error::line(&self.path, self.number, "the line is longer than 64 MiB"));
        }
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        let text = std::str::from_utf8(line).map_err(|e| {
            let message = format!("not UTF-8 at byte {}; convert the file first", e.valid_up_to() + 1);
            Error::line(&self.path, self.number, message)
        })?;
        if text.contains('\0') {
            return Err(Error::line(&self.path, self.number, "holds a NUL: this is not a text file"));
        }
        Ok(Some((self.number, text)))
    }

    /// An error that names the line just read.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::line(&self.path, self.number, message)
    }
}
