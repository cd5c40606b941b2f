//! How well each word of a text is matched by some word of another: the largest cosine (Khattab and Zaharia 2020,
//! section 3.2).

/// A word's best match in the other text.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Match {
    /// The cosine of both words' vectors.
    pub cosine: f32,
    /// Which word of the other text it is.
    pub partner: u32,
}

/// Below this length a vector has no direction.
const SHORTEST: f32 = 1e-8;

/// `x_i / |x_i|` for each row of `width` values, in place; fills `lengths` with `|x_i|`.
pub fn normalise(x: &mut [f32], width: usize, lengths: &mut [f32]) {
    for (row, length) in x.chunks_exact_mut(width).zip(lengths) {
        *length = dot(row, row).sqrt().max(SHORTEST);
        row.iter_mut().for_each(|v| *v /= *length);
    }
}

/// From the gradient `dx` of rows that [`normalise`] has left in `x` to that of its input, in place:
/// `(d - (d x) x) / |x|`.
pub fn normalise_backward(x: &[f32], lengths: &[f32], width: usize, dx: &mut [f32]) {
    for ((row, d), length) in x.chunks_exact(width).zip(dx.chunks_exact_mut(width)).zip(lengths) {
        let along = dot(row, d);
        d.iter_mut().zip(row).for_each(|(d, x)| *d = (*d - along * x) / length);
    }
}

/// Fills `best` for every word of a pair, from their vectors of length one, `[words, width]`: the first `split`
/// belong to one text, the others to the other. Ties go to the first.
pub fn forward(x: &[f32], width: usize, split: usize, best: &mut [Match]) {
    let (u, v) = x.split_at(split * width);
    let (of_u, of_v) = best.split_at_mut(split);
    let none = Match { cosine: f32::NEG_INFINITY, partner: 0 };
    of_v.fill(none);
    for (i, (u, of_u)) in u.chunks_exact(width).zip(of_u).enumerate() {
        *of_u = none;
        for (j, (v, of_v)) in v.chunks_exact(width).zip(of_v.iter_mut()).enumerate() {
            let cosine = dot(u, v);
            if cosine > of_u.cosine {
                *of_u = Match { cosine, partner: j as u32 };
            }
            if cosine > of_v.cosine {
                *of_v = Match { cosine, partner: i as u32 };
            }
        }
    }
}

/// `dx += dL/dx` from `d_best`, the gradient of each word's largest cosine.
pub fn backward(x: &[f32], width: usize, split: usize, best: &[Match], d_best: &[f32], dx: &mut [f32]) {
    for (i, (own, d)) in best.iter().zip(d_best).enumerate() {
        let other = own.partner as usize + if i < split { split } else { 0 };
        for j in 0..width {
            dx[i * width + j] += d * x[other * width + j];
            dx[other * width + j] += d * x[i * width + j];
        }
    }
}

/// Sums in lanes, which one instruction adds.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    /// The largest cosine of every word of a pair.
    fn run(x: &[f32], width: usize, split: usize) -> (Vec<f32>, Vec<f32>, Vec<Match>) {
        let (mut x, words) = (x.to_vec(), x.len() / width);
        let (mut lengths, mut best) = (vec![0.0; words], vec![Match::default(); words]);
        normalise(&mut x, width, &mut lengths);
        forward(&x, width, split, &mut best);
        (x, lengths, best)
    }

    #[test]
    fn gradients() {
        for (width, split, words) in [(19, 3, 7), (33, 1, 2), (5, 4, 5)] {
            let (x, dy) = (noise(words * width, 1), noise(words, 2));
            let (units, lengths, best) = run(&x, width, split);
            let mut dx = vec![0.0; x.len()];
            backward(&units, width, split, &best, &dy, &mut dx);
            normalise_backward(&units, &lengths, width, &mut dx);
            let cosines = |x: &[f32]| run(x, width, split).2.iter().map(|m| m.cosine).collect();
            check_gradient("words", &x, &dx, &dy, cosines);
        }
    }

    #[test]
    fn finds_the_same_word_and_the_nearest() {
        // Two words against three: the first is there, twice as long; the second is nearest to the third.
        let x = [1.0, 0.0, 0.0, 1.0, /**/ 2.0, 0.0, -1.0, -1.0, 1.0, 1.0];
        let best = run(&x, 2, 2).2;
        let half = 0.5_f32.sqrt();
        let expected = [(1.0, 0), (half, 2), (1.0, 0), (-half, 0), (half, 0)];
        for (best, (cosine, partner)) in best.iter().zip(expected) {
            assert!((best.cosine - cosine).abs() < 1e-6 && best.partner == partner, "{best:?}");
        }
        let zeros = run(&[0.0; 4], 2, 1);
        assert!(zeros.2.iter().all(|m| m.cosine == 0.0));
    }
}
