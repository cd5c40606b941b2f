//! What is decoded once and read many times: in memory as long as it is little, then in a temporary file without a name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Bytes that stay in memory.
const IN_MEMORY: usize = 1 << 30;
/// More bytes than are kept.
const MOST: u64 = 64 << 30;

/// Items of bytes, one after another.
pub(super) struct Spool {
    /// Where each item ends.
    ends: Vec<u64>,
    /// The first items.
    memory: Vec<u8>,
    /// The others.
    file: Option<Mutex<File>>,
    room: usize,
}

impl Default for Spool {
    fn default() -> Self {
        Self { ends: Vec::new(), memory: Vec::new(), file: None, room: IN_MEMORY }
    }
}

impl Spool {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of an item.
    pub fn size(&self, index: usize) -> usize {
        (self.ends[index] - self.start(index)) as usize
    }

    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Appends an item; `source` is the file that it is from, in messages.
    ///
    /// # Errors
    /// If there are more bytes than are kept, or the temporary file cannot be written.
    pub fn push(&mut self, source: &Path, bytes: &[u8]) -> Result<()> {
        let end = self.ends.last().unwrap_or(&0) + bytes.len() as u64;
        if end > MOST {
            return Err(Error::file(
                source,
                format!("holds more than {} GiB once it is decoded", MOST >> 30),
            ));
        }
        if self.file.is_none() && end <= self.room as u64 {
            self.memory.extend_from_slice(bytes);
        } else {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(Mutex::new(tempfile::tempfile().map_err(failed)?)),
            };
            file.get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .write_all(bytes)
                .map_err(failed)?;
        }
        self.ends.push(end);
        Ok(())
    }

    /// Replaces `into` by an item.
    ///
    /// # Errors
    /// If the temporary file cannot be read.
    pub fn read(&self, index: usize, into: &mut Vec<u8>) -> Result<()> {
        let (start, end) = (self.start(index), self.ends[index]);
        into.clear();
        match &self.file {
            Some(file) if end > self.memory.len() as u64 => {
                into.resize((end - start) as usize, 0);
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(start - self.memory.len() as u64)).map_err(failed)?;
                file.read_exact(into).map_err(failed)
            }
            _ => {
                into.extend_from_slice(&self.memory[start as usize..end as usize]);
                Ok(())
            }
        }
    }

    /// Hands every item to `take`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn each(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut item = Vec::new();
        for index in 0..self.len() {
            self.read(index, &mut item)?;
            take(&item);
        }
        Ok(())
    }
}

/// Appends values as bytes.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The values of [`to_bytes`].
pub(super) fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

fn failed(error: std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::file(
        &folder,
        format!("{error}; what does not fit into memory is kept there, or where TMPDIR says"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_from_memory_and_file() {
        for room in [0, 5, 6, 7, 1_000] {
            let mut spool = Spool { room, ..Spool::default() };
            let items: Vec<Vec<u8>> = (0..20).map(|i| vec![i as u8; i * 7 % 5]).collect();
            for item in &items {
                spool.push(Path::new("x"), item).unwrap();
            }
            assert_eq!(spool.file.is_some(), room < 1_000);
            let (mut own, mut all) = (Vec::new(), Vec::new());
            for (i, item) in items.iter().enumerate().rev() {
                spool.read(i, &mut own).unwrap();
                assert!(own == *item && spool.size(i) == item.len(), "{room}: {i}");
            }
            spool.each(|item| all.push(item.to_vec())).unwrap();
            assert!(all == items && spool.len() == 20);
        }
        assert_eq!(values(&to_bytes(&[1.5, -2.0])).collect::<Vec<_>>(), [1.5, -2.0]);
    }
}
