//! Files that are whole or not there: written under a temporary name, synced with their folder, renamed. The one
//! place that does it.
//!
//! Data goes into `NAME.fnet-part`, under a lock, until it is complete. A killed program loses its lock; the next
//! write of the same file takes its place, so a kill never leaves more than one part per file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::EncoderError;

/// The suffix of incomplete files.
const PART: &str = ".fnet-part";

/// A file being written. If dropped before [`finish`](Self::finish), it never existed.
pub struct WholeFile {
    path: PathBuf,
    aside: PathBuf,
    out: BufWriter<File>,
}

impl WholeFile {
    /// Starts a file that replaces the one at `path` when it is finished.
    ///
    /// # Errors
    /// If the folder cannot be written to, or another program is writing this file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::begin(path, File::try_lock)
    }

    /// As [`create`](Self::create), but waits while another program writes this file: for short writes.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create_after_others(path: &Path) -> io::Result<Self> {
        Self::begin(path, |file| file.lock().map_err(TryLockError::Error))
    }

    fn begin(path: &Path, lock: Lock) -> io::Result<Self> {
        // What a link points to is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.into());
        let mut aside: OsString = path.as_os_str().to_owned();
        aside.push(PART);
        let aside = PathBuf::from(aside);
        let file = open_locked(&aside, lock)?
            .ok_or_else(|| io::Error::other("another program is writing this file now"))?;
        file.set_len(0)?; // left by a killed program
        Ok(Self { path, aside, out: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Its temporary path, for writers that open files themselves.
    pub fn aside(&self) -> &Path {
        &self.aside
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// If something cannot be written; the previous file is then intact.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        std::fs::rename(&self.aside, &self.path)?;
        sync_folder_of(&self.path);
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // After `finish` there is none, or another program's.
        if is_at(self.out.get_ref(), &self.aside) {
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

/// Writes a file atomically: at any moment either the old one or the new one is there.
///
/// # Errors
/// If the folder cannot be written to; the file is then as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EncoderError> {
    let written = WholeFile::create_after_others(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.finish()
    });
    written.map_err(|source| EncoderError::Io { path: path.into(), source })
}

/// Maps a file into memory, to be read. If another program shortens it meanwhile, this process ends, by a signal on Unix:
/// files that others may map are replaced by renaming, as [`WholeFile`] does.
///
/// # Errors
/// If the system cannot.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: a mapped file that is changed while it is read gives other bytes, which readers check; ours are never written
    // in place. Covered by `hostile_files_are_refused`.
    unsafe { Mmap::map(file) }
}

/// Removes the incomplete files that a killed program has left in a folder. Call it only where nothing else writes.
pub fn remove_parts(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(PART) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Renames a file or folder and syncs the folder that it is in.
///
/// # Errors
/// The system's error.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_folder_of(to);
    Ok(())
}

/// A rename is on disk once its folder is synced. Not every system can sync a folder, and none loses the old file.
fn sync_folder_of(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

type Lock = fn(&File) -> Result<(), TryLockError>;

/// Opens a file and locks it for this program, until it is dropped; `None` where another program has it.
///
/// # Errors
/// If the file cannot be made. A file system without locks locks nothing.
pub fn try_lock(path: &Path) -> io::Result<Option<File>> {
    open_locked(path, File::try_lock)
}

fn open_locked(path: &Path, lock: Lock) -> io::Result<Option<File>> {
    // Where files have no lasting identity, the last one will do.
    let mut tries = 0..100;
    loop {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        if let Err(TryLockError::WouldBlock) = lock(&file) {
            return Ok(None);
        }
        // The previous holder of the lock may have renamed or removed the file meanwhile.
        if is_at(&file, path) || tries.next().is_none() {
            return Ok(Some(file));
        }
    }
}

/// Whether a path still leads to an open file.
pub fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let there = std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
        let ours = file.metadata().map(|m| (m.dev(), m.ino()));
        matches!((there, ours), (Ok(there), Ok(ours)) if there == ours)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_was_left_is_taken_over_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let names =
            || -> Vec<_> { folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect() };
        std::fs::write(folder.path().join("file.fnet-part"), "of a program that was killed").unwrap();
        write_whole(&path, b"one").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names().len()), (b"one".to_vec(), 1));

        let mut first = WholeFile::create(&path).unwrap();
        first.write_all(b"two").unwrap();
        let refused = WholeFile::create(&path).map(drop).unwrap_err().to_string();
        assert!(refused.contains("another program"), "{refused}");
        std::thread::scope(|threads| {
            let waits = threads.spawn(|| write_whole(&path, b"three"));
            first.finish().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert_eq!((std::fs::read(&path).unwrap(), names().len()), (b"three".to_vec(), 1));

        drop(WholeFile::create(&path).unwrap());
        assert_eq!((std::fs::read(&path).unwrap(), names().len()), (b"three".to_vec(), 1));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_whole(&link, b"new").unwrap();
        assert!(link.is_symlink() && std::fs::read(&file).unwrap() == b"new");
    }
}
