//! Grey images in IDX files, as MNIST has them, with their labels in a file beside.

use std::cmp::Ordering;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{MOST_PIXELS, Pixels};
use crate::data::signals::spool::Spool;
use crate::data::text;
use crate::error::{Error, Result};

/// More bytes than are read of one file.
const MOST_BYTES: u64 = 64 << 30;

/// Reads a file of images (`images-idx3`) with that of their labels, whose name has `labels-idx1` instead; without labels
/// if none are needed and there is no such file.
///
/// # Errors
/// If a file is missing or cut short, or their numbers differ.
pub(super) fn read(path: &Path, needs_labels: bool) -> Result<Pixels> {
    let (sizes, mut open, expected) = open_bytes(path, 3)?;
    let [count, rows, columns] = [sizes[0], sizes[1], sizes[2]];
    if expected == 0 {
        return Err(Error::file(path, "holds no images"));
    }
    let labels_path = labels_of(path);
    let mut labels: Vec<String> = match labels_path {
        Ok(labels_path) if needs_labels || labels_path.exists() => {
            let (own, labels) = read_labels(&labels_path)?;
            if own != count {
                let message = format!("has {own} labels for the {count} images of {}", path.display());
                return Err(Error::file(&labels_path, message));
            }
            labels.iter().map(ToString::to_string).collect()
        }
        Err(error) if needs_labels => return Err(error),
        _ => Vec::new(), // one for each image that is read
    };
    let (mut values, mut image, mut seen) = (Spool::default(), Vec::new(), 0);
    let size = (rows * columns) as u64;
    for _ in 0..count {
        image.clear();
        seen += open.by_ref().take(size).read_to_end(&mut image).map_err(Error::io(path))? as u64;
        if (image.len() as u64) < size {
            break;
        }
        values.push(path, &image)?;
    }
    check_size(path, open, seen, expected)?;
    labels.resize(count, String::new());
    // Classes that the file does not show are counted, too.
    let classes = labels.iter().filter_map(|label| label.parse::<u32>().ok()).max().unwrap_or(0);
    let order = Some((0..=classes).map(|class| class.to_string()).collect());
    Ok(Pixels { rows, columns, channels: 1, values, labels, order, names: Vec::new() })
}

/// The name of the labels' file.
fn labels_of(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    if labels == name {
        let message = "names no file of images: its labels are looked for under the same name with `labels` for `images`";
        return Err(Error::file(path, message));
    }
    Ok(path.with_file_name(labels))
}

/// The sizes of a file of unsigned bytes with so many dimensions, the file from there on, and the bytes it should hold.
fn open_bytes(path: &Path, dimensions: u8) -> Result<(Vec<usize>, Box<dyn Read>, u64)> {
    let mut open = text::open_bytes(path)?;
    let mut header = vec![0; 4 + 4 * usize::from(dimensions)];
    let short = |_| Error::file(path, "is cut short: its header is not whole");
    open.read_exact(&mut header).map_err(short)?;
    if header[..4] != [0, 0, 8, dimensions] {
        let message = format!("is no IDX file of bytes in {dimensions} dimensions");
        return Err(Error::file(path, message));
    }
    let sizes: Vec<usize> =
        header[4..].as_chunks::<4>().0.iter().map(|b| u32::from_be_bytes(*b) as usize).collect();
    let expected = sizes.iter().try_fold(1_u64, |all, size| all.checked_mul(*size as u64));
    let is_small = |n: &u64| *n <= MOST_BYTES && sizes[1..].iter().all(|side| *side <= MOST_PIXELS);
    let Some(expected) = expected.filter(is_small) else {
        return Err(Error::file(
            path,
            format!("says that it holds {sizes:?} bytes, more than are read here"),
        ));
    };
    Ok((sizes, Box::new(open), expected))
}

/// Refuses a file with fewer or more bytes than its header names.
fn check_size(path: &Path, mut rest: impl Read, seen: u64, expected: u64) -> Result<()> {
    let what = match seen.cmp(&expected) {
        Ordering::Less => "fewer",
        _ if rest.read(&mut [0]).map_err(Error::io(path))? > 0 => "more",
        _ => return Ok(()),
    };
    Err(Error::file(path, format!("holds {what} than the {expected} bytes that its header names")))
}

/// The length and the bytes of a file of labels.
fn read_labels(path: &Path) -> Result<(usize, Vec<u8>)> {
    let (sizes, mut open, expected) = open_bytes(path, 1)?;
    let mut bytes = Vec::new(); // grows with what is there, not with what the header says
    open.by_ref().take(expected).read_to_end(&mut bytes).map_err(Error::io(path))?;
    check_size(path, open, bytes.len() as u64, expected)?;
    Ok((sizes[0], bytes))
}

#[cfg(test)]
mod tests {
    use super::super::Images;
    use super::*;
    use crate::data::signals::{Format, Options, Place, Purpose, Reading, Signal, Source, Target};

    fn write(folder: &Path, images: &[u8], labels: &[u8]) -> PathBuf {
        let path = folder.join("some-images-idx3-ubyte");
        std::fs::write(&path, images).unwrap();
        std::fs::write(folder.join("some-labels-idx1-ubyte"), labels).unwrap();
        path
    }

    fn open(path: &Path, patch: usize) -> Result<Images> {
        let options = Options { patch, ..Options::default() };
        Images::open(&Place::from(path), Format::Idx, Purpose::Learn(&options))
    }

    const IMAGES: [u8; 16 + 16] =
        [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 1, 2, 3, 4, 5, 6, 7, 9, 9, 9, 9, 9, 9, 9, 9];
    const LABELS: [u8; 8 + 2] = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];

    #[test]
    fn patches_row_by_row() {
        let place = tempfile::tempdir().unwrap();
        let path = write(place.path(), &IMAGES, &LABELS);
        let images = open(&path, 2).unwrap();
        let shape = images.shape();
        assert_eq!((shape.width, shape.longest, shape.classes.len()), (4, 2, 2));
        let mut signal = Signal::default();
        images.read(0, 0, &mut signal).unwrap();
        let Reading::Image { scale, .. } = images.reading() else { panic!() };
        let pixels: Vec<f32> =
            signal.vectors.iter().map(|v| (v * scale.deviation[0] + scale.mean[0]).round()).collect();
        assert_eq!(pixels, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(signal.target, Target::Class(1));
        let mean: f32 = signal.vectors.iter().sum();
        images.read(0, 1, &mut signal).unwrap();
        assert!((mean + signal.vectors.iter().sum::<f32>()).abs() < 1e-4);
        // To be predicted, they need no labels.
        std::fs::remove_file(labels_of(&path).unwrap()).unwrap();
        assert!(open(&path, 2).is_err());
        let reading = images.reading();
        let predicted = Images::open(&Place::from(path.as_path()), Format::Idx, Purpose::Predict(&reading));
        assert_eq!(predicted.unwrap().len(), 2);
    }

    #[test]
    fn broken_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let fails = |images: &[u8], labels: &[u8], patch: usize, says: &str| {
            let error = open(&write(place.path(), images, labels), patch).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        };
        fails(&IMAGES[..9], &LABELS, 2, "cut short");
        fails(&IMAGES[..30], &LABELS, 2, "fewer than the 16 bytes");
        fails(&[&IMAGES[..], &[1]].concat(), &LABELS, 2, "more than the 16 bytes");
        fails(&IMAGES, &LABELS[..9], 2, "fewer than the 2 bytes");
        fails(&IMAGES, &[0, 0, 8, 1, 0, 0, 0, 1, 1], 2, "1 labels for the 2 images");
        fails(&LABELS, &LABELS, 2, "cut short");
        fails(&IMAGES, &IMAGES, 2, "no IDX file");
        fails(&IMAGES, &LABELS, 3, "does not divide");
        let huge = [&IMAGES[..4], &[255; 12]].concat();
        fails(&huge, &LABELS, 2, "more than are read");
    }
}
