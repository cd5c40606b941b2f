//! Errors, and what they call settings.

use std::path::{Path, PathBuf};

use fnet_encoder::EncoderError;

use names::setting;

pub(crate) mod names;

/// Why a run could not start or continue. Each message is one line that names the file, line or flag.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An invalid line of a data file.
    #[error("{path}:{line}: {message}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A file that is invalid as a whole.
    #[error("{path}: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
    /// An invalid flag or setting.
    #[error("{0}")]
    Usage(String),
    /// The loss is no longer a number.
    #[error(
        "diverged at step {step}: the {what} is {value} at learning rate {learning_rate:.2e}; \
         use a lower {rate} or more {warm_up}; the last good checkpoint is kept in {folder}",
        rate = setting("learning_rate"),
        warm_up = setting("warm_up"),
        folder = folder.display()
    )]
    Diverged {
        /// The step that failed.
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// The run's folder.
        folder: PathBuf,
    },
    /// Stopped by Ctrl-C, after a checkpoint.
    #[error("stopped at step {step}; go on with: {resume}")]
    Interrupted {
        /// The last finished step.
        step: u64,
        /// The command that resumes it.
        resume: String,
    },
    /// The model or its files.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Io`] for `path`, to be used in `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.into(), source }
    }

    /// An [`Error::File`].
    pub fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// An [`Error::Line`].
    pub fn line(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self::Line { path: path.into(), line, message: message.into() }
    }

    /// An [`Error::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}
