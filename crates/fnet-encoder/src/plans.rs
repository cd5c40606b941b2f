//! Plans and flop counts of Fourier-like mixers.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use fnet_mixing::{FourierMixer, MixError, RaggedMixer};
use rustfft::Fft;

/// Plans that all layers of a model share, made when a length is first seen.
#[derive(Default)]
pub(crate) struct SharedPlans {
    fourier: Option<RaggedMixer>,
    pub fourier_seq: Plans<FourierMixer>,
    pub hartley: Plans<Arc<dyn Fft<f32>>>,
}

impl SharedPlans {
    pub fn fourier(&mut self, hidden: usize) -> RaggedMixer {
        self.fourier.get_or_insert_with(|| RaggedMixer::new(hidden)).clone()
    }
}

/// Plans by sequence length. Clones share them.
pub(crate) struct Plans<P>(Arc<RwLock<HashMap<usize, P>>>);

/// Lengths whose plans are kept; beyond it, all are dropped and made anew as they are needed.
const MOST_LENGTHS: usize = 1_024;

impl<P> Clone for Plans<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> Default for Plans<P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<P: Clone> Plans<P> {
    pub fn get(&self, length: usize, make: impl FnOnce() -> Result<P, MixError>) -> Result<P, MixError> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&length).cloned();
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = make()?;
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_LENGTHS {
            kept.clear();
        }
        kept.insert(length, plan.clone());
        Ok(plan)
    }
}

/// Flops per token of a transform over `transformed` values that keeps its real part: `1.25 log2 N` per value.
pub fn fft_flops(transformed: f64, per_token: f64) -> f64 {
    1.25 * per_token * transformed.max(1.0).log2()
}
