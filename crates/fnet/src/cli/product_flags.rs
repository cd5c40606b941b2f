//! What computes matrix products.

use clap::Args;
use fnet_encoder::{Level, Precision, Products};
use fnet_train::Result;
use fnet_train::runs::training::products;
use serde::Serialize;

use super::common::parse_name;

/// How matrix products are computed.
#[derive(Args, Clone, Copy, Serialize)]
pub struct ProductFlags {
    /// Operands of matrix products: f32 (the default), bf16, with sums and weights in float32, or, to use a model, int8:
    /// linear layers in 8 bits
    #[arg(long, value_parser = parse_name::<Precision>)]
    pub precision: Option<Precision>,
    /// What computes products: avx512 (f32), amx or avx512-bf16 (bf16), avx512-vnni (int8), or library; by default the
    /// fastest of this machine. The last bits depend on it
    #[arg(long, value_name = "LEVEL", value_parser = parse_name::<Level>)]
    pub products: Option<Level>,
}

impl ProductFlags {
    /// The products that are asked for.
    pub fn products(self) -> Result<Products> {
        products(self.precision.unwrap_or_default(), self.products)
    }
}
