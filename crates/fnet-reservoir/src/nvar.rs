//! Nonlinear vector autoregression: reservoir computing without a reservoir.

use serde::{Deserialize, Serialize};

use crate::dynamics::Dynamics;
use crate::error::{ReservoirError, Result};

/// What an autoregression reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NvarSettings {
    /// Steps that are read: the newest, and others before it.
    pub delays: usize,
    /// Steps from one to the next that is read.
    pub stride: usize,
    /// Products of up to so many of the values read.
    pub order: usize,
}

impl Default for NvarSettings {
    fn default() -> Self {
        Self { delays: 2, stride: 1, order: 2 }
    }
}

/// Nonlinear vector autoregression (Gauthier, Bollt, Griffith and Barbosa 2021, equations 4 to 7): the features are the
/// inputs of some steps, and all products of them of each degree up to the order.
#[derive(Debug, Clone)]
pub struct Nvar {
    settings: NvarSettings,
    inputs: usize,
    /// Which values each product is of; sorted, so that the one without its last value stands before.
    products: Vec<Vec<usize>>,
}

/// More features than this are a mistake.
const MOST_FEATURES: usize = 50_000;

impl Nvar {
    /// For `inputs` inputs.
    ///
    /// # Errors
    /// If a setting is out of range, or there are too many products.
    pub fn new(settings: &NvarSettings, inputs: usize) -> Result<Self> {
        let NvarSettings { delays, stride, order } = *settings;
        for (field, value) in [("delays", delays), ("stride", stride), ("order", order)] {
            if !(1..=10_000).contains(&value) {
                return Err(ReservoirError::setting(field, value, "must be from 1 to 10000"));
            }
        }
        let values = delays * inputs;
        let mut products: Vec<Vec<usize>> = (0..values).map(|value| vec![value]).collect();
        let mut last = 0..products.len();
        for _ in 1..order {
            let start = products.len();
            for i in last {
                for value in products[i][products[i].len() - 1]..values {
                    let longer = products[i].iter().copied().chain([value]).collect();
                    products.push(longer);
                }
                if products.len() > MOST_FEATURES {
                    let message = format!("{values} values have more than {MOST_FEATURES} products");
                    return Err(ReservoirError::setting("order", order, message));
                }
            }
            last = start..products.len();
        }
        Ok(Self { settings: settings.clone(), inputs, products })
    }

    fn steps_kept(&self) -> usize {
        (self.settings.delays - 1) * self.settings.stride + 1
    }
}

impl Dynamics for Nvar {
    type Value = f64;
    /// The newest inputs first.
    type State = std::collections::VecDeque<Vec<f64>>;

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn feedback(&self) -> usize {
        0
    }

    fn features(&self) -> usize {
        self.products.len()
    }

    fn start(&self) -> Self::State {
        (0..self.steps_kept()).map(|_| vec![0.0; self.inputs]).collect()
    }

    fn step(&self, state: &mut Self::State, input: &[f64], _: &[f64], features: &mut [f64]) {
        let mut oldest = state.pop_back().unwrap_or_default();
        oldest.clear();
        oldest.extend_from_slice(input);
        state.push_front(oldest);
        let values: Vec<f64> = state.iter().step_by(self.settings.stride).flatten().copied().collect();
        for (feature, product) in features.iter_mut().zip(&self.products) {
            *feature = product.iter().map(|value| values[*value]).product();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_the_values_of_some_steps() {
        let nvar = Nvar::new(&NvarSettings { delays: 2, stride: 2, order: 2 }, 1).unwrap();
        let (mut state, mut features) = (nvar.start(), vec![0.0; nvar.features()]);
        for value in [2.0, 3.0, 5.0] {
            nvar.step(&mut state, &[value], &[], &mut features);
        }
        assert_eq!(features, [5.0, 2.0, 25.0, 10.0, 4.0]);
        assert_eq!(
            Nvar::new(&NvarSettings { delays: 2, stride: 1, order: 3 }, 3).unwrap().features(),
            6 + 21 + 56
        );
        assert!(Nvar::new(&NvarSettings { delays: 100, stride: 1, order: 4 }, 3).is_err());
        assert!(Nvar::new(&NvarSettings { delays: 0, stride: 1, order: 1 }, 1).is_err());
    }
}
