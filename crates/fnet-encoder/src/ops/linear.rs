//! `y = x Wᵀ + b`, with `x` `[tokens, inputs]` and `W` `[outputs, inputs]` as in PyTorch.

use rayon::prelude::*;

use crate::gemm::{Out, matmul_nn, matmul_nt, matmul_tn};

/// Columns that one task sums; rows are added up in order.
const SUM_COLUMNS: usize = 64;
/// Rows summed before they are added to the total, which keeps rounding small.
const SUM_ROWS: usize = 128;

/// `y = x Wᵀ + b`
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let outputs = bias.len();
    let (tokens, inputs) = (y.len() / outputs, weight.len() / outputs);
    y.par_chunks_mut(super::task_rows(outputs) * outputs).for_each(|rows| {
        for row in rows.chunks_exact_mut(outputs) {
            row.copy_from_slice(bias);
        }
    });
    matmul_nt([tokens, outputs, inputs], x, weight, y, Out::Add);
}

/// `dx = dy W`
pub fn backward_input(dy: &[f32], weight: &[f32], outputs: usize, dx: &mut [f32], out: Out) {
    let (tokens, inputs) = (dy.len() / outputs, weight.len() / outputs);
    matmul_nn([tokens, inputs, outputs], dy, weight, dx, out);
}

/// `dW += dyᵀ x` and `db += sum over tokens of dy`
pub fn backward_parameters(dy: &[f32], x: &[f32], d_weight: &mut [f32], d_bias: &mut [f32]) {
    let outputs = d_bias.len();
    let (tokens, inputs) = (dy.len() / outputs, d_weight.len() / outputs);
    matmul_tn([outputs, inputs, tokens], dy, x, d_weight, Out::Add);
    add_column_sums(dy, d_bias);
}

/// `sums += sum over rows of x`
pub fn add_column_sums(x: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    sums.par_chunks_mut(SUM_COLUMNS).enumerate().for_each(|(i, sums)| {
        let first = i * SUM_COLUMNS;
        for rows in x.chunks(SUM_ROWS * width) {
            let mut partial = [0.0; SUM_COLUMNS];
            for row in rows.chunks_exact(width) {
                super::add(&mut partial, &row[first..][..sums.len()]);
            }
            super::add(sums, &partial);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        for (tokens, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (131, 33, 65), (2, 3, 17)] {
            let weight = noise(inputs * outputs, 1);
            let bias = noise(outputs, 2);
            let x = noise(tokens * inputs, 3);
            let dy = noise(tokens * outputs, 4);
            let run = |x: &[f32], weight: &[f32], bias: &[f32]| {
                let mut y = vec![0.0; tokens * outputs];
                forward(x, weight, bias, &mut y);
                y
            };
            let mut dx = vec![0.0; x.len()];
            backward_input(&dy, &weight, outputs, &mut dx, Out::Set);
            let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; outputs]);
            backward_parameters(&dy, &x, &mut dw, &mut db);
            check_gradient("input", &x, &dx, &dy, |x| run(x, &weight, &bias));
            check_gradient("weight", &weight, &dw, &dy, |w| run(&x, w, &bias));
            check_gradient("bias", &bias, &db, &dy, |b| run(&x, &weight, b));
        }
    }
}
