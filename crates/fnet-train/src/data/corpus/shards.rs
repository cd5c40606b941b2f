//! A corpus as tokens on disk: made once in a stream, then memory-mapped.
//!
//! A folder holds `0000.shard`, `0001.shard`, ... and `shards.json`, written last: without it the
//! folder counts as unfinished and is made again. A shard is a header, the ends of its units
//! (sentences) and the tokens, all little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `FNETTOK1` |
//! | 8 | number of units |
//! | 8 | number of tokens |
//! | 4 per unit | end of the unit in tokens; bit 31: ends a document, bit 30: ends a paragraph |
//! | 4 per token | token id |

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use fnet_encoder::whole_file::{WholeFile, write_whole};
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::documents::{Documents, Piece, sentences};
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::random::fingerprint;

const MAGIC: &[u8; 8] = b"FNETTOK1";
const HEADER: usize = 24;
const END_OF_DOCUMENT: u32 = 1 << 31;
const END_OF_PARAGRAPH: u32 = 1 << 30;
const OFFSET: u32 = END_OF_PARAGRAPH - 1;
/// Tokens a shard holds before it is written: 64 MiB.
const SHARD_TOKENS: usize = 1 << 24;
/// Paragraphs, and bytes of text, tokenised at a time.
const BLOCK: usize = 4_096;
const BLOCK_BYTES: usize = 1 << 22;
const INDEX: &str = "shards.json";

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Index {
    shards: usize,
    tokens: u64,
    vocab_size: usize,
}

/// A unit of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// First token in the shard.
    pub start: usize,
    /// One past the last token.
    pub end: usize,
    /// Whether the paragraph ends with it.
    pub ends_paragraph: bool,
    /// Whether the document ends with it.
    pub ends_document: bool,
}

/// One memory-mapped shard.
pub struct Shard {
    bytes: Mmap,
    units: usize,
    tokens: usize,
}

/// A tokenised corpus.
pub struct Shards {
    /// In the order of the corpus.
    pub shards: Vec<Shard>,
    /// Whether they were made by an earlier run.
    pub reused: bool,
}

/// A name for the shards of these files under this tokenizer; it changes when any of them does.
///
/// # Errors
/// If a file is missing, or the tokenizer cannot be serialised.
pub fn key(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<String> {
    let mut text = format!("{}\n{}", String::from_utf8_lossy(MAGIC), tokenizer.to_json()?);
    for file in files {
        let path = file.canonicalize().map_err(Error::io(file))?;
        let data = std::fs::metadata(file).map_err(Error::io(file))?;
        let modified = data.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |d| d.as_nanos());
        text += &format!("\n{} {} {modified}", path.display(), data.len());
    }
    Ok(format!("{:016x}", fingerprint(text.as_bytes())))
}

impl Shards {
    /// Opens the shards in `folder`, or makes them from `files`.
    ///
    /// # Errors
    /// If the corpus cannot be read, or the folder cannot be written.
    pub fn open_or_make(
        folder: &Path,
        files: &[PathBuf],
        tokenizer: &Tokenizer,
        quiet: bool,
    ) -> Result<Self> {
        let index_path = folder.join(INDEX);
        if let Ok(text) = std::fs::read_to_string(&index_path)
            && let Ok(index) = serde_json::from_str::<Index>(&text)
            && let Ok(shards) = Self::open(folder, &index)
        {
            return Ok(Self { reused: true, ..shards });
        }
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let index = make(folder, files, tokenizer, quiet)?;
        let text = serde_json::to_string(&index).unwrap_or_default();
        write_whole(&index_path, text.as_bytes())?;
        Self::open(folder, &index)
    }

    fn open(folder: &Path, index: &Index) -> Result<Self> {
        let shards: Vec<_> = (0..index.shards)
            .map(|i| Shard::open(&shard_path(folder, i), index.vocab_size))
            .collect::<Result<_>>()?;
        Ok(Self { shards, reused: false })
    }

    /// Tokens of all shards.
    pub fn tokens(&self) -> usize {
        self.shards.iter().map(|s| s.tokens).sum()
    }
}

fn shard_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("{index:04}.shard"))
}

fn make(folder: &Path, files: &[PathBuf], tokenizer: &Tokenizer, quiet: bool) -> Result<Index> {
    let mut documents = Documents::open(files)?;
    let mut progress = Progress::new("tokenising", quiet);
    let mut writer = Writer::new(folder);
    let mut pieces = Vec::new();
    loop {
        pieces.clear();
        let mut bytes = 0;
        while pieces.len() < BLOCK
            && bytes < BLOCK_BYTES
            && let Some(piece) = documents.next_piece()?
        {
            if let Piece::Paragraph(text) = &piece {
                bytes += text.len();
            }
            pieces.push(piece);
        }
        if pieces.is_empty() {
            break;
        }
        let encoded: Vec<Vec<Vec<u32>>> = pieces
            .par_iter()
            .map(|piece| match piece {
                Piece::Paragraph(text) => sentences(text).into_iter().map(|s| tokenizer.encode(s)).collect(),
                Piece::EndOfDocument => Ok(Vec::new()),
            })
            .collect::<Result<_>>()?;
        for (piece, units) in pieces.iter().zip(&encoded) {
            match piece {
                Piece::Paragraph(_) => writer.paragraph(units)?,
                Piece::EndOfDocument => writer.end_document(),
            }
        }
        if progress.wants_update() {
            progress.update(Some(documents.progress()), &format!("{} tokens", writer.total));
        }
    }
    writer.flush()?;
    if writer.total == 0 {
        return Err(Error::usage("the corpus holds no token of this vocabulary"));
    }
    Ok(Index { shards: writer.shards, tokens: writer.total, vocab_size: tokenizer.vocab_size() })
}

struct Writer<'a> {
    folder: &'a Path,
    ends: Vec<u32>,
    tokens: Vec<u32>,
    shards: usize,
    total: u64,
}

impl<'a> Writer<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, ends: Vec::new(), tokens: Vec::new(), shards: 0, total: 0 }
    }

    fn paragraph(&mut self, units: &[Vec<u32>]) -> Result<()> {
        let before = self.ends.len();
        for unit in units.iter().filter(|u| !u.is_empty()) {
            self.tokens.extend_from_slice(unit);
            self.total += unit.len() as u64;
            self.ends.push(self.tokens.len() as u32);
        }
        if self.ends.len() > before
            && let Some(last) = self.ends.last_mut()
        {
            *last |= END_OF_PARAGRAPH;
        }
        if self.tokens.len() >= SHARD_TOKENS { self.flush() } else { Ok(()) }
    }

    fn end_document(&mut self) {
        if let Some(last) = self.ends.last_mut() {
            *last |= END_OF_DOCUMENT;
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let path = shard_path(self.folder, self.shards);
        // Another run may have the old one mapped, or be making the same one.
        let write = || {
            let mut out = WholeFile::create_after_others(&path)?;
            out.write_all(MAGIC)?;
            out.write_all(&(self.ends.len() as u64).to_le_bytes())?;
            out.write_all(&(self.tokens.len() as u64).to_le_bytes())?;
            for value in self.ends.iter().chain(&self.tokens) {
                out.write_all(&value.to_le_bytes())?;
            }
            out.finish()
        };
        write().map_err(Error::io(&path))?;
        self.shards += 1;
        self.ends.clear();
        self.tokens.clear();
        Ok(())
    }
}

impl Shard {
    fn open(path: &Path, vocab_size: usize) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        // SAFETY: a shard is written once and read by `u32_at` byte by byte; if another program
        // changes it meanwhile, ids are wrong but checked against the vocabulary before use.
        // Covered by `round_trip`.
        let bytes = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        let broken = || Error::file(path, "is not a whole token shard; remove its folder");
        let number = |at: usize| -> Option<usize> {
            let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
            usize::try_from(u64::from_le_bytes(bytes)).ok()
        };
        let (units, tokens) = (number(8).ok_or_else(broken)?, number(16).ok_or_else(broken)?);
        let expected = units.checked_add(tokens).and_then(|n| n.checked_mul(4)?.checked_add(HEADER));
        if bytes.get(..8) != Some(MAGIC) || expected != Some(bytes.len()) {
            return Err(broken());
        }
        let shard = Self { bytes, units, tokens };
        let ends_fit = (0..units).all(|i| {
            let unit = shard.unit(i);
            unit.start < unit.end && unit.end <= tokens
        });
        let ids_fit = (0..tokens).all(|i| (shard.u32_at(units + i) as usize) < vocab_size);
        if ends_fit && ids_fit { Ok(shard) } else { Err(broken()) }
    }

    fn u32_at(&self, index: usize) -> u32 {
        let at = HEADER + 4 * index;
        self.bytes[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Unit `i`.
    pub fn unit(&self, i: usize) -> Unit {
        let entry = self.u32_at(i);
        Unit {
            start: if i == 0 { 0 } else { (self.u32_at(i - 1) & OFFSET) as usize },
            end: (entry & OFFSET) as usize,
            ends_paragraph: entry & END_OF_PARAGRAPH != 0,
            ends_document: entry & END_OF_DOCUMENT != 0,
        }
    }

    /// Appends tokens `start..end` to `out`.
    pub fn read(&self, start: usize, end: usize, out: &mut Vec<u32>) {
        out.extend((start..end).map(|i| self.u32_at(self.units + i)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::Kind;

    #[test]
    fn round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("a.txt");
        std::fs::write(&corpus, "The cat sat. The dog ran!\nIt was late.\n\nA new day.\n").unwrap();
        let lines = std::fs::read_to_string(&corpus).unwrap().lines().map(String::from).collect::<Vec<_>>();
        let tokenizer = Tokenizer::train(Kind::Wordpiece, 60, false, lines.into_iter()).unwrap();
        let place = folder.path().join("shards");
        let open = || Shards::open_or_make(&place, std::slice::from_ref(&corpus), &tokenizer, true).unwrap();
        assert!(!open().reused);
        let shards = open();
        assert!(shards.reused);
        let shard = &shards.shards[0];
        let text = |i: usize| {
            let unit = shard.unit(i);
            let mut tokens = Vec::new();
            shard.read(unit.start, unit.end, &mut tokens);
            tokenizer.decode(&tokens)
        };
        assert_eq!(shard.units(), 4);
        assert_eq!(text(0).replace(' ', ""), "thecatsat.");
        assert_eq!(text(3).replace(' ', ""), "anewday.");
        let flags: Vec<_> =
            (0..4).map(|i| (shard.unit(i).ends_paragraph, shard.unit(i).ends_document)).collect();
        assert_eq!(flags, [(false, false), (true, false), (true, true), (true, true)]);

        // A damaged shard is made again, not trusted.
        let path = shard_path(&place, 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, &bytes).unwrap();
        assert!(!open().reused);
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert!(Shard::open(&path, 60).is_err());
    }
}
