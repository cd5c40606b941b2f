//! Ridge regression (Hoerl and Kennard 1970) from sums over rows, in float64 and in a fixed order.
//!
//! With `z` the inputs, each of mean 0 and deviation 1, and `y` the centred targets of `n` rows, the weights are
//! `W = (Zᵀ Z + n λ I)⁻¹ Zᵀ Y`. The penalty `λ` has the least generalised cross-validation error (Golub, Heath and Wahba
//! 1979): `GCV(λ) = (|Y - Z W|² / n) / (1 - (1 + tr H) / n)²`, where `H = Z (Zᵀ Z + n λ I)⁻¹ Zᵀ`. All of it follows from
//! the sums, so rows are seen once and none is kept.

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul, s};
use rayon::prelude::*;

use crate::cholesky::Cholesky;
use crate::products;
use crate::real::Real;

/// Columns of a block that one task sums: the same at any number of threads.
const PANEL: usize = 128;
/// Inputs from which on blocks are twice as wide, for products of larger blocks are faster.
const MANY_INPUTS: usize = 512;
/// Rows whose products are summed in float32 before they are added in float64.
const SINGLE_ROWS: usize = 2_048;

/// Sums over rows of inputs and targets, taken around the first row.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// Whether products are computed in float32.
    single: bool,
    count: f64,
    origin: Array1<f64>,
    x: Array1<f64>,
    y: Array1<f64>,
    /// The lower half of the sum of `x xᵀ`.
    xx: Array2<f64>,
    xy: Array2<f64>,
    yy: f64,
}

impl Sums {
    /// Of no rows.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            single: false,
            count: 0.0,
            origin: Array1::zeros(inputs),
            x: Array1::zeros(inputs),
            y: Array1::zeros(outputs),
            xx: Array2::zeros((inputs, inputs)),
            xy: Array2::zeros((inputs, outputs)),
            yy: 0.0,
        }
    }

    /// As [`new`](Self::new), with the products of inputs computed in float32, in parts of 2,048 rows that are added in float64:
    /// twice as fast, for many inputs and penalties that are not small.
    pub fn in_single(inputs: usize, outputs: usize) -> Self {
        Self { single: true, ..Self::new(inputs, outputs) }
    }

    /// Adds rows: `x` `[rows, inputs]` and `y` `[rows, outputs]`.
    pub fn add<X: Real, Y: Real>(&mut self, x: &[X], y: &[Y]) {
        let (inputs, outputs) = (self.x.len(), self.y.len());
        let rows = x.len() / inputs;
        if rows == 0 {
            return;
        }
        if self.count == 0.0 {
            self.origin = x[..inputs].iter().map(|v| v.to_f64()).collect();
        }
        let origin = &self.origin;
        let origin = origin.as_slice().unwrap_or_default();
        let rows_of_x = x.chunks_exact(inputs);
        let mut x = Array2::zeros((rows, inputs));
        for (mut own, values) in x.rows_mut().into_iter().zip(rows_of_x) {
            own.iter_mut().zip(values).zip(origin).for_each(|((own, x), origin)| *own = x.to_f64() - origin);
        }
        let y = Array2::from_shape_fn((rows, outputs), |(i, j)| y[i * outputs + j].to_f64());
        self.count += rows as f64;
        self.x += &x.sum_axis(Axis(0));
        self.y += &y.sum_axis(Axis(0));
        self.yy += y.iter().map(|v| v * v).sum::<f64>();
        general_mat_mul(1.0, &x.t(), &y, 1.0, &mut self.xy);
        if self.single {
            self.add_in_single(&x.mapv(|v| v as f32));
        } else {
            each_panel(&mut self.xx, |first, below| {
                let own = x.slice(s![.., first..first + below.ncols()]);
                general_mat_mul(1.0, &x.slice(s![.., first..]).t(), &own, 1.0, below);
            });
        }
    }

    fn add_in_single(&mut self, x: &Array2<f32>) {
        each_panel(&mut self.xx, |first, below| {
            let mut sum = Array2::zeros(below.dim());
            for x in x.axis_chunks_iter(Axis(0), SINGLE_ROWS) {
                let own = x.slice(s![.., first..first + below.ncols()]);
                products::transposed_times(x.slice(s![.., first..]), own, sum.view_mut());
                below.zip_mut_with(&sum, |all, part| *all += f64::from(*part));
            }
        });
    }

    /// Whether all values have been finite.
    pub fn are_finite(&self) -> bool {
        self.yy.is_finite() && self.xx.diag().iter().chain(&self.x).all(|v| v.is_finite())
    }

    /// Rows so far.
    pub fn rows(&self) -> f64 {
        self.count
    }

    /// All of it in numbers, to be stored: as many for the same inputs and outputs.
    pub fn to_values(&self) -> Vec<f64> {
        let lower = (0..self.x.len()).flat_map(|i| self.xx.row(i).into_iter().take(i + 1));
        let parts = self.origin.iter().chain(&self.x).chain(&self.y).chain(lower).chain(&self.xy);
        [self.count, self.yy].iter().chain(parts).copied().collect()
    }

    /// The sums that [`to_values`](Self::to_values) stored; `None` if they are not of so many inputs and outputs, or no
    /// sums.
    pub fn from_values(inputs: usize, outputs: usize, values: &[f64]) -> Option<Self> {
        let expected = 2 + 2 * inputs + outputs + inputs * (inputs + 1) / 2 + inputs * outputs;
        if values.len() != expected || values.iter().any(|v| !v.is_finite()) || values[0] < 0.0 {
            return None;
        }
        let mut values = values.iter().copied();
        let mut own = Self::new(inputs, outputs);
        (own.count, own.yy) = (values.next()?, values.next()?);
        let mut fill =
            |part: &mut Array1<f64>| part.iter_mut().zip(values.by_ref()).for_each(|(v, value)| *v = value);
        fill(&mut own.origin);
        fill(&mut own.x);
        fill(&mut own.y);
        for i in 0..inputs {
            own.xx.row_mut(i).iter_mut().take(i + 1).zip(values.by_ref()).for_each(|(v, value)| *v = value);
        }
        own.xy.iter_mut().zip(values).for_each(|(v, value)| *v = value);
        Some(own)
    }

    /// The weights at a penalty; `None` if the equations are singular there, or the sums are not finite.
    pub fn solve(&self, penalty: Penalty) -> Option<Ridge> {
        self.clone().into_solution(penalty)
    }

    /// As [`solve`](Self::solve), in half the memory.
    pub fn into_solution(mut self, penalty: Penalty) -> Option<Ridge> {
        if !self.are_finite() || self.count == 0.0 {
            return None;
        }
        let xx = std::mem::take(&mut self.xx);
        let centred = Centred::of(&self, xx, penalty);
        let found = match penalty {
            Penalty::CrossValidation => centred.best()?,
            Penalty::Standardized(penalty) => centred.at(penalty)?,
            Penalty::Raw(penalty) => {
                let per_row = penalty / centred.rows;
                let (factor, centred) = centred.into_factor(per_row)?;
                let found = Found { penalty, ..centred.weights(&factor, per_row, None)? };
                return Some(centred.in_units_of_inputs(found, &self));
            }
        };
        Some(centred.in_units_of_inputs(found, &self))
    }
}

/// Hands the lower part of each block of columns to `take`, with the first column's number.
fn each_panel(xx: &mut Array2<f64>, take: impl Fn(usize, &mut ArrayViewMut2<f64>) + Sync) {
    let width = if xx.nrows() < MANY_INPUTS { PANEL } else { 2 * PANEL };
    xx.axis_chunks_iter_mut(Axis(1), width).into_par_iter().enumerate().for_each(|(i, mut panel)| {
        let first = i * width;
        take(first, &mut panel.slice_mut(s![first.., ..]));
    });
}

/// How large weights are held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Penalty {
    /// That of the least generalised cross-validation error, for inputs of deviation 1.
    CrossValidation,
    /// `λ` in `(Zᵀ Z + n λ I)⁻¹ Zᵀ Y`, for inputs of deviation 1 and `n` rows.
    Standardized(f64),
    /// `λ` in `(Xᵀ X + λ I)⁻¹ Xᵀ Y`, for centred inputs as they are.
    Raw(f64),
}

/// A solution: `y = W x + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// `[outputs, inputs]`.
    pub weight: Array2<f64>,
    /// `[outputs]`.
    pub bias: Array1<f64>,
    /// `λ`.
    pub penalty: f64,
    /// Degrees of freedom that the fit uses, `1 + tr H`; `None` at a raw penalty, where they are not computed.
    pub freedom: Option<f64>,
    /// The root of the cross-validation error, where the degrees of freedom are known.
    pub error: f64,
}

/// Penalties that are tried are powers of this; in finer steps around the best.
const FINE: f64 = 3.162_277_660_168_379_5;
/// The smallest and the largest penalty, as exponents of the fine step.
const EXPONENTS: std::ops::RangeInclusive<i32> = -20..=8;

/// The normal equations of standardised inputs and centred targets.
struct Centred {
    rows: f64,
    mean: Array1<f64>,
    /// 0 for inputs that are constant.
    deviation: Array1<f64>,
    /// The lower half of `Zᵀ Z`.
    zz: Array2<f64>,
    zy: Array2<f64>,
    yy: f64,
    /// Inputs that are not constant.
    active: f64,
}

/// The weights of standardised inputs at one penalty.
struct Found {
    weight: Array2<f64>,
    penalty: f64,
    freedom: Option<f64>,
    error: f64,
}

impl Centred {
    fn of(sums: &Sums, mut zz: Array2<f64>, penalty: Penalty) -> Self {
        let n = sums.count.max(1.0);
        let (mean, y_mean) = (&sums.x / n, &sums.y / n);
        let variance = |j: usize| zz[[j, j]] / n - mean[j] * mean[j];
        // More than rounding leaves of a constant, here and in the float32 of inputs.
        let size = |j: usize| sums.origin[j].powi(2) + zz[[j, j]] / n;
        let varies = |j: usize| variance(j) > 1e-13 * size(j);
        let is_raw = matches!(penalty, Penalty::Raw(_));
        let scale = |j: usize| if is_raw { 1.0 } else { variance(j).sqrt() };
        let deviation: Array1<f64> =
            (0..mean.len()).map(|j| if varies(j) { scale(j) } else { 0.0 }).collect();
        let inverse = deviation.mapv(|d| if d > 0.0 { 1.0 / d } else { 0.0 });
        for ((i, j), v) in zz.indexed_iter_mut() {
            *v = (*v - n * mean[i] * mean[j]) * inverse[i] * inverse[j];
        }
        let mut zy = sums.xy.clone();
        for ((i, j), v) in zy.indexed_iter_mut() {
            *v = (*v - n * mean[i] * y_mean[j]) * inverse[i];
        }
        let yy = sums.yy - n * y_mean.iter().map(|v| v * v).sum::<f64>();
        let active = deviation.iter().filter(|d| **d > 0.0).count() as f64;
        Self { rows: n, mean, deviation, zz, zy, yy, active }
    }

    fn at(&self, penalty: f64) -> Option<Found> {
        let factor = Cholesky::of(self.penalised(self.zz.clone(), penalty))?;
        let constant = self.deviation.len() as f64 - self.active;
        // tr H = tr I - n λ tr (Zᵀ Z + n λ I)⁻¹; constant inputs have no part in either.
        let freedom = 1.0 + self.active - self.rows * penalty * (factor.trace_of_inverse() - constant);
        self.weights(&factor, penalty, Some(freedom))
    }

    /// As [`at`](Self::at), with the factor in place of the matrix.
    fn into_factor(mut self, penalty: f64) -> Option<(Cholesky, Self)> {
        let zz = std::mem::take(&mut self.zz);
        Some((Cholesky::of(self.penalised(zz, penalty))?, self))
    }

    fn penalised(&self, mut matrix: Array2<f64>, penalty: f64) -> Array2<f64> {
        for (j, d) in self.deviation.iter().enumerate() {
            matrix[[j, j]] = if *d > 0.0 { matrix[[j, j]] + self.rows * penalty } else { 1.0 };
        }
        matrix
    }

    fn weights(&self, factor: &Cholesky, penalty: f64, freedom: Option<f64>) -> Option<Found> {
        let (n, ridge) = (self.rows, self.rows * penalty);
        let weight = factor.solve(self.zy.clone());
        // |Y - Z W|² with Zᵀ Z W = Zᵀ Y - n λ W
        let fitted: f64 = weight.iter().zip(&self.zy).map(|(w, b)| w * b).sum();
        let size: f64 = weight.iter().map(|w| w * w).sum();
        let residual = (self.yy - fitted - ridge * size).max(0.0);
        let left = freedom.map_or(0.0, |freedom| 1.0 - freedom / n);
        // What is left of rounding alone says nothing.
        let is_known = left > 1e-6 && residual > 1e-12 * self.yy;
        let error = if is_known { (residual / n).sqrt() / left } else { f64::INFINITY };
        weight.iter().all(|w| w.is_finite()).then_some(Found { weight, penalty, freedom, error })
    }

    /// Down the hill from the middle: by factors of 10 first, then of their root.
    fn best(&self) -> Option<Found> {
        let at = |exponent: i32| self.at(FINE.powi(exponent));
        let error = |found: &Option<Found>| found.as_ref().map_or(f64::INFINITY, |found| found.error);
        let mut exponent = -6;
        let mut best = at(exponent);
        for step in [2, 1] {
            let start = exponent;
            for direction in [-step, step] {
                if exponent != start {
                    break; // back is where it came from
                }
                while EXPONENTS.contains(&(exponent + direction)) {
                    let next = at(exponent + direction);
                    if error(&next) >= error(&best) && best.is_some() {
                        break;
                    }
                    (exponent, best) = (exponent + direction, next);
                }
            }
        }
        best
    }

    fn in_units_of_inputs(&self, found: Found, sums: &Sums) -> Ridge {
        let Found { weight, penalty, freedom, error } = found;
        let (inputs, outputs) = weight.dim();
        let mut own = Array2::zeros((outputs, inputs));
        for (j, d) in self.deviation.iter().enumerate().filter(|(_, d)| **d > 0.0) {
            for o in 0..outputs {
                own[[o, j]] = weight[[j, o]] / d;
            }
        }
        let centre = &self.mean + &sums.origin;
        let bias = &sums.y / self.rows - own.dot(&centre);
        Ridge { weight: own, bias, penalty, freedom, error }
    }
}

impl Ridge {
    /// The outputs for rows `[rows, inputs]`.
    pub fn outputs(&self, x: ArrayView2<f64>) -> Array2<f64> {
        x.dot(&self.weight.t()) + &self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> (Vec<f32>, Vec<f32>) {
        let x = |i: usize, j: usize| {
            let (i, j) = (i as f64, j as f64);
            ((1.7 * i + 2.3 * j * j + 0.3 * i * j).sin() * (1.0 + j) + 5.0 * j) as f32
        };
        let y = |i: usize| [((0.9 * i as f64).cos() + 0.1 * i as f64) as f32, (i % 3) as f32 - 1.0];
        ((0..36).map(|k| x(k / 3, k % 3)).collect(), (0..12).flat_map(y).collect())
    }

    fn sums(parts: usize) -> Sums {
        let (x, y) = rows();
        let mut sums = Sums::new(3, 2);
        for (x, y) in x.chunks(36 / parts).zip(y.chunks(24 / parts)) {
            sums.add(x, y);
        }
        sums
    }

    /// Against scikit-learn 1.7: `Ridge(alpha=0.1 * 12)` on standardised inputs, its weights in units of the inputs.
    #[test]
    fn the_weights_are_those_of_scikit_learn() {
        let found = sums(1).solve(Penalty::Standardized(0.1)).unwrap();
        let expected = [
            [0.14336062936, 0.027878842256, -0.006039523664],
            [0.230847082669, -0.265511962801, 0.200722840909],
        ];
        for (o, expected) in expected.iter().enumerate() {
            for (j, expected) in expected.iter().enumerate() {
                assert!(
                    (found.weight[[o, j]] - expected).abs() < 1e-9,
                    "{} {expected}",
                    found.weight[[o, j]]
                );
            }
            assert!((found.bias[o] - [0.439187502824, -0.704522180969][o]).abs() < 1e-9);
        }
        assert!(
            (found.freedom.unwrap() - 3.673_801_246_5).abs() < 1e-9
                && (found.error - 1.125_478_812_8).abs() < 1e-9
        );
        let best = sums(1).solve(Penalty::CrossValidation).unwrap();
        assert!((best.penalty - 1.0).abs() < 1e-9 && (best.error - 1.051_940_953_3).abs() < 1e-9, "{best:?}");
    }

    /// Against scikit-learn 1.7: `Ridge(alpha=0.5)` on the inputs as they are.
    #[test]
    fn raw_penalties_are_those_of_scikit_learn() {
        let found = sums(1).solve(Penalty::Raw(0.5)).unwrap();
        let expected = [
            [0.146809445606, 0.030749122135, -0.00592358099],
            [0.222143462012, -0.281556406093, 0.215127728645],
        ];
        for (o, expected) in expected.iter().enumerate() {
            for (j, expected) in expected.iter().enumerate() {
                assert!((found.weight[[o, j]] - expected).abs() < 1e-9, "{found:?}");
            }
        }
        assert_eq!(found.freedom, None);
        let single = {
            let (x, y) = rows();
            let mut sums = Sums::in_single(3, 2);
            sums.add(&x, &y);
            sums.into_solution(Penalty::Raw(0.5)).unwrap()
        };
        assert!((&single.weight - &found.weight).iter().all(|d| d.abs() < 1e-5));
    }

    #[test]
    fn stored_sums_go_on() {
        let (x, y) = rows();
        let mut half = Sums::new(3, 2);
        half.add(&x[..18], &y[..12]);
        let values = half.to_values();
        let mut rest = Sums::from_values(3, 2, &values).unwrap();
        assert_eq!(rest.to_values(), values);
        rest.add(&x[18..], &y[12..]);
        half.add(&x[18..], &y[12..]);
        assert_eq!(rest.solve(Penalty::CrossValidation), half.solve(Penalty::CrossValidation));
        assert!(Sums::from_values(2, 2, &values).is_none());
        assert!(Sums::from_values(3, 2, &[f64::NAN; 29][..values.len()]).is_none());
    }

    #[test]
    fn parts_and_threads_give_the_same_sums() {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let solve =
            |threads, parts| pool(threads).install(|| sums(parts).solve(Penalty::CrossValidation).unwrap());
        assert_eq!(solve(1, 3), solve(3, 3));
        let (whole, parts) = (solve(1, 1), solve(1, 4));
        assert!((&whole.weight - &parts.weight).iter().all(|d| d.abs() < 1e-12));
    }

    #[test]
    fn constant_and_repeated_inputs_are_no_obstacle() {
        let mut sums = Sums::new(4, 1);
        for i in 0..20 {
            let x = (i * 7 % 20) as f32;
            sums.add(&[x, x, 3.0, 1e6 + x], &[2.0 * x + 1.0]);
        }
        let found = sums.solve(Penalty::CrossValidation).unwrap();
        let outputs = found.outputs(ndarray::array![[4.0, 4.0, 3.0, 1e6 + 4.0]].view());
        assert!((outputs[[0, 0]] - 9.0).abs() < 1e-2, "{outputs}");
        assert_eq!(found.weight[[0, 2]], 0.0);
        assert!(sums.solve(Penalty::Standardized(0.0)).is_none(), "singular");
        // One row says its own target.
        let mut one = Sums::new(2, 1);
        one.add(&[1.0, 2.0], &[5.0]);
        let found = one.solve(Penalty::Standardized(0.1)).unwrap();
        assert_eq!((found.weight[[0, 0]], found.bias[0]), (0.0, 5.0));
        let mut broken = Sums::new(1, 1);
        broken.add(&[1.0, f32::NAN], &[0.0, 1.0]);
        assert!(broken.solve(Penalty::CrossValidation).is_none());
    }
}
