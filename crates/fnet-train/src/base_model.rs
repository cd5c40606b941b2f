//! The model to start from: a folder, or the one that ships with the program.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use fnet_encoder::pretrained::{self, ADAPTER_INFO_FILE, AdapterInfo, Report, Source, TrunkSource};
use fnet_encoder::{Model, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::settings::{absolute, setting};

/// A pretrained model of preset mini, built into the program: `models/mini` of the repository, in bfloat16.
#[cfg(feature = "shipped-model")]
mod shipped {
    pub static CONFIG: &[u8] = include_bytes!("../models/mini/config.json");
    // A constant would be in the program once for each place that reads it.
    pub static WEIGHTS: &[u8] = include_bytes!("../models/mini/model.safetensors");
    pub static TOKENIZER: &[u8] = include_bytes!("../models/mini/tokenizer.json");
}

/// The shipped model's name in messages.
pub const SHIPPED_NAME: &str = "models/mini";

/// Where an adapter's trunk is, as its `adapter.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrunkPlace {
    /// The folder of a model, or a file of weights in it.
    Folder(PathBuf),
    /// The model that ships with the program.
    Shipped,
    /// Nowhere: its weights follow from the seed.
    Seed(u64),
}

/// Where a model is read from: a folder, which may be an adapter's, or the program itself.
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

    /// The adapter's trunk; `None` if the model stands alone.
    ///
    /// # Errors
    /// If the folder does not say which it is.
    pub fn trunk(&self) -> Result<Option<TrunkPlace>> {
        match self.folder().filter(|folder| folder.join(ADAPTER_INFO_FILE).exists()) {
            Some(folder) => Ok(Some(AdapterInfo::read(folder)?.trunk)),
            None => Ok(None),
        }
    }

    /// Opens the model with its head; an adapter on its trunk.
    ///
    /// # Errors
    /// If a file is missing or broken, or the trunk is not the one that the adapter was trained on.
    pub fn open(&self) -> Result<(Model, Report)> {
        let (Some(trunk), Some(folder)) = (self.trunk()?, self.folder()) else {
            return Ok(pretrained::open_reported(self.source())?);
        };
        let shipped;
        let trunk = match &trunk {
            TrunkPlace::Seed(seed) => TrunkSource::Seed(*seed),
            TrunkPlace::Folder(path) => TrunkSource::Pretrained(path.as_path().into()),
            TrunkPlace::Shipped => {
                shipped = Self::shipped()?;
                TrunkSource::Pretrained(shipped.source())
            }
        };
        Ok((pretrained::open_adapter(folder, trunk)?, Report::default()))
    }

    /// Refuses an adapter, which is no start for training.
    pub(crate) fn standing_alone(self) -> Result<Self> {
        if self.trunk()?.is_none() {
            return Ok(self);
        }
        let message = "is an adapter: train on its trunk, or on what `fnet convert` makes of both";
        Err(Error::file(&self.name(), message))
    }

    /// Where an adapter on this model finds it.
    pub(crate) fn as_trunk(&self) -> Result<TrunkPlace> {
        match self.path.as_deref() {
            None => Ok(TrunkPlace::Shipped),
            Some(path) => Ok(TrunkPlace::Folder(absolute(path)?)),
        }
    }

    /// The source of its weights, for opening.
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
        match self.trunk()? {
            Some(TrunkPlace::Folder(path)) => return Self::at(&path).standing_alone()?.tokenizer(),
            Some(TrunkPlace::Shipped) => return Self::shipped()?.tokenizer(),
            Some(TrunkPlace::Seed(_)) | None => {}
        }
        match self.folder() {
            Some(folder) => Tokenizer::of_folder(folder),
            #[cfg(feature = "shipped-model")]
            None => Tokenizer::from_json(shipped::TOKENIZER).map_err(Error::usage),
            #[cfg(not(feature = "shipped-model"))]
            None => Self::shipped()?.tokenizer(),
        }
    }

    /// Its longest sequence.
    ///
    /// # Errors
    /// If there is none, or it is broken.
    pub(crate) fn positions(&self) -> Result<usize> {
        let config = match (self.trunk()?, self.folder()) {
            (Some(_), Some(folder)) => ModelConfig::read(&folder.join(pretrained::CONFIG_FILE))?,
            _ => pretrained::inspect(self.source())?.config,
        };
        Ok(self.longest(config.max_position_embeddings))
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
