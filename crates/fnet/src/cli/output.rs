//! Where a subcommand writes its rows: a file, whole or not at all, or standard output.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use fnet_encoder::whole_file::WholeFile;
use fnet_train::data::text::{STANDARD_STREAM, is_standard_stream};
use fnet_train::{Error, Result};

use super::common::{check_not_an_input, set_threads};
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
    /// Sets the threads, and refuses to replace a file unasked, or one of the `inputs` at all.
    pub fn start(&self, output: &Path, inputs: &[&Path]) -> Result<()> {
        self.start_several(&[output], inputs)
    }

    /// As [`start`](Self::start), for several files.
    pub fn start_several(&self, outputs: &[&Path], inputs: &[&Path]) -> Result<()> {
        set_threads(self.threads)?;
        self.inference.check()?;
        outputs.iter().try_for_each(|output| self.check(output, inputs))
    }

    fn check(&self, output: &Path, inputs: &[&Path]) -> Result<()> {
        if is_standard_stream(output) {
            if self.json {
                return Err(Error::usage(
                    "--json: standard output is where the rows go; choose another --output",
                ));
            }
            return Ok(());
        }
        check_not_an_input("--output", output, inputs)?;
        check_replaceable(output, self.overwrite)
    }
}

/// Refuses to replace a file unasked, and what is no file at all.
pub fn check_replaceable(output: &Path, overwrite: bool) -> Result<()> {
    match std::fs::metadata(output) {
        Ok(there) if there.is_dir() => Err(Error::file(output, "is a folder; name a file in it")),
        Ok(there) if !there.is_file() => {
            Err(Error::file(output, "is no file that could be replaced; - is standard output"))
        }
        Ok(_) if !overwrite => Err(Error::file(output, "is there already; give --overwrite to replace it")),
        _ => Ok(()),
    }
}

/// Takes rows: a file that is there when all of it is, or standard output as it comes.
pub struct Output {
    path: PathBuf,
    to: To,
}

enum To {
    File(Box<WholeFile>),
    Standard(BufWriter<std::io::Stdout>),
}

impl Output {
    pub fn create(path: &Path) -> Result<Self> {
        if is_standard_stream(path) {
            let to = To::Standard(BufWriter::new(std::io::stdout()));
            return Ok(Self { path: "standard output".into(), to });
        }
        let file = WholeFile::create(path).map_err(Error::io(path))?;
        Ok(Self { path: path.into(), to: To::File(Box::new(file)) })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.to {
            To::File(file) => file.write_all(bytes),
            To::Standard(out) => out.write_all(bytes),
        };
        written.map_err(Error::io(&self.path))
    }

    /// Goes back to the start, to write a header again. Standard output cannot.
    pub fn rewind(&mut self) -> Result<()> {
        match &mut self.to {
            To::File(file) => file.seek(SeekFrom::Start(0)).map(drop).map_err(Error::io(&self.path)),
            To::Standard(_) => Err(Error::file(Path::new(STANDARD_STREAM), "cannot be rewound")),
        }
    }

    pub fn finish(self) -> Result<()> {
        let written = match self.to {
            To::File(file) => file.finish(),
            To::Standard(mut out) => out.flush(),
        };
        written.map_err(Error::io(&self.path))
    }
}

/// Says what was done: on standard output, or on standard error where the rows went there.
pub fn say_done(output: &Path, done: &str) -> Result<()> {
    if is_standard_stream(output) {
        eprintln!("{done}");
        return Ok(());
    }
    super::common::say(format!("{}: {done}", output.display()))
}
