//! Writes the sample data that is shipped in `data/`:
//! `cargo run --release -p xtask --bin make_sample_data -- data`

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from("data"), PathBuf::from);
    fnet_train::data::sample::write(&folder, fnet_train::data::sample::SEED)?;
    Ok(())
}
