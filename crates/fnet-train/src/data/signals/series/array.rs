//! NumPy files of series, `[series, steps]` or `[series, steps, channels]`, with labels in a file beside.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::Read;
use crate::data::signals::{Asked, Purpose};
use crate::data::tasks::label_sets::SEPARATOR;
use crate::data::text;
use crate::error::{Error, Result};

/// More values than are read of one file.
const MOST_VALUES: u64 = 1 << 28;
/// A header of one array has a few hundred bytes.
const LONGEST_HEADER: usize = 4_096;

/// Reads a file; its labels are in a file whose name has `y` for `X`, or `-labels` at its end.
///
/// # Errors
/// If a file is missing, cut short, or of another kind of values or shape.
pub(super) fn read(path: &Path, purpose: Purpose) -> Result<Read> {
    let (shape, values) = read_array(path)?;
    let [count, steps, channels] = match shape[..] {
        [count, steps] => [count, steps, 1],
        [count, steps, channels] => [count, steps, channels],
        _ => {
            return Err(Error::file(
                path,
                format!("has shape {shape:?}; series are [series, steps, channels]"),
            ));
        }
    };
    if count * steps * channels == 0 {
        return Err(Error::file(path, "holds no series"));
    }
    if let Some(at) = values.iter().position(|value| !(*value as f32).is_finite()) {
        let message = format!("series {} has a value that is no number", at / (steps * channels));
        return Err(Error::file(path, message));
    }
    let asked = purpose.asked();
    let (labels, order) = match purpose.needs_labels() {
        true => read_labels(path, [count, steps], &asked)?,
        false => (vec![String::new(); count], None),
    };
    let series =
        values.chunks_exact(steps * channels).map(|s| s.iter().map(|v| *v as f32).collect()).collect();
    let place = |i: usize| match asked.is_of_positions() {
        true => format!("series {}, step {}", i / steps, i % steps),
        false => format!("series {i}"),
    };
    let places = (0..labels.len()).map(place).collect();
    Ok(Read { series, labels, channels, places, order, ..Read::default() })
}

/// The series of a file, and the number of channels.
pub(super) fn read_numbers(path: &Path) -> Result<(usize, Vec<Array2<f64>>)> {
    let (shape, values) = read_array(path)?;
    let [count, steps, channels] = match shape[..] {
        [steps] => [1, steps, 1],
        [steps, channels] => [1, steps, channels],
        [count, steps, channels] => [count, steps, channels],
        _ => return Err(Error::file(path, format!("has shape {shape:?}; a series is [steps, channels]"))),
    };
    if values.is_empty() {
        return Err(Error::file(path, "holds no series"));
    }
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (step, channel) = (at / channels % steps, at % channels);
        return Err(Error::file(path, format!("step {step}, channel {channel} is {}", values[at])));
    }
    let one = |i: usize| {
        let own = &values[i * steps * channels..][..steps * channels];
        Array2::from_shape_fn((steps, channels), |(t, c)| own[t * channels + c])
    };
    Ok((channels, (0..count).map(one).collect()))
}

/// A label of each series, or of each step, or for each series 1 or 0 for each of several labels, which are then known.
fn read_labels(
    path: &Path,
    [count, steps]: [usize; 2],
    asked: &Asked,
) -> Result<(Vec<String>, Option<Vec<String>>)> {
    let names = labels_of(path);
    let Some(file) = names.iter().find(|name| name.exists()) else {
        let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
        return Err(Error::file(path, format!("has no labels beside it: {}", names.join(" or "))));
    };
    let (shape, values) = read_array(file)?;
    let is_whole = match (asked, &shape[..]) {
        (Asked::Labels, [series, labels]) => *series == count && *labels > 0,
        (Asked::Labels, _) => false,
        (asked, shape) if asked.is_of_positions() => *shape == [count, steps] || *shape == [count, steps, 1],
        (_, shape) => shape.iter().product::<usize>() == count,
    };
    if !is_whole || values.len() != shape.iter().product::<usize>() {
        let steps = if asked.is_of_positions() { format!(", of {steps} steps each,") } else { String::new() };
        let message =
            format!("has labels of shape {shape:?} for the {count} series{steps} of {}", path.display());
        return Err(Error::file(file, message));
    }
    if *asked != Asked::Labels {
        return Ok((values.iter().map(ToString::to_string).collect(), None));
    }
    let held = |row: &[f64]| {
        let held = row.iter().enumerate().filter(|(_, value)| **value > 0.5).map(|(i, _)| i.to_string());
        held.collect::<Vec<_>>().join(&SEPARATOR.to_string())
    };
    if let Some(value) = values.iter().find(|value| **value != 0.0 && **value != 1.0) {
        return Err(Error::file(file, format!("has {value} among labels that are 1 or 0")));
    }
    let all = (0..shape[1]).map(|label| label.to_string()).collect();
    Ok((values.chunks_exact(shape[1]).map(held).collect(), Some(all)))
}

/// Where labels may be.
fn labels_of(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let mut names = Vec::new();
    // X_train.npy, train_X.npy, x.npy: the first X or x that stands alone.
    let letters: Vec<char> = name.chars().collect();
    let is_alone = |i: usize| {
        let other = |c: Option<&char>| c.is_none_or(|c| !c.is_alphanumeric());
        other(i.checked_sub(1).and_then(|i| letters.get(i))) && other(letters.get(i + 1))
    };
    if let Some(at) = (0..letters.len()).find(|i| ['X', 'x'].contains(&letters[*i]) && is_alone(*i)) {
        for y in ['y', 'Y'] {
            let renamed: String =
                letters.iter().enumerate().map(|(i, c)| if i == at { y } else { *c }).collect();
            names.push(path.with_file_name(renamed));
        }
    }
    let stem = name.strip_suffix(".npy").unwrap_or(name);
    names.push(path.with_file_name(format!("{stem}-labels.npy")));
    names
}

/// The shape and the values of an array of numbers (NumPy's format, versions 1 to 3).
fn read_array(path: &Path) -> Result<(Vec<usize>, Vec<f64>)> {
    let fail = |message: &str| Error::file(path, message.to_string());
    let mut open = text::open_bytes(path)?;
    let mut start = [0; 8];
    open.read_exact(&mut start).map_err(|_| fail("is no NumPy file"))?;
    let [.., major, _] = start;
    if !start.starts_with(b"\x93NUMPY") || !(1..=3).contains(&major) {
        return Err(fail("is no NumPy file"));
    }
    let mut len = [0; 4];
    let width = if major == 1 { 2 } else { 4 };
    open.read_exact(&mut len[..width]).map_err(|_| fail("is cut short"))?;
    let len = u32::from_le_bytes(len) as usize;
    if len > LONGEST_HEADER {
        return Err(fail("has a header that is no plain array's"));
    }
    let mut header = vec![0; len];
    open.read_exact(&mut header).map_err(|_| fail("is cut short"))?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let header = Header::parse(&header).ok_or_else(|| fail("has a header that is no plain array's"))?;
    if header.is_fortran && header.shape.len() > 1 {
        return Err(fail(
            "holds its values column by column (fortran_order): save it with np.ascontiguousarray",
        ));
    }
    let Some(decode) = decoder(&header.kind) else {
        let message = format!("holds values of kind {}: numbers are read", header.kind);
        return Err(Error::file(path, message));
    };
    let count = header.shape.iter().try_fold(1_u64, |all, n| all.checked_mul(*n as u64));
    let Some(count) = count.filter(|count| *count <= MOST_VALUES) else {
        return Err(Error::file(
            path,
            format!("has shape {:?}, more values than are read here", header.shape),
        ));
    };
    let size = header.kind[2..].parse::<u64>().unwrap_or(1);
    let mut bytes = Vec::new(); // grows with what is there, not with what the header says
    open.take(count * size + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 != count * size {
        let what = if bytes.len() as u64 > count * size { "more" } else { "fewer" };
        return Err(Error::file(path, format!("holds {what} than the {count} values that its header names")));
    }
    Ok((header.shape, bytes.chunks_exact(size as usize).map(decode).collect()))
}

/// What a header says.
struct Header {
    /// Such as `<f4`.
    kind: String,
    is_fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`
    fn parse(text: &str) -> Option<Self> {
        let after = |key: &str| {
            let rest = text.split_once(&format!("'{key}'"))?.1;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let kind = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0.to_string();
        let is_fortran = after("fortran_order")?.starts_with("True");
        let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        Some(Self { kind, is_fortran, shape: sizes.map(|size| size.parse().ok()).collect::<Option<_>>()? })
    }
}

/// How a kind of values is read; `None` if they are no numbers.
fn decoder(kind: &str) -> Option<fn(&[u8]) -> f64> {
    macro_rules! of {
        ($number:ty) => {
            |bytes| bytes.try_into().map_or(f64::NAN, |bytes| <$number>::from_le_bytes(bytes) as f64)
        };
    }
    Some(match kind {
        "<f8" => of!(f64),
        "<f4" => of!(f32),
        "|i1" => of!(i8),
        "|u1" | "|b1" => of!(u8),
        "<i2" => of!(i16),
        "<u2" => of!(u16),
        "<i4" => of!(i32),
        "<u4" => of!(u32),
        "<i8" => of!(i64),
        "<u8" => of!(u64),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::SeriesFile;
    use super::*;
    use crate::data::signals::{Asked, Format, Options, Scale, Signal, Source, Target};

    fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.bytes());
        file.extend(bytes);
        file
    }

    #[test]
    fn arrays_with_labels_beside() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("X_train.npy");
        let values: Vec<u8> = (0..12).flat_map(|i| (i as f32).to_le_bytes()).collect();
        std::fs::write(&path, npy("<f4", "(2, 3, 2)", &values)).unwrap();
        let options = Options::default();
        let open = |options: &Options| SeriesFile::open(&path, Format::Array, Purpose::Learn(options));
        assert!(open(&options).err().unwrap().to_string().contains("y_train.npy"));
        std::fs::write(place.path().join("y_train.npy"), npy("|u1", "(2,)", &[7, 3])).unwrap();
        let file = open(&options).unwrap();
        assert_eq!((file.shape().width, file.shape().longest, file.len()), (2, 3, 2));
        assert_eq!(file.shape().classes, ["3", "7"]);
        assert_eq!(file.series[1], [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        // As numbers, of mean 0 and deviation 1.
        let nothing = Scale { mean: vec![0.0], deviation: vec![1.0] };
        let file = open(&Options { asked: Asked::Number(nothing), ..options.clone() }).unwrap();
        let mut signal = Signal::default();
        file.read(0, 1, &mut signal).unwrap();
        assert_eq!(
            (signal.target, file.shape().head),
            (Target::Number(-1.0), fnet_encoder::Head::Regression)
        );
        for (bytes, says) in [
            (npy("<f4", "(2, 3, 2)", &values[1..]), "fewer than the 12 values"),
            (npy("<f4", "(2, 3)", &values), "more than the 6 values"),
            (npy("<f4", "(12,)", &values), "has shape [12]"),
            (npy("<f4", "(9999999999, 9999999999)", &values), "more values than are read"),
            (npy("|O", "(2, 3)", &values), "values of kind |O"),
            (npy("<f4", "(2, 6)", &values.repeat(2)[..48])[..20].to_vec(), "cut short"),
            (b"PK".to_vec(), "no NumPy file"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = open(&options).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
