//! Work on each sequence of a batch separately, on all threads.

use rayon::prelude::*;

use crate::Batch;
use crate::modules::Pass;

/// Runs `work` on each sequence's part of `y`, which holds `width` values per token.
pub fn for_each(batch: &Batch, width: usize, y: &mut [f32], work: impl Fn(usize, &mut [f32]) + Sync) {
    let mut rest = y;
    let mut parts = Vec::with_capacity(batch.len());
    for range in batch.ranges() {
        let (part, after) = rest.split_at_mut(range.len() * width);
        parts.push(part);
        rest = after;
    }
    parts.into_par_iter().enumerate().for_each(|(i, part)| work(i, part));
}

/// `y (+)= mix(x)` by `mix`, which fills its last argument from its second for each sequence.
pub fn mix_each(
    p: Pass,
    hidden: usize,
    x: &[f32],
    y: &mut [f32],
    mix: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) {
    for_each(p.batch, hidden, y, |i, y| {
        let range = p.batch.range(i);
        mix(range.len(), &x[range.start * hidden..range.end * hidden], y);
    });
}

/// Transposes `x`, `[rows, columns]`.
pub fn transpose<T: Copy + Send + Sync>(x: &[T], columns: usize, y: &mut [T]) {
    let rows = x.len() / columns;
    const TILE: usize = 16;
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for j in left..(left + TILE).min(columns) {
                for i in top..(top + TILE).min(rows) {
                    y[j * rows + i] = x[i * columns + j];
                }
            }
        }
    }
}

/// Groups of sequences that are summed in parallel.
const GROUPS: usize = 8;
/// Longest sum that is computed in several groups: beyond it, memory matters more.
const LONGEST: usize = 1 << 20;

/// `sum += contributions of all sequences`, each added by `add` to what it is given. The order of summation depends
/// on the batch alone, so the bits do not depend on threads.
pub fn sum_over(
    batch: &Batch,
    sum: &mut [f32],
    partial: &mut Vec<f32>,
    add: impl Fn(usize, &mut [f32]) + Sync,
) {
    let groups = if sum.len() > LONGEST { 1 } else { GROUPS.min(batch.len()).max(1) };
    if groups == 1 {
        return (0..batch.len()).for_each(|i| add(i, sum));
    }
    let share = batch.len().div_ceil(groups);
    partial.clear();
    partial.resize(groups * sum.len(), 0.0);
    partial.par_chunks_mut(sum.len()).enumerate().for_each(|(group, sum)| {
        (group * share..((group + 1) * share).min(batch.len())).for_each(|i| add(i, sum));
    });
    partial.chunks(sum.len()).for_each(|part| crate::ops::add(sum, part));
}
