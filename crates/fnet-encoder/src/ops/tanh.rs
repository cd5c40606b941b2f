//! `y = tanh(x)`, for the pooler.

use crate::arch::{multiversion, tanh};

multiversion! {
    /// `x = tanh(x)` in place
    pub fn forward(x: &mut [f32]) {
        for x in x {
            *x = tanh(*x);
        }
    }
}

/// `dy = dy * (1 - y²)` in place, from the output `y`
pub fn backward(y: &[f32], dy: &mut [f32]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy *= 1.0 - y * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradient() {
        let (x, dy) = (noise(37, 1), noise(37, 2));
        let run = |x: &[f32]| {
            let mut y = x.to_vec();
            forward(&mut y);
            y
        };
        let mut dx = dy.clone();
        backward(&run(&x), &mut dx);
        check_gradient("input", &x, &dx, &dy, run);
    }
}
