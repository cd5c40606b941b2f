//! Files that a subcommand writes: refused if they are there, and whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use fnet_train::{Error, Result};

use super::common::set_threads;
use super::opened::InferenceFlags;

/// Flags of subcommands that write one file.
#[derive(Args)]
pub struct OutputFlags {
    #[command(flatten)]
    pub inference: InferenceFlags,
    /// Replace the file that --output names
    #[arg(long)]
    overwrite: bool,
    /// Threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// No progress
    #[arg(long)]
    pub quiet: bool,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl OutputFlags {
    /// Sets the threads, and refuses to replace a file unasked.
    pub fn start(&self, output: &Path) -> Result<()> {
        set_threads(self.threads)?;
        if output.exists() && !self.overwrite {
            return Err(Error::file(output, "is there already; give --overwrite to replace it"));
        }
        Ok(())
    }
}

/// A file that is written aside and renamed when all of it is there; removed if that never comes.
pub struct AsideFile {
    path: PathBuf,
    aside: PathBuf,
    out: BufWriter<File>,
}

impl AsideFile {
    pub fn create(path: &Path) -> Result<Self> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let out = BufWriter::new(File::create(&aside).map_err(Error::io(&aside))?);
        Ok(Self { path: path.into(), aside, out })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// Goes back to the start, to write a header again.
    pub fn rewind(&mut self) -> Result<()> {
        self.out.seek(SeekFrom::Start(0)).map(drop).map_err(Error::io(&self.path))
    }

    pub fn finish(mut self) -> Result<()> {
        let written = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        written.and_then(|()| std::fs::rename(&self.aside, &self.path)).map_err(Error::io(&self.path))
    }
}

impl Drop for AsideFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.aside); // gone already after `finish`
    }
}
