//! A run whose folder holds an adapter.

use fnet_encoder::Model;
use fnet_encoder::pretrained::adapter_tensors;

use super::{FinetuneSettings, goes_on_from};
use crate::base_model::{BaseModel, TrunkPlace};
use crate::error::Result;
use crate::folder::RunFolder;
use crate::settings::refused;
use crate::train::recipe::Recipe;

/// The run's folder, which stores an adapter if the settings ask for one: what is trained, and what is not the trunk's.
///
/// # Errors
/// If everything is trained, or the base is an adapter itself.
pub(super) fn folder(
    folder: &RunFolder,
    settings: &FinetuneSettings,
    model: &Model,
    fresh: Vec<String>,
    resume: bool,
) -> Result<RunFolder> {
    if !settings.adapter {
        return Ok(folder.clone());
    }
    if let Some(from) = goes_on_from(folder, settings, resume) {
        let trunk = BaseModel::at(from).trunk()?;
        let own = adapter_tensors(from)?.into_iter().collect();
        return Ok(trunk.map_or_else(|| folder.clone(), |trunk| folder.of_adapter(trunk, own)));
    }
    let own = own_tensors(settings, model, fresh)?;
    Ok(folder.of_adapter(trunk_place(settings)?, own.into_iter().collect()))
}

/// Where an adapter of these settings finds its trunk.
pub(super) fn trunk_place(settings: &FinetuneSettings) -> Result<TrunkPlace> {
    match (&settings.signals.preset, settings.signals.trunk_seed) {
        (Some(_), seed) => Ok(TrunkPlace::Seed(seed.unwrap_or(1))),
        (None, _) => BaseModel::named(settings.model.as_deref())?.as_trunk(),
    }
}

/// What is trained, and what is not the trunk's.
///
/// # Errors
/// If everything is trained.
pub(super) fn own_tensors(
    settings: &FinetuneSettings,
    model: &Model,
    fresh: Vec<String>,
) -> Result<Vec<String>> {
    let (parameters, training) = (model.parameters(), &settings.training);
    if training.recipe == Recipe::Full && training.parts.is_empty() && training.freeze.is_empty() {
        return Err(refused("adapter", "everything is trained: choose a recipe that leaves a trunk frozen"));
    }
    // Heads are set up for the task even where they are not trained.
    let reads_texts = model.head().reads_texts(); // where positions are labelled, nothing reads the pooler
    let is_head = |name: &str| name.starts_with("classifier.") || reads_texts && name.contains(".pooler.");
    let is_own = |name: &str| fresh.iter().any(|own| own == name);
    let table = parameters.table().iter();
    let own = table.filter(|t| t.trainable || is_head(&t.name) || is_own(&t.name));
    Ok(own.map(|tensor| tensor.name.clone()).collect())
}
