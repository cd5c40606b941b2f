//! `loss = log(1 + exp(-y))` where the target is 1, `log(1 + exp(y))` where it is 0: binary cross-entropy of logits.

use crate::loss::Loss;

/// Turns logits into their gradient, `scale * (sigmoid(y) - target)`, in place; returns the summed loss, how many there
/// are and how many are on the right side of zero. A target of NaN is left out, one between 0 and 1 is a probability.
pub fn forward_backward(y: &mut [f32], targets: &[f32], scale: f32) -> Loss {
    let mut loss = Loss::default();
    for (y, target) in y.iter_mut().zip(targets) {
        if target.is_nan() {
            *y = 0.0;
            continue;
        }
        let logit = *y;
        // log(1 + exp(y)) - target y, without overflow.
        loss.sum += f64::from(logit.max(0.0) - target * logit + (-logit.abs()).exp().ln_1p());
        loss.count += 1;
        loss.correct += usize::from((logit > 0.0) == (*target > 0.5));
        *y = scale * (1.0 / (1.0 + (-logit).exp()) - target);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradient() {
        let (y, targets) = (noise(9, 1), [0.0, 1.0, 1.0, 0.0, 0.25, 1.0, 0.0, 0.0, 1.0]);
        let mut d = y.clone();
        forward_backward(&mut d, &targets, 1.0);
        check_gradient("logits", &y, &d, &[1.0], |y| {
            vec![forward_backward(&mut y.to_vec(), &targets, 1.0).sum as f32]
        });
    }

    #[test]
    fn large_logits_and_missing_targets() {
        let mut y = [200.0, -200.0, 200.0, 3.0];
        let loss = forward_backward(&mut y, &[1.0, 0.0, 0.0, f32::NAN], 0.5);
        assert_eq!((loss.sum, loss.count, loss.correct), (200.0, 3, 2));
        assert_eq!(y, [0.0, 0.0, 0.5, 0.0]);
    }
}
