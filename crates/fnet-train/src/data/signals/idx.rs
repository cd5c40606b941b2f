//! Grey images in IDX files, as MNIST has them, with their labels in a file beside.

use std::io::Read;
use std::path::{Path, PathBuf};

use fnet_encoder::Head;

use super::{Reading, Scale, Shape, Signal, Source, Target};
use crate::data::text;
use crate::error::{Error, Result};
use crate::settings::refused;

/// Images cut into square patches, row by row.
pub struct Images {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    rows: usize,
    columns: usize,
    patch: usize,
    classes: usize,
    scale: Scale,
}

/// More bytes than are read of one file.
const MOST_BYTES: u64 = 1 << 30;

impl Images {
    /// Opens a file of images (`images-idx3`) with that of their labels, whose name has `labels-idx1` instead.
    ///
    /// # Errors
    /// If a file is missing or cut short, their numbers differ, or a patch does not divide the size.
    pub fn open(path: &Path, patch: usize, reading: Option<&Reading>) -> Result<Self> {
        let (sizes, pixels) = read(path, 3)?;
        let [count, rows, columns] = [sizes[0], sizes[1], sizes[2]];
        let labels_path = labels_of(path)?;
        let (sizes, labels) = read(&labels_path, 1)?;
        if sizes[0] != count {
            let message = format!("has {} labels for the {count} images of {}", sizes[0], path.display());
            return Err(Error::file(&labels_path, message));
        }
        if count == 0 || rows == 0 || columns == 0 {
            return Err(Error::file(path, "holds no images"));
        }
        let (patch, scale) = match reading {
            None => (patch, Scale::of(pixels.iter().map(|p| f32::from(*p)), 1)),
            Some(Reading::Image { rows: r, columns: c, patch, scale }) if (*r, *c) == (rows, columns) => {
                (*patch, scale.clone())
            }
            Some(Reading::Image { rows: r, columns: c, .. }) => {
                let message = format!("has images of {rows} x {columns} pixels; the model reads {r} x {c}");
                return Err(Error::file(path, message));
            }
            Some(_) => return Err(Error::file(path, "holds images, which the model does not read")),
        };
        if patch == 0 || !rows.is_multiple_of(patch) || !columns.is_multiple_of(patch) {
            let message = format!("does not divide images of {rows} x {columns} pixels");
            return Err(refused(&format!("patch {patch}"), message));
        }
        let classes = labels.iter().max().map_or(1, |label| usize::from(*label) + 1);
        Ok(Self { pixels, labels, rows, columns, patch, classes, scale })
    }
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

/// The sizes and the bytes of a file of unsigned bytes with so many dimensions.
fn read(path: &Path, dimensions: u8) -> Result<(Vec<usize>, Vec<u8>)> {
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
    let Some(expected) = expected.filter(|n| *n <= MOST_BYTES) else {
        return Err(Error::file(
            path,
            format!("says that it holds {sizes:?} bytes, more than are read here"),
        ));
    };
    let mut bytes = Vec::new(); // grows with what is there, not with what the header says
    open.take(expected + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 != expected {
        let what = if bytes.len() as u64 > expected { "more" } else { "fewer" };
        return Err(Error::file(
            path,
            format!("holds {what} than the {expected} bytes that its header names"),
        ));
    }
    Ok((sizes, bytes))
}

impl Source for Images {
    fn shape(&self) -> Shape {
        Shape {
            width: self.patch * self.patch,
            longest: self.rows / self.patch * (self.columns / self.patch),
            head: Head::Classification { labels: self.classes },
            classes: (0..self.classes).map(|class| class.to_string()).collect(),
        }
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, _pass: u64, index: usize, into: &mut Signal) {
        let (patch, columns) = (self.patch, self.columns);
        let image = &self.pixels[index * self.rows * columns..][..self.rows * columns];
        into.vectors.clear();
        for top in (0..self.rows).step_by(patch) {
            for left in (0..columns).step_by(patch) {
                for row in top..top + patch {
                    let pixels = &image[row * columns + left..][..patch];
                    into.vectors.extend(pixels.iter().map(|p| self.scale.apply(0, f32::from(*p))));
                }
            }
        }
        into.target = Target::Class(u32::from(self.labels[index]));
    }

    fn reading(&self) -> Reading {
        let Self { rows, columns, patch, .. } = *self;
        Reading::Image { rows, columns, patch, scale: self.scale.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, images: &[u8], labels: &[u8]) -> PathBuf {
        let path = folder.join("some-images-idx3-ubyte");
        std::fs::write(&path, images).unwrap();
        std::fs::write(folder.join("some-labels-idx1-ubyte"), labels).unwrap();
        path
    }

    const IMAGES: [u8; 16 + 16] =
        [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 1, 2, 3, 4, 5, 6, 7, 9, 9, 9, 9, 9, 9, 9, 9];
    const LABELS: [u8; 8 + 2] = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];

    #[test]
    fn patches_row_by_row() {
        let place = tempfile::tempdir().unwrap();
        let images = Images::open(&write(place.path(), &IMAGES, &LABELS), 2, None).unwrap();
        let shape = images.shape();
        assert_eq!((shape.width, shape.longest, shape.classes.len()), (4, 2, 2));
        let mut signal = Signal::default();
        images.read(0, 0, &mut signal);
        let Reading::Image { scale, .. } = images.reading() else { panic!() };
        let pixels: Vec<f32> =
            signal.vectors.iter().map(|v| (v * scale.deviation[0] + scale.mean[0]).round()).collect();
        assert_eq!(pixels, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(signal.target, Target::Class(1));
        let mean: f32 = signal.vectors.iter().sum();
        images.read(0, 1, &mut signal);
        assert!((mean + signal.vectors.iter().sum::<f32>()).abs() < 1e-4);
    }

    #[test]
    fn broken_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let fails = |images: &[u8], labels: &[u8], patch: usize, says: &str| {
            let error =
                Images::open(&write(place.path(), images, labels), patch, None).err().unwrap().to_string();
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
