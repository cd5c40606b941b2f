//! Sparse random matrices that need no index for each weight.
//!
//! Unit `i` is connected to the sources `i + s`, counted round, for a few shifts `s` that all units share; each connection
//! has a weight of its own. So a step reads weights and sources in order, whole vectors at a time, and every unit has the same
//! number of connections. A matrix with all shifts is dense, so any matrix can be written in this way.

use ndarray::{Array2, ArrayView2};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::real::Real;

/// Units that are computed together, where there are so many: their sums stay in the fastest cache.
const BLOCK: usize = 256;
/// Numbers in a vector of the CPU, at least.
const LANES: usize = 8;

/// Units that are computed together, of so many.
pub(crate) fn block_of(units: usize) -> usize {
    units.next_multiple_of(LANES).min(BLOCK)
}

/// A matrix `[units, sources]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Connections<T> {
    units: usize,
    sources: usize,
    shifts: Vec<usize>,
    /// `[blocks of units, shifts, units of a block]`; 0 beyond the last unit.
    weights: Vec<T>,
}

impl<T: Real> Connections<T> {
    /// With `each` connections of every unit, at most as many as there are sources, and weights from `draw`.
    pub(crate) fn random(
        [units, sources]: [usize; 2],
        each: usize,
        random: &mut ChaCha8Rng,
        mut draw: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) -> Self {
        let mut all: Vec<usize> = (0..sources).collect();
        let mut shifts = all.partial_shuffle(random, each.min(sources)).0.to_vec();
        shifts.sort_unstable();
        let mut own = Self::without_weights([units, sources], shifts);
        for unit in 0..units {
            for shift in 0..own.shifts.len() {
                let place = own.place(unit, shift);
                own.weights[place] = T::of(draw(random));
            }
        }
        own
    }

    /// A given matrix `[units, sources]`; shifts without a weight are left out.
    pub fn from_dense(matrix: ArrayView2<f64>) -> Self {
        let (units, sources) = matrix.dim();
        let source = |unit: usize, shift: usize| (unit + shift) % sources;
        let is_used = |shift: &usize| (0..units).any(|unit| matrix[[unit, source(unit, *shift)]] != 0.0);
        let shifts: Vec<usize> = (0..sources).filter(is_used).collect();
        let mut own = Self::without_weights([units, sources], shifts);
        for unit in 0..units {
            for shift in 0..own.shifts.len() {
                let place = own.place(unit, shift);
                own.weights[place] = T::of(matrix[[unit, source(unit, own.shifts[shift])]]);
            }
        }
        own
    }

    fn without_weights([units, sources]: [usize; 2], shifts: Vec<usize>) -> Self {
        let weights = vec![T::default(); units.next_multiple_of(block_of(units)) * shifts.len()];
        Self { units, sources, shifts, weights }
    }

    /// The matrix `[units, sources]`.
    pub fn to_dense(&self) -> Array2<f64> {
        let mut matrix = Array2::zeros((self.units, self.sources));
        for unit in 0..self.units {
            for (i, shift) in self.shifts.iter().enumerate() {
                matrix[[unit, (unit + shift) % self.sources]] += self.weights[self.place(unit, i)].to_f64();
            }
        }
        matrix
    }

    /// Rows.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Columns.
    pub fn sources(&self) -> usize {
        self.sources
    }

    /// Connections of a unit.
    pub fn each(&self) -> usize {
        self.shifts.len()
    }

    /// Units that are computed together.
    pub(crate) fn block(&self) -> usize {
        block_of(self.units)
    }

    /// Units with those that fill the last block.
    pub(crate) fn padded(&self) -> usize {
        self.units.next_multiple_of(self.block())
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.weights.iter_mut().for_each(|weight| *weight = T::of(weight.to_f64() * factor));
    }

    pub(crate) fn shifts(&self) -> &[usize] {
        &self.shifts
    }

    pub(crate) fn weights_of(&self, block: usize) -> &[T] {
        let size = self.shifts.len() * self.block();
        &self.weights[block * size..][..size]
    }

    fn place(&self, unit: usize, shift: usize) -> usize {
        let block = self.block();
        (unit / block * self.shifts.len() + shift) * block + unit % block
    }

    /// Length of the sources' values as [`lay_out`](Self::lay_out) writes them.
    pub(crate) fn laid_out_len(&self) -> usize {
        self.padded() + self.sources
    }

    /// Repeats the sources' values until every unit finds its own at `unit + shift`.
    pub(crate) fn lay_out(&self, values: &[T], into: &mut [T]) {
        for part in into.chunks_mut(self.sources.max(1)) {
            part.copy_from_slice(&values[..part.len()]);
        }
    }

    /// The weight of a unit's first connection.
    pub(crate) fn first_weight(&self, unit: usize) -> f64 {
        self.weights[self.place(unit, 0)].to_f64()
    }

    /// `matrix · values`, in float64.
    pub(crate) fn times(&self, values: &[f64]) -> Vec<f64> {
        let mut product = vec![0.0; self.units];
        let size = self.block();
        for (block, product) in product.chunks_mut(size).enumerate() {
            for (weights, shift) in self.weights_of(block).chunks_exact(size).zip(&self.shifts) {
                let first = (block * size + shift) % self.sources;
                for (k, (sum, weight)) in product.iter_mut().zip(weights).enumerate() {
                    let source = first + k;
                    let source = if source < self.sources { source } else { source % self.sources };
                    *sum += weight.to_f64() * values[source];
                }
            }
        }
        product
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn any_matrix_is_written_by_shifts() {
        for (units, sources) in [(1, 1), (5, 3), (3, 5), (40, 40), (33, 100)] {
            let matrix = Array2::from_shape_fn((units, sources), |(i, j)| {
                if (i * 7 + j * 3) % 4 == 0 { 0.0 } else { i as f64 - 0.1 * j as f64 }
            });
            let own = Connections::<f64>::from_dense(matrix.view());
            assert_eq!(own.to_dense(), matrix);
            let values: Vec<f64> = (0..sources).map(|j| (j as f64).cos()).collect();
            let expected = matrix.dot(&ndarray::Array1::from(values.clone()));
            let product = own.times(&values);
            assert!(product.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-10));
        }
    }

    #[test]
    fn every_unit_has_the_same_number_of_connections() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let own = Connections::<f32>::random([50, 50], 7, &mut random, |_| 1.0);
        let matrix = own.to_dense();
        for i in 0..50 {
            assert_eq!((matrix.row(i).sum(), matrix.column(i).sum()), (7.0, 7.0));
        }
        assert_eq!(Connections::<f32>::random([3, 2], 9, &mut random, |_| 1.0).each(), 2);
    }
}
