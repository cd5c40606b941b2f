//! The spectral radius of a large sparse matrix.

use ndarray::Array2;

use crate::connections::Connections;
use crate::real::Real;

/// Products before the Krylov space: what is left of the start lies in the directions of the largest eigenvalues.
const POWERS: usize = 300;
/// Dimensions of the Krylov space.
const KRYLOV: usize = 80;
/// Squarings of a small matrix: its norm to the power of `1 / 2^n` is its spectral radius (Gelfand's formula).
const SQUARINGS: i32 = 40;

/// The largest absolute value of an eigenvalue: by power iteration, then Arnoldi's method (Saad 2011, algorithm 6.2) from
/// where that ends. Exact, up to rounding, for matrices of up to 80 rows; for larger random ones to about 1 in 10,000.
pub(crate) fn spectral_radius<T: Real>(matrix: &Connections<T>) -> f64 {
    let n = matrix.units();
    if let [shift] = matrix.shifts() {
        return of_cycles(matrix, *shift);
    }
    // Any start will do that is not orthogonal to what is looked for.
    let mut v: Vec<f64> = (0..n).map(|i| 1.0 + ((i * 7919 + 13) % 1_009) as f64 / 1_009.0).collect();
    if normalise(&mut v) == 0.0 {
        return 0.0;
    }
    if n > KRYLOV {
        for _ in 0..POWERS {
            v = matrix.times(&v);
            if normalise(&mut v) == 0.0 {
                return 0.0;
            }
        }
    }
    radius_of_small(hessenberg(matrix, v))
}

/// Of one connection a unit: the units form cycles, and all eigenvalues of a cycle are as large as its weights' geometric
/// mean.
fn of_cycles<T: Real>(matrix: &Connections<T>, shift: usize) -> f64 {
    let n = matrix.units();
    let weight = |unit: usize| matrix.first_weight(unit);
    let mut is_seen = vec![false; n];
    let mut largest: f64 = 0.0;
    for start in 0..n {
        let (mut unit, mut log, mut count) = (start, 0.0, 0);
        while !is_seen[unit] {
            is_seen[unit] = true;
            log += weight(unit).abs().ln();
            count += 1;
            unit = (unit + shift) % n;
        }
        if count > 0 {
            largest = largest.max((log / f64::from(count)).exp());
        }
    }
    largest
}

/// The matrix in an orthonormal base of the Krylov space of `start`.
fn hessenberg<T: Real>(matrix: &Connections<T>, start: Vec<f64>) -> Array2<f64> {
    let most = KRYLOV.min(start.len());
    let mut h = Array2::zeros((most, most));
    let mut base = vec![start];
    for j in 0..most {
        let mut next = matrix.times(&base[j]);
        // Twice, for rounding leaves some of each direction.
        for _ in 0..2 {
            for (i, v) in base.iter().enumerate() {
                let along: f64 = v.iter().zip(&next).map(|(a, b)| a * b).sum();
                h[[i, j]] += along;
                next.iter_mut().zip(v).for_each(|(x, v)| *x -= along * v);
            }
        }
        let size = normalise(&mut next);
        let scale = h.column(j).iter().map(|x: &f64| x.abs()).fold(0.0, f64::max);
        if j + 1 == most {
            break;
        }
        if size <= 1e-12 * scale {
            return h.slice(ndarray::s![..=j, ..=j]).to_owned(); // the space is closed
        }
        h[[j + 1, j]] = size;
        base.push(next);
    }
    h
}

fn normalise(v: &mut [f64]) -> f64 {
    let size = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    if size > 0.0 {
        v.iter_mut().for_each(|x| *x /= size);
    }
    size
}

fn radius_of_small(mut matrix: Array2<f64>) -> f64 {
    let mut log = 0.0;
    for squaring in 0..=SQUARINGS {
        let size = matrix.iter().map(|x| x * x).sum::<f64>().sqrt();
        if size == 0.0 || !size.is_finite() {
            return 0.0;
        }
        matrix /= size;
        log += size.ln() / 2_f64.powi(squaring);
        if squaring < SQUARINGS {
            matrix = matrix.dot(&matrix);
        }
    }
    log.exp()
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn of(matrix: Array2<f64>) -> f64 {
        spectral_radius(&Connections::<f64>::from_dense(matrix.view()))
    }

    #[test]
    fn of_small_matrices() {
        assert!((of(array![[-3.0]]) - 3.0).abs() < 1e-9);
        // A rotation, twice as long: a pair of complex eigenvalues.
        assert!((of(array![[0.0, -2.0], [2.0, 0.0]]) - 2.0).abs() < 1e-9);
        assert!((of(array![[0.5, 100.0], [0.0, 0.25]]) - 0.5).abs() < 1e-9, "not the norm");
        assert!(of(array![[0.0, 1.0], [0.0, 0.0]]) < 1e-6);
        assert_eq!(of(Array2::zeros((3, 3))), 0.0);
    }

    #[test]
    fn of_large_random_matrices() {
        for (units, each) in [(200, 1), (200, 10), (300, 300), (1_000, 10)] {
            let mut random = ChaCha8Rng::seed_from_u64(units as u64);
            let matrix =
                Connections::<f64>::random([units, units], each, &mut random, |r| StandardNormal.sample(r));
            let own = spectral_radius(&matrix);
            let exact = radius_of_small(matrix.to_dense());
            assert!((own / exact - 1.0).abs() < 1e-3, "{units}, {each}: {own} {exact}");
        }
    }
}
