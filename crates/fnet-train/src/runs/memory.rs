//! Whether a readout fits into memory, before it is begun.

use crate::error::{Error, Result};
use crate::runs::report::bytes_of;
use crate::settings::setting;

/// Refuses more features than there is memory for: their products are held twice. The message names the setting that makes
/// them so many.
pub(super) fn check(field: &str, features: usize, networks: usize) -> Result<()> {
    let need =
        (features as u64).saturating_mul(features as u64).saturating_mul(17).saturating_mul(networks as u64);
    match bytes_of("/proc/meminfo", "MemAvailable:") {
        Some(free) if need > free => {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let message = format!(
                "{features} features need {:.1} GB, {:.1} GB are free",
                gigabytes(need),
                gigabytes(free)
            );
            Err(Error::usage(format!("{}: {message}", setting(field))))
        }
        _ => Ok(()),
    }
}
