//! Operations, one per file, each with its forward and its backward pass.
//!
//! Everything works on packed rows, `[tokens, width]`. Row-wise passes are split by rows. Sums over tokens are
//! taken over blocks of 64 rows, in the pass that makes the rows, and the blocks are added up in order: so each sum
//! has one fixed order with any number of threads.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cosine;
pub mod dropout;
pub mod embedding;
pub mod layer_norm;
pub mod linear;
pub mod logistic;
pub mod matching;
pub mod mse;
pub mod pair_features;
pub mod pooling;
pub mod softmax_cross_entropy;
pub mod tanh;

/// Fewest values per task: less is not worth a thread.
const TASK_VALUES: usize = 1 << 14;

/// Rows of a block: of a task, and of a partial sum.
pub(crate) const SUM_ROWS: usize = 64;

/// Rows of `width` that make a task.
fn task_rows(width: usize) -> usize {
    (TASK_VALUES / width.max(1)).max(1)
}

/// `a += b`
#[inline(always)]
pub fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// `a · b`
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes room in `partial` for `width` sums of each block of `rows` rows, all zero.
fn clear_partial(partial: &mut Vec<f32>, rows: usize, width: usize) {
    partial.clear();
    partial.resize(rows.div_ceil(SUM_ROWS) * width, 0.0);
}

/// Adds every block's sums, in order; each of `sums` takes the next of its columns, or skips them.
fn add_partial(partial: &[f32], sums: &mut [(usize, Option<&mut [f32]>)]) {
    let width: usize = sums.iter().map(|s| s.0).sum();
    for block in partial.chunks_exact(width.max(1)) {
        let mut rest = block;
        for (width, sums) in sums.iter_mut() {
            let (these, others) = rest.split_at(*width);
            if let Some(sums) = sums {
                add(sums, these);
            }
            rest = others;
        }
    }
}
