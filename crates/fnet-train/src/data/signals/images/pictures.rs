//! Pictures in PNG and JPEG: a folder or `.zip` archive with a folder a class.

use std::io::Cursor;

use image::{ImageReader, Limits};
use rayon::prelude::*;

use super::{Look, Pixels, several_sizes};
use crate::data::signals::entries::Entries;
use crate::data::signals::format::PICTURES;
use crate::data::signals::spool::Spool;
use crate::data::signals::{Place, Purpose};
use crate::error::{Error, Result};

/// Pictures decoded at once.
const BLOCK: usize = 512;
/// A picture has at most so many bytes for each in its file: what deflate packs, at most, and more than JPEG.
const MOST_FOR_A_BYTE: u64 = 1_100;
/// And no more than this.
const LARGEST: u64 = 256 << 20;

/// Reads all pictures, which have one size unless they are resized.
///
/// # Errors
/// Names a picture that cannot be read, or has another size than the first.
pub(super) fn read(place: &Place, look: Look, purpose: Purpose) -> Result<Pixels> {
    let mut entries = Entries::open(place, &PICTURES)?;
    let labels = entries.labels(purpose);
    let names: Vec<String> = (0..entries.len()).map(|i| entries.name(i).to_string()).collect();
    let (mut values, mut first): (Spool, _) = (Spool::default(), None);
    let mut end = 0;
    while end < entries.len() {
        let start = end;
        let packed = entries.read_block(start, BLOCK)?;
        end += packed.len();
        let decoded: Vec<_> = packed.into_par_iter().map(|bytes| decode(&bytes, look)).collect();
        for (name, picture) in names[start..end].iter().zip(decoded) {
            let (size, bytes) =
                picture.map_err(|e| Error::file(&place.path, format!("{name}: is no whole picture: {e}")))?;
            let first = *first.get_or_insert(size);
            if size != first {
                return Err(several_sizes(&place.path, name, size, first));
            }
            values.push(&place.path, &bytes)?;
        }
    }
    let [rows, columns] = first.unwrap_or_default();
    let channels = if look.grey { 1 } else { 3 };
    Ok(Pixels { rows, columns, channels, values, labels, order: None, names })
}

fn decode(bytes: &[u8], look: Look) -> std::result::Result<([usize; 2], Vec<u8>), String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(LARGEST.min((1 << 16) + MOST_FOR_A_BYTE * bytes.len() as u64));
    reader.limits(limits);
    // Messages of several lines would not be one.
    let picture = reader.decode().map_err(|e| e.to_string().replace('\n', " "))?;
    Ok(look.apply(picture))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use image::{ImageFormat, RgbImage};

    use super::super::Images;
    use super::*;
    use crate::data::signals::{Format, Options, Reading, Signal, Source, Target, Variation};

    /// A picture whose pixels count up in every channel.
    fn write(path: &Path, rows: u32, columns: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(columns, rows, |x, y| {
            image::Rgb([(y * columns + x) as u8, 100, 200 - (y * columns + x) as u8])
        });
        image.save_with_format(path, ImageFormat::Png).unwrap();
    }

    fn open(folder: &Path, options: &Options) -> Result<Images> {
        Images::open(&Place::from(folder), Format::Pictures, Purpose::Learn(options))
    }

    #[test]
    fn pictures_in_colour_and_grey() {
        let place = tempfile::tempdir().unwrap();
        write(&place.path().join("b/x.png"), 2, 4);
        write(&place.path().join("a/y.png"), 2, 4);
        let options = Options { patch: 2, ..Options::default() };
        let images = open(place.path(), &options).unwrap();
        let shape = images.shape();
        assert_eq!((shape.width, shape.longest, shape.classes), (12, 2, vec!["a".to_string(), "b".into()]));
        let mut signal = Signal::default();
        images.read(0, 1, &mut signal).unwrap();
        assert_eq!(signal.target, Target::Class(1));
        let Reading::Image { scale, .. } = images.reading() else { panic!() };
        assert_eq!(scale.deviation[1], 1.0, "a colour that is the same everywhere");
        let red: Vec<f32> = signal
            .vectors
            .chunks(3)
            .map(|pixel| (pixel[0] * scale.deviation[0] + scale.mean[0]).round())
            .collect();
        assert_eq!(red, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        let grey = open(place.path(), &Options { grey: true, resize: Some(6), ..options.clone() }).unwrap();
        assert_eq!((grey.shape().width, grey.shape().longest), (4, 9));
        // The same later, from pictures of another size.
        write(&place.path().join("b/z.png"), 8, 8);
        assert!(open(place.path(), &options).err().unwrap().to_string().contains("b/z.png has 8 x 8 pixels"));
        let (reading, classes) = (grey.reading(), ["a".to_string(), "b".into()]);
        let judged =
            Images::open(&Place::from(place.path()), Format::Pictures, Purpose::Judge(&reading, &classes));
        assert_eq!(judged.unwrap().len(), 3);
        std::fs::write(place.path().join("b/broken.jpg"), b"\xFF\xD8\xFF\xE0 no").unwrap();
        assert!(
            open(place.path(), &options).err().unwrap().to_string().contains("b/broken.jpg: is no whole")
        );
    }

    #[test]
    fn variation_moves_and_mirrors() {
        let place = tempfile::tempdir().unwrap();
        write(&place.path().join("a/x.png"), 4, 4);
        write(&place.path().join("b/x.png"), 4, 4);
        let plain = Options { patch: 1, ..Options::default() };
        let varied = Options { variation: Variation { flip: true, crop: 1, seed: 3 }, ..plain.clone() };
        let [plain, varied] = [plain, varied].map(|options| open(place.path(), &options).unwrap());
        let (mut whole, mut other) = (Signal::default(), Signal::default());
        plain.read(0, 0, &mut whole).unwrap();
        let red = |signal: &Signal, row: isize, column: isize| {
            let inside = (0..4).contains(&row) && (0..4).contains(&column);
            if inside { signal.vectors[(row * 4 + column) as usize * 3] } else { 0.0 }
        };
        let mut seen = std::collections::BTreeSet::new();
        for pass in 0..200 {
            varied.read(pass, 0, &mut other).unwrap();
            let matches = |flip: bool, down: isize, right: isize| {
                (0..4).all(|row| {
                    (0..4).all(|column| {
                        let from = if flip { 3 - column } else { column };
                        red(&other, row, column) == red(&whole, row + down, from + right)
                    })
                })
            };
            let all = [false, true].into_iter().flat_map(|flip| {
                (-1..=1).flat_map(move |down| (-1..=1).map(move |right| (flip, down, right)))
            });
            let found: Vec<_> = all.filter(|(flip, down, right)| matches(*flip, *down, *right)).collect();
            assert_eq!(found.len(), 1, "pass {pass}");
            seen.extend(found);
        }
        assert_eq!(seen.len(), 18);
    }
}
