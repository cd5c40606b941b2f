//! Vectors of texts in a file that is mapped into memory: a safetensors file, so that other programs can read it.
//!
//! Tensors: `vectors` [texts, width] in float32, `ends` [texts] with the end of each text among the bytes `texts`. Metadata: the
//! fingerprint of the model that made the vectors.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fnet_encoder::whole_file::WholeFile;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::error::{Error, Result};

/// The key of the model's fingerprint.
const MODEL: &str = "fnet_model";
/// Room for the header, which is written when the number of texts is known.
const HEADER: usize = 1_024;

/// Writes an index text by text.
pub struct IndexWriter {
    path: PathBuf,
    file: WholeFile,
    model: u64,
    width: usize,
    ends: Vec<u64>,
    texts: Vec<u8>,
}

impl IndexWriter {
    /// A file of vectors of so many values, made by the model with this fingerprint.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(path: &Path, model: u64, width: usize) -> Result<Self> {
        let mut file = WholeFile::create(path).map_err(Error::io(path))?;
        file.write_all(&[b' '; HEADER]).map_err(Error::io(path))?;
        Ok(Self { path: path.into(), file, model, width, ends: Vec::new(), texts: Vec::new() })
    }

    /// Adds a text and its vector.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, text: &str, vector: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(Error::io(&self.path))?;
        self.texts.extend_from_slice(text.as_bytes());
        self.ends.push(self.texts.len() as u64);
        Ok(())
    }

    /// Puts the whole file in its place; returns the number of texts.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> Result<usize> {
        let count = self.ends.len();
        let [first, second] = [count * self.width * 4, count * 8];
        let third = first + second + self.texts.len();
        let header = json!({
            "__metadata__": {MODEL: format!("{:016x}", self.model)},
            "vectors": {"dtype": "F32", "shape": [count, self.width], "data_offsets": [0, first]},
            "ends": {"dtype": "U64", "shape": [count], "data_offsets": [first, first + second]},
            "texts": {"dtype": "U8", "shape": [self.texts.len()], "data_offsets": [first + second, third]},
        });
        let mut head = ((HEADER - 8) as u64).to_le_bytes().to_vec();
        head.extend_from_slice(header.to_string().as_bytes());
        head.resize(HEADER, b' ');
        let ends: Vec<u8> = self.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        let mut write = || -> std::io::Result<()> {
            self.file.write_all(&ends)?;
            self.file.write_all(&self.texts)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&head)
        };
        write().map_err(Error::io(&self.path))?;
        self.file.finish().map_err(Error::io(&self.path))?;
        Ok(count)
    }
}

/// An index that is open.
pub struct Index {
    map: Mmap,
    model: u64,
    width: usize,
    count: usize,
    vectors: std::ops::Range<usize>,
    ends: std::ops::Range<usize>,
    texts: std::ops::Range<usize>,
}

impl Index {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no whole index.
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        let file = File::open(path).map_err(Error::io(path))?;
        let map = fnet_encoder::whole_file::map(&file).map_err(Error::io(path))?;
        let not = |e: safetensors::SafeTensorError| fail(format!("is no index of texts: {e}"));
        let tensors = SafeTensors::deserialize(&map).map_err(not)?;
        let (_, metadata) = SafeTensors::read_metadata(&map).map_err(not)?;
        let model =
            metadata.metadata().as_ref().and_then(|all| u64::from_str_radix(all.get(MODEL)?, 16).ok());
        let Some(model) = model else { return Err(fail("is no index of texts: it names no model".into())) };
        let place = |name: &str, dtype: Dtype| -> Result<(Vec<usize>, std::ops::Range<usize>)> {
            let tensor = tensors.tensor(name).map_err(not)?;
            let first = tensor.data().as_ptr().addr() - map.as_ptr().addr();
            if tensor.dtype() != dtype
                || !tensor.data().as_ptr().cast::<u32>().is_aligned() && dtype == Dtype::F32
            {
                return Err(fail(format!("is no index of texts: `{name}` has another type")));
            }
            Ok((tensor.shape().to_vec(), first..first + tensor.data().len()))
        };
        let ((shape, vectors), (ends_shape, ends)) =
            (place("vectors", Dtype::F32)?, place("ends", Dtype::U64)?);
        let (_, texts) = place("texts", Dtype::U8)?;
        let ([count, width], true) = (shape.as_slice(), ends_shape == shape[..1.min(shape.len())]) else {
            return Err(fail("is no index of texts: its tensors do not fit one another".into()));
        };
        let (count, width) = (*count, *width);
        let index = Self { model, width, count, vectors, ends, texts, map };
        let mut before = 0;
        for row in 0..count {
            let end = index.end(row);
            if end < before || end > index.texts.len() {
                return Err(fail(format!("is no index of texts: text {row} ends at {end}")));
            }
            before = end;
        }
        Ok(index)
    }

    /// The fingerprint of the model that made it.
    pub fn model(&self) -> u64 {
        self.model
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Values of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All vectors, `[texts, width]`.
    pub fn vectors(&self) -> &[f32] {
        bytemuck::try_cast_slice(&self.map[self.vectors.clone()]).unwrap_or_default() // aligned, as `open` has checked
    }

    /// A text; what is no UTF-8 of a damaged file is replaced.
    pub fn text(&self, row: usize) -> String {
        let start = if row == 0 { 0 } else { self.end(row - 1) };
        let bytes = &self.map[self.texts.clone()][start..self.end(row)];
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn end(&self, row: usize) -> usize {
        let bytes = &self.map[self.ends.clone()][8 * row..8 * row + 8];
        bytes.try_into().map_or(0, |bytes| u64::from_le_bytes(bytes) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_and_damage_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts.index");
        let mut writer = IndexWriter::create(&path, 77, 3).unwrap();
        writer.add("one", &[1.0, 0.0, 0.0]).unwrap();
        writer.add("", &[0.0, 1.0, 0.0]).unwrap();
        writer.add("drei ß", &[0.0, 0.0, 1.0]).unwrap();
        assert!(!path.exists(), "it is there when it is whole");
        assert_eq!(writer.finish().unwrap(), 3);
        let index = Index::open(&path).unwrap();
        assert_eq!((index.model(), index.len(), index.width()), (77, 3, 3));
        assert_eq!((0..3).map(|i| index.text(i)).collect::<Vec<_>>(), ["one", "", "drei ß"]);
        assert_eq!(index.vectors()[8], 1.0);
        let bytes = std::fs::read(&path).unwrap();
        for cut in [0, 7, 100, 1_024, 1_030, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Index::open(&path).is_err(), "{cut}");
        }
        let mut wild = bytes.clone();
        wild[HEADER + 36..HEADER + 44].copy_from_slice(&u64::MAX.to_le_bytes()); // the end of the first text
        std::fs::write(&path, &wild).unwrap();
        assert!(Index::open(&path).err().unwrap().to_string().contains("text 0 ends"));
        let empty = IndexWriter::create(&path, 1, 3).unwrap();
        empty.finish().unwrap();
        assert!(Index::open(&path).unwrap().is_empty());
    }
}
