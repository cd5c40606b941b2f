//! Folders of one program at a time.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use fnet_encoder::whole_file::{is_at, try_lock};

use crate::error::{Error, Result};
use crate::settings::setting;

/// Locked by the program that writes the folder.
pub const LOCK_FILE: &str = ".fnet-lock";

/// A folder that is this program's to write, until this is dropped or the program ends, however it ends.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    lock: PathBuf,
    file: File,
    is_new: bool,
}

impl Claim {
    /// Claims a folder, which is made where there is none.
    ///
    /// # Errors
    /// If another program has it, or it cannot be made.
    pub fn of(folder: &Path) -> Result<Self> {
        let is_new = !folder.exists();
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let lock = folder.join(LOCK_FILE);
        let Some(mut file) = try_lock(&lock).map_err(Error::io(folder))? else {
            let owner = std::fs::read_to_string(&lock).unwrap_or_default();
            let owner =
                owner.trim().parse::<u32>().map_or("another process".into(), |n| format!("process {n}"));
            let message = format!("is in use by {owner}; wait for it, or choose another {}", setting("out"));
            return Err(Error::file(folder, message));
        };
        let told = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        told.map_err(Error::io(&lock))?;
        Ok(Self { folder: folder.into(), lock, file, is_new })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Whether nothing is in the folder.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        let entries = self.folder.read_dir().map_err(Error::io(&self.folder))?;
        Ok(!entries.flatten().any(|entry| entry.file_name() != LOCK_FILE))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if is_at(&self.file, &self.lock) {
            let _ = std::fs::remove_file(&self.lock);
        }
        if self.is_new {
            let _ = std::fs::remove_dir(&self.folder); // if nothing came of it
        }
    }
}
