//! Plans and flop counts of Fourier-like mixers.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use fnet_mixing::MixError;

/// Plans by sequence length, made when a length is first seen.
pub struct Plans<P>(RwLock<HashMap<usize, P>>);

impl<P: Clone> Plans<P> {
    pub fn new() -> Self {
        Self(RwLock::default())
    }

    pub fn get(&self, length: usize, make: impl FnOnce() -> Result<P, MixError>) -> Result<P, MixError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = make()?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(length, plan.clone());
        Ok(plan)
    }
}

/// Flops per token of a transform over `transformed` values that keeps its real part: `1.25 log2 N` per value.
pub fn fft_flops(transformed: f64, per_token: f64) -> f64 {
    1.25 * per_token * transformed.max(1.0).log2()
}
