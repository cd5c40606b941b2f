use std::path::PathBuf;

/// Why a model could not be built, opened, saved or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// An impossible setting in the configuration.
    #[error("config: {0}")]
    Config(String),
    /// A batch that does not fit the model.
    #[error("batch: {0}")]
    Batch(String),
    /// A mixing layer refused its shape.
    #[error(transparent)]
    Mix(#[from] fnet_mixing::MixError),
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file that was read but does not hold what it should.
    #[error("{path}: {message}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
}
