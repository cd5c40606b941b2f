//! Operations, one a file, each with its forward and its backward pass.
//!
//! Everything works on packed rows, `[tokens, width]`. Row-wise passes are split by rows; sums over
//! tokens are split by columns, so that each sum has one fixed order at any number of threads.

pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod mse;
pub mod softmax_cross_entropy;
pub mod tanh;

/// Values a task handles at least: less is not worth a thread.
const TASK_VALUES: usize = 1 << 14;

/// Rows of `width` that make a task.
fn task_rows(width: usize) -> usize {
    (TASK_VALUES / width.max(1)).max(1)
}

/// `a += b`
pub fn add(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}
