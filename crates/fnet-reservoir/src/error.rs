//! What can go wrong.

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReservoirError {
    /// A setting out of its range.
    #[error("{field} {value}: {message}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        message: String,
    },
    /// A series that cannot be used.
    #[error("{0}")]
    Series(String),
    /// Equations without a solution at this penalty.
    #[error("the normal equations are singular at {0}: give a larger penalty")]
    Singular(String),
}

impl ReservoirError {
    pub(crate) fn setting(field: &'static str, value: impl ToString, message: impl Into<String>) -> Self {
        Self::Setting { field, value: value.to_string(), message: message.into() }
    }
}

/// A result of this crate.
pub type Result<T, E = ReservoirError> = std::result::Result<T, E>;
