//! `y = x Wᵀ + b`, with `x` `[tokens, inputs]` and `W` `[outputs, inputs]` as in PyTorch.

use rayon::prelude::*;

use super::{SUM_ROWS, add_partial, clear_partial};
use crate::arch::multiversion;
use crate::gemm::{Matrix, Out, Products, matmul_nt, multiply};

/// `y = x Wᵀ + b`
pub fn forward(products: Products, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let outputs = bias.len();
    let (tokens, inputs) = (y.len() / outputs, weight.len() / outputs);
    y.par_chunks_mut(super::task_rows(outputs) * outputs).for_each(|rows| {
        for row in rows.chunks_exact_mut(outputs) {
            row.copy_from_slice(bias);
        }
    });
    matmul_nt(products, [tokens, outputs, inputs], x, weight, y, Out::Add);
}

/// `y = x Wᵀ`, for a bias that is added in the next pass.
pub fn forward_without_bias(products: Products, x: Matrix, weight: &[f32], outputs: usize, y: &mut [f32]) {
    let (tokens, inputs) = (y.len() / outputs, weight.len() / outputs);
    let weight = Matrix::new(weight, inputs).transposed();
    multiply(products, [tokens, outputs, inputs], x, weight, y, Out::Set);
}

/// `dx = dy W`
pub fn backward_input(
    products: Products,
    dy: Matrix,
    weight: &[f32],
    outputs: usize,
    dx: &mut [f32],
    out: Out,
) {
    let inputs = weight.len() / outputs;
    multiply(products, [dy.rows(), inputs, outputs], dy, Matrix::new(weight, inputs), dx, out);
}

/// `dW += dyᵀ x`
pub fn backward_weight(products: Products, dy: Matrix, x: Matrix, outputs: usize, d_weight: &mut [f32]) {
    let inputs = d_weight.len() / outputs;
    multiply(products, [outputs, inputs, dy.rows()], dy.transposed(), x, d_weight, Out::Add);
}

/// `db += sum over tokens of dy`
pub fn backward_bias(dy: &[f32], d_bias: &mut [f32], partial: &mut Vec<f32>) {
    let width = d_bias.len();
    clear_partial(partial, dy.len() / width, width);
    (dy.par_chunks(SUM_ROWS * width), partial.par_chunks_mut(width))
        .into_par_iter()
        .for_each(|(dy, sums)| sum_rows(dy, sums));
    add_partial(partial, &mut [(width, Some(d_bias))]);
}

multiversion! {
    fn sum_rows(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks_exact(sums.len()) {
            super::add(sums, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Precision;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradients() {
        for (tokens, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (131, 33, 65), (2, 3, 17)] {
            let products = Products::new(Precision::F32);
            let weight = noise(inputs * outputs, 1);
            let bias = noise(outputs, 2);
            let x = noise(tokens * inputs, 3);
            let dy = noise(tokens * outputs, 4);
            let run = |x: &[f32], weight: &[f32], bias: &[f32]| {
                let mut y = vec![0.0; tokens * outputs];
                forward(products, x, weight, bias, &mut y);
                y
            };
            let mut dx = vec![0.0; x.len()];
            let (x_rows, dy_rows) = (Matrix::new(&x, inputs), Matrix::new(&dy, outputs));
            backward_input(products, dy_rows, &weight, outputs, &mut dx, Out::Set);
            let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; outputs]);
            backward_weight(products, dy_rows, x_rows, outputs, &mut dw);
            backward_bias(&dy, &mut db, &mut Vec::new());
            check_gradient("input", &x, &dx, &dy, |x| run(x, &weight, &bias));
            check_gradient("weight", &weight, &dw, &dy, |w| run(&x, w, &bias));
            check_gradient("bias", &bias, &db, &dy, |b| run(&x, &weight, b));
        }
    }
}
