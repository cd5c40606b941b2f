//! `y = u v / (|u| |v|)` of the two texts of a pair.

use super::dot;

/// Below this length a vector has no direction.
const SHORTEST: f32 = 1e-8;

/// From `x` `[2 pairs, width]`, u and v one after another, to `y` `[pairs]`.
pub fn forward(x: &[f32], width: usize, y: &mut [f32]) {
    for (pair, y) in x.chunks_exact(2 * width).zip(y) {
        *y = of_pair(pair);
    }
}

/// Fills `dx` from `x`, `y` of the forward pass, and `dy`.
pub fn backward(x: &[f32], y: &[f32], dy: &[f32], width: usize, dx: &mut [f32]) {
    dx.fill(0.0);
    let pairs = x.chunks_exact(2 * width).zip(dx.chunks_exact_mut(2 * width));
    for ((pair, d_pair), (y, dy)) in pairs.zip(y.iter().zip(dy)) {
        add_gradient(pair, *y, *dy, d_pair);
    }
}

/// The cosine of `pair`, u and v one after another.
pub fn of_pair(pair: &[f32]) -> f32 {
    let (u, v) = pair.split_at(pair.len() / 2);
    dot(u, v) / (length(u) * length(v))
}

/// `du += dy (v / (|u| |v|) - y u / |u|^2)`, and the same for v.
pub fn add_gradient(pair: &[f32], y: f32, dy: f32, d_pair: &mut [f32]) {
    let (u, v) = pair.split_at(pair.len() / 2);
    let (du, dv) = d_pair.split_at_mut(pair.len() / 2);
    let (u_length, v_length) = (length(u), length(v));
    for (d, own, other, own_length) in [(du, u, v, u_length), (dv, v, u, v_length)] {
        for ((d, own), other) in d.iter_mut().zip(own).zip(other) {
            *d += dy * (other / (u_length * v_length) - y * own / (own_length * own_length));
        }
    }
}

fn length(a: &[f32]) -> f32 {
    dot(a, a).sqrt().max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        for width in [1, 2, 9] {
            let (x, dy) = (noise(6 * width, 1), noise(3, 2));
            let run = |x: &[f32]| {
                let mut y = vec![0.0; 3];
                forward(x, width, &mut y);
                y
            };
            let mut dx = vec![9.0; x.len()];
            backward(&x, &run(&x), &dy, width, &mut dx);
            if width == 1 {
                assert!(dx.iter().all(|d| d.abs() < 1e-5), "a number has no direction but its sign");
            } else {
                check_gradient("input", &x, &dx, &dy, run);
            }
        }
    }

    #[test]
    fn a_zero_vector_is_like_none() {
        let x = [0.0, 0.0, 1.0, 2.0];
        let (mut y, mut dx) = ([9.0], [9.0; 4]);
        forward(&x, 2, &mut y);
        backward(&x, &y, &[1.0], 2, &mut dx);
        assert!(y[0] == 0.0 && dx.iter().all(|d| d.is_finite()));
    }
}
