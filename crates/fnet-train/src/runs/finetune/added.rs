//! More rows for a run of recipe `ridge` that kept its sums: what its model knows goes on as it is.

use std::path::Path;

use super::FinetuneSettings;
use crate::base_model::BaseModel;
use crate::data::signals::Reading;
use crate::data::tasks::dataset::Labels;
use crate::error::{Error, Result};
use crate::folder::{RunFolder, SETTINGS_FILE};
use crate::predictor::Predictor;
use crate::settings::{absolute, refused};
use crate::signal_predictor::SignalPredictor;
use crate::train::recipe::Recipe;

/// How the model that rows are added to reads signals, and what it calls classes.
pub(super) struct Known {
    pub reading: Reading,
    pub classes: Vec<String>,
}

impl Known {
    /// Of the run that the settings add to, if they do.
    pub fn of(settings: &FinetuneSettings) -> Result<Option<Self>> {
        let Some(folder) = &settings.add else { return Ok(None) };
        let predictor = SignalPredictor::open(&BaseModel::at(folder))?;
        let (reading, classes) = (predictor.reading().clone(), predictor.classes().to_vec());
        Ok(Some(Self { reading, classes }))
    }
}

/// What the model of a folder predicts of texts.
pub(super) fn labels(folder: &Path) -> Result<Labels> {
    Predictor::open(&BaseModel::at(folder))?.labels()
}

impl FinetuneSettings {
    /// Settles where the rows are added, and refuses what would not be the same run with more rows.
    pub(super) fn check_added(&mut self) -> Result<()> {
        if (self.keep_sums || self.add.is_some()) && self.training.recipe != Recipe::Ridge {
            return Err(refused("keep_sums, add", "are for recipe ridge"));
        }
        if (self.keep_sums || self.add.is_some()) && self.seeds > 1 {
            return Err(refused("keep_sums, add, seeds", "sums are of one run"));
        }
        let Some(folder) = self.add.as_deref().map(absolute).transpose()? else { return Ok(()) };
        (self.add, self.keep_sums) = (Some(folder.clone()), true);
        let begun: FinetuneSettings = RunFolder::at(&folder).settings()?;
        let settled = |settings: &Self| {
            let mut settings = settings.clone();
            (settings.train, settings.dev, settings.data) = (None, None, None);
            (settings.penalty, settings.held_out, settings.add) = (None, None, None);
            (settings.training.products, settings.bag, settings.keep_sums) = (None, None, true);
            settings
        };
        if settled(&begun) != settled(self) {
            let message = format!(
                "the settings are not those of its {SETTINGS_FILE}; train, data, dev, held_out and penalty alone may differ"
            );
            return Err(Error::file(&folder, message));
        }
        Ok(())
    }
}
