//! Pooling: a text's rows `[tokens, width]` become one row.

use super::dot;

/// `y = mean over rows of x`
pub fn mean(x: &[f32], y: &mut [f32]) {
    sum(x, share_of(x.len() / y.len()), y);
}

/// `dx[t] += dy / rows`
pub fn mean_backward(dy: &[f32], dx: &mut [f32]) {
    sum_backward(dy, share_of(dx.len() / dy.len()), dx);
}

/// `y = sum over rows of x, divided by the root of their number`
pub fn sqrt_mean(x: &[f32], y: &mut [f32]) {
    sum(x, share_of(x.len() / y.len()).sqrt(), y);
}

/// `dx[t] += dy / sqrt(rows)`
pub fn sqrt_mean_backward(dy: &[f32], dx: &mut [f32]) {
    sum_backward(dy, share_of(dx.len() / dy.len()).sqrt(), dx);
}

fn sum(x: &[f32], share: f32, y: &mut [f32]) {
    y.fill(0.0);
    x.chunks_exact(y.len()).for_each(|row| super::add(y, row));
    y.iter_mut().for_each(|y| *y *= share);
}

fn sum_backward(dy: &[f32], share: f32, dx: &mut [f32]) {
    for row in dx.chunks_exact_mut(dy.len()) {
        row.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += share * dy);
    }
}

/// `y = sum over rows of (t + 1) x[t], divided by the sum of all t + 1`
pub fn position_mean(x: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    for (x, share) in x.chunks_exact(y.len()).zip(position_shares(x.len() / y.len())) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += share * x);
    }
}

/// `dx[t] += (t + 1) dy, divided by the sum of all t + 1`
pub fn position_mean_backward(dy: &[f32], dx: &mut [f32]) {
    let shares = position_shares(dx.len() / dy.len());
    for (dx, share) in dx.chunks_exact_mut(dy.len()).zip(shares) {
        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += share * dy);
    }
}

fn position_shares(rows: usize) -> impl Iterator<Item = f32> {
    (0..rows).map(move |t| 2.0 * (t + 1) as f32 / (rows as f32 * (rows + 1) as f32))
}

/// `y[j] = max over rows of x[j]`
pub fn max(x: &[f32], y: &mut [f32]) {
    y.fill(f32::NEG_INFINITY);
    for row in x.chunks_exact(y.len()) {
        y.iter_mut().zip(row).for_each(|(y, x)| *y = if is_larger(*x, *y) { *x } else { *y });
    }
}

/// `dx[t, j] += dy[j]` for the first row `t` that holds the largest value.
pub fn max_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let width = dy.len();
    for (j, dy) in dy.iter().enumerate() {
        let (mut best, mut largest) = (j, f32::NEG_INFINITY);
        for i in (j..x.len()).step_by(width) {
            if is_larger(x[i], largest) {
                (best, largest) = (i, x[i]);
            }
        }
        dx[best] += dy;
    }
}

/// Whether `x` replaces `y`; a NaN does, and stays.
fn is_larger(x: f32, y: f32) -> bool {
    x > y || (x.is_nan() && !y.is_nan())
}

/// `a = softmax(x q / sqrt(width))`, `y = aᵀ x`: attention of one query. `a` has one value per row.
pub fn query(x: &[f32], q: &[f32], a: &mut [f32], y: &mut [f32]) {
    let scale = 1.0 / (q.len() as f32).sqrt();
    for (a, row) in a.iter_mut().zip(x.chunks_exact(q.len())) {
        *a = scale * dot(row, q);
    }
    softmax(a);
    y.fill(0.0);
    for (a, row) in a.iter().zip(x.chunks_exact(q.len())) {
        y.iter_mut().zip(row).for_each(|(y, x)| *y += a * x);
    }
}

/// Adds to `dx`, and fills `dq` with this text's share, from `a` and `y` of the forward pass.
pub fn query_backward(
    x: &[f32],
    q: &[f32],
    a: &[f32],
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dq: &mut [f32],
) {
    let (width, scale) = (q.len(), 1.0 / (q.len() as f32).sqrt());
    dq.fill(0.0);
    let mean = dot(dy, y);
    for ((a, x), dx) in a.iter().zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let d_score = scale * a * (dot(dy, x) - mean);
        for (((dx, dq), (x, q)), dy) in dx.iter_mut().zip(dq.iter_mut()).zip(x.iter().zip(q)).zip(dy) {
            *dx += a * dy + d_score * q;
            *dq += d_score * x;
        }
    }
}

fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - largest).exp();
        sum += *x;
    }
    x.iter_mut().for_each(|x| *x /= sum);
}

fn share_of(rows: usize) -> f32 {
    1.0 / rows.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    const WIDTH: usize = 7;

    /// Checks the gradient of `forward`'s input, for one row and for several.
    fn check(forward: impl Fn(&[f32], &mut [f32]), backward: impl Fn(&[f32], &[f32], &mut [f32])) {
        for rows in [1, 2, 5] {
            let (x, dy) = (noise(rows * WIDTH, 1), noise(WIDTH, 2));
            let run = |x: &[f32]| {
                let mut y = vec![0.0; WIDTH];
                forward(x, &mut y);
                y
            };
            let before = noise(x.len(), 5);
            let mut dx = before.clone();
            backward(&x, &dy, &mut dx);
            dx.iter_mut().zip(before).for_each(|(d, b)| *d -= b); // it adds
            check_gradient("input", &x, &dx, &dy, run);
        }
    }

    #[test]
    fn gradients() {
        check(mean, |_, dy, dx| mean_backward(dy, dx));
        check(sqrt_mean, |_, dy, dx| sqrt_mean_backward(dy, dx));
        check(position_mean, |_, dy, dx| position_mean_backward(dy, dx));
        check(max, max_backward);
        let q = noise(WIDTH, 3);
        check(
            |x, y| query(x, &q, &mut vec![0.0; x.len() / WIDTH], y),
            |x, dy, dx| {
                let (mut a, mut y) = (vec![0.0; x.len() / WIDTH], vec![0.0; WIDTH]);
                query(x, &q, &mut a, &mut y);
                query_backward(x, &q, &a, &y, dy, dx, &mut [0.0; WIDTH]);
            },
        );
        let (x, dy) = (noise(4 * WIDTH, 1), noise(WIDTH, 2));
        let run = |q: &[f32]| {
            let mut y = vec![0.0; WIDTH];
            query(&x, q, &mut [0.0; 4], &mut y);
            y
        };
        let (mut a, mut dq) = (vec![0.0; 4], vec![9.0; WIDTH]);
        query(&x, &q, &mut a, &mut [0.0; WIDTH]);
        query_backward(&x, &q, &a, &run(&q), &dy, &mut vec![0.0; x.len()], &mut dq);
        check_gradient("query", &q, &dq, &dy, run);
    }

    #[test]
    fn means_by_hand() {
        let mut y = [0.0; 2];
        sqrt_mean(&[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 4.0, 2.0], &mut y);
        assert_eq!(y, [4.0, 4.0]);
        position_mean(&[1.0, 6.0, 4.0, 0.0, 3.0, 2.0], &mut y);
        assert!((y[0] - 3.0).abs() < 1e-6 && (y[1] - 2.0).abs() < 1e-6, "{y:?}");
    }

    #[test]
    fn the_largest_value_wins_and_nan_is_not_hidden() {
        let mut y = [0.0; 2];
        max(&[1.0, -3.0, 4.0, -2.0, 2.0, -9.0], &mut y);
        assert_eq!(y, [4.0, -2.0]);
        max(&[1.0, -3.0, f32::NAN, -2.0, 2.0, -9.0], &mut y);
        assert!(y[0].is_nan() && y[1] == -2.0);
    }
}
