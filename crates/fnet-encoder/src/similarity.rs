//! Losses over the vectors of texts, whose cosines say what belongs together.
//!
//! Each takes vectors, returns its mean loss, and adds its gradient times `scale` to buffers like the vectors. The gradient
//! by vectors is what [`Forward::backward_vectors`](crate::Forward::backward_vectors) starts from. So a loss over more
//! texts than fit one pass takes two passes over its parts (Gao et al. 2021b): one for the vectors of all, and another,
//! with the same dropout, for the gradients.

use rayon::prelude::*;

use crate::arch::{multiversion, sum_by};
use crate::gemm::{Out, Precision, Products, matmul_nn, matmul_nt, matmul_tn};
use crate::ops::cosine;

/// A cosine of two texts and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoredLoss {
    /// `ln(1 + sum of exp(s (c_j - c_i)))` over all pairs `i` that should be more alike than pairs `j`, with cosines `c`: only
    /// the order of scores counts, as in Spearman's correlation. Known as CoSENT.
    #[default]
    Cosent,
    /// The squared difference of cosine and score (Reimers and Gurevych 2019).
    Cosine,
}

/// Factor of cosines in exponentials (Henderson et al. 2017 and those after them).
pub const USUAL_SCALE: f32 = 20.0;

/// The cosines of pairs, from vectors `[2 pairs, width]`, both of a pair in turn.
pub fn cosines(vectors: &[f32], width: usize) -> Vec<f32> {
    let mut cosines = vec![0.0; vectors.len() / (2 * width.max(1))];
    cosine::forward(vectors, width, &mut cosines);
    cosines
}

/// The cosine of each of `a` `[n, width]` with each of `b` `[m, width]`: `[n, m]`.
pub fn all_cosines(a: &[f32], b: &[f32], width: usize) -> Vec<f32> {
    let ((a, _), (b, _)) = (units(a, width), units(b, width));
    let [n, m] = [&a, &b].map(|x| x.len() / width.max(1));
    let mut cosines = vec![0.0; n * m];
    matmul_nt(Products::new(Precision::F32), [n, m, width], &a, &b, &mut cosines, Out::Set);
    cosines
}

/// The dot product of each of `a` `[n, width]` with each of `b` `[m, width]`, into `y` `[n, m]`.
pub fn dot_products(a: &[f32], b: &[f32], width: usize, y: &mut [f32]) {
    let [n, m] = [a, b].map(|x| x.len() / width.max(1));
    if n > FEW {
        return matmul_nt(Products::new(Precision::F32), [n, m, width], a, b, y, Out::Set);
    }
    for (a, y) in a.chunks_exact(width).zip(y.chunks_exact_mut(m)) {
        dots(a, b, y);
    }
}

/// As many rows at most are multiplied one by one: packing the others would take longer than reading them.
const FEW: usize = 4;

multiversion! {
    /// `y[j] = a · b[j]`
    fn dots(a: &[f32], b: &[f32], y: &mut [f32]) {
        for (b, y) in b.chunks_exact(a.len()).zip(y) {
            *y = sum_by(a.len(), |i| a[i] * b[i]);
        }
    }
}

/// The loss of scored pairs: `vectors` is `[2 pairs, width]`, both of a pair in turn, `scores` `[pairs]`; `s` is the factor of
/// cosines for [`ScoredLoss::Cosent`].
pub fn scored(
    loss: ScoredLoss,
    vectors: &[f32],
    width: usize,
    scores: &[f32],
    s: f32,
    scale: f32,
    d_vectors: &mut [f32],
) -> f64 {
    let cosines = cosines(vectors, width);
    let (value, slopes) = match loss {
        ScoredLoss::Cosine => squared(&cosines, scores),
        ScoredLoss::Cosent => cosent(&cosines, scores, f64::from(s)),
    };
    let pairs = vectors.chunks_exact(2 * width).zip(d_vectors.chunks_exact_mut(2 * width));
    for ((pair, d_pair), (c, slope)) in pairs.zip(cosines.iter().zip(&slopes)) {
        cosine::add_gradient(pair, *c, scale * *slope as f32, d_pair);
    }
    value
}

fn squared(cosines: &[f32], scores: &[f32]) -> (f64, Vec<f64>) {
    let n = cosines.len().max(1) as f64;
    let off: Vec<f64> = cosines.iter().zip(scores).map(|(c, t)| f64::from(*c) - f64::from(*t)).collect();
    (off.iter().map(|d| d * d).sum::<f64>() / n, off.iter().map(|d| 2.0 * d / n).collect())
}

fn cosent(cosines: &[f32], scores: &[f32], s: f64) -> (f64, Vec<f64>) {
    let n = cosines.len();
    let wrong = || {
        let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
        let ordered = pairs.filter(|(i, j)| scores[*i] > scores[*j]);
        ordered.map(|(i, j)| (i, j, s * (f64::from(cosines[j]) - f64::from(cosines[i]))))
    };
    let largest = wrong().map(|(_, _, z)| z).fold(0.0, f64::max);
    let sum = wrong().map(|(_, _, z)| (z - largest).exp()).sum::<f64>() + (-largest).exp();
    let mut slopes = vec![0.0; n];
    for (i, j, z) in wrong() {
        let share = s * (z - largest).exp() / sum;
        slopes[j] += share;
        slopes[i] -= share;
    }
    (largest + sum.ln(), slopes)
}

/// Texts that belong together, each with a row of vectors.
#[derive(Debug, Clone, Copy)]
pub struct Contrast<'a> {
    /// `[anchors, width]`
    pub anchors: &'a [f32],
    /// `[candidates, width]`: that of the same row belongs to the anchor, all others do not.
    pub candidates: &'a [f32],
    /// A number for each anchor: candidates with the same number are left out where they are not its own, since they belong to
    /// it as well.
    pub anchor_groups: &'a [u32],
    /// A number for each candidate.
    pub candidate_groups: &'a [u32],
}

/// Where the gradients of a [`Contrast`] go.
#[derive(Debug)]
pub struct ContrastGradients<'a> {
    /// `[anchors, width]`
    pub anchors: &'a mut [f32],
    /// `[candidates, width]`
    pub candidates: &'a mut [f32],
}

/// Cross-entropy of picking an anchor's own candidate out of all, by cosines times `s` (Henderson et al. 2017, section 4). Returns
/// the mean loss, and how many anchors pick their own.
pub fn contrastive(c: Contrast, width: usize, s: f32, scale: f32, d: ContrastGradients) -> (f64, usize) {
    let [n, m] = [c.anchors, c.candidates].map(|x| x.len() / width.max(1));
    if n == 0 {
        return (0.0, 0);
    }
    let products = Products::new(Precision::F32);
    let (u, u_lengths) = units(c.anchors, width);
    let (v, v_lengths) = units(c.candidates, width);
    let mut logits = vec![0.0; n * m];
    matmul_nt(products, [n, m, width], &u, &v, &mut logits, Out::Set);
    let rows: Vec<(f64, bool)> = (logits.par_chunks_exact_mut(m).enumerate())
        .map(|(i, row)| {
            let belongs = |j: usize| j != i && c.candidate_groups[j] == c.anchor_groups[i];
            for (j, x) in row.iter_mut().enumerate() {
                *x = if belongs(j) { f32::NEG_INFINITY } else { s * *x };
            }
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            let loss = sum.ln() + f64::from(largest) - f64::from(row[i]);
            let is_right = row[i] >= largest;
            row.iter_mut().for_each(|x| *x = (f64::from(*x - largest).exp() / sum) as f32);
            row[i] -= 1.0;
            (loss, is_right)
        })
        .collect();
    let factor = s * scale / n as f32;
    logits.iter_mut().for_each(|x| *x *= factor);
    let (mut du, mut dv) = (vec![0.0; u.len()], vec![0.0; v.len()]);
    matmul_nn(products, [n, width, m], &logits, &v, &mut du, Out::Set);
    matmul_tn(products, [m, width, n], &logits, &u, &mut dv, Out::Set);
    add_through_lengths(&u, &u_lengths, &du, width, d.anchors);
    add_through_lengths(&v, &v_lengths, &dv, width, d.candidates);
    (rows.iter().map(|row| row.0).sum::<f64>() / n as f64, rows.iter().filter(|row| row.1).count())
}

/// Below this length a vector has no direction.
const SHORTEST: f32 = 1e-8;

/// Vectors of length one, and the lengths that they had.
fn units(x: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let length = |row: &[f32]| row.iter().map(|v| v * v).sum::<f32>().sqrt().max(SHORTEST);
    let lengths: Vec<f32> = x.chunks_exact(width).map(length).collect();
    let rows = x.chunks_exact(width).zip(&lengths);
    (rows.flat_map(|(row, length)| row.iter().map(move |v| v / length)).collect(), lengths)
}

/// Adds to `d` the gradient of vectors from that of their unit vectors: `(dy - (dy y) y) / length`.
fn add_through_lengths(units: &[f32], lengths: &[f32], d_units: &[f32], width: usize, d: &mut [f32]) {
    let rows = units.chunks_exact(width).zip(d_units.chunks_exact(width)).zip(lengths);
    for (((y, dy), length), d) in rows.zip(d.chunks_exact_mut(width)) {
        let along: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        for ((d, y), dy) in d.iter_mut().zip(y).zip(dy) {
            *d += (dy - along * y) / length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    const WIDTH: usize = 5;

    /// Compares a gradient with central differences, each value on its own.
    fn check(x: &[f32], d: &[f32], loss: impl Fn(&[f32]) -> f64) {
        let step = 1e-2;
        for i in 0..x.len() {
            let at = |by: f32| {
                let mut moved = x.to_vec();
                moved[i] += by;
                loss(&moved)
            };
            let measured = (at(step) - at(-step)) / (2.0 * f64::from(step));
            assert!(
                (measured - f64::from(d[i])).abs() < 2e-3 * (1.0 + measured.abs()),
                "{i}: {measured} {}",
                d[i]
            );
        }
    }

    #[test]
    fn gradients_of_scored_pairs() {
        let x = noise(8 * WIDTH, 1);
        for loss in [ScoredLoss::Cosent, ScoredLoss::Cosine] {
            let run = |x: &[f32], d: &mut [f32]| scored(loss, x, WIDTH, &[0.1, 0.9, 0.5, 0.9], 3.0, 2.0, d);
            let mut d = vec![0.0; x.len()];
            run(&x, &mut d);
            check(&x, &d, |x| 2.0 * run(x, &mut vec![0.0; x.len()]));
        }
    }

    #[test]
    fn gradients_of_contrasts() {
        let (a, b) = (noise(3 * WIDTH, 1), noise(5 * WIDTH, 2));
        let run = |a: &[f32], b: &[f32]| {
            let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            let contrast = Contrast {
                anchors: a,
                candidates: b,
                anchor_groups: &[1, 2, 1],
                candidate_groups: &[1, 2, 1, 9, 2],
            };
            let d = ContrastGradients { anchors: &mut da, candidates: &mut db };
            let (loss, right) = contrastive(contrast, WIDTH, 4.0, 1.0, d);
            assert!(right <= 3);
            (loss, da, db)
        };
        let (_, da, db) = run(&a, &b);
        check(&a, &da, |a| run(a, &b).0);
        check(&b, &db, |b| run(&a, b).0);
    }

    #[test]
    fn products_of_few_and_of_many() {
        let (a, b) = (noise(9 * WIDTH, 3), noise(7 * WIDTH, 4));
        let run = |a: &[f32]| {
            let mut y = vec![0.0; a.len() / WIDTH * 7];
            dot_products(a, &b, WIDTH, &mut y);
            y
        };
        let (many, few) = (run(&a), run(&a[..2 * WIDTH]));
        for (i, y) in many.iter().enumerate() {
            let (a, b) = (&a[i / 7 * WIDTH..][..WIDTH], &b[i % 7 * WIDTH..][..WIDTH]);
            let expected: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            assert!((y - expected).abs() < 1e-5);
            assert!(few.get(i).is_none_or(|few| (few - y).abs() < 1e-5));
        }
    }

    #[test]
    fn what_is_in_order_costs_little() {
        let alike = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0];
        let loss = |scores: &[f32]| scored(ScoredLoss::Cosent, &alike, 2, scores, 20.0, 1.0, &mut [0.0; 8]);
        assert!(loss(&[1.0, 0.0]) < 1e-8 && loss(&[0.0, 1.0]) > 19.0 && loss(&[1.0, 1.0]) == 0.0);
        let zero = scored(ScoredLoss::Cosine, &[0.0; 8], 2, &[0.5, 0.5], 1.0, 1.0, &mut [0.0; 8]);
        assert!((zero - 0.25).abs() < 1e-9);
    }
}
