//! CIFAR-10's binary files (Krizhevsky 2009): a byte for the class, then 32 x 32 pixels, a colour after another.

use std::io::Read;

use super::Pixels;
use crate::data::signals::Place;
use crate::data::signals::entries::Entries;
use crate::data::signals::format::CIFAR;
use crate::data::signals::spool::Spool;
use crate::data::text;
use crate::error::{Error, Result};

/// More bytes than are read of one file.
const MOST_BYTES: u64 = 4 << 30;
const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Reads one file, or those of a folder.
///
/// # Errors
/// If a file is cut short, or names a class above 9.
pub(super) fn read(place: &Place) -> Result<Pixels> {
    let (mut values, mut labels): (Spool, Vec<String>) = (Spool::default(), Vec::new());
    let mut add = |name: &str, bytes: Vec<u8>| {
        let fail = |message: String| Err(Error::file(&place.path, format!("{name}: {message}")));
        if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
            return fail(format!("{} bytes are no whole number of images of {RECORD}", bytes.len()));
        }
        for record in bytes.chunks_exact(RECORD) {
            let Some(class) = CLASSES.get(usize::from(record[0])) else {
                return fail(format!("class {} of 10", record[0]));
            };
            labels.push(class.to_string());
            let colours: Vec<&[u8]> = record[1..].chunks_exact(SIDE * SIDE).collect();
            let pixels = (0..SIDE * SIDE).flat_map(|pixel| [0, 1, 2].map(|colour| colours[colour][pixel]));
            values.push(&place.path, &pixels.collect::<Vec<_>>())?;
        }
        Ok(())
    };
    let is_archive = place.path.to_string_lossy().to_lowercase().ends_with(".zip");
    if place.path.is_dir() || is_archive {
        let mut entries = Entries::open(place, &CIFAR)?;
        for index in 0..entries.len() {
            let bytes = entries.read(index)?;
            add(entries.name(index), bytes)?;
        }
    } else {
        let mut bytes = Vec::new();
        let open = text::open_bytes(&place.path)?;
        open.take(MOST_BYTES).read_to_end(&mut bytes).map_err(Error::io(&place.path))?;
        add("its content", bytes)?;
    }
    let order = Some(CLASSES.map(String::from).to_vec());
    Ok(Pixels { rows: SIDE, columns: SIDE, channels: 3, values, labels, order, names: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::super::Images;
    use super::*;
    use crate::data::signals::{Format, Only, Options, Purpose, Signal, Source, Target};

    #[test]
    fn colours_stand_one_after_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data_batch_1.bin");
        let mut bytes = vec![9];
        bytes.extend([1; 1024]);
        bytes.extend([2; 1024]);
        bytes.extend((0..1024).map(|i| (i / 4) as u8));
        bytes.push(0);
        bytes.extend([7; 3072]);
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(folder.path().join("test_batch.bin"), [3]).unwrap();
        let options = Options { patch: 1, ..Options::default() };
        let open = |place: &Place| Images::open(place, Format::Cifar, Purpose::Learn(&options));
        let named = Place { path: folder.path().into(), only: Only::Named("data_batch") };
        for place in [Place::from(path.as_path()), named] {
            let images = open(&place).unwrap();
            let mut signal = Signal::default();
            images.read(0, 0, &mut signal).unwrap();
            assert_eq!((images.len(), signal.target.clone()), (2, Target::Class(9)));
            let blue: Vec<f32> = signal.vectors.chunks(3).map(|pixel| pixel[2]).collect();
            assert!(blue[3] == blue[0] && blue[4] > blue[3], "four pixels of each");
        }
        let error = open(&Place::from(folder.path())).err().unwrap().to_string();
        assert!(error.contains("test_batch.bin: 1 bytes are no whole number"), "{error}");
        bytes[0] = 10;
        std::fs::write(&path, &bytes).unwrap();
        assert!(open(&Place::from(path.as_path())).err().unwrap().to_string().contains("class 10 of 10"));
    }
}
