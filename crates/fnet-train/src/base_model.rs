//! The model to start from: a folder, or the one that ships with the program.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, Source};

use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::settings::setting;

/// A pretrained model of preset mini, built into the program: `models/mini` of the repository, in bfloat16.
#[cfg(feature = "shipped-model")]
mod shipped {
    pub const CONFIG: &[u8] = include_bytes!("../models/mini/config.json");
    pub const WEIGHTS: &[u8] = include_bytes!("../models/mini/model.safetensors");
    pub const TOKENIZER: &[u8] = include_bytes!("../models/mini/tokenizer.json");
}

/// The shipped model's name in messages.
pub const SHIPPED_NAME: &str = "models/mini";

/// Where a model is read from.
///
/// ```
/// # #[cfg(feature = "shipped-model")] {
/// use fnet_encoder::pretrained;
/// use fnet_train::base_model::BaseModel;
///
/// let base = BaseModel::shipped()?;
/// let (model, tokenizer) = (pretrained::open(base.source())?, base.tokenizer()?);
/// assert_eq!(tokenizer.vocab_size(), model.config().vocab_size);
/// # }
/// # Ok::<(), fnet_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BaseModel {
    /// `None` is the shipped one.
    path: Option<PathBuf>,
}

impl BaseModel {
    /// The model of a folder, or of a weight file in it.
    pub fn at(path: &Path) -> Self {
        Self { path: Some(path.into()) }
    }

    /// The model that ships with the program.
    ///
    /// # Errors
    /// If the program was built without it.
    pub fn shipped() -> Result<Self> {
        if cfg!(feature = "shipped-model") {
            return Ok(Self { path: None });
        }
        let model = setting("model");
        Err(Error::usage(format!(
            "{model}: name a model's folder; this program was built without a model of its own"
        )))
    }

    /// The model that a flag names, else the shipped one.
    ///
    /// # Errors
    /// As [`shipped`](Self::shipped).
    pub fn named(path: Option<&Path>) -> Result<Self> {
        path.map_or_else(Self::shipped, |path| Ok(Self::at(path)))
    }

    /// Where to read its weights from.
    pub fn source(&self) -> Source<'_> {
        match &self.path {
            Some(path) => path.into(),
            #[cfg(feature = "shipped-model")]
            None => Source::Memory { config: shipped::CONFIG, weights: shipped::WEIGHTS },
            #[cfg(not(feature = "shipped-model"))]
            None => Source::Memory { config: b"", weights: b"" },
        }
    }

    /// The model's folder; `None` for the shipped one.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().map(pretrained::folder_of)
    }

    /// Its name in messages.
    pub fn name(&self) -> Cow<'_, Path> {
        self.path.as_deref().unwrap_or(Path::new(SHIPPED_NAME)).into()
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// If the folder has none, or a broken one.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match self.folder() {
            Some(folder) => Tokenizer::of_folder(folder),
            #[cfg(feature = "shipped-model")]
            None => Tokenizer::from_json(shipped::TOKENIZER).map_err(Error::usage),
            #[cfg(not(feature = "shipped-model"))]
            None => Self::shipped()?.tokenizer(),
        }
    }

    /// Where its texts are cut, see [`Tokenizer::longest_of`].
    pub fn longest(&self, longest: usize) -> usize {
        self.folder().map_or(longest, |folder| Tokenizer::longest_of(folder, longest))
    }
}

impl fmt::Display for BaseModel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.name().display().fmt(f)
    }
}
