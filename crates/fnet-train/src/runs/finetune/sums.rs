//! What recipe `ridge` learnt from, in a file, so that more rows can be added.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use fnet_encoder::whole_file::WholeFile;
use fnet_reservoir::ridge::Sums;
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::closed_form::Kept;
use crate::error::{Error, Result};

/// Writes sums, and the rows that are kept.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, sums: &Sums, kept: &Kept) -> Result<()> {
    let of_sums: Vec<u8> = sums.to_values().iter().flat_map(|v| v.to_le_bytes()).collect();
    let [x, y] = [&kept.x, &kept.y].map(|v| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let tensors = [
        ("sums", Flat::new(Dtype::F64, of_sums)),
        ("kept.inputs", Flat::new(Dtype::F32, x)),
        ("kept.targets", Flat::new(Dtype::F32, y)),
    ];
    // One key: several are written in any order.
    let metadata = [("kept".to_string(), format!("{} {}", kept.seen, kept.apart))];
    let written = WholeFile::create(path).and_then(|file| {
        safetensors::serialize_to_file(tensors, Some(HashMap::from(metadata)), file.aside())
            .map_err(|e| io::Error::other(e.to_string()))?;
        file.finish()
    });
    written.map_err(Error::io(path))
}

/// Reads what [`write`] wrote, of so many inputs and outputs.
///
/// # Errors
/// If there is no such file, or it is broken or of another model.
pub(super) fn read(path: &Path, inputs: usize, outputs: usize) -> Result<(Sums, Kept)> {
    let bytes = match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::file(path, "is not there: the run did not keep its sums (keep_sums)"));
        }
        bytes => bytes.map_err(Error::io(path))?,
    };
    let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("holds no whole sums: {e}"));
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    let kept = metadata.metadata().as_ref().and_then(|all| all.get("kept")?.split_once(' '));
    let kept = kept.and_then(|(seen, apart)| Some((seen.parse().ok()?, apart.parse().ok()?)));
    let (seen, apart) = kept.ok_or_else(|| broken(&"nothing says which rows are kept"))?;
    let data = |name: &str, dtype: Dtype| {
        let tensor = tensors.tensor(name).map_err(|e| broken(&e))?;
        if tensor.dtype() == dtype {
            Ok(tensor.data().to_vec())
        } else {
            Err(broken(&format!("{name} of another type")))
        }
    };
    let values: Vec<f64> =
        data("sums", Dtype::F64)?.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
    let floats = |name: &str| -> Result<Vec<f32>> {
        Ok(data(name, Dtype::F32)?.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    };
    let sums = Sums::from_values(inputs, outputs, &values);
    let sums = sums.ok_or_else(|| Error::file(path, "is of another model than config.json"))?;
    let (x, y) = (floats("kept.inputs")?, floats("kept.targets")?);
    if x.len() * outputs != y.len() * inputs || !y.len().is_multiple_of(outputs.max(1)) {
        return Err(broken(&"kept rows without targets"));
    }
    Ok((sums, Kept { inputs, outputs, x, y, seen, apart }))
}

/// A flat tensor.
struct Flat {
    dtype: Dtype,
    bytes: Vec<u8>,
    shape: [usize; 1],
}

impl Flat {
    fn new(dtype: Dtype, bytes: Vec<u8>) -> Self {
        let shape = [bytes.len() * 8 / dtype.bitsize()];
        Self { dtype, bytes, shape }
    }
}

impl View for Flat {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
