//! `loss = (y - target)²`, for regression.

/// Turns predictions into their gradient, `scale * 2 (y - target)`, in place; returns the summed loss.
pub fn forward_backward(y: &mut [f32], targets: &[f32], scale: f32) -> f64 {
    let mut loss = 0.0;
    for (y, target) in y.iter_mut().zip(targets) {
        let difference = *y - target;
        loss += f64::from(difference) * f64::from(difference);
        *y = scale * 2.0 * difference;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradient() {
        let (y, targets) = (noise(9, 1), noise(9, 2));
        let mut d = y.clone();
        forward_backward(&mut d, &targets, 1.0);
        check_gradient("prediction", &y, &d, &[1.0], |y| {
            vec![forward_backward(&mut y.to_vec(), &targets, 1.0) as f32]
        });
    }
}
