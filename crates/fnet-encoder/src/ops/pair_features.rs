//! Features of the two texts of a pair: `[u, v, |u - v|, u v]` (Conneau et al. 2017, section 3.1), or those that
//! stay the same when the texts are swapped, `[|u - v|, u v]`; and last their cosine.

use super::cosine;

/// Number of features of a pair, for vectors of `width` values.
pub fn count(width: usize, symmetric: bool) -> usize {
    if symmetric { 2 * width + 1 } else { 4 * width + 1 }
}

/// From `x` `[2 pairs, width]`, u and v one after another, to `y` `[pairs, count]`.
pub fn forward(x: &[f32], width: usize, symmetric: bool, y: &mut [f32]) {
    for (pair, y) in x.chunks_exact(2 * width).zip(y.chunks_exact_mut(count(width, symmetric))) {
        let (own, compared) = y.split_at_mut(y.len() - 2 * width - 1);
        if !symmetric {
            own.copy_from_slice(pair);
        }
        let (u, v) = pair.split_at(width);
        let (distance, rest) = compared.split_at_mut(width);
        for (((u, v), distance), product) in u.iter().zip(v).zip(distance).zip(rest.iter_mut()) {
            *distance = (u - v).abs();
            *product = u * v;
        }
        rest[width] = cosine::of_pair(pair);
    }
}

/// Fills `dx` from `x`, `y` of the forward pass, and `dy`.
pub fn backward(x: &[f32], y: &[f32], dy: &[f32], width: usize, symmetric: bool, dx: &mut [f32]) {
    let count = count(width, symmetric);
    let pairs = x.chunks_exact(2 * width).zip(dx.chunks_exact_mut(2 * width));
    for ((pair, d_pair), (y, dy)) in pairs.zip(y.chunks_exact(count).zip(dy.chunks_exact(count))) {
        let (own, compared) = dy.split_at(count - 2 * width - 1);
        if symmetric {
            d_pair.fill(0.0);
        } else {
            d_pair.copy_from_slice(own);
        }
        let (distance, product) = compared.split_at(width);
        for j in 0..width {
            let (u, v) = (pair[j], pair[width + j]);
            // At equal values the distance has no slope: zero is taken.
            let slope = if u == v { 0.0 } else { distance[j] * (u - v).signum() };
            d_pair[j] += slope + product[j] * v;
            d_pair[width + j] += product[j] * u - slope;
        }
        cosine::add_gradient(pair, y[count - 1], dy[count - 1], d_pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        for (symmetric, width) in [(false, 5), (true, 7), (true, 2)] {
            let (x, dy) = (noise(6 * width, 1), noise(3 * count(width, symmetric), 2));
            let run = |x: &[f32]| {
                let mut y = vec![0.0; dy.len()];
                forward(x, width, symmetric, &mut y);
                y
            };
            let mut dx = vec![9.0; x.len()];
            backward(&x, &run(&x), &dy, width, symmetric, &mut dx);
            check_gradient("input", &x, &dx, &dy, run);
        }
    }

    #[test]
    fn the_symmetric_ones_do_not_know_which_text_came_first() {
        let (mut there, mut back) = ([0.0; 5], [0.0; 5]);
        forward(&[1.0, 2.0, -3.0, 4.0], 2, true, &mut there);
        forward(&[-3.0, 4.0, 1.0, 2.0], 2, true, &mut back);
        assert_eq!(there, back);
        assert_eq!(there[..4], [4.0, 2.0, -3.0, 8.0]);
        assert!((there[4] - 5.0 / (5.0_f32.sqrt() * 5.0)).abs() < 1e-6);
    }
}
