//! `loss = log(sum(exp(logits))) - logits[label]` for each row.

use rayon::prelude::*;

use crate::arch::{exp, multiversion, sum_by};

/// The label of a row to be ignored: no loss, no gradient.
pub const IGNORED: u32 = u32::MAX;

/// The result for a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowLoss {
    /// Cross-entropy in nats.
    pub loss: f32,
    /// Whether the label has the largest logit, or the first of several.
    pub correct: bool,
    /// Whether the row was ignored.
    pub ignored: bool,
}

/// Adds `bias` to logits `[rows, classes]`, turns them into their gradient, `scale * (softmax - one hot)`, in
/// place, and fills `losses`. `bias` may be empty.
pub fn forward_backward(
    logits: &mut [f32],
    bias: &[f32],
    labels: &[u32],
    scale: f32,
    losses: &mut [RowLoss],
) {
    if labels.is_empty() {
        return;
    }
    let classes = logits.len() / labels.len();
    logits
        .par_chunks_exact_mut(classes)
        .zip(labels)
        .zip(losses)
        .with_min_len(super::task_rows(classes))
        .for_each(|((logits, label), loss)| {
            *loss = if *label == IGNORED {
                logits.fill(0.0);
                RowLoss { ignored: true, ..RowLoss::default() }
            } else {
                row(logits, bias, *label as usize, scale)
            }
        });
}

multiversion! {
    fn row(logits: &mut [f32], bias: &[f32], label: usize, scale: f32) -> RowLoss {
        super::add(logits, bias);
        let largest = largest(logits);
        let at_label = logits[label];
        let correct = at_label >= largest && logits[..label].iter().all(|v| *v < at_label);
        for v in logits.iter_mut() {
            *v = exp(*v - largest);
        }
        let sum = sum_by(logits.len(), |i| logits[i]);
        for v in logits.iter_mut() {
            *v *= scale / sum;
        }
        logits[label] -= scale;
        RowLoss { loss: sum.ln() + largest - at_label, correct, ignored: false }
    }
}

/// The largest value that is not NaN, in lanes that the compiler can vectorise.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (whole, rest) = values.as_chunks::<32>();
    let mut lanes = [f32::NEG_INFINITY; 32];
    for chunk in whole {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *v);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, v| larger(m, *v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, noise};

    #[test]
    fn gradient_and_value() {
        for (rows, classes) in [(1, 2), (3, 1), (4, 37), (2, 500)] {
            let logits: Vec<f32> = noise(rows * classes, 5).iter().map(|v| 4.0 * v).collect();
            let labels: Vec<u32> = (0..rows).map(|i| ((i * 7) % classes) as u32).collect();
            let run = |logits: &[f32]| {
                let mut losses = vec![RowLoss::default(); rows];
                forward_backward(&mut logits.to_vec(), &[], &labels, 1.0, &mut losses);
                losses.iter().map(|l| l.loss).collect::<Vec<_>>()
            };
            let mut d = logits.clone();
            forward_backward(&mut d, &[], &labels, 1.0, &mut vec![RowLoss::default(); rows]);
            check_gradient("logits", &logits, &d, &vec![1.0; rows], run);
            for (i, loss) in run(&logits).iter().enumerate() {
                let row: Vec<f64> = logits[i * classes..][..classes].iter().map(|v| f64::from(*v)).collect();
                let exact = row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[labels[i] as usize];
                assert!((f64::from(*loss) - exact).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn ignored_rows_count_for_nothing() {
        let (mut logits, mut losses) = ([1.0, 2.0, 3.0, 5.0], [RowLoss::default(); 2]);
        forward_backward(&mut logits, &[], &[IGNORED, 0], 1.0, &mut losses);
        assert!(logits[..2] == [0.0; 2] && logits[2] < 0.0 && logits[3] > 0.0);
        assert!(losses[0].ignored && losses[0].loss == 0.0 && !losses[1].ignored && losses[1].loss > 2.0);
    }

    #[test]
    fn nan_is_not_hidden() {
        let mut losses = [RowLoss::default()];
        forward_backward(&mut [f32::NAN, 1.0], &[], &[0], 1.0, &mut losses);
        assert!(losses[0].loss.is_nan());
        forward_backward(&mut [1.0, f32::NAN], &[], &[0], 1.0, &mut losses);
        assert!(losses[0].loss.is_nan());
    }
}
