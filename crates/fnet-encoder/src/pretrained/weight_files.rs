//! Weight files of any kind that Transformers writes, mapped into memory: one list of named tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use half::f16;
use memmap2::Mmap;
use safetensors::tensor::SafeTensors;
use serde_json::Value;

use super::stored::{Kind, Place};
use super::{Source, WEIGHTS_FILE, torch};
use crate::config::GIT_LFS;
use crate::{EncoderError, TensorInfo};

/// Longest header or index that is accepted: thousands of tensors fit in a megabyte.
const LONGEST_HEADER: u64 = 16 << 20;
const SHARDS_FILE: &str = "model.safetensors.index.json";
const TORCH_FILE: &str = "pytorch_model.bin";
const TORCH_SHARDS_FILE: &str = "pytorch_model.bin.index.json";

/// The tensors of a model folder or of a single file.
pub(super) struct WeightFiles<'a> {
    files: Vec<(PathBuf, Bytes<'a>)>,
    places: BTreeMap<String, Place>,
}

/// What a file holds.
enum Bytes<'a> {
    Mapped(Mmap),
    InMemory(&'a [u8]),
}

impl Bytes<'_> {
    fn mapped(path: &Path) -> Result<Self, EncoderError> {
        let io = |source| EncoderError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        crate::whole_file::map(&file).map(Self::Mapped).map_err(io)
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::InMemory(bytes) => bytes,
        }
    }
}

impl<'a> WeightFiles<'a> {
    /// Opens `model.safetensors`, its shards, or PyTorch's own files, whichever is there first.
    pub fn open(source: Source<'a>) -> Result<Self, EncoderError> {
        match source {
            Source::Path(path) => Self::at(path),
            Source::Memory { weights, .. } => {
                let mut files = Self { files: Vec::new(), places: BTreeMap::new() };
                files.add(Path::new(WEIGHTS_FILE), Bytes::InMemory(weights))?;
                Ok(files)
            }
        }
    }

    /// As [`open`](Self::open), of a folder or a file in it.
    pub fn at(path: &Path) -> Result<Self, EncoderError> {
        let mut files = Self { files: Vec::new(), places: BTreeMap::new() };
        let in_folder =
            [WEIGHTS_FILE, SHARDS_FILE, TORCH_FILE, TORCH_SHARDS_FILE].map(|name| path.join(name));
        let file = if path.is_file() {
            Some(path)
        } else {
            in_folder.iter().map(PathBuf::as_path).find(|f| f.exists())
        };
        let Some(file) = file else {
            let message =
                format!("holds no weights: neither {WEIGHTS_FILE} nor {TORCH_FILE}, whole or in shards");
            return Err(format_error(path, message));
        };
        let is_index = file.extension().is_some_and(|ending| ending == "json");
        if is_index {
            files.add_shards(file)?
        } else {
            files.add(file, Bytes::mapped(file)?)?
        }
        Ok(files)
    }

    /// Adds the tensors of other files that `rename` has a name for.
    pub fn join(&mut self, other: Self, rename: impl Fn(&str) -> Option<String>) {
        let first = self.files.len();
        self.files.extend(other.files);
        for (name, place) in other.places {
            if let Some(name) = rename(&name) {
                self.places.insert(name, Place { file: first + place.file, ..place });
            }
        }
    }

    /// The file that a message should name.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(WEIGHTS_FILE), |file| &file.0)
    }

    /// Bytes of all files.
    pub fn len(&self) -> usize {
        self.files.iter().map(|file| file.1.len()).sum()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.places.get(name)?.shape)
    }

    /// Renames every tensor by `rename`.
    pub fn rename(&mut self, rename: impl Fn(&str) -> String) {
        let places = std::mem::take(&mut self.places);
        self.places = places.into_iter().map(|(name, place)| (rename(&name), place)).collect();
    }

    /// Fills `values` with the tensor of that name.
    pub fn read(&self, info: &TensorInfo, values: &mut [f32]) -> Result<(), EncoderError> {
        let Some(place) = self.places.get(&info.name) else { return Ok(()) };
        let (path, bytes) = &self.files[place.file];
        let fail = |message: String| Err(format_error(path, format!("{} {message}", info.name)));
        let bytes = &bytes[place.bytes.clone()];
        match place.kind {
            Kind::F32 => convert(bytes, values, f32::from_le_bytes),
            Kind::F16 => convert(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Kind::Bf16 => convert(bytes, values, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Kind::F64 => convert(bytes, values, |b| f64::from_le_bytes(b) as f32),
            Kind::Other(kind, _) => {
                return fail(format!("holds {kind}; float32, float16, bfloat16 and float64 are weights"));
            }
        }
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => fail(format!("holds {} at {i}: the weights are broken", values[i])),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: &Path, bytes: Bytes<'a>) -> Result<(), EncoderError> {
        if bytes.starts_with(GIT_LFS) {
            let message = "is a pointer of Git LFS, not the weights: run `git lfs pull`";
            return Err(format_error(path, message.into()));
        }
        let is_torch = path.extension().is_some_and(|ending| ending != "safetensors");
        let found = if is_torch { torch::tensors(&bytes) } else { safetensors(&bytes) };
        let file = self.files.len();
        for (name, place) in found.map_err(|message| format_error(path, message))? {
            self.places.insert(name, Place { file, ..place });
        }
        self.files.push((path.into(), bytes));
        Ok(())
    }

    /// Opens the files that an index names, in its folder.
    fn add_shards(&mut self, index: &Path) -> Result<(), EncoderError> {
        let io = |source| EncoderError::Io { path: index.into(), source };
        let fail = |message: String| Err(format_error(index, message));
        let bytes = std::fs::metadata(index).map_err(io)?.len();
        if bytes > LONGEST_HEADER {
            return fail(format!("is {bytes} bytes long, which no index of tensors is"));
        }
        let text = std::fs::read_to_string(index).map_err(io)?;
        let Ok(Value::Object(index_map)) = serde_json::from_str(&text) else {
            return fail("is no JSON object".into());
        };
        let Some(map) = index_map.get("weight_map").and_then(Value::as_object) else {
            return fail("has no weight_map".into());
        };
        let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            if name.is_empty() || Path::new(name).file_name().is_none_or(|plain| plain != name) {
                return fail(format!("names the file `{name}`, which does not lie beside it"));
            }
            let file = index.with_file_name(name);
            self.add(&file, Bytes::mapped(&file)?)?;
        }
        match map.keys().find(|name| !self.places.contains_key(name.as_str())) {
            Some(name) => fail(format!("names {name}, which its file lacks")),
            None => Ok(()),
        }
    }
}

fn format_error(path: &Path, message: String) -> EncoderError {
    EncoderError::Format { path: path.into(), message }
}

fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], from: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = from(*bytes);
    }
}

/// The tensors of a safetensors file, by name.
fn safetensors(bytes: &[u8]) -> Result<Vec<(String, Place)>, String> {
    // A header that is longer than the file, or absurd, is refused before it is parsed.
    let Some(head) = bytes.first_chunk::<8>() else {
        return Err(format!("holds {} bytes, which is no safetensors file", bytes.len()));
    };
    let header = u64::from_le_bytes(*head);
    if header > LONGEST_HEADER || header > bytes.len() as u64 - 8 {
        return Err(format!("names a header of {header} bytes, the file has {}", bytes.len()));
    }
    let tensors =
        SafeTensors::deserialize(bytes).map_err(|e| format!("not a whole safetensors file: {e}"))?;
    let place = |view: &safetensors::tensor::TensorView| {
        let first = view.data().as_ptr().addr() - bytes.as_ptr().addr();
        let bytes = first..first + view.data().len();
        Place { file: 0, kind: view.dtype().into(), shape: view.shape().to_vec(), bytes }
    };
    Ok(tensors.iter().map(|(name, view)| (name.to_string(), place(&view))).collect())
}
