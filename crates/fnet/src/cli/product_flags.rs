//! What computes matrix products.

use clap::Args;
use fnet_encoder::{Level, Precision, Products};
use fnet_train::{Error, Result};
use serde::{Deserialize, Serialize};

use super::common::parse_name;

/// How matrix products are computed.
#[derive(Args, Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProductFlags {
    /// Operands of matrix products: f32 (the default), or bf16, with sums and weights in float32
    #[arg(long, value_parser = parse_name::<Precision>)]
    pub precision: Option<Precision>,
    /// What computes products: avx512 (f32), amx or avx512-bf16 (bf16), or library; by default the fastest
    /// of this machine. The last bits depend on it
    #[arg(long, value_name = "LEVEL", value_parser = parse_name::<Level>)]
    pub products: Option<Level>,
}

impl ProductFlags {
    /// Fills in what was not given.
    pub fn resolve(&mut self) -> Result<Products> {
        let precision = self.precision.unwrap_or_default();
        let products = match self.products {
            None => Products::new(precision),
            Some(level) => Products::with_level(precision, level).ok_or_else(|| {
                let here: Vec<_> = Products::all(precision).map(|p| p.level().name()).collect();
                let (level, precision, here) = (level.name(), precision.name(), here.join(", "));
                Error::usage(format!("--products {level}: for {precision} this machine has {here}"))
            })?,
        };
        (self.precision, self.products) = (Some(precision), Some(products.level()));
        Ok(products)
    }
}
