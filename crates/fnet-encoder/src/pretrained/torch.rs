//! `pytorch_model.bin`: a zip archive with a pickle that names tensors, and a file for each storage.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Pickle, Value};
use super::stored::{Kind, Place};

/// Longest pickle that is accepted: it holds names and shapes, thousands of which fit in a megabyte.
const LONGEST_PICKLE: usize = 4 << 20;
const LONGEST_NAME: usize = 1 << 10;
const MOST_AXES: usize = 8;

/// The tensors of a `.bin` file, by name.
pub(super) fn tensors(bytes: &[u8]) -> Result<Vec<(String, Place)>, String> {
    if !bytes.starts_with(b"PK") {
        return Err("is no zip archive, as PyTorch has written since 1.6; save it again with a newer \
                    PyTorch, or as model.safetensors"
            .into());
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| format!("not a whole archive: {e}"))?;
    let mut storages = HashMap::new();
    let mut pickle = None;
    for i in 0..archive.len() {
        let file = archive.by_index_raw(i).map_err(|e| format!("not a whole archive: {e}"))?;
        let name = file.name().to_string();
        let start = file.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(usize::try_from(file.compressed_size()).ok()?));
        let Some(range) = start.zip(end).filter(|(_, end)| *end <= bytes.len()) else {
            return Err(format!("not a whole archive: {name} is cut short"));
        };
        // Names are ARCHIVE/data.pkl and ARCHIVE/data/KEY.
        let (stored, inner) = (
            file.compression() == CompressionMethod::Stored,
            name.split_once('/').map_or(name.as_str(), |(_, inner)| inner),
        );
        let is_pickle = inner == "data.pkl";
        if (is_pickle || inner.starts_with("data/")) && !stored {
            return Err(format!("{name} is compressed, which PyTorch never does"));
        }
        if is_pickle {
            let len = range.1 - range.0;
            if len > LONGEST_PICKLE {
                return Err(format!("{name} is {len} bytes long, which no list of tensors is"));
            }
            pickle = Some(range);
        } else if inner == "byteorder" && &bytes[range.0..range.1] != b"little" {
            return Err("was saved on a big-endian machine; save it as model.safetensors".into());
        } else if let Some(key) = inner.strip_prefix("data/") {
            storages.insert(key.to_string(), range);
        }
    }
    let (start, end) = pickle.ok_or("holds no data.pkl: it is no file of PyTorch's")?;
    let pickle = Pickle::read(&bytes[start..end]).map_err(|e| format!("its pickle {e}"))?;
    let entries = pickle.entries(pickle.top()).ok_or("its pickle is no dictionary of tensors")?;
    // One value per name, the last, as in Python: repeated names cost nothing.
    let mut found = BTreeMap::new();
    for (key, value) in entries {
        let name = pickle.text(key).ok_or("its pickle is no dictionary of tensors")?;
        if name.len() > LONGEST_NAME || name.contains(char::is_control) {
            return Err(format!("its pickle has a name of {} bytes that is no tensor's", name.len()));
        }
        let place = tensor(&pickle, value, &storages).map_err(|e| format!("{name} {e}"))?;
        found.insert(name, place);
    }
    Ok(found.into_iter().map(|(name, place)| (name.to_string(), place)).collect())
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, ..)`, or `_rebuild_parameter(tensor, ..)` around it.
fn tensor(
    pickle: &Pickle,
    value: Value,
    storages: &HashMap<String, (usize, usize)>,
) -> Result<Place, String> {
    let no_tensor = || "is no tensor".to_string();
    let (_, mut name, mut arguments) = pickle.call(value).ok_or_else(no_tensor)?;
    if name == "_rebuild_parameter" {
        let inner = arguments.first().and_then(|inner| pickle.call(*inner));
        (_, name, arguments) = inner.ok_or_else(no_tensor)?;
    }
    let (true, [storage, Value::Int(offset), size, stride, ..]) = (name == "_rebuild_tensor_v2", arguments)
    else {
        return Err(no_tensor());
    };
    let sizes = |value: &Value| -> Option<Vec<usize>> {
        let items = pickle.items(*value).filter(|items| items.len() <= MOST_AXES)?;
        items.iter().map(|n| if let Value::Int(n) = n { usize::try_from(*n).ok() } else { None }).collect()
    };
    let shape = sizes(size).ok_or_else(no_tensor)?;
    let stride = sizes(stride).ok_or_else(no_tensor)?;
    let mut step = Some(1_usize);
    let contiguous = shape.len() == stride.len()
        && shape.iter().zip(&stride).rev().all(|(n, stride)| {
            let fits = *n == 1 || Some(*stride) == step;
            step = step.and_then(|step| step.checked_mul(*n));
            fits
        });
    let len = step.ok_or("is larger than any machine's memory")?;
    if !contiguous && len > 0 {
        return Err("is not stored row by row; save it with .contiguous()".into());
    }
    // ("storage", FloatStorage, key, device, values)
    let is_persistent = matches!(storage, Value::Persistent(_));
    let Some([_, class, key, ..]) = pickle.items(*storage).filter(|_| is_persistent) else {
        return Err(no_tensor());
    };
    let kind = match pickle.global(*class).map(|(_, name)| name) {
        Some("FloatStorage") => Kind::F32,
        Some("HalfStorage") => Kind::F16,
        Some("BFloat16Storage") => Kind::Bf16,
        Some("DoubleStorage") => Kind::F64,
        Some("LongStorage") => Kind::Other("int64", 8),
        Some("IntStorage") => Kind::Other("int32", 4),
        Some("BoolStorage" | "ByteStorage" | "CharStorage") => Kind::Other("bytes", 1),
        _ => return Err("is stored in a way that is not known".into()),
    };
    let key = pickle.text(*key).ok_or_else(no_tensor)?;
    let (start, end) =
        storages.get(key).ok_or_else(|| format!("is in the storage {key}, which is not there"))?;
    let place = usize::try_from(*offset).ok().and_then(|offset| {
        let first = start.checked_add(offset.checked_mul(kind.bytes())?)?;
        let last = first.checked_add(len.checked_mul(kind.bytes())?)?;
        (last <= *end).then_some(first..last)
    });
    let bytes = place.ok_or_else(|| format!("reaches beyond the end of its storage {key}"))?;
    Ok(Place { file: 0, kind, shape, bytes })
}
