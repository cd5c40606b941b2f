//! One table that answers which substrate, frozen how far, for which task, at what cost: tasks of any modality, on random
//! and on pretrained trunks of each mixer, by each recipe.

use crate::error::Result;
use crate::folder::claim::Claim;
use crate::runs::runner::{Runner, begin};
use crate::train::stop::Stop;
use cells::Cells;
pub use settings::UniversalSettings;
pub use substrate::Substrate;
pub use table::{Cell, Universal};

mod answers;
mod cells;
mod published;
mod report;
mod settings;
mod substrate;
mod table;

/// The settings of a table, in its folder.
pub const SETTINGS_FILE: &str = "universal.toml";

/// Runs what is not done yet of a table in a folder, and writes its `results.json`, `results.csv` and `report.html` after
/// every cell.
///
/// # Errors
/// If the folder holds a table with other settings, a file cannot be written, or the table is asked to stop. A run that
/// fails is a failure of its cell.
pub fn run(
    folder: &Claim,
    settings: &UniversalSettings,
    runner: &mut impl Runner,
    stop: &Stop,
) -> Result<Universal> {
    let (out, mut settings) = (folder.path(), settings.clone());
    settings.resolve()?;
    let text = begin(&out.join(SETTINGS_FILE), &settings, UniversalSettings::resolve)?;
    stop.arm();
    let mut cells = Cells { out, settings: &settings, runner };
    let mut universal = Universal::default();
    let pretrained = cells.pretrain()?;
    for task in settings.task.keys() {
        for substrate in settings.substrates() {
            for recipe in settings.recipes_on(&substrate) {
                if let Some(cell) = cells.cell(task, &substrate, recipe, &pretrained)? {
                    universal.cells.push(cell);
                    universal.write(out, &text)?;
                }
            }
        }
    }
    universal.write(out, &text)?;
    Ok(universal)
}
