//! The little linear algebra that closed-form initialisation needs, in float64 and in a fixed order.

/// A row and its weight.
pub type Weighted = (Vec<f64>, f64);

fn sum_of_weights(rows: &[Weighted]) -> f64 {
    let sum = rows.iter().map(|(_, weight)| weight).sum();
    if sum > 0.0 { sum } else { 1.0 }
}

/// Mean of rows of `count` values.
pub fn mean(rows: &[Weighted], count: usize) -> Vec<f64> {
    let (mut mean, all) = (vec![0.0; count], sum_of_weights(rows));
    for (row, weight) in rows {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v * weight / all);
    }
    mean
}

/// The lower half of the covariance of rows around their mean, `[count, count]` of `count` values.
pub fn covariance(rows: &[Weighted], mean: &[f64]) -> Vec<f64> {
    let (all, count) = (sum_of_weights(rows), mean.len());
    let mut covariance = vec![0.0; count * count];
    for (row, weight) in rows {
        let centred: Vec<f64> = row.iter().zip(mean).map(|(v, m)| v - m).collect();
        for (i, a) in centred.iter().enumerate() {
            let a = a * weight / all;
            let line = &mut covariance[i * count..][..=i];
            line.iter_mut().zip(&centred).for_each(|(c, b)| *c += a * b);
        }
    }
    covariance
}

/// Adds `part` times the mean of its diagonal to the diagonal of a square matrix.
pub fn add_ridge(matrix: &mut [f64], part: f64) {
    let n = matrix.len().isqrt();
    let trace: f64 = (0..n).map(|i| matrix[i * (n + 1)]).sum();
    (0..n).for_each(|i| matrix[i * (n + 1)] += part * trace / n as f64);
}

/// `L` with `L Lᵀ` the matrix of which `a` holds the lower half; `None` where it is not positive definite.
pub fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let left = a[i * n + j] - known;
            if i == j && !(left > 0.0 && left.is_finite()) {
                return None;
            }
            a[i * n + j] = if i == j { left.sqrt() } else { left / a[j * n + j] };
        }
    }
    Some(a)
}

/// The inverse of a lower triangular matrix, lower triangular too.
pub fn inverse_of_factor(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        inverse[i * n + i] = 1.0 / l[i * n + i];
        for k in 0..i {
            let factor = l[i * n + k] / l[i * n + i];
            for j in 0..=k {
                inverse[i * n + j] -= factor * inverse[k * n + j];
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_and_inverses() {
        let a = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, -1.0, 0.5, 3.0]; // the lower half
        let full = |i: usize, j: usize| a[i.max(j) * 3 + i.min(j)];
        let l = cholesky(a.to_vec(), 3).unwrap();
        let of_lower = |m: &[f64], i: usize, j: usize| if j <= i { m[i * 3 + j] } else { 0.0 };
        let inverse = inverse_of_factor(&l, 3);
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| of_lower(&l, i, k) * of_lower(&l, j, k)).sum();
                assert!((product - full(i, j)).abs() < 1e-12, "L Lᵀ at {i}, {j}");
                let one: f64 = (0..3).map(|k| of_lower(&inverse, i, k) * of_lower(&l, k, j)).sum();
                assert!((one - if i == j { 1.0 } else { 0.0 }).abs() < 1e-12, "L⁻¹ L at {i}, {j}");
            }
        }
        assert!(cholesky(vec![1.0, 0.0, 2.0, 1.0], 2).is_none());
        let mut ridged = vec![1.0, 0.0, 7.0, 3.0];
        add_ridge(&mut ridged, 0.5);
        assert_eq!(ridged, [2.0, 0.0, 7.0, 4.0]);
    }
}
