//! Settings of a run: their names in messages and files, defaults under what is given, and checks.

mod check;
mod layers;

pub use crate::error::names::{call_settings, refused, setting};
pub use check::{absolute, existing_files, in_range};
pub use layers::{Settings, from_table, given, over, over_file, unknown};
