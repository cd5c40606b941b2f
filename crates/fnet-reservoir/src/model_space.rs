//! Series as the linear models of their own dynamics: the reservoir model space (Bianchi et al. 2021).

use ndarray::{Array1, Array2, ArrayView2, Axis, linalg::general_mat_mul};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::{ReservoirError, Result};
use crate::ridge::{Penalty, Sums};
use crate::{Reservoir, ReservoirSettings};

/// Rounds of subspace iteration: enough for the space that is spanned, whose axes may be any.
const ROUNDS: usize = 60;
/// Penalty of a series' own model, whose states have deviation 1.
const PENALTY: f64 = 1.0;

/// A space in which each series of any length is a point: the ridge regression that predicts its next reservoir state from
/// the last one, `k(t + 1) = A k(t) + b`, in the first principal components `k` of the states of all series (Bianchi,
/// Scardapane, Løkse and Jenssen 2021, section III-C, with principal components instead of those of a tensor).
///
/// A linear readout of these points tells series apart by how they move, not where they are.
///
/// ```
/// use fnet_reservoir::{ModelSpace, ReservoirSettings};
///
/// let wave = |speed: f32| -> Vec<f32> { (0..50).map(|t| (speed * t as f32).sin()).collect() };
/// let settings = ReservoirSettings { units: 50, leak: 0.5, input_scale: 0.3, ..ReservoirSettings::default() };
/// let space = ModelSpace::fit(&settings, 1, 8, [wave(0.2), wave(0.7)].iter().map(Vec::as_slice))?;
/// assert_eq!(space.features(&wave(0.4)).len(), 8 * 9);
/// # Ok::<(), fnet_reservoir::ReservoirError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelSpace {
    reservoir: Reservoir<f32>,
    /// `[units, dimensions]`; states in it have deviation 1.
    basis: Array2<f32>,
}

impl ModelSpace {
    /// The space of some series, each `[steps, inputs]`, by a random reservoir.
    ///
    /// # Errors
    /// If the settings make no reservoir, or there are to be more dimensions than units, or none.
    pub fn fit<'a>(
        settings: &ReservoirSettings,
        inputs: usize,
        dimensions: usize,
        series: impl IntoIterator<Item = &'a [f32]>,
    ) -> Result<Self> {
        check(settings, dimensions)?;
        let reservoir = Reservoir::random(settings, inputs, 0, 0)?;
        let mut sums = Moments::new(settings.units);
        for one in series {
            let states = states_of(&reservoir, one).mapv(f64::from);
            sums.add(states.view());
        }
        let basis = principal(&sums.covariance(), dimensions, settings.seed);
        Ok(Self { reservoir, basis: basis.mapv(|v| v as f32) })
    }

    /// The space of a [`basis`](Self::basis) that was found before, with the same settings.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); if the basis has another size.
    pub fn from_basis(
        settings: &ReservoirSettings,
        inputs: usize,
        dimensions: usize,
        basis: &[f32],
    ) -> Result<Self> {
        check(settings, dimensions)?;
        let basis = Array2::from_shape_vec((settings.units, dimensions), basis.to_vec()).map_err(|_| {
            ReservoirError::setting("basis", basis.len(), "must have units times dimensions values")
        })?;
        Ok(Self { reservoir: Reservoir::random(settings, inputs, 0, 0)?, basis })
    }

    /// `[units, dimensions]`, row by row.
    pub fn basis(&self) -> &[f32] {
        self.basis.as_slice().unwrap_or_default()
    }

    /// Number of [`features`](Self::features).
    pub fn width(&self) -> usize {
        self.basis.ncols() * (self.basis.ncols() + 1)
    }

    /// A series, `[steps, inputs]`, as a point: `[dimensions, dimensions]` of its model, then its constants. A series without
    /// steps is the origin.
    pub fn features(&self, series: &[f32]) -> Vec<f32> {
        let dimensions = self.basis.ncols();
        let states = states_of(&self.reservoir, series);
        // The first state follows from that before the series, which is zero.
        let mut reduced = Array2::zeros((states.nrows() + 1, dimensions));
        reduced.slice_mut(ndarray::s![1.., ..]).assign(&states.dot(&self.basis));
        let values = reduced.as_slice().unwrap_or_default();
        let mut sums = Sums::new(dimensions, dimensions);
        sums.add(&values[..states.nrows() * dimensions], &values[dimensions..]);
        match sums.into_solution(Penalty::Raw(PENALTY)) {
            Some(model) => model.weight.iter().chain(&model.bias).map(|v| *v as f32).collect(),
            None => vec![0.0; self.width()],
        }
    }
}

fn check(settings: &ReservoirSettings, dimensions: usize) -> Result<()> {
    settings.check()?;
    if (1..=settings.units).contains(&dimensions) {
        return Ok(());
    }
    let message = format!("must be from 1 to the number of units, {}", settings.units);
    Err(ReservoirError::setting("dimensions", dimensions, message))
}

/// `[steps, units]`
fn states_of(reservoir: &Reservoir<f32>, series: &[f32]) -> Array2<f32> {
    let steps = series.chunks_exact(reservoir.inputs().max(1));
    let (mut state, mut all) = (reservoir.start(), Array2::zeros((steps.len(), reservoir.units())));
    for (mut row, input) in all.rows_mut().into_iter().zip(steps) {
        row.iter_mut().zip(reservoir.step(&mut state, input, &[])).for_each(|(own, value)| *own = *value);
    }
    all
}

/// Sums of states and of their products.
struct Moments {
    count: f64,
    sum: Array1<f64>,
    products: Array2<f64>,
}

impl Moments {
    fn new(units: usize) -> Self {
        Self { count: 0.0, sum: Array1::zeros(units), products: Array2::zeros((units, units)) }
    }

    fn add(&mut self, states: ArrayView2<f64>) {
        self.count += states.nrows() as f64;
        self.sum += &states.sum_axis(Axis(0));
        general_mat_mul(1.0, &states.t(), &states, 1.0, &mut self.products);
    }

    fn covariance(self) -> Array2<f64> {
        let count = self.count.max(1.0);
        let mean = self.sum / count;
        let mut covariance = self.products / count;
        for ((i, j), value) in covariance.indexed_iter_mut() {
            *value -= mean[i] * mean[j];
        }
        covariance
    }
}

/// `[units, dimensions]` that span the directions of the largest variance, scaled so that it is 1 on average.
fn principal(covariance: &Array2<f64>, dimensions: usize, seed: u64) -> Array2<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut basis =
        Array2::from_shape_simple_fn((covariance.nrows(), dimensions), || StandardNormal.sample(&mut random));
    for _ in 0..ROUNDS {
        basis = covariance.dot(&basis);
        orthonormalise(&mut basis);
    }
    let variance = (&basis * &covariance.dot(&basis)).sum() / dimensions as f64;
    basis / variance.max(1e-12).sqrt()
}

/// Gram and Schmidt's, twice for its rounding; a column that the others span becomes zero.
fn orthonormalise(columns: &mut Array2<f64>) {
    for i in 0..columns.ncols() {
        let mut column = columns.column(i).to_owned();
        let before = column.dot(&column).sqrt();
        for _ in 0..2 {
            for j in 0..i {
                let other = columns.column(j);
                let along = column.dot(&other);
                column.scaled_add(-along, &other);
            }
        }
        let length = column.dot(&column).sqrt();
        let is_spanned = length <= 1e-10 * before || length < 1e-150;
        columns.column_mut(i).assign(&if is_spanned { column * 0.0 } else { column / length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ReservoirSettings {
        ReservoirSettings { units: 40, leak: 0.5, input_scale: 0.4, ..ReservoirSettings::default() }
    }

    fn wave(speed: f32, phase: f32, steps: usize) -> Vec<f32> {
        (0..steps).map(|t| (speed * t as f32 + phase).sin()).collect()
    }

    #[test]
    fn components_are_those_of_the_covariance() {
        // Variances 9, 4 and 1 along three axes: the first two span the plane of the basis.
        let covariance = ndarray::array![[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]];
        let basis = principal(&covariance, 2, 1);
        assert!(basis.row(1).iter().all(|v| v.abs() < 1e-9));
        let gram = basis.t().dot(&basis) * 6.5; // the mean of 9 and 4
        assert!((gram - Array2::<f64>::eye(2)).iter().all(|v| v.abs() < 1e-9));
        let flat = principal(&Array2::zeros((3, 3)), 2, 1);
        assert!(flat.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn a_point_is_the_ridge_regression_of_the_next_state() {
        let series = wave(0.3, 0.1, 60);
        let space = ModelSpace::fit(&settings(), 1, 3, [series.as_slice()]).unwrap();
        let k = states_of(&space.reservoir, &series).dot(&space.basis).mapv(f64::from);
        let point = space.features(&series);
        // The gradient of the penalised squared error is zero there.
        let weight =
            Array2::from_shape_vec((3, 3), point[..9].iter().map(|v| f64::from(*v)).collect()).unwrap();
        let bias = Array1::from_iter(point[9..].iter().map(|v| f64::from(*v)));
        let (mut of_weight, mut of_bias) = (&weight * PENALTY, Array1::<f64>::zeros(3));
        for t in 0..60 {
            let last = if t == 0 { Array1::zeros(3) } else { k.row(t - 1).to_owned() };
            let error = weight.dot(&last) + &bias - k.row(t);
            of_bias += &error;
            for (i, error) in error.iter().enumerate() {
                of_weight.row_mut(i).scaled_add(*error, &last);
            }
        }
        assert!(of_weight.iter().chain(&of_bias).all(|v| v.abs() < 1e-3), "{of_weight} {of_bias}");
    }

    #[test]
    fn points_of_the_same_dynamics_are_near() {
        let series: Vec<Vec<f32>> =
            (0..6).map(|i| wave(if i < 3 { 0.2 } else { 0.8 }, i as f32, 80 + 7 * i)).collect();
        let space = ModelSpace::fit(&settings(), 1, 6, series.iter().map(Vec::as_slice)).unwrap();
        let points: Vec<Vec<f32>> = series.iter().map(|series| space.features(series)).collect();
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        assert!(apart(&points[0], &points[1]) < 0.5 * apart(&points[0], &points[4]));
        assert!(apart(&points[4], &points[5]) < 0.5 * apart(&points[1], &points[5]));
        let again = ModelSpace::from_basis(&settings(), 1, 6, space.basis()).unwrap();
        assert_eq!(again.features(&series[2]), points[2]);
    }

    #[test]
    fn any_length_has_a_point_and_no_other_size_a_space() {
        let space = ModelSpace::fit(&settings(), 2, 5, [&[][..], &[1.0, 2.0]]).unwrap();
        for series in [&[][..], &[0.5, 1.0], &[0.1; 14]] {
            let point = space.features(series);
            assert!(point.len() == space.width() && point.iter().all(|v| v.is_finite()));
        }
        assert!(space.features(&[]).iter().all(|v| *v == 0.0));
        for dimensions in [0, 41] {
            assert!(ModelSpace::fit(&settings(), 1, dimensions, []).is_err());
        }
        assert!(ModelSpace::from_basis(&settings(), 1, 5, &[0.0; 3]).is_err());
    }
}
