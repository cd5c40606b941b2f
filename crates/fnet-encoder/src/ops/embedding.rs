//! `y[t] = words[id_t] + segments[segment_t] + positions[t - start of its sequence]`; a vector's projection takes the place
//! of its word.

use rayon::prelude::*;

use super::layer_norm::{Scale, Stats, norm_rows};
use crate::Batch;

/// The three tables, each row-major `[entries, width]`.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// One row per token of the vocabulary.
    pub words: &'a [f32],
    /// One row per vector of the batch: its projection.
    pub vectors: &'a [f32],
    /// One row per position in the sequence.
    pub positions: &'a [f32],
    /// One row per segment.
    pub segments: &'a [f32],
}

/// Sums the three embeddings of every token of a batch into `x` `[tokens, width]`, and normalises
/// each row into `y`, in one pass.
pub fn forward(
    batch: &Batch,
    tables: Tables,
    scale: Scale,
    x: &mut [f32],
    y: &mut [f32],
    stats: &mut [Stats],
) {
    let width = scale.gamma.len();
    let rows = super::task_rows(width);
    (x.par_chunks_mut(rows * width), y.par_chunks_mut(rows * width), stats.par_chunks_mut(rows))
        .into_par_iter()
        .enumerate()
        .for_each(|(i, (x, y, stats))| {
            for (t, x) in (i * rows..).zip(x.chunks_exact_mut(width)) {
                let id = batch.tokens()[t];
                let (table, row) = match id.checked_sub(Batch::FIRST_VECTOR) {
                    Some(vector) => (tables.vectors, vector),
                    None => (tables.words, id),
                };
                let word = &table[row as usize * width..][..width];
                let segment = &tables.segments[batch.segments()[t] as usize * width..][..width];
                let position = &tables.positions[batch.positions()[t] as usize * width..][..width];
                for (((x, w), s), p) in x.iter_mut().zip(word).zip(segment).zip(position) {
                    *x = w + s + p;
                }
            }
            norm_rows(x, scale, y, stats);
        });
}

/// Adds `dy` to the gradient rows that `forward` read, chosen by `index`. Vectors have none, and rows of `skip` are left
/// out: a padding token's word embedding is not trained, as in PyTorch.
pub fn backward(index: &[u32], dy: &[f32], width: usize, skip: Option<u32>, d_table: &mut [f32]) {
    for (id, dy) in index.iter().zip(dy.chunks_exact(width)) {
        if Some(*id) != skip && *id < Batch::FIRST_VECTOR {
            super::add(&mut d_table[*id as usize * width..][..width], dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        let width = 5;
        let mut batch = Batch::new();
        batch.push(&[3, 1, 3], &[0, 0, 1]);
        batch.push(&[0], &[1]);
        let (words, positions, segments) = (noise(20, 1), noise(15, 2), noise(10, 3));
        let dy = noise(4 * width, 4);
        let run = |words: &[f32], positions: &[f32], segments: &[f32]| {
            let (mut x, mut y) = (vec![0.0; 4 * width], vec![0.0; 4 * width]);
            let scale = Scale { gamma: &[1.0; 5], beta: &[0.0; 5], eps: 1e-12 };
            let tables = Tables { words, vectors: &[], positions, segments };
            forward(&batch, tables, scale, &mut x, &mut y, &mut [[0.0; 2]; 4]);
            x
        };
        let back = |index: &[u32], len: usize| {
            let mut d = vec![0.0; len];
            backward(index, &dy, width, None, &mut d);
            d
        };
        let d = back(batch.tokens(), 20);
        check_gradient("words", &words, &d, &dy, |w| run(w, &positions, &segments));
        let d = back(batch.positions(), 15);
        check_gradient("positions", &positions, &d, &dy, |p| run(&words, p, &segments));
        let d = back(batch.segments(), 10);
        check_gradient("segments", &segments, &d, &dy, |s| run(&words, &positions, s));
        let mut d = vec![0.0; 20];
        backward(batch.tokens(), &dy, width, Some(3), &mut d);
        assert!(d[15..].iter().all(|v| *v == 0.0) && d[5..10] == dy[5..10]);
    }
}
