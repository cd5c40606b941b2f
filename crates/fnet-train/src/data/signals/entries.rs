//! The files of a folder or of a `.zip` archive, with their classes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::{Only, Place, Purpose};
use crate::error::{Error, Result};

/// More bytes than are read of one file.
const MOST_BYTES: u64 = 64 << 20;
/// Folders within folders.
const DEEPEST: usize = 16;

type Archive = ZipArchive<BufReader<File>>;
/// Names within a place, with `/`; in an archive with the entry's number.
type Names = Vec<(String, usize)>;

/// The files of a folder or archive whose names end in one of several ways, in the order of their names.
pub(super) struct Entries<'a> {
    place: &'a Path,
    archive: Option<Archive>,
    files: Names,
}

/// Names of all files of a folder or archive.
fn names(path: &Path) -> Result<(Option<Archive>, Names)> {
    if path.is_dir() {
        let mut files = Vec::new();
        walk(path, "", 0, &mut files)?;
        return Ok((None, files.into_iter().map(|name| (name, 0)).collect()));
    }
    let file = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let archive =
        ZipArchive::new(file).map_err(|e| Error::file(path, format!("is no whole zip archive: {e}")))?;
    let names = (0..archive.len()).filter_map(|i| Some((archive.name_for_index(i)?.to_string(), i)));
    let files = names.filter(|(name, _)| !name.ends_with('/')).collect();
    Ok((Some(archive), files))
}

fn walk(folder: &Path, within: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() && depth < DEEPEST {
            walk(&path, &format!("{within}{name}/"), depth + 1, files)?;
        } else if path.is_file() {
            files.push(format!("{within}{name}"));
        }
    }
    Ok(())
}

/// Whether a name is a file's that programs keep for themselves.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// Whether a name ends in one of these ways, in upper or lower case.
fn ends(name: &str, endings: &[&str]) -> bool {
    let name = name.to_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// The first of several kinds of endings that a folder or archive holds a file of.
pub(super) fn first_held(path: &Path, kinds: &[&[&str]]) -> Result<Option<usize>> {
    let (_, files) = names(path)?;
    let holds = |kind: &&[&str]| files.iter().any(|(name, _)| !is_hidden(name) && ends(name, kind));
    Ok(kinds.iter().position(holds))
}

impl<'a> Entries<'a> {
    /// Lists them.
    ///
    /// # Errors
    /// If the folder or archive cannot be read, or holds no such file.
    pub fn open(place: &'a Place, endings: &[&str]) -> Result<Self> {
        let (archive, mut files) = names(&place.path)?;
        files.retain(|(name, _)| !is_hidden(name) && ends(name, endings) && place.only.includes(name));
        files.sort();
        if files.is_empty() {
            return Err(Error::file(&place.path, format!("holds no {}", endings.join(", "))));
        }
        Ok(Self { place: &place.path, archive, files })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// A file's name within the place.
    pub fn name(&self, index: usize) -> &str {
        &self.files[index].0
    }

    /// Each file's class: the name of its folder or, where all are in one folder, what its own name begins with, up to
    /// the first `_`.
    pub fn labels(&self, purpose: Purpose) -> Vec<String> {
        let folders: Vec<&str> = self.files.iter().map(|(name, _)| folder_of(name)).collect();
        let by_folder = match purpose {
            Purpose::Judge(_, classes) => {
                folders.iter().any(|folder| classes.iter().any(|class| class == folder))
            }
            _ => folders.iter().collect::<BTreeSet<_>>().len() > 1,
        };
        let label = |(name, folder): (&(String, usize), &str)| {
            let own = name.0.rsplit('/').next().unwrap_or("");
            if by_folder {
                folder.to_string()
            } else {
                own.split(['_', '.']).next().unwrap_or("").to_string()
            }
        };
        self.files.iter().zip(folders).map(label).collect()
    }

    /// The bytes of the files from one on: at most so many, and not many more bytes than of one of the largest.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_block(&mut self, start: usize, files: usize) -> Result<Vec<Vec<u8>>> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        for index in start..(start + files).min(self.len()) {
            block.push(self.read(index)?);
            bytes += block.last().map_or(0, Vec::len) as u64;
            if bytes > MOST_BYTES {
                break;
            }
        }
        Ok(block)
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// If it cannot be read, or is too large.
    pub fn read(&mut self, index: usize) -> Result<Vec<u8>> {
        let (name, number) = &self.files[index];
        let fail = |message: String| Error::file(self.place, format!("{name}: {message}"));
        let mut bytes = Vec::new(); // grows with what is there
        let read = match &mut self.archive {
            None => {
                let path = self.place.join(name);
                let file = File::open(&path).map_err(Error::io(&path))?;
                file.take(MOST_BYTES + 1).read_to_end(&mut bytes)
            }
            Some(archive) => {
                let file = archive.by_index(*number).map_err(|e| fail(e.to_string()))?;
                file.take(MOST_BYTES + 1).read_to_end(&mut bytes)
            }
        };
        read.map_err(|e| fail(e.to_string()))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(fail(format!("is larger than {} MiB", MOST_BYTES >> 20)));
        }
        Ok(bytes)
    }
}

/// The name of the folder that a file is in; empty at the top.
fn folder_of(name: &str) -> &str {
    let (folders, _) = name.rsplit_once('/').unwrap_or(("", name));
    folders.rsplit('/').next().unwrap_or("")
}

impl Only {
    fn includes(self, name: &str) -> bool {
        let own = name.rsplit('/').next().unwrap_or("");
        let stem = own.rsplit_once('.').map_or(own, |(stem, _)| stem);
        let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number = stem[stem.len() - digits..].parse::<u32>().ok();
        match self {
            Self::All => true,
            Self::Named(start) => own.starts_with(start),
            Self::NumberedBelow(end) => number.is_some_and(|number| number < end),
            Self::NumberedFrom(start) => number.is_some_and(|number| number >= start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::signals::Options;

    #[test]
    fn classes_are_folders_or_beginnings_of_names() {
        let place = tempfile::tempdir().unwrap();
        for name in [
            "in/cat/1.PNG",
            "in/dog/2.png",
            "in/dog/.hidden.png",
            "in/readme.txt",
            "flat/3_a_10.wav",
            "flat/4_b_4.wav",
        ] {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let (folders, flat) = (place.path().join("in"), place.path().join("flat"));
        let options = Options::default();
        let learn = Purpose::Learn(&options);
        let folders = Place::from(folders.as_path());
        let mut entries = Entries::open(&folders, &[".png"]).unwrap();
        assert_eq!(entries.labels(learn), ["cat", "dog"]);
        assert_eq!(entries.read(1).unwrap(), b"in/dog/2.png");
        assert_eq!(entries.name(0), "cat/1.PNG");
        let flat_place = Place::from(flat.as_path());
        let flat_entries = Entries::open(&flat_place, &[".wav"]).unwrap();
        assert_eq!(flat_entries.labels(learn), ["3", "4"]);
        let below = Place { path: flat.clone(), only: Only::NumberedBelow(5) };
        assert_eq!(Entries::open(&below, &[".wav"]).unwrap().name(0), "4_b_4.wav");
        let from = Place { path: flat, only: Only::NumberedFrom(11) };
        assert!(Entries::open(&from, &[".wav"]).is_err());
    }
}
